use crate::{CgroupError, ExitRecord, LogError, SpecError};
use essaim_health::StopSignal;
use essaim_model::TaskId;
use essaim_netlink::NetnsNameError;
use std::io;
use std::path::PathBuf;

/// Why a runner did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The spec cannot be run; nothing was made.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// There is no such task.
    #[error("there is no task {task}")]
    Unknown {
        /// The task.
        task: TaskId,
    },
    /// A task of this name has another spec; it is left as it is.
    #[error("task {task} is there already, with another spec; remove it first")]
    Differs {
        /// The task.
        task: TaskId,
    },
    /// The task has not run; it stays prepared.
    #[error("task {task} was not started")]
    NotRunning {
        /// The task.
        task: TaskId,
    },
    /// The task has run; a new one is needed to run it again.
    #[error("task {task} has ended already")]
    HasEnded {
        /// The task.
        task: TaskId,
    },
    /// The command could not be run, which is the task's end.
    #[error("task {task} could not be started: {}", reason(record))]
    NotStarted {
        /// The task.
        task: TaskId,
        /// Its end.
        record: ExitRecord,
    },
    /// The engine could not run the task's container, which is the task's end.
    #[error("{}", reason(record))]
    Refused {
        /// The task.
        task: TaskId,
        /// Its end.
        record: ExitRecord,
    },
    /// The engine does not answer, or does not do what the task needs.
    #[error("{message}")]
    Engine {
        /// What it says, or what became of it.
        message: String,
    },
    /// The runner no longer has the contents of the secrets and configs; the task stays prepared.
    #[error(
        "the contents of the secrets and configs of task {task} are gone with an earlier agent; prepare it again"
    )]
    ContentsGone {
        /// The task.
        task: TaskId,
    },
    /// The shim did nothing; the task stays prepared.
    #[error("the shim of task {task} did not start it: {message}")]
    Shim {
        /// The task.
        task: TaskId,
        /// What it says.
        message: String,
    },
    /// The task refuses a signal; it still runs.
    #[error("failed to send {signal} to task {task}: {message}")]
    Signal {
        /// The signal.
        signal: StopSignal,
        /// The task.
        task: TaskId,
        /// What its shim says.
        message: String,
    },
    /// Control groups could not be made, or removed.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The network namespace could not be made, or removed.
    #[error(transparent)]
    Netns(#[from] NetnsNameError),
    /// The log could not be read.
    #[error(transparent)]
    Log(LogError),
    /// Something in the task's directory could not be read or written.
    #[error("failed to {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A thread of the runner panicked (a bug); what it did is found by the next try.
    #[error("the runner's work was cut short (a bug)")]
    Panicked(#[source] tokio::task::JoinError),
}

fn reason(record: &ExitRecord) -> &str {
    match &record.exit {
        crate::Exit::NotStarted { message, .. } | crate::Exit::Lost { message } => message,
        crate::Exit::Code { .. } | crate::Exit::Signal { .. } => "it ended at once",
    }
}

impl RunnerError {
    /// Something in a task's directory could not be read or written.
    pub fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}
