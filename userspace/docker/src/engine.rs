//! The engine at its socket: found anew where it was away, and never waited for without end.

use crate::plan::{OWNER_LABEL, TASK_LABEL};
use bollard::errors::Error;
use bollard::models::SystemInfoCgroupDriverEnum;
use bollard::{API_DEFAULT_VERSION, Docker};
use essaim_runner::RunnerError;
use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Longest that the engine may take to say what it knows. Too low, a busy one counts as absent; too high, a task whose
/// engine hangs is rejected late.
pub(crate) const CALL: Duration = Duration::from_secs(20);
/// Longest that it may take to make, start or remove a container, which waits for the disk.
pub(crate) const WORK: Duration = Duration::from_mins(1);

/// The client's own limit, in seconds: a year.
const NEVER: u64 = 365 * 86_400;

/// Why the engine did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// It does not answer; what was asked may have been done.
    #[error("no Docker Engine answers at {}: {reason}", socket.display())]
    Absent {
        /// Its socket.
        socket: PathBuf,
        /// What became of the call.
        reason: String,
    },
    /// It refuses.
    #[error("{message}")]
    Said {
        /// The status of HTTP; 0 where it says so within a stream.
        status: u16,
        /// Its words.
        message: String,
    },
}

impl Fault {
    pub(crate) fn is_status(&self, wanted: u16) -> bool {
        matches!(self, Self::Said { status, .. } if *status == wanted)
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }
}

impl From<Fault> for RunnerError {
    fn from(fault: Fault) -> Self {
        Self::Engine {
            message: fault.to_string(),
        }
    }
}

/// An engine that has answered.
#[derive(Clone, Debug)]
pub(crate) struct Connected {
    pub(crate) docker: Docker,
    /// Whether control groups are named by their paths.
    pub(crate) has_cgroup_paths: bool,
}

#[derive(Debug)]
pub(crate) struct Engine {
    socket: PathBuf,
    owner: String,
    connected: Mutex<Option<Connected>>,
}

impl Engine {
    pub(crate) fn new(socket: PathBuf, owner: &Path) -> Self {
        Self {
            socket,
            owner: owner.display().to_string(),
            connected: Mutex::default(),
        }
    }

    /// The runner's mark on what it makes.
    pub(crate) fn owner(&self) -> (String, String) {
        (OWNER_LABEL.to_owned(), self.owner.clone())
    }

    /// Picks what this runner has made.
    pub(crate) fn own(&self) -> HashMap<String, Vec<String>> {
        let owner = format!("{OWNER_LABEL}={}", self.owner);
        HashMap::from([("label".to_owned(), vec![owner, TASK_LABEL.to_owned()])])
    }

    /// The engine, in the newest version of the API that it knows.
    pub(crate) async fn connected(&self) -> Result<Connected, Fault> {
        let known = self.lock().clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let connected = self
            .within(CALL, async {
                let socket = self.socket.display().to_string();
                // The limits are those of each call.
                let docker = Docker::connect_with_unix(&socket, NEVER, API_DEFAULT_VERSION)?;
                let docker = docker.negotiate_version().await?;
                let driver = docker.info().await?.cgroup_driver;
                Ok(Connected {
                    docker,
                    has_cgroup_paths: driver == Some(SystemInfoCgroupDriverEnum::CGROUPFS),
                })
            })
            .await?;
        *self.lock() = Some(connected.clone());
        Ok(connected)
    }

    /// Has the engine do something.
    pub(crate) async fn call<T, F: Future<Output = Result<T, Error>>>(
        &self,
        limit: Duration,
        ask: impl FnOnce(Docker) -> F,
    ) -> Result<T, Fault> {
        let docker = self.connected().await?.docker;
        self.within(limit, ask(docker)).await
    }

    /// Waits for an answer, but not for ever.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Fault> {
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.fault(error)),
            Err(_) => Err(self.absent(format!("it has not answered within {limit:?}"))),
        }
    }

    pub(crate) fn fault(&self, error: Error) -> Fault {
        match error {
            Error::DockerResponseServerError { status_code, message } => Fault::Said {
                status: status_code,
                message,
            },
            Error::DockerStreamError { error } => Fault::Said {
                status: 0,
                message: error,
            },
            Error::SocketNotFoundError(_) => self.absent("there is no such socket".to_owned()),
            other => self.absent(chain(&other)),
        }
    }

    pub(crate) fn absent(&self, reason: String) -> Fault {
        // Another one may come, which knows another version.
        *self.lock() = None;
        Fault::Absent {
            socket: self.socket.clone(),
            reason,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Connected>> {
        // What it guards is whole at all times.
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
