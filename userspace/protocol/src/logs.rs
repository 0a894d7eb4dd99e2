//! Logs of tasks, from the nodes that run them to the manager that was asked.

use essaim_objects::{Data, NodeId, ServiceId, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

/// A request for logs, drawn at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogSubscriptionId(pub u64);

/// A request for the logs of tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSubscription {
    /// Which request.
    pub id: LogSubscriptionId,
    /// Whose logs: the node's tasks among these.
    pub selector: LogSelector,
    /// How much of them.
    pub tail: Option<u64>,
    /// Nothing before.
    pub since: Option<Timestamp>,
    /// Nothing after.
    pub until: Option<Timestamp>,
    /// Whether what comes later is sent, too.
    pub follow: bool,
    /// Which of the streams.
    pub streams: Vec<Stream>,
    /// Where the reader is already, in the logs of tasks of which it has been sent something. Those go on there, whatever
    /// `tail` says.
    pub resume: Vec<LogPosition>,
    /// How often the node was asked for this before: what it sends says so, and only what answers the last time counts.
    pub round: u64,
}

/// A place between two lines of a task's log: after so many of those that were asked for with this timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition {
    /// Whose log.
    pub task: TaskId,
    /// The timestamp of the last line before it; 1970 where it is the log's begin.
    pub timestamp: Timestamp,
    /// How many lines of this timestamp are before it.
    pub lines: u64,
}

impl LogPosition {
    /// The begin of a task's log.
    pub fn begin(task: TaskId) -> Self {
        Self {
            task,
            timestamp: Timestamp::UNIX_EPOCH,
            lines: 0,
        }
    }

    /// Goes past a line of this timestamp.
    pub fn pass(&mut self, timestamp: Timestamp) {
        if timestamp == self.timestamp {
            self.lines = self.lines.saturating_add(1);
        } else {
            (self.timestamp, self.lines) = (timestamp, 1);
        }
    }
}

/// Whose logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSelector {
    /// Those of all tasks of these services.
    pub services: Vec<ServiceId>,
    /// Those of these tasks.
    pub tasks: Vec<TaskId>,
    /// Those of all tasks of these nodes.
    pub nodes: Vec<NodeId>,
}

/// What a task writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Where a line is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSource {
    /// The node.
    pub node: NodeId,
    /// The service, where the task is of one.
    pub service: Option<ServiceId>,
    /// The task.
    pub task: TaskId,
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMessage {
    /// Where it is from.
    pub source: LogSource,
    /// When.
    pub timestamp: Timestamp,
    /// Which stream.
    pub stream: Stream,
    /// What, with its line end where it has one.
    pub data: Data,
}

/// What tasks of a node have said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogBatch {
    /// Which request it answers.
    pub subscription: LogSubscriptionId,
    /// And which time that it was asked.
    pub round: u64,
    /// Counted up from 0 with each batch: one that is sent twice is taken once.
    pub number: u64,
    /// Where the lines of tasks begin, once for each of which only the last ones are sent and more is to come. So a reader's
    /// place is known before the first line.
    pub begins: Vec<LogPosition>,
    /// The lines, in the order of each task.
    pub messages: Vec<LogMessage>,
    /// The node has sent all that there is to send, or cannot; then why.
    pub ended: Option<LogEnd>,
}

/// How a node's part of a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEnd {
    /// Why not all could be sent, where that is so.
    pub error: Option<String>,
}
