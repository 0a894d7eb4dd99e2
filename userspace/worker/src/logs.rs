//! Logs of this node's tasks, for whoever asked a manager for them.

use crate::session::CALL;
use essaim_objects::{Data, NodeId, Task, TaskId, Timestamp};
use essaim_protocol::{
    LogBatch, LogEnd, LogMessage, LogPosition, LogSelector, LogSource, LogSubscription, LogSubscriptionId,
    Stream, encode, method,
};
use essaim_rpc::{Client, Code, chain};
use essaim_runner::{LogFollower, LogQuery, LogRecord, LogStream, Runner};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Most lines of one message, each of which has 16 KiB at most: a message stays far below what managers take.
const MOST: usize = 128;

/// Sends what is asked for. What is read ahead is bounded: the next lines are read when the last ones have arrived.
pub(crate) async fn serve<R: Runner + 'static>(
    runner: Arc<R>,
    client: Client,
    node: NodeId,
    mut tasks: watch::Receiver<Vec<Arc<Task>>>,
    subscription: LogSubscription,
) {
    let (send, mut lines) = mpsc::channel(MOST);
    let mut sender = Sender::new(client, &subscription);
    let mut errors = Vec::new();
    let mut known = BTreeSet::new();
    let mut readers = JoinSet::new();
    let mut batch = Vec::new();
    loop {
        let now = tasks.borrow_and_update().clone();
        let new = now
            .into_iter()
            .filter(|task| selects(&subscription.selector, task, node));
        for task in new.filter(|task| known.insert(task.id)) {
            readers.spawn(read(
                Arc::clone(&runner),
                task,
                node,
                subscription.clone(),
                send.clone(),
            ));
        }
        tokio::select! {
            biased;
            count = lines.recv_many(&mut batch, MOST) => {
                if count > 0 && !sender.send(std::mem::take(&mut batch), None).await {
                    return;
                }
            }
            Some(read) = readers.join_next(), if !readers.is_empty() => {
                if let Ok(Err(error)) = read {
                    errors.push(error);
                }
            }
            // Tasks that start later are followed, too.
            changed = tasks.changed(), if subscription.follow => if changed.is_err() {
                return;
            },
            () = std::future::ready(()), if readers.is_empty() && !subscription.follow => {
                let error = (!errors.is_empty()).then(|| errors.join("; "));
                sender.send(Vec::new(), Some(LogEnd { error })).await;
                return;
            }
        }
    }
}

/// What a reader of a task's log has to say.
enum Piece {
    /// Where its lines begin.
    Begins(LogPosition),
    /// A line.
    Line(LogMessage),
}

/// Sends batches, one after the other.
struct Sender {
    client: Client,
    subscription: LogSubscriptionId,
    round: u64,
    number: u64,
}

impl Sender {
    fn new(client: Client, subscription: &LogSubscription) -> Self {
        Self {
            client,
            subscription: subscription.id,
            round: subscription.round,
            number: 0,
        }
    }

    /// Whether it arrived. A reader that is slow is waited for; one that is gone, or a session that has ended, is not.
    async fn send(&mut self, pieces: Vec<Piece>, ended: Option<LogEnd>) -> bool {
        let (mut begins, mut messages) = (Vec::new(), Vec::new());
        for piece in pieces {
            match piece {
                Piece::Begins(position) => begins.push(position),
                Piece::Line(message) => messages.push(message),
            }
        }
        let batch = LogBatch {
            subscription: self.subscription,
            round: self.round,
            number: self.number,
            begins,
            messages,
            ended,
        };
        let batch = encode(&batch);
        self.number += 1;
        loop {
            let Err(error) = self.client.call(method::LOGS, batch.clone(), CALL).await else {
                return true;
            };
            if error.code != Code::DeadlineExceeded {
                tracing::debug!(%error, "logs were not taken, and are sent no more");
                return false;
            }
        }
    }
}

/// Leaves out the lines up to where the reader is.
struct Resume {
    from: Option<LogPosition>,
    passed: u64,
}

impl Resume {
    fn is_past(&mut self, timestamp: Timestamp) -> bool {
        let Some(from) = self.from else {
            return true;
        };
        if timestamp < from.timestamp {
            return false;
        }
        if timestamp == from.timestamp && self.passed < from.lines {
            self.passed += 1;
            return false;
        }
        // From here on everything counts, wherever the clock goes.
        self.from = None;
        true
    }
}

fn selects(selector: &LogSelector, task: &Task, node: NodeId) -> bool {
    selector.tasks.contains(&task.id)
        || selector.nodes.contains(&node)
        || task
            .service_id
            .is_some_and(|service| selector.services.contains(&service))
}

/// Reads one task's log; an error is in a sentence.
async fn read<R: Runner>(
    runner: Arc<R>,
    task: Arc<Task>,
    node: NodeId,
    subscription: LogSubscription,
    send: mpsc::Sender<Piece>,
) -> Result<(), String> {
    let failed = |error: essaim_runner::RunnerError| format!("task {}: {}", task.id, chain(&error));
    let known = subscription
        .resume
        .iter()
        .find(|position| position.task == task.id);
    let mut from = known.copied();
    if from.is_none() && subscription.follow && subscription.tail.is_some() {
        let begin = tail_of(&*runner, task.id, &subscription).await.map_err(failed)?;
        if send.send(Piece::Begins(begin)).await.is_err() {
            return Ok(());
        }
        from = Some(begin);
    }
    let query = LogQuery {
        tail: subscription.tail.filter(|_| from.is_none()),
        since: subscription.since,
        follow: subscription.follow,
    };
    let mut resume = Resume { from, passed: 0 };
    let mut log: LogFollower = runner.logs(&runner_id(task.id), query).await.map_err(failed)?;
    let source = LogSource {
        node,
        service: task.service_id,
        task: task.id,
    };
    loop {
        let record = log.next_record().await;
        let Some(LogRecord { time, stream, text }) = record.map_err(|error| failed(error.into()))? else {
            return Ok(());
        };
        if subscription.until.is_some_and(|until| time > until) {
            return Ok(());
        }
        let stream = stream_of(stream);
        if !subscription.streams.contains(&stream) || !resume.is_past(time) {
            continue;
        }
        let message = LogMessage {
            source,
            timestamp: time,
            stream,
            data: Data::from(text.into_bytes()),
        };
        if send.send(Piece::Line(message)).await.is_err() {
            return Ok(());
        }
    }
}

/// Where the last lines of a log begin, as far as it is written now.
async fn tail_of<R: Runner>(
    runner: &R,
    task: TaskId,
    subscription: &LogSubscription,
) -> Result<LogPosition, essaim_runner::RunnerError> {
    let wanted = subscription
        .tail
        .and_then(|tail| usize::try_from(tail).ok())
        .unwrap_or(usize::MAX);
    let query = LogQuery {
        since: subscription.since,
        ..LogQuery::default()
    };
    let mut log = runner.logs(&runner_id(task), query).await?;
    let mut begin = LogPosition::begin(task);
    let mut last = VecDeque::new();
    while let Some(record) = log.next_record().await? {
        if !subscription.streams.contains(&stream_of(record.stream)) {
            continue;
        }
        last.push_back(record.time);
        if last.len() > wanted
            && let Some(passed) = last.pop_front()
        {
            begin.pass(passed);
        }
    }
    Ok(begin)
}

fn stream_of(stream: LogStream) -> Stream {
    match stream {
        LogStream::Stdout => Stream::Stdout,
        LogStream::Stderr => Stream::Stderr,
    }
}

/// A task as the runner names it.
pub(crate) fn runner_id(task: TaskId) -> essaim_model::TaskId {
    // 25 characters of 0-9 and a-z are a name of the model's, too.
    essaim_model::TaskId::new(task.as_str()).unwrap_or_else(|_| unreachable!("an identity is a name"))
}
