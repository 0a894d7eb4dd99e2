//! Logs of this node's tasks, for whoever asked a manager for them.

use crate::session::CALL;
use essaim_objects::{Data, NodeId, Task, TaskId};
use essaim_protocol::{
    LogBatch, LogEnd, LogMessage, LogSelector, LogSource, LogSubscription, Stream, encode, method,
};
use essaim_rpc::{Client, chain};
use essaim_runner::{LogFollower, LogQuery, LogRecord, LogStream, Runner};
use std::collections::BTreeSet;
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
                if count > 0 && !send_batch(&client, &subscription, std::mem::take(&mut batch), None).await {
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
                send_batch(&client, &subscription, Vec::new(), Some(LogEnd { error })).await;
                return;
            }
        }
    }
}

/// Whether it arrived.
async fn send_batch(
    client: &Client,
    subscription: &LogSubscription,
    messages: Vec<LogMessage>,
    ended: Option<LogEnd>,
) -> bool {
    let batch = LogBatch {
        subscription: subscription.id,
        messages,
        ended,
    };
    let sent = client.call(method::LOGS, encode(&batch), CALL).await;
    if let Err(error) = &sent {
        tracing::debug!(%error, "logs were not taken, and are sent no more");
    }
    sent.is_ok()
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
    send: mpsc::Sender<LogMessage>,
) -> Result<(), String> {
    let query = LogQuery {
        tail: subscription.tail,
        since: subscription.since,
        follow: subscription.follow,
    };
    let failed = |error: essaim_runner::RunnerError| format!("task {}: {}", task.id, chain(&error));
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
        let stream = match stream {
            LogStream::Stdout => Stream::Stdout,
            LogStream::Stderr => Stream::Stderr,
        };
        if !subscription.streams.contains(&stream) {
            continue;
        }
        let message = LogMessage {
            source,
            timestamp: time,
            stream,
            data: Data::from(text.into_bytes()),
        };
        if send.send(message).await.is_err() {
            return Ok(());
        }
    }
}

/// A task as the runner names it.
pub(crate) fn runner_id(task: TaskId) -> essaim_model::TaskId {
    // 25 characters of 0-9 and a-z are a name of the model's, too.
    essaim_model::TaskId::new(task.as_str()).unwrap_or_else(|_| unreachable!("an identity is a name"))
}
