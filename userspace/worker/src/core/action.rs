use crate::Word;
use essaim_objects::{TaskId, Timestamp};
use essaim_runner::TaskHealth;
use std::time::Instant;

/// What time it is.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For what is due.
    pub monotonic: Instant,
    /// For what is reported.
    pub wall: Timestamp,
}

/// What is done with a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// The runner makes what it needs. Answered by [`Done::Done`].
    Prepare,
    /// Its endpoints are waited for. Answered by [`Done::Done`].
    Attach,
    /// The runner starts it. Answered by [`Done::Started`].
    Start,
    /// No new traffic comes to it afterwards. Answered by [`Done::Done`].
    Drain,
    /// The runner stops it. Answered by [`Done::Ended`].
    Stop,
    /// The runner removes all there is of it. Answered by [`Done::Done`].
    Remove,
}

/// What a [`Core`](super::Core) wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin an operation, and say when it is over: [`Core::done`](super::Core::done).
    Begin {
        /// Of this task.
        task: TaskId,
        /// What its outcome is told with.
        number: u64,
        /// Which.
        operation: Operation,
    },
    /// Nobody waits for this operation any more.
    Abandon {
        /// Of this task.
        task: TaskId,
        /// The one of this number.
        number: u64,
    },
    /// Tell the data plane.
    Tell {
        /// Of this task.
        task: TaskId,
        /// This.
        word: Word,
    },
    /// Check the task's health from now on: [`Core::health_changed`](super::Core::health_changed).
    Watch {
        /// This task's.
        task: TaskId,
        /// How it was started.
        launch: Launch,
        /// Whether it is known to have been healthy, as before a restart.
        was_healthy: bool,
    },
    /// Check it no more.
    Unwatch {
        /// This task's.
        task: TaskId,
    },
}

/// What came of an operation that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is done.
    Done,
    /// The task runs, or did.
    Started(Launch),
    /// The task has ended.
    Ended(End),
}

/// How a task was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Its process, as the node numbers it.
    pub pid: i32,
    /// When.
    pub at: Timestamp,
    /// What its engine calls its container, where it is one.
    pub container: Option<String>,
    /// What its checks say, where its runner has them run.
    pub health: Option<TaskHealth>,
}

/// How a task ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// As shells and Docker number it; none where nobody knows.
    pub code: Option<i32>,
    /// What is to be said beside it: that memory was short, or that it never ran.
    pub reason: Option<String>,
}

/// An operation that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, with all causes.
    pub reason: String,
    /// The code that the task ended with, where its start failed.
    pub exit_code: Option<i32>,
    /// Whether the task has ended by it.
    pub is_end: bool,
}

impl Failure {
    /// For this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            exit_code: None,
            is_end: false,
        }
    }
}

/// What a runner found of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunnerState {
    /// It could be started.
    Prepared,
    /// It runs.
    Running(Launch),
    /// It has ended.
    Ended(End),
}
