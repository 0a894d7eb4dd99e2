//! The nodes' sessions on the managers' port, and the leader behind them.
//!
//! A [`Leadership`] lives on every manager. While its manager leads, it runs a [`Leader`](crate::Leader) on the store
//! (`reign`), puts what that decides into the log, and serves the nodes; while it does not, it tells nodes who may.

mod feed;
mod reign;
mod stream;
#[cfg(test)]
mod tests;
mod told;

pub(crate) use stream::Guard;

use crate::logs::Broker;
use crate::{Replica, Touched, attachments};
use bytes::Bytes;
use essaim_ca::Role;
use essaim_model::Catalog;
use essaim_objects::{NodeId, TaskId, TaskStatus, Timestamp};
use essaim_orchestrator::{DispatchError, Registration};
use essaim_protocol::{
    Attachments, AttachmentsHeld, FindNetwork, Heartbeat, HeartbeatReply, LogBatch, LogSubscription,
    LogSubscriptionId, Report, SessionId, SessionRequest, ToNode, decode, encode, method,
};
use essaim_raft::{Role as RaftRole, Status};
use essaim_rpc::{Admission, CallError, Caller, Code, Methods};
use essaim_store::{MAX_CHANGES, View};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

/// So many calls may wait for the leader's decisions; more wait in their connections.
const CALLS: usize = 1024;
/// How long to wait before a leadership that could not begin is begun again.
const AGAIN: Duration = Duration::from_millis(50);

/// What makes the data plane's catalog of the store; its revision is the view's index. Where there is one from before, it
/// is told that and what happened since.
pub type CatalogOf = Arc<dyn Fn(&View, Option<(&Catalog, &Touched)>) -> Arc<Catalog> + Send + Sync>;

/// An answer that goes on.
pub(crate) type Replies = BoxStream<'static, Result<Bytes, CallError>>;

/// What the leader is asked.
pub(crate) enum Call {
    Register {
        registration: Box<Registration>,
        holds: Option<u64>,
        reply: oneshot::Sender<Result<Replies, CallError>>,
    },
    Heartbeat {
        node: NodeId,
        session: SessionId,
        reply: oneshot::Sender<Result<Duration, DispatchError>>,
    },
    Report {
        node: NodeId,
        session: SessionId,
        reports: Vec<(TaskId, TaskStatus)>,
        reply: oneshot::Sender<Result<(), DispatchError>>,
    },
    Logs {
        request: LogSubscription,
        reply: oneshot::Sender<crate::logs::Lines>,
    },
}

/// What ended at its other side.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gone {
    Session(SessionId),
    Logs(LogSubscriptionId),
}

/// Where the leader is asked, while this manager leads.
#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) calls: mpsc::Sender<Call>,
    pub(crate) broker: Arc<Broker>,
}

pub(crate) struct Shared {
    pub(crate) replica: Replica,
    pub(crate) catalog_of: CatalogOf,
    office: Mutex<Option<Office>>,
}

impl Shared {
    pub(crate) fn office(&self) -> Option<Office> {
        self.office.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_office(&self, office: Option<Office>) {
        *self.office.lock().unwrap_or_else(PoisonError::into_inner) = office;
    }

    pub(crate) async fn ask<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Result<T, CallError> {
        let office = self.office().ok_or_else(not_leading)?;
        let (reply, answer) = oneshot::channel();
        let sent = office.calls.send(call(reply)).await;
        sent.map_err(|_| not_leading())?;
        answer.await.map_err(|_| not_leading())
    }
}

/// What a manager does for the nodes: all of it while it leads, else to tell who may. Clones are the same.
#[derive(Clone)]
pub struct Leadership {
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Debug for Leadership {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leads = self.shared.office().is_some();
        formatter
            .debug_struct("Leadership")
            .field("leads", &leads)
            .finish_non_exhaustive()
    }
}

impl Leadership {
    /// That of the manager whose copy of the store this is.
    pub fn new(replica: Replica, catalog_of: CatalogOf) -> Self {
        Self {
            shared: Arc::new(Shared {
                replica,
                catalog_of,
                office: Mutex::new(None),
            }),
        }
    }

    /// Whether this manager leads, and serves nodes.
    pub fn leads(&self) -> bool {
        self.shared.office().is_some()
    }

    /// Adds what nodes call: their sessions, and what managers relay of logs.
    #[must_use]
    pub fn methods(&self, methods: Methods) -> Methods {
        let members = Admission::Members(Role::Worker);
        let [session, heartbeat, report, logs] = std::array::from_fn(|_| self.shared.clone());
        let methods = methods
            .many(method::SESSION, members, move |caller, message| {
                let shared = session.clone();
                async move { open_session(&shared, &caller, &message).await }
            })
            .one(method::HEARTBEAT, members, move |caller, message| {
                let shared = heartbeat.clone();
                async move {
                    let (node, Heartbeat { session }) = (node_of(&caller)?, read(&message)?);
                    let next = shared
                        .ask(|reply| Call::Heartbeat { node, session, reply })
                        .await?;
                    let next = next.map_err(refused)?;
                    let next_ms = u64::try_from(next.as_millis()).unwrap_or(u64::MAX);
                    Ok(encode(&HeartbeatReply { next_ms }))
                }
            })
            .one(method::REPORT, members, move |caller, message| {
                let shared = report.clone();
                async move {
                    let (node, Report { session, tasks }) = (node_of(&caller)?, read(&message)?);
                    let reports = tasks.into_iter().map(|task| (task.task, task.status)).collect();
                    let call = |reply| Call::Report {
                        node,
                        session,
                        reports,
                        reply,
                    };
                    shared.ask(call).await?.map_err(refused)?;
                    Ok(Bytes::new())
                }
            })
            .one(method::LOGS, members, move |caller, message| {
                let shared = logs.clone();
                async move {
                    let (node, batch) = (node_of(&caller)?, read::<LogBatch>(&message)?);
                    let office = shared.office().ok_or_else(not_leading)?;
                    office.broker.take(node, batch).await?;
                    Ok(Bytes::new())
                }
            });
        let [finding, attaching] = std::array::from_fn(|_| self.shared.clone());
        let methods = methods
            .one(method::FIND_NETWORK, members, move |_, message| {
                let shared = finding.clone();
                async move {
                    let FindNetwork { name } = read(&message)?;
                    let view = shared.replica.read().await.map_err(unavailable)?;
                    Ok(encode(&attachments::find_network(&view, &name)))
                }
            })
            .one(method::ATTACHMENTS, members, move |caller, message| {
                let shared = attaching.clone();
                async move {
                    let (node, said) = (node_of(&caller)?, read::<Attachments>(&message)?);
                    Ok(encode(&attach(&shared.replica, node, &said).await?))
                }
            });
        crate::logs::methods(&self.shared, methods)
    }

    /// Follows the manager's part in Raft until `stop`: leads whenever it leads there, and ends all that at once when it
    /// does not.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let shared = self.shared.clone();
        let follow = async move {
            let mut status = shared.replica.raft().watch();
            loop {
                let Ok(term) = status.wait_for(leads).await.map(|status| status.term) else {
                    return;
                };
                let mut watched = shared.replica.raft().watch();
                let lost = async {
                    let is_lost = |status: &Status| !leads(status) || status.term != term;
                    watched.wait_for(is_lost).await.is_ok()
                };
                let is_open = tokio::select! {
                    is_open = lost => {
                        tracing::info!(term, "this manager does not lead any more");
                        is_open
                    }
                    () = reign::begin(&shared, term) => true,
                };
                shared.set_office(None);
                if !is_open {
                    return;
                }
                sleep(AGAIN).await;
            }
        };
        tokio::select! {
            () = follow => {}
            () = stop => {}
        }
        self.shared.set_office(None);
    }
}

fn leads(status: &Status) -> bool {
    status.role == RaftRole::Leader && status.leader == Some(status.node) && status.failure.is_none()
}

/// What this manager says to calls that only the leader answers.
pub(crate) fn not_leading() -> CallError {
    CallError::new(Code::Unavailable, "this manager does not lead; ask another")
}

pub(crate) fn refused(error: DispatchError) -> CallError {
    let code = match error {
        DispatchError::UnknownNode { .. } => Code::NotFound,
        DispatchError::TooMany { .. } => Code::ResourceExhausted,
        DispatchError::NoSession => Code::FailedPrecondition,
        DispatchError::NotItsTask { .. } => Code::PermissionDenied,
    };
    CallError::new(code, error)
}

/// Who calls.
fn node_of(caller: &Caller) -> Result<NodeId, CallError> {
    let peer = caller.peer.as_ref();
    let peer = peer.ok_or_else(|| CallError::new(Code::PermissionDenied, "no certificate was shown"))?;
    let node = peer.node_id.to_string().parse();
    node.map_err(|error| CallError::new(Code::InvalidArgument, error))
}

pub(crate) fn read<T: serde::de::DeserializeOwned>(message: &[u8]) -> Result<T, CallError> {
    decode(message).map_err(|error| CallError::new(Code::InvalidArgument, essaim_rpc::chain(&error)))
}

/// Makes the store follow what a node says of its containers on the cluster's networks.
async fn attach(replica: &Replica, node: NodeId, said: &Attachments) -> Result<AttachmentsHeld, CallError> {
    loop {
        // A transaction holds only so much.
        let mut is_whole = true;
        let follow = |view: &View| {
            let transaction = attachments::hold(view, node, said, Timestamp::now());
            is_whole = transaction.changes.len() < MAX_CHANGES;
            Ok::<_, std::convert::Infallible>(transaction)
        };
        let view = replica.update(follow).await.map_err(unavailable)?;
        if is_whole {
            return Ok(attachments::held(&view, node, said));
        }
    }
}

fn unavailable(error: impl std::error::Error) -> CallError {
    CallError::new(Code::Unavailable, essaim_rpc::chain(&error))
}

async fn open_session(shared: &Shared, caller: &Caller, message: &[u8]) -> Result<Replies, CallError> {
    let node = node_of(caller)?;
    let request: SessionRequest = read(message)?;
    let registration = Box::new(Registration {
        node,
        description: request.description,
        addr: Some(caller.address.ip().to_canonical().to_string()),
        data_path_addr: request.data_path.map(|address| address.to_string()),
    });
    let holds = request.holds;
    let call = |reply| Call::Register {
        registration,
        holds,
        reply,
    };
    if let Ok(answer) = shared.ask(call).await {
        return answer;
    }
    // This manager does not lead, or not any more.
    let managers = ToNode::Managers(told::managers(&shared.replica));
    Ok(futures_util::stream::iter([Ok(encode(&managers))]).boxed())
}
