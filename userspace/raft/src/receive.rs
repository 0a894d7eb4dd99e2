use crate::log::LogStore;
use crate::machine::{Machine, StateMachine};
use crate::types::{ClusterId, NodeId, Snapshot, SnapshotBytes, SnapshotMeta, Types, Vote};
use crate::wire::{self, Envelope, Refusal, Reply, Request, SnapshotPart};
use openraft::Raft;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long a sender waits for the end of an installation before it asks again.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How long a heartbeat waits for the disk: less than half of the time that its answer may take.
const HEARTBEAT_ANSWER_WITHIN: Duration = Duration::from_millis(100);

/// Snapshots that are on their way here, by their senders.
#[derive(Default)]
pub(crate) struct Incoming(Mutex<BTreeMap<NodeId, Transfer>>);

struct Transfer {
    vote: Vote,
    meta: SnapshotMeta,
    stage: Stage,
}

enum Stage {
    Receiving(Vec<u8>),
    /// All is there. The watch holds the outcome when there is one.
    Installing(watch::Receiver<Option<Outcome>>),
}

/// What became of an installation; `None` when Raft stopped.
type Outcome = Option<SnapshotResponse<Types>>;

/// What a piece led to.
enum Taken {
    More,
    /// It was the last one, so this is to be installed, and the outcome to be told.
    Whole(
        Vote,
        Snapshot,
        watch::Sender<Option<Outcome>>,
        watch::Receiver<Option<Outcome>>,
    ),
    Waiting(watch::Receiver<Option<Outcome>>),
    /// It does not follow those that came before.
    Restart,
}

impl Incoming {
    fn take(&self, from: NodeId, part: &SnapshotPart) -> Taken {
        let mut transfers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = transfers
            .get(&from)
            .is_some_and(|transfer| transfer.vote == part.vote && transfer.meta == part.meta);
        if part.offset == 0 && !(known && part.last) {
            let begun = Transfer {
                vote: part.vote,
                meta: part.meta.clone(),
                stage: Stage::Receiving(Vec::new()),
            };
            transfers.insert(from, begun);
        } else if !known {
            return Taken::Restart;
        }
        let Some(transfer) = transfers.get_mut(&from) else {
            return Taken::Restart;
        };
        let received = match &mut transfer.stage {
            Stage::Installing(outcome) => return Taken::Waiting(outcome.clone()),
            Stage::Receiving(received) => received,
        };
        let bytes = part.bytes.as_slice();
        let have = received.len() as u64;
        if part.offset == have {
            received.extend_from_slice(bytes);
        } else if part.offset.checked_add(bytes.len() as u64) != Some(have) {
            // Not a piece that came a second time.
            return Taken::Restart;
        }
        if !part.last {
            return Taken::More;
        }
        let snapshot = Snapshot {
            meta: transfer.meta.clone(),
            snapshot: SnapshotBytes(Arc::new(std::mem::take(received))),
        };
        let (sender, outcome) = watch::channel(None);
        transfer.stage = Stage::Installing(outcome.clone());
        Taken::Whole(transfer.vote, snapshot, sender, outcome)
    }

    /// Forgets a transfer whose outcome was told.
    fn forget(&self, from: NodeId) {
        let mut transfers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        transfers.remove(&from);
    }
}

/// Answers one message of another manager.
pub(crate) async fn receive<S: StateMachine>(
    node: NodeId,
    raft: &Raft<Types, Machine<S>>,
    log: &LogStore,
    incoming: &Incoming,
    message: &[u8],
) -> Vec<u8> {
    let reply = match wire::decode::<Envelope>(message) {
        Ok(envelope) => match admit(node, log, envelope.to, envelope.cluster).await {
            Ok(()) => answer(raft, incoming, envelope).await,
            Err(refusal) => Reply::Refused(refusal),
        },
        Err(refusal) => Reply::Refused(refusal),
    };
    wire::encode(&reply).unwrap_or_default()
}

/// Lets in what is for this manager in this cluster. A manager that is in no cluster yet joins that of the first
/// message, whose sender the transport has authenticated.
async fn admit(node: NodeId, log: &LogStore, to: NodeId, cluster: ClusterId) -> Result<(), Refusal> {
    if to != node {
        return Err(Refusal::OtherNode);
    }
    match log.cluster() {
        Some(own) if own == cluster => Ok(()),
        Some(_) => Err(Refusal::OtherCluster),
        None => log.set_cluster(cluster).await.map_err(|_| Refusal::Stopped),
    }
}

async fn answer<S: StateMachine>(
    raft: &Raft<Types, Machine<S>>,
    incoming: &Incoming,
    envelope: Envelope,
) -> Reply {
    let from = envelope.from;
    let reply = match envelope.request {
        Request::Append(request) => raft.append_entries(request).await.map(Reply::Append).ok(),
        Request::Heartbeat(request) => heartbeat(raft, request).await.map(Reply::Append),
        Request::Vote(request) => raft.vote(request).await.map(Reply::Vote).ok(),
        Request::PreVote(request) => raft.pre_vote(request).await.map(Reply::Vote).ok(),
        Request::TransferLeader { vote, to, last } => {
            let request = TransferLeaderRequest::new(vote, to, last);
            let handled = raft.handle_transfer_leader(request).await;
            handled.ok().map(|taken| Reply::TransferLeader(taken.is_ok()))
        }
        Request::Snapshot(part) => match incoming.take(from, &part) {
            Taken::More => Some(Reply::SnapshotTaken),
            Taken::Restart => Some(Reply::SnapshotRestart),
            Taken::Waiting(outcome) => wait(incoming, from, outcome).await,
            Taken::Whole(vote, snapshot, sender, outcome) => {
                // It goes on when the sender stops waiting.
                let raft = raft.clone();
                tokio::spawn(async move {
                    let installed = raft.install_full_snapshot(vote, snapshot).await;
                    sender.send_replace(Some(installed.ok()));
                });
                wait(incoming, from, outcome).await
            }
        },
    };
    reply.unwrap_or(Reply::Refused(Refusal::Stopped))
}

/// Answers a heartbeat. openraft answers when everything before it is on disk, and a disk may take longer than the
/// leader's lease; a leader must not lose its office over a slow disk. So after a moment the answer is whether this
/// manager follows that leader, which is all that a heartbeat asks: what of the log is on disk is told by the answers
/// to the entries.
async fn heartbeat<S: StateMachine>(
    raft: &Raft<Types, Machine<S>>,
    request: AppendEntriesRequest<Types>,
) -> Option<AppendEntriesResponse<Types>> {
    let vote = request.vote;
    let handling = raft.clone();
    let mut handled = tokio::spawn(async move { handling.append_entries(request).await.ok() });
    if let Ok(answer) = timeout(HEARTBEAT_ANSWER_WITHIN, &mut handled).await {
        return answer.ok().flatten();
    }
    // Raft tells its vote between two messages, so it has granted no other one before this answer.
    let own = raft.with_raft_state(|state| *state.vote_ref()).await.ok()?;
    (own == vote).then_some(AppendEntriesResponse::Success)
}

async fn wait(
    incoming: &Incoming,
    from: NodeId,
    mut outcome: watch::Receiver<Option<Outcome>>,
) -> Option<Reply> {
    let told = timeout(ANSWER_WITHIN, outcome.wait_for(Option::is_some)).await;
    let outcome = match told {
        Err(_) => return Some(Reply::SnapshotInstalling),
        Ok(Err(_)) => None,
        Ok(Ok(outcome)) => outcome.clone().flatten(),
    };
    incoming.forget(from);
    outcome.map(Reply::SnapshotInstalled)
}
