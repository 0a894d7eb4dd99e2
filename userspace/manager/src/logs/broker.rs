//! The requests for logs that the leader has taken, and who has answered them.

use super::LogFailure;
use crate::sessions::{Gone, Guard};
use essaim_objects::{NodeId, Task, TaskState};
use essaim_protocol::{LogBatch, LogMessage, LogSelector, LogSubscription, LogSubscriptionId, ToNode};
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

/// What a node sent, or why it did not.
#[derive(Debug, Default)]
struct Batch {
    messages: Vec<LogMessage>,
    failure: Option<LogFailure>,
}

/// The lines of one request; dropping them ends it.
pub(crate) struct Lines {
    batches: mpsc::Receiver<Batch>,
    lost: mpsc::UnboundedReceiver<LogFailure>,
    ready: VecDeque<Result<LogMessage, LogFailure>>,
    _guard: Guard,
}

impl Stream for Lines {
    type Item = Result<LogMessage, LogFailure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Poll::Ready(Some(line));
            }
            match self.batches.poll_recv(context) {
                Poll::Ready(Some(batch)) => {
                    self.ready.extend(batch.messages.into_iter().map(Ok));
                    self.ready.extend(batch.failure.map(Err));
                    continue;
                }
                // All is said but what could not be.
                Poll::Ready(None) => return self.lost.poll_recv(context).map(|lost| lost.map(Err)),
                Poll::Pending => {}
            }
            return match self.lost.poll_recv(context) {
                Poll::Ready(Some(lost)) => Poll::Ready(Some(Err(lost))),
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            };
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
    batches: mpsc::Sender<Batch>,
    /// One for each node at most, and so bounded by their number.
    lost: mpsc::UnboundedSender<LogFailure>,
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
        let nodes = nodes_of(&wanted.selector, view);
        let asked = nodes
            .iter()
            .map(|node| (*node, ToNode::Logs(wanted.clone())))
            .collect();
        let id = wanted.id;
        let request = Request {
            wanted,
            asked: nodes.clone(),
            open: nodes,
            batches,
            lost,
        };
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
        let LogBatch {
            subscription,
            messages,
            ended,
        } = batch;
        let sender = self.with(|requests| {
            let request = requests
                .get(&subscription)
                .filter(|request| request.asked.contains(&node));
            request.map(|request| request.batches.clone())
        });
        let nobody = || {
            CallError::new(
                Code::NotFound,
                "nobody reads these logs any more; stop sending them",
            )
        };
        let sender = sender.ok_or_else(nobody)?;
        if let Some(other) = messages.iter().find(|message| message.source.node != node) {
            let message = format!("logs of node {} sent by node {node}", other.source.node);
            return Err(CallError::new(Code::PermissionDenied, message));
        }
        let failure = ended.as_ref().and_then(|ended| ended.error.clone());
        let failure = failure.map(|why| LogFailure::Node { node, why });
        if !messages.is_empty() || failure.is_some() {
            sender
                .send(Batch { messages, failure })
                .await
                .map_err(|_| nobody())?;
        }
        if ended.is_some() {
            self.with(|requests| close(requests, subscription, node));
        }
        Ok(())
    }

    /// Notes that a node cannot be asked, or sends nothing more.
    pub(crate) fn lost(&self, node: NodeId, why: &str) {
        self.with(|requests| {
            let open = requests
                .iter()
                .filter(|(_, request)| request.open.contains(&node));
            for id in open.map(|(id, _)| *id).collect::<Vec<_>>() {
                if let Some(request) = requests.get_mut(&id) {
                    let why = why.to_owned();
                    // A reader that is gone ends the request in its own way.
                    let _ = request.lost.send(LogFailure::Node { node, why });
                    // Where the request follows, it is asked again with its next task.
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
        self.follow(|wanted| {
            let of = tasks.iter().filter(|task| selects(&wanted.selector, task));
            of.filter_map(|task| task.node_id)
                .filter(|node| view.node(*node).is_some())
                .collect()
        })
    }

    /// Notes that anything may have happened.
    pub(crate) fn note_all(&self, view: &View) -> Asked {
        self.follow(|wanted| nodes_of(&wanted.selector, view))
    }

    fn follow(&self, nodes: impl Fn(&LogSubscription) -> BTreeSet<NodeId>) -> Asked {
        self.with(|requests| {
            let mut asked = Vec::new();
            for request in requests.values_mut().filter(|request| request.wanted.follow) {
                for node in nodes(&request.wanted) {
                    if request.asked.insert(node) {
                        request.open.insert(node);
                        asked.push((node, ToNode::Logs(request.wanted.clone())));
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
