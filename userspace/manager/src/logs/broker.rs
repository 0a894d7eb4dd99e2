//! The requests for logs that the leader has taken, and who has answered them.

use super::place::Places;
use super::{LogFailure, Piece};
use crate::sessions::{Gone, Guard};
use essaim_objects::{NodeId, Task, TaskState};
use essaim_protocol::{LogBatch, LogSelector, LogSubscription, LogSubscriptionId, ToNode};
use essaim_rpc::{CallError, Code};
use essaim_store::{Event, Object, View};
use futures_util::Stream;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// So many batches wait for a reader.
const BATCHES: usize = 8;

/// The lines of one request; dropping them ends it.
pub(crate) struct Lines {
    batches: mpsc::Receiver<Vec<Piece>>,
    lost: mpsc::UnboundedReceiver<LogFailure>,
    ready: VecDeque<Piece>,
    _guard: Guard,
}

impl Stream for Lines {
    type Item = Piece;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Poll::Ready(Some(piece));
            }
            // What is lost is told soon, however much is said.
            let lost = match self.lost.poll_recv(context) {
                Poll::Ready(Some(lost)) => return Poll::Ready(Some(Piece::Failure(lost))),
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            };
            match self.batches.poll_recv(context) {
                Poll::Ready(Some(batch)) => self.ready.extend(batch),
                // All is said but what could not be.
                Poll::Ready(None) => return lost,
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[derive(Debug)]
struct Request {
    wanted: LogSubscription,
    /// The nodes that were asked.
    asked: BTreeSet<NodeId>,
    /// Those of them that have not said their end.
    open: BTreeSet<NodeId>,
    /// What each node was asked last, and the next batch of its answer.
    rounds: BTreeMap<NodeId, (u64, u64)>,
    /// Where the reader is, with all that waits for it.
    places: Places,
    batches: mpsc::Sender<Vec<Piece>>,
    /// One for each node at most, and so bounded by their number.
    lost: mpsc::UnboundedSender<LogFailure>,
}

impl Request {
    /// Asks a node, once more where it was asked before; it goes on where the reader is.
    fn ask(&mut self, node: NodeId, view: &View) -> ToNode {
        self.asked.insert(node);
        self.open.insert(node);
        let round = self.rounds.get(&node).map_or(0, |(round, _)| round + 1);
        self.rounds.insert(node, (round, 0));
        let is_there = |task| view.task(task).is_some_and(|task| task.node_id == Some(node));
        ToNode::Logs(LogSubscription {
            resume: self.places.of(is_there),
            round,
            ..self.wanted.clone()
        })
    }

    /// Whether this is the next batch of a node's last answer, or was taken before; `None` where nobody waits for it.
    fn is_next(&self, node: NodeId, batch: &LogBatch) -> Option<bool> {
        let (round, next) = self.rounds.get(&node)?;
        let counts = self.asked.contains(&node) && *round == batch.round && batch.number <= *next;
        counts.then_some(batch.number == *next)
    }
}

/// What nodes are to be sent.
type Asked = Vec<(NodeId, ToNode)>;

/// All requests of a leadership.
#[derive(Debug, Default)]
pub(crate) struct Broker {
    requests: Mutex<BTreeMap<LogSubscriptionId, Request>>,
}

impl Broker {
    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<LogSubscriptionId, Request>) -> T) -> T {
        change(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a request; gives its lines and what nodes are to be asked.
    pub(crate) fn begin(
        &self,
        wanted: LogSubscription,
        view: &View,
        gone: mpsc::UnboundedSender<Gone>,
    ) -> (Lines, Asked) {
        let (batches, receiver) = mpsc::channel(BATCHES);
        let (lost, losses) = mpsc::unbounded_channel();
        let lines = Lines {
            batches: receiver,
            lost: losses,
            ready: VecDeque::new(),
            _guard: Guard::new(gone, Gone::Logs(wanted.id)),
        };
        let id = wanted.id;
        let mut request = Request {
            places: Places::from(wanted.resume.clone()),
            wanted,
            asked: BTreeSet::new(),
            open: BTreeSet::new(),
            rounds: BTreeMap::new(),
            batches,
            lost,
        };
        let nodes = nodes_of(&request.wanted.selector, view).into_iter();
        let asked = nodes.map(|node| (node, request.ask(node, view))).collect();
        self.with(|requests| {
            // One without nodes has no lines, and its sender ends here.
            if request.wanted.follow || !request.open.is_empty() {
                requests.insert(id, request);
            }
        });
        (lines, asked)
    }

    /// Takes what a node sends; waits while the reader is slower.
    ///
    /// # Errors
    /// Nobody asked this node for it, or wants it any more: the node stops sending.
    pub(crate) async fn take(&self, node: NodeId, batch: LogBatch) -> Result<(), CallError> {
        let nobody = || {
            CallError::new(
                Code::NotFound,
                "nobody reads these logs any more; stop sending them",
            )
        };
        let id = batch.subscription;
        let waiting = |requests: &BTreeMap<_, Request>| {
            let request = requests.get(&id)?;
            let is_next = request.is_next(node, &batch)?;
            Some(is_next.then(|| request.batches.clone()))
        };
        let Some(sender) = self.with(|requests| waiting(requests)).ok_or_else(nobody)? else {
            // It was taken before, and only that could not be said.
            return Ok(());
        };
        if let Some(other) = batch.messages.iter().find(|message| message.source.node != node) {
            let message = format!("logs of node {} sent by node {node}", other.source.node);
            return Err(CallError::new(Code::PermissionDenied, message));
        }
        let room = sender.reserve().await.map_err(|_| nobody())?;
        // What was waited for may be another node's answer by now. The reader's place moves as it is sent.
        self.with(|requests| {
            if waiting(requests).ok_or_else(nobody)?.is_none() {
                return Ok(());
            }
            let LogBatch {
                begins,
                messages,
                ended,
                ..
            } = batch.clone();
            if let Some(request) = requests.get_mut(&id) {
                for begin in &begins {
                    request.places.begin(*begin);
                }
                for line in &messages {
                    request.places.pass(line);
                }
                if let Some((_, next)) = request.rounds.get_mut(&node) {
                    *next += 1;
                }
            }
            let has_ended = ended.is_some();
            let failure = ended.and_then(|ended| ended.error);
            let failure = failure.map(|why| Piece::Failure(LogFailure::Node { node, why }));
            let pieces = begins.into_iter().map(Piece::Begins);
            let pieces = pieces.chain(messages.into_iter().map(Piece::Line)).chain(failure);
            let pieces: Vec<_> = pieces.collect();
            if !pieces.is_empty() {
                room.send(pieces);
            }
            if has_ended {
                close(requests, id, node);
            }
            Ok(())
        })
    }

    /// Notes that a node cannot be asked, or sends nothing more.
    pub(crate) fn lost(&self, node: NodeId, why: &str) {
        self.with(|requests| {
            let open = requests
                .iter()
                .filter(|(_, request)| request.open.contains(&node));
            for id in open.map(|(id, _)| *id).collect::<Vec<_>>() {
                if let Some(request) = requests.get_mut(&id) {
                    // One that is followed comes back, and clients end with the first failure.
                    if !request.wanted.follow {
                        let why = why.to_owned();
                        // A reader that is gone ends the request in its own way.
                        let _ = request.lost.send(LogFailure::Node { node, why });
                    }
                    // Where the request follows, it is asked again with its next session or task.
                    request.asked.remove(&node);
                }
                close(requests, id, node);
            }
        });
    }

    /// Notes what happened; gives the nodes that got tasks whose logs are followed.
    pub(crate) fn note(&self, events: &[Event], view: &View) -> Asked {
        let placed = |event: &Event| match event {
            Event::Created(Object::Task(task))
            | Event::Updated {
                new: Object::Task(task),
                ..
            } => task.node_id.is_some() && task.status.state <= TaskState::Running,
            Event::Created(_) | Event::Updated { .. } | Event::Removed(_) => false,
        };
        if self.with(|requests| requests.is_empty()) || !events.iter().any(placed) {
            return Vec::new();
        }
        let tasks = events
            .iter()
            .filter(|event| placed(event))
            .filter_map(|event| match event {
                Event::Created(Object::Task(task))
                | Event::Updated {
                    new: Object::Task(task),
                    ..
                } => Some(task),
                Event::Created(_) | Event::Updated { .. } | Event::Removed(_) => None,
            });
        let tasks: Vec<&Arc<Task>> = tasks.collect();
        self.follow(view, |wanted| {
            let of = tasks.iter().filter(|task| selects(&wanted.selector, task));
            of.filter_map(|task| task.node_id)
                .filter(|node| view.node(*node).is_some())
                .collect()
        })
    }

    /// Notes that anything may have happened.
    pub(crate) fn note_all(&self, view: &View) -> Asked {
        self.follow(view, |wanted| nodes_of(&wanted.selector, view))
    }

    /// Notes that a node has a session, maybe a new one; gives what it is to be asked.
    pub(crate) fn back(&self, node: NodeId, view: &View) -> Vec<ToNode> {
        let asked = self.follow(view, |wanted| {
            let mut nodes = nodes_of(&wanted.selector, view);
            nodes.retain(|it| *it == node);
            nodes
        });
        asked.into_iter().map(|(_, message)| message).collect()
    }

    fn follow(&self, view: &View, nodes: impl Fn(&LogSubscription) -> BTreeSet<NodeId>) -> Asked {
        self.with(|requests| {
            let mut asked = Vec::new();
            for request in requests.values_mut().filter(|request| request.wanted.follow) {
                for node in nodes(&request.wanted) {
                    if !request.asked.contains(&node) {
                        asked.push((node, request.ask(node, view)));
                    }
                }
            }
            asked
        })
    }

    /// Ends a request; gives the nodes that still send.
    pub(crate) fn end(&self, id: LogSubscriptionId) -> BTreeSet<NodeId> {
        self.with(|requests| {
            requests
                .remove(&id)
                .map(|request| request.open)
                .unwrap_or_default()
        })
    }
}

impl Drop for Broker {
    /// The leadership ends, and with it what was not sent.
    fn drop(&mut self) {
        self.with(|requests| {
            for request in std::mem::take(requests).into_values() {
                let why = "this manager does not lead any more".to_owned();
                // A reader that is gone misses nothing.
                let _ = request.lost.send(LogFailure::Leader { why });
            }
        });
    }
}

/// Notes a node's end; a request that does not follow ends with its last.
fn close(requests: &mut BTreeMap<LogSubscriptionId, Request>, id: LogSubscriptionId, node: NodeId) {
    if let Some(request) = requests.get_mut(&id) {
        request.open.remove(&node);
        if request.open.is_empty() && !request.wanted.follow {
            requests.remove(&id);
        }
    }
}

/// The nodes that have tasks of a selection.
fn nodes_of(selector: &LogSelector, view: &View) -> BTreeSet<NodeId> {
    let of_services = selector.services.iter().flat_map(|id| view.tasks_of_service(*id));
    let single = selector.tasks.iter().filter_map(|id| view.task(*id));
    let of_nodes = selector.nodes.iter().flat_map(|id| view.tasks_on_node(*id));
    let tasks = of_services.chain(single).chain(of_nodes);
    tasks
        .filter(|task| task.status.state >= TaskState::Assigned)
        .filter_map(|task| task.node_id)
        .filter(|node| view.node(*node).is_some())
        .collect()
}

fn selects(selector: &LogSelector, task: &Task) -> bool {
    selector.tasks.contains(&task.id)
        || task.service_id.is_some_and(|id| selector.services.contains(&id))
        || task.node_id.is_some_and(|id| selector.nodes.contains(&id))
}
