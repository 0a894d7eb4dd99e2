use crate::types::{Blob, ClusterId, LogId, NodeId, SnapshotMeta, Types, Vote};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

/// The version of the messages; another one is refused.
pub(crate) const FORMAT_VERSION: u8 = 1;

/// A message, addressed: an address may have passed to another manager.
#[derive(Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) cluster: ClusterId,
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) request: Request,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Request {
    Append(AppendEntriesRequest<Types>),
    /// An append without entries that only says that the leader lives, and asks whether it still leads.
    Heartbeat(AppendEntriesRequest<Types>),
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    TransferLeader {
        vote: Vote,
        to: NodeId,
        last: Option<LogId>,
    },
    Snapshot(SnapshotPart),
}

/// A piece of a snapshot; the pieces of a transfer come in order, one at a time.
#[derive(Serialize, Deserialize)]
pub(crate) struct SnapshotPart {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    pub(crate) offset: u64,
    pub(crate) bytes: Blob,
    pub(crate) last: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Reply {
    Append(AppendEntriesResponse<Types>),
    Vote(VoteResponse<Types>),
    TransferLeader(bool),
    /// The piece was taken, and the next one may come.
    SnapshotTaken,
    /// All pieces are there and are being installed: ask again with the last one.
    SnapshotInstalling,
    /// The receiver does not have what comes before this piece: begin again.
    SnapshotRestart,
    SnapshotInstalled(SnapshotResponse<Types>),
    Refused(Refusal),
}

/// Why a message was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("it is not a message of this version")]
    Malformed,
    #[error("it is for another cluster, or another life of this one")]
    OtherCluster,
    #[error("it is for another manager")]
    OtherNode,
    #[error("the manager has stopped")]
    Stopped,
}

/// The bytes of a message or reply, its version first.
pub(crate) fn encode(message: &impl Serialize) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_extend(message, vec![FORMAT_VERSION])
}

pub(crate) fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Refusal> {
    match bytes.split_first() {
        Some((&FORMAT_VERSION, rest)) => postcard::from_bytes(rest).map_err(|_| Refusal::Malformed),
        Some(_) | None => Err(Refusal::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(envelope) = decode::<Envelope>(&bytes) {
                prop_assert!(encode(&envelope).is_ok());
            }
            let mut versioned = vec![FORMAT_VERSION];
            versioned.extend_from_slice(&bytes);
            let _ = decode::<Envelope>(&versioned).is_ok();
            let _ = decode::<Reply>(&versioned).is_ok();
        }
    }

    #[test]
    fn another_version_is_refused() {
        let mut bytes = encode(&Reply::SnapshotTaken).unwrap();
        assert!(decode::<Reply>(&bytes).is_ok());
        bytes[0] += 1;
        assert_eq!(decode::<Reply>(&bytes).err(), Some(Refusal::Malformed));
        assert_eq!(decode::<Reply>(&[]).err(), Some(Refusal::Malformed));
    }
}
