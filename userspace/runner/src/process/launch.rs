//! Starting a task: a shim is started, and given all that it needs.

use super::prepare::etc_mounts;
use super::{Inner, Task, blocking, locked};
use crate::protocol::{Launch, Launched, receive, send_launch};
use crate::{NetworkNamespace, ProcessSpec, RunnerError, StartRecord, TaskState, record};
use std::fs::{self, OpenOptions};
use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;

impl Inner {
    pub(super) async fn start(self: &Arc<Self>, task: &Arc<Task>) -> Result<StartRecord, RunnerError> {
        let _turn = task.turn.lock().await;
        let id = || task.id.clone();
        if !self.is_listed(task) {
            return Err(RunnerError::Unknown { task: id() });
        }
        let state = task.state.borrow().clone();
        match state {
            TaskState::Running(record) => return Ok(record),
            TaskState::Ended(_) => return Err(RunnerError::HasEnded { task: id() }),
            TaskState::Prepared => {}
        }
        let spec = locked(&task.spec).clone();
        if spec.files.iter().any(|file| file.contents.bytes().is_none()) {
            return Err(RunnerError::ContentsGone { task: id() });
        }
        let (inner, launched) = (Arc::clone(self), Arc::clone(task));
        let (state, said) = blocking(move || inner.launch(&launched, spec)).await?;
        if state == TaskState::Prepared {
            return Err(RunnerError::Shim {
                task: id(),
                message: said,
            });
        }
        // The bytes of secrets are needed no more.
        for file in &mut locked(&task.spec).files {
            file.contents = crate::Contents::default();
        }
        self.advance(task, state.clone()).await;
        match state {
            TaskState::Running(record) => {
                self.watch(task);
                Ok(record)
            }
            TaskState::Ended(record) => match task.start_record()? {
                Some(start) if record.started.is_some() => Ok(start),
                _ => Err(RunnerError::NotStarted { task: id(), record }),
            },
            TaskState::Prepared => Err(RunnerError::Shim {
                task: id(),
                message: said,
            }),
        }
    }

    /// Starts a shim, and waits until the task runs or cannot; how far it has come then, and what a shim says that did
    /// nothing.
    fn launch(&self, task: &Task, spec: ProcessSpec) -> Result<(TaskState, String), RunnerError> {
        let mut hidden = self.config.hidden.clone();
        hidden.push(self.config.state_dir.clone());
        let launch = Launch {
            name: task.id.to_string(),
            cgroup_parent: self.config.cgroup_parent.clone(),
            netns: match &spec.network {
                NetworkNamespace::Host => None,
                NetworkNamespace::Create(name) => Some(essaim_netlink::netns_path(name)),
                NetworkNamespace::Existing(path) => Some(path.clone()),
            },
            etc: etc_mounts(&spec, task),
            hidden,
            spec,
        };
        let said = match self.run_shim(task, &launch) {
            Ok(Launched::Running(record)) => return Ok((TaskState::Running(record), String::new())),
            Ok(Launched::Failed(record)) => return Ok((TaskState::Ended(record), String::new())),
            Ok(Launched::Refused { message }) => message,
            Err(error) => {
                let log = fs::read_to_string(task.dir.shim_log()).unwrap_or_default();
                format!("{error}; its log says: {}", log.trim())
            }
        };
        // Another shim may be at it, of an agent that was killed while it started the task.
        Ok((task.find_state()?, said))
    }

    fn run_shim(&self, task: &Task, launch: &Launch) -> io::Result<Launched> {
        use std::os::unix::process::CommandExt as _;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(task.dir.shim_log())?;
        let shim = &self.config.shim;
        let mut child = Command::new(&shim.program)
            .arg0("essaim-shim")
            .args(&shim.arguments)
            .arg(task.dir.path())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        // A shim that refuses closes its end before all is written; what it says then is worth more than that.
        let written = child
            .stdin
            .take()
            .map(|mut stdin| send_launch(&mut stdin, launch));
        let said = child
            .stdout
            .take()
            .map(|mut stdout| receive::<Launched>(&mut stdout));
        // What was started is only the parent of the shim, and ends at once.
        child.wait()?;
        match (said, written) {
            (Some(Ok(said)), _) => Ok(said),
            (_, Some(Err(error))) | (Some(Err(error)), _) => Err(error),
            (None, _) => Err(io::Error::other("the shim has no output")),
        }
    }
}

impl Task {
    fn start_record(&self) -> Result<Option<StartRecord>, RunnerError> {
        record::read(&self.dir.started()).map_err(RunnerError::io("read", self.dir.started()))
    }
}
