//! The time in which this manager leads: the [`Leader`] with a clock, randomness, the log and the nodes' streams.

use super::feed::Feed;
use super::stream::{Stream, Stuck};
use super::told::{self, Told};
use super::{CALLS, Call, Gone, Office, Replies, Shared, refused};
use crate::leader::{Effect, Leader, Outcome, ProposalId};
use crate::logs::Broker;
use crate::machine::Notice;
use bytes::Bytes;
use essaim_ca::{Entropy as _, SystemEntropy};
use essaim_objects::{NodeId, Timestamp};
use essaim_orchestrator::{Closed, Message, Now, Registration};
use essaim_protocol::{SessionId, ToNode, encode};
use essaim_rpc::{CallError, Code};
use essaim_store::{Event, Transaction};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep_until};

/// Calls are answered in so large portions before what they change is decided.
const PORTION: usize = 256;

/// Leads until it is dropped; returns where it could not begin, or its store is closed.
pub(super) async fn begin(shared: &Arc<Shared>, term: u64) {
    let mut seed = [0; 32];
    if let Err(error) = SystemEntropy.fill(&mut seed) {
        tracing::error!(%error, "this manager cannot lead without randomness");
        return;
    }
    // Once this is applied here, everything is that was in the log before, also what an earlier leadership of this
    // manager in the same term asked for.
    let fence = Transaction::new().encode().unwrap_or_default();
    match shared.replica.propose_here(fence).await {
        Outcome::Applied | Outcome::Conflict => {}
        Outcome::NotTried | Outcome::Unknown => return,
    }
    let (calls, incoming) = mpsc::channel(CALLS);
    let (gone, leaving) = mpsc::unbounded_channel();
    let reign = Reign::new(shared, seed, gone);
    let broker = reign.broker.clone();
    shared.set_office(Some(Office { calls, broker }));
    tracing::info!(term, "this manager leads");
    reign.run(incoming, leaving).await;
}

struct Reign {
    shared: Arc<Shared>,
    leader: Leader,
    begun: Instant,
    rng: StdRng,
    notices: broadcast::Receiver<Notice>,
    proposals: FuturesUnordered<BoxFuture<'static, (ProposalId, Outcome)>>,
    streams: BTreeMap<SessionId, Stream>,
    feed: Feed,
    told: Told,
    broker: Arc<Broker>,
    gone: mpsc::UnboundedSender<Gone>,
}

impl Reign {
    fn new(shared: &Arc<Shared>, seed: [u8; 32], gone: mpsc::UnboundedSender<Gone>) -> Self {
        let begun = Instant::now();
        // What comes between the two is told twice, which does no harm.
        let notices = shared.replica.notices();
        let view = shared.replica.view();
        let now = Now {
            wall: Timestamp::now(),
            monotonic: Duration::ZERO,
        };
        let mut told = Told::default();
        told.refresh(&shared.replica, &view);
        Self {
            leader: Leader::new(view, now),
            shared: shared.clone(),
            begun,
            rng: StdRng::from_seed(seed),
            notices,
            proposals: FuturesUnordered::new(),
            streams: BTreeMap::new(),
            feed: Feed::new(shared.catalog_of.clone()),
            told,
            broker: Arc::new(Broker::default()),
            gone,
        }
    }

    fn now(&self) -> Now {
        Now {
            wall: Timestamp::now(),
            monotonic: self.begun.elapsed(),
        }
    }

    async fn run(mut self, mut calls: mpsc::Receiver<Call>, mut gone: mpsc::UnboundedReceiver<Gone>) {
        let mut status = self.shared.replica.raft().watch();
        let mut members = status.borrow_and_update().members.clone();
        loop {
            self.decide();
            let deadline = self.deadline();
            tokio::select! {
                notice = self.notices.recv() => match notice {
                    Ok(notice) => self.catch_up(Some(notice)),
                    Err(RecvError::Lagged(_)) => self.restore(),
                    Err(RecvError::Closed) => return,
                },
                Some((id, outcome)) = self.proposals.next(), if !self.proposals.is_empty() => {
                    // What it did comes first.
                    self.catch_up(None);
                    let now = self.now();
                    self.leader.handle_outcome(id, outcome, now);
                }
                call = calls.recv() => {
                    let Some(call) = call else { return };
                    self.answer(call);
                    for _ in 1..PORTION {
                        let Ok(call) = calls.try_recv() else { break };
                        self.answer(call);
                    }
                }
                Some(gone) = gone.recv() => self.end(gone),
                () = self.feed.made() => self.publish(),
                changed = status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // It changes with each entry, and who is a manager rarely.
                    let is_other = {
                        let status = status.borrow_and_update();
                        let is_other = status.members != members;
                        members.clone_from(&status.members);
                        is_other
                    };
                    if is_other {
                        self.tell_all();
                    }
                }
                () = wait_until(deadline) => {}
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let leader = self.leader.next_timeout().map(|at| self.begun + at);
        [leader, self.feed.due()].into_iter().flatten().min()
    }

    /// Takes in what the store did, all that there is.
    fn catch_up(&mut self, first: Option<Notice>) {
        let mut events: Vec<Event> = Vec::new();
        let mut next = first;
        loop {
            match next {
                Some(Notice::Changed { events: some, .. }) => events.extend(some.iter().cloned()),
                Some(Notice::Restored) => return self.restore(),
                None => {}
            }
            next = match self.notices.try_recv() {
                Ok(notice) => Some(notice),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                Err(TryRecvError::Lagged(_)) => return self.restore(),
            };
        }
        if events.is_empty() {
            return;
        }
        let (view, now) = (self.shared.replica.view(), self.now());
        self.leader.handle_events(&events, view, now);
        self.feed.note(&events);
        if events.iter().any(told::concerns) {
            self.tell_all();
        }
        let asked = self.broker.note(&events, self.leader.view());
        self.ask_for_logs(asked);
    }

    fn restore(&mut self) {
        tracing::warn!("fell behind the log; looking at everything anew");
        self.notices = self.shared.replica.notices();
        let (view, now) = (self.shared.replica.view(), self.now());
        self.leader.handle_restored(view, now);
        self.feed.note_all();
        self.tell_all();
        let asked = self.broker.note_all(self.leader.view());
        self.ask_for_logs(asked);
    }

    /// Lets the leader decide, and carries it out.
    fn decide(&mut self) {
        self.feed.make(self.leader.view());
        let now = self.now();
        let rng = &mut self.rng;
        let effects = self.leader.poll(now, &mut || rng.random());
        for effect in effects {
            match effect {
                Effect::Propose { id, command } => {
                    let replica = self.shared.replica.clone();
                    let propose = async move { (id, replica.propose_here(command).await) };
                    self.proposals.push(Box::pin(propose));
                }
                Effect::Send { session, message } => self.send(session, message),
                Effect::Close { session, why } => {
                    if let Some(stream) = self.streams.remove(&session) {
                        self.broker.lost(stream.node, "its session ended");
                        stream.close(closed(why));
                    }
                }
            }
        }
    }

    fn send(&mut self, session: SessionId, message: Message) {
        let needs = self.feed.needs(self.leader.view());
        let Some(stream) = self.streams.get_mut(&session) else {
            return;
        };
        let sent = match message {
            Message::Session { node, heartbeat } => {
                let message = ToNode::Session {
                    session,
                    node,
                    heartbeat_ms: u64::try_from(heartbeat.as_millis()).unwrap_or(u64::MAX),
                };
                let (node, begins) = (stream.node, !stream.is_greeted);
                let mut sent = stream
                    .send(encode(&message))
                    .and_then(|()| greet(stream, &self.told, &self.feed));
                if begins {
                    // Its readers go on where they are.
                    for asked in self.broker.back(node, self.leader.view()) {
                        sent = sent.and_then(|()| stream.send(encode(&asked)));
                    }
                }
                sent
            }
            Message::Assignments(assignments) => {
                stream.send_after(needs, encode(&ToNode::Assignments(assignments)))
            }
        };
        self.settle(session, &sent);
    }

    /// A node that does not take its messages has no session any more.
    fn settle(&mut self, session: SessionId, sent: &Result<(), Stuck>) {
        if sent.is_err() {
            tracing::warn!(%session, "a node does not take its messages; its session ends");
            self.drop_session(session, "it does not take its messages");
        }
    }

    fn drop_session(&mut self, session: SessionId, why: &str) {
        if let Some(stream) = self.streams.remove(&session) {
            self.broker.lost(stream.node, why);
            self.leader.disconnected(session);
        }
    }

    fn each(&mut self, mut send: impl FnMut(&mut Stream) -> Result<(), Stuck>) {
        let stuck = self
            .streams
            .iter_mut()
            .filter_map(|(id, stream)| send(stream).err().map(|_| *id));
        for session in stuck.collect::<Vec<_>>() {
            self.settle(session, &Err(Stuck));
        }
    }

    /// Tells all nodes what changed of what they are told alike.
    fn tell_all(&mut self) {
        for message in self.told.refresh(&self.shared.replica, self.leader.view()) {
            let message = encode(&message);
            self.each(|stream| {
                if stream.is_greeted {
                    stream.send(message.clone())
                } else {
                    Ok(())
                }
            });
        }
    }

    /// Gives all nodes the catalog that was made, or what waited for it.
    fn publish(&mut self) {
        let issue = self.feed.current().filter(|_| self.feed.can_be_made());
        let revision = issue.map(|issue| issue.revision);
        let mut stuck = Vec::new();
        for (session, stream) in &mut self.streams {
            if !stream.is_greeted {
                continue;
            }
            let sent = match issue {
                Some(issue) if stream.holds < revision => stream.send_all(issue.from(stream.holds)),
                Some(_) | None => Ok(()),
            };
            if sent.and_then(|()| stream.release(revision)).is_err() {
                stuck.push(*session);
            }
        }
        for session in stuck {
            self.settle(session, &Err(Stuck));
        }
    }

    fn answer(&mut self, call: Call) {
        let now = self.now();
        let rng = &mut self.rng;
        let random = &mut || rng.random();
        // Whoever does not wait for the answer any more does not get it.
        match call {
            Call::Register {
                registration,
                holds,
                reply,
            } => {
                let _ = reply.send(self.register(*registration, holds));
            }
            Call::Heartbeat { node, session, reply } => {
                let _ = reply.send(self.leader.heartbeat(node, session, now, random));
            }
            Call::Report {
                node,
                session,
                reports,
                reply,
            } => {
                let _ = reply.send(self.leader.report(node, session, reports, now));
            }
            Call::Logs { request, reply } => {
                let id = request.id;
                let (lines, asked) = self.broker.begin(request, self.leader.view(), self.gone.clone());
                if reply.send(lines).is_err() {
                    self.end(Gone::Logs(id));
                }
                self.ask_for_logs(asked);
            }
        }
    }

    fn register(&mut self, registration: Registration, holds: Option<u64>) -> Result<Replies, CallError> {
        let node = registration.node;
        let now = self.now();
        let rng = &mut self.rng;
        let begun = self.leader.register(registration, now, &mut || rng.random());
        let session = begun.map_err(refused)?;
        // A catalog from the future is another cluster's.
        let holds = holds.filter(|revision| *revision <= self.leader.view().index());
        let (stream, replies) = Stream::new(node, session, holds, self.gone.clone());
        self.streams.insert(session, stream);
        Ok(replies)
    }

    fn end(&mut self, gone: Gone) {
        match gone {
            Gone::Session(session) => self.drop_session(session, "its connection ended"),
            Gone::Logs(id) => {
                let message = encode(&ToNode::EndLogs(id));
                for node in self.broker.end(id) {
                    self.send_to(node, &message);
                }
            }
        }
    }

    /// Sends nodes the requests for logs; those without a session are counted out.
    fn ask_for_logs(&mut self, asked: Vec<(NodeId, ToNode)>) {
        for (node, message) in asked {
            if !self.send_to(node, &encode(&message)) {
                self.broker.lost(node, "it has no session with the leader");
            }
        }
    }

    fn send_to(&mut self, node: NodeId, message: &Bytes) -> bool {
        let found = self.streams.iter().find(|(_, stream)| stream.node == node);
        let Some((session, stream)) = found else {
            return false;
        };
        let (session, sent) = (*session, stream.send(message.clone()));
        let is_sent = sent.is_ok();
        self.settle(session, &sent);
        is_sent
    }
}

/// What a node is told as its session begins, after the session itself.
fn greet(stream: &mut Stream, told: &Told, feed: &Feed) -> Result<(), Stuck> {
    if stream.is_greeted {
        return Ok(());
    }
    stream.is_greeted = true;
    for message in told.all() {
        stream.send(encode(&message))?;
    }
    if let Some(issue) = feed.current() {
        stream.send_all(issue.from(stream.holds))?;
        stream.release(Some(issue.revision))?;
    }
    Ok(())
}

fn closed(why: Closed) -> CallError {
    match why {
        Closed::Replaced => CallError::new(Code::FailedPrecondition, "the node began another session"),
        Closed::HeartbeatMissed => {
            CallError::new(Code::Unavailable, "heartbeats were missed; register again")
        }
        Closed::NodeRemoved => {
            CallError::new(Code::NotFound, "the node is no member of the cluster any more")
        }
    }
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
