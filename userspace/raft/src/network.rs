use crate::log::LogStore;
use crate::settings::SEND_TIMEOUT;
use crate::transport::{Transport, TransportError};
use crate::types::{Blob, Member, NodeId, Snapshot, SnapshotBytes, Types, Vote};
use crate::wire::{self, Envelope, Reply, Request, SnapshotPart};
use futures_util::future::{self, Either};
use openraft::error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How much of a snapshot one message holds.
const PART_BYTES: usize = 1 << 20;
/// How often a part is sent again before the transfer is given up.
const TRIES: usize = 5;

/// Makes the connections of one manager.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) log: LogStore,
    pub(crate) from: NodeId,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Connection;

    async fn new_client(&mut self, to: NodeId, member: &Member) -> Connection {
        Connection {
            network: self.clone(),
            to,
            address: member.address.clone(),
            heartbeats: false,
        }
    }

    async fn new_heartbeat_client(&mut self, to: NodeId, member: &Member) -> Connection {
        let mut connection = self.new_client(to, member).await;
        connection.heartbeats = true;
        connection
    }
}

/// To one manager, as the membership knows it.
pub(crate) struct Connection {
    network: Network,
    to: NodeId,
    address: String,
    /// It carries nothing but heartbeats.
    heartbeats: bool,
}

impl Connection {
    async fn call(&self, request: Request, timeout: Duration) -> Result<Reply, RPCError<Types>> {
        let Some(cluster) = self.network.log.cluster() else {
            return Err(failed("this manager is in no cluster"));
        };
        let message = wire::encode(&Envelope {
            cluster,
            from: self.network.from,
            to: self.to,
            request,
        })
        .map_err(failed)?;
        let sent = self.network.transport.send(self.to, &self.address, message);
        let reply = match tokio::time::timeout(timeout, sent).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(TransportError::Unreachable(reason))) => {
                return Err(RPCError::Unreachable(Unreachable::from_string(reason)));
            }
            Ok(Err(TransportError::Failed(reason))) => return Err(failed(reason)),
            Err(_) => return Err(failed(format!("no reply within {timeout:?}"))),
        };
        match wire::decode(&reply).map_err(failed)? {
            Reply::Refused(refusal) => {
                let reason = format!("refused: {refusal}");
                Err(RPCError::Unreachable(Unreachable::from_string(reason)))
            }
            reply => Ok(reply),
        }
    }

    /// Sends all of it, part by part, and asks until it is installed.
    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: &Snapshot,
        install_timeout: Duration,
    ) -> Result<SnapshotResponse<Types>, RPCError<Types>> {
        let bytes: &[u8] = &snapshot.snapshot.0;
        let mut offset = 0;
        let mut tries = 0;
        let mut progress = Instant::now();
        loop {
            let end = bytes.len().min(offset + PART_BYTES);
            let last = end == bytes.len();
            let part = SnapshotPart {
                vote,
                meta: snapshot.meta.clone(),
                offset: offset as u64,
                bytes: Blob::from(bytes.get(offset..end).unwrap_or_default()),
                last,
            };
            match self.call(Request::Snapshot(part), SEND_TIMEOUT).await {
                Ok(Reply::SnapshotInstalled(response)) => return Ok(response),
                Ok(Reply::SnapshotTaken) if !last => {
                    offset = end;
                    tries = 0;
                    progress = Instant::now();
                }
                Ok(Reply::SnapshotInstalling) if progress.elapsed() < install_timeout => {}
                Ok(Reply::SnapshotInstalling) => {
                    return Err(failed(format!("not installed within {install_timeout:?}")));
                }
                Ok(Reply::SnapshotRestart) if tries < TRIES => {
                    offset = 0;
                    tries += 1;
                }
                Err(error) if tries >= TRIES => return Err(error),
                Err(_) => tries += 1,
                Ok(_) => return Err(unexpected()),
            }
        }
    }
}

fn failed(reason: impl ToString) -> RPCError<Types> {
    RPCError::Network(NetworkError::from_string(reason))
}

fn unexpected() -> RPCError<Types> {
    failed("the reply is not one to this request")
}

impl RaftNetworkV2<Types> for Connection {
    type SnapshotData = SnapshotBytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let (request, timeout) = if self.heartbeats {
            (Request::Heartbeat(request), option.hard_ttl())
        } else {
            (Request::Append(request), SEND_TIMEOUT)
        };
        match self.call(request, timeout).await? {
            Reply::Append(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.call(Request::Vote(request), option.hard_ttl()).await? {
            Reply::Vote(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.call(Request::PreVote(request), option.hard_ttl()).await? {
            Reply::Vote(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let sending = std::pin::pin!(self.send_snapshot(vote, &snapshot, option.soft_ttl()));
        match future::select(std::pin::pin!(cancel), sending).await {
            Either::Left((closed, _)) => Err(StreamingError::Closed(closed)),
            Either::Right((Ok(response), _)) => Ok(response),
            Either::Right((Err(RPCError::Unreachable(error)), _)) => Err(StreamingError::Unreachable(error)),
            Either::Right((Err(error), _)) => Err(StreamingError::Network(NetworkError::from_string(error))),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let request = Request::TransferLeader {
            vote: *request.from_leader(),
            to: *request.to_node_id(),
            last: request.last_log_id().copied(),
        };
        match self.call(request, option.hard_ttl()).await? {
            Reply::TransferLeader(true) => Ok(Ok(())),
            Reply::TransferLeader(false) => Err(failed("the transfer was refused")),
            _ => Err(unexpected()),
        }
    }
}
