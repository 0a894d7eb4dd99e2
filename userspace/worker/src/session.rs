//! The session with the leader: who leads, what is assigned, what is reported.

mod calls;

use crate::backoff::Backoff;
use crate::describe::describe;
use crate::disk::Disk;
use crate::logs;
use crate::managers::Managers;
use crate::outbox::Outbox;
use crate::{Dataplane, Describe, Facts, LeaderLink, Notice};
use calls::{heartbeats, reports};
use essaim_ca::{Callee, LiveIdentity, client_config};
use essaim_objects::{NodeDescription, Task};
use essaim_protocol::{
    Assembly, Assignments, Basis, LogSubscription, LogSubscriptionId, ManagerAddress, SessionId,
    SessionRequest, ToNode, decode, encode, method,
};
use essaim_rpc::{CallError, Client, Code, chain};
use essaim_runner::Runner;
use rustls::time_provider::TimeProvider;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Longest that a call may take, as Swarm's. Too low and a loaded manager loses its nodes, too high and a dead one is
/// noticed late.
pub(crate) const CALL: Duration = Duration::from_secs(5);
/// So many managers in a row may send on to another before there is a pause: the leader may be moving.
const MOST_HOPS: u32 = 3;

/// What a session needs, and lives longer than it.
#[derive(Debug)]
pub(crate) struct Shared<R, D> {
    pub(crate) identity: Arc<LiveIdentity>,
    pub(crate) time: Arc<dyn TimeProvider>,
    pub(crate) facts: Facts,
    pub(crate) describe: Describe,
    pub(crate) data_path: Option<IpAddr>,
    pub(crate) runner: Arc<R>,
    pub(crate) dataplane: Arc<D>,
    pub(crate) leader: LeaderLink,
    pub(crate) outbox: Outbox,
    pub(crate) disk: Disk,
    /// The tasks that may have said something.
    pub(crate) tasks: watch::Receiver<Vec<Arc<Task>>>,
}

/// What a session tells the node.
#[derive(Debug)]
pub(crate) enum Told {
    /// It has begun.
    Began,
    /// What is assigned.
    Assignments(Assignments),
}

/// Whom a session tells what.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) node: mpsc::Sender<Told>,
    pub(crate) owner: mpsc::Sender<Notice>,
}

/// Why a session ended, or did not begin.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// Another manager leads.
    #[error("another manager leads")]
    Elsewhere,
    /// The cluster does not know this node.
    #[error("the cluster does not know this node any more: {0}")]
    Removed(CallError),
    /// The catalog or the assignments do not follow from what the node has.
    #[error("{0}")]
    Gap(String),
    /// What the node says of itself has changed.
    #[error("the node describes itself anew")]
    Described,
    /// A call failed, or the stream broke.
    #[error("{0}")]
    Call(#[from] CallError),
    /// The leader has ended it.
    #[error("the manager ended the session")]
    Over,
    /// A message that is none, or comes at the wrong time.
    #[error("{0}")]
    Message(String),
    /// No client could be made.
    #[error("{0}")]
    Link(String),
    /// The node or its owner is gone.
    #[error("nobody listens any more")]
    Unheard,
}

impl From<essaim_protocol::Malformed> for Ended {
    fn from(error: essaim_protocol::Malformed) -> Self {
        Self::Message(chain(&error))
    }
}

impl From<essaim_protocol::PartError> for Ended {
    fn from(error: essaim_protocol::PartError) -> Self {
        Self::Gap(error.to_string())
    }
}

/// Whether each message of assignments follows from the one before.
#[derive(Debug, Default)]
struct Order {
    last: Option<u64>,
}

impl Order {
    fn take(&mut self, assignments: &Assignments) -> Result<(), Ended> {
        match (assignments.basis, self.last) {
            (Basis::Nothing, _) => {}
            (Basis::Number(basis), Some(last)) if basis == last => {}
            (Basis::Number(basis), last) => {
                let text = format!("assignments build on message {basis}, and the last one was {last:?}");
                return Err(Ended::Gap(text));
            }
        }
        self.last = Some(assignments.number);
        Ok(())
    }
}

/// The sessions of a node, one after the other.
pub(crate) struct Sessions<R, D> {
    shared: Arc<Shared<R, D>>,
    listeners: Listeners,
    managers: Managers,
    backoff: Backoff,
    /// Whether the next session is to send the whole catalog.
    is_catalog_void: bool,
    is_connected: bool,
    is_removed: bool,
}

impl<R: Runner + 'static, D: Dataplane> Sessions<R, D> {
    pub(crate) fn new(shared: Arc<Shared<R, D>>, listeners: Listeners, managers: Managers) -> Self {
        Self {
            shared,
            listeners,
            managers,
            backoff: Backoff::default(),
            is_catalog_void: false,
            is_connected: false,
            is_removed: false,
        }
    }

    pub(crate) async fn run(mut self) -> Infallible {
        let mut hops = 0;
        loop {
            let ended = match self.managers.current().map(str::to_owned) {
                Some(address) => self.session(&address).await,
                None => Err(Ended::Link("no manager is known".to_owned())),
            };
            let Err(ended) = ended;
            tracing::info!(%ended, "no session with a manager");
            if std::mem::take(&mut self.is_connected) {
                self.notice(Notice::Connected(false)).await;
            }
            match ended {
                Ended::Elsewhere if hops < MOST_HOPS => {
                    hops += 1;
                    continue;
                }
                Ended::Removed(_) => {
                    if !std::mem::replace(&mut self.is_removed, true) {
                        self.notice(Notice::Removed).await;
                    }
                    self.managers.failed();
                }
                Ended::Gap(_) | Ended::Described => {}
                Ended::Elsewhere
                | Ended::Call(_)
                | Ended::Over
                | Ended::Message(_)
                | Ended::Link(_)
                | Ended::Unheard => self.managers.failed(),
            }
            hops = 0;
            sleep(self.backoff.next(rand::random())).await;
        }
    }

    async fn notice(&self, notice: Notice) {
        // An owner that no longer listens need not know.
        let _ = self.listeners.owner.send(notice).await;
    }

    fn description(&self) -> NodeDescription {
        description(&self.shared)
    }

    async fn session(&mut self, address: &str) -> Result<Infallible, Ended> {
        let config = client_config(&self.shared.identity, Arc::clone(&self.shared.time));
        let config = config.map_err(|error| Ended::Link(chain(&error)))?;
        let client = Client::new(address, config, &Callee::AnyManager);
        let client = client.map_err(|error| Ended::Link(chain(&error)))?;
        let description = self.description();
        let request = SessionRequest {
            description: description.clone(),
            data_path: self.shared.data_path,
            holds: self.shared.dataplane.revision().filter(|_| !self.is_catalog_void),
        };
        let opened = client.open(method::SESSION, encode(&request), CALL).await;
        let mut messages = Messages {
            stream: opened.map_err(refused)?,
            assembly: Assembly::default(),
        };
        let first = timeout(CALL, messages.next()).await;
        let late = |_| CallError::new(Code::DeadlineExceeded, "the session has not begun");
        match first.map_err(late)?? {
            ToNode::Session {
                session,
                node,
                heartbeat_ms,
            } => {
                tracing::info!(address, %session, "a session has begun");
                self.is_catalog_void = false;
                self.is_connected = true;
                self.is_removed = false;
                self.tell(Told::Began).await?;
                self.notice(Notice::Connected(true)).await;
                self.notice(Notice::Node(node)).await;
                let heartbeat = Duration::from_millis(heartbeat_ms);
                self.follow(&client, session, heartbeat, &description, messages)
                    .await
            }
            ToNode::Managers(managers) => {
                let leads = managers.first().is_some_and(|leader| leader.address == address);
                self.take_managers(managers).await;
                // One that names itself has lost its place a moment ago, or gains it in a moment.
                Err(if leads { Ended::Over } else { Ended::Elsewhere })
            }
            ToNode::GossipKeys(_)
            | ToNode::DataKeys(_)
            | ToNode::TrustRoots(_)
            | ToNode::Assignments(_)
            | ToNode::Catalog(_)
            | ToNode::Logs(_)
            | ToNode::EndLogs(_) => Err(Ended::Message(
                "the manager began with another message than the session".to_owned(),
            )),
        }
    }

    async fn tell(&self, told: Told) -> Result<(), Ended> {
        self.listeners.node.send(told).await.map_err(|_| Ended::Unheard)
    }

    async fn take_managers(&mut self, managers: Vec<ManagerAddress>) {
        self.managers.told(&managers);
        let (disk, kept) = (self.shared.disk.clone(), managers.clone());
        let kept = tokio::task::spawn_blocking(move || disk.keep_managers(&kept)).await;
        if let Ok(Err(error)) = kept {
            let error = chain(&error);
            tracing::error!(
                error,
                "the managers' addresses are not kept: a restart may not find them"
            );
        }
        self.notice(Notice::Managers(managers)).await;
    }

    /// A session, from its first message to its end.
    async fn follow(
        &mut self,
        client: &Client,
        session: SessionId,
        heartbeat: Duration,
        description: &NodeDescription,
        mut messages: Messages,
    ) -> Result<Infallible, Ended> {
        let shared = Arc::clone(&self.shared);
        let _session = shared.leader.begin(client);
        let (answered, mut answers) = mpsc::channel::<()>(1);
        let mut heartbeats = pin!(heartbeats(
            &shared,
            client,
            session,
            heartbeat,
            description,
            answered
        ));
        let mut reports = pin!(reports(&shared.outbox, client, session));
        let mut order = Order::default();
        let mut logs = Logs::default();
        loop {
            tokio::select! {
                message = messages.next() => match message? {
                    ToNode::Logs(subscription) => logs.begin(&shared, client, subscription),
                    ToNode::EndLogs(id) => logs.end(id),
                    message => self.take(message, session, &mut order).await?,
                },
                ended = &mut heartbeats => return ended,
                ended = &mut reports => return ended,
                Some(()) = answers.recv() => self.backoff.reset(),
                Some(_) = logs.serving.join_next(), if !logs.serving.is_empty() => {}
            }
        }
    }

    async fn take(&mut self, message: ToNode, session: SessionId, order: &mut Order) -> Result<(), Ended> {
        match message {
            ToNode::Session { session: other, .. } if other != session => {
                return Err(Ended::Gap(format!("session {other} came in session {session}")));
            }
            ToNode::Session { node, .. } => self.notice(Notice::Node(node)).await,
            ToNode::Managers(managers) => self.take_managers(managers).await,
            ToNode::GossipKeys(keys) => self.shared.dataplane.gossip_keys(keys),
            ToNode::DataKeys(keys) => self.shared.dataplane.data_keys(keys),
            ToNode::TrustRoots(roots) => self.notice(Notice::TrustRoots(roots)).await,
            ToNode::Catalog(update) => {
                let dataplane = Arc::clone(&self.shared.dataplane);
                // A large one takes a second to read.
                let taken = tokio::task::spawn_blocking(move || dataplane.catalog(update)).await;
                let taken = taken.map_err(|error| Ended::Message(chain(&error)))?;
                taken.map_err(|error| {
                    self.is_catalog_void = true;
                    Ended::Gap(error.to_string())
                })?;
            }
            ToNode::Assignments(assignments) => {
                order.take(&assignments)?;
                self.tell(Told::Assignments(assignments)).await?;
            }
            // Taken before.
            ToNode::Logs(_) | ToNode::EndLogs(_) => {}
        }
        Ok(())
    }
}

/// The logs that are sent in a session; they end with it.
#[derive(Default)]
struct Logs {
    serving: JoinSet<()>,
    by_id: BTreeMap<LogSubscriptionId, AbortHandle>,
}

impl Logs {
    fn begin<R: Runner + 'static, D: Dataplane>(
        &mut self,
        shared: &Arc<Shared<R, D>>,
        client: &Client,
        subscription: LogSubscription,
    ) {
        self.by_id.retain(|_, serving| !serving.is_finished());
        self.end(subscription.id);
        let id = subscription.id;
        let runner = Arc::clone(&shared.runner);
        let serving = logs::serve(
            runner,
            client.clone(),
            shared.facts.id,
            shared.tasks.clone(),
            subscription,
        );
        self.by_id.insert(id, self.serving.spawn(serving));
    }

    fn end(&mut self, id: LogSubscriptionId) {
        if let Some(serving) = self.by_id.remove(&id) {
            serving.abort();
        }
    }
}

fn description<R, D>(shared: &Shared<R, D>) -> NodeDescription {
    describe(&shared.facts, &shared.describe, &shared.identity.current())
}

/// What the leader says.
struct Messages {
    stream: essaim_rpc::Messages,
    assembly: Assembly,
}

impl Messages {
    /// The next message, once all of it is there. May be dropped and called again.
    async fn next(&mut self) -> Result<ToNode, Ended> {
        loop {
            let came = self.stream.next().await.map_err(refused)?.ok_or(Ended::Over)?;
            if let Some(message) = self.assembly.take(came)? {
                return Ok(decode(&message)?);
            }
        }
    }
}

fn refused(error: CallError) -> Ended {
    match error.code {
        Code::PermissionDenied | Code::NotFound => Ended::Removed(error),
        Code::InvalidArgument
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Unavailable
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Unimplemented
        | Code::Internal => Ended::Call(error),
    }
}
