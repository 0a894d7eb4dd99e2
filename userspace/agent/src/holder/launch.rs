use super::client::{HolderClient, HolderError};
use super::protocol::HOLDER_PROTOCOL;
use crate::state_dir::StateDir;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

/// How long a holder may take to serve; it only opens a socket, and copies descriptors from its predecessor.
const START_LIMIT: Duration = Duration::from_secs(10);

/// What a holder prints once it serves.
pub(crate) const READY: &str = "ready\n";

/// Why no holder serves.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The program could not be run.
    #[error("failed to start the holder {program}")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Its log could not be opened.
    #[error("failed to open the holder's log {path}")]
    Log {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It ended, or said nothing, before it served.
    #[error("the holder did not start within {START_LIMIT:?}; its log {log} says: {said}")]
    NotReady {
        /// The file.
        log: PathBuf,
        /// What it holds.
        said: String,
    },
    /// It started and is not to be found.
    #[error("the holder started and does not listen on {path}")]
    Absent {
        /// Its socket.
        path: PathBuf,
    },
    /// It does not answer.
    #[error(transparent)]
    Holder(#[from] HolderError),
}

/// Starts holders.
#[derive(Clone, Debug)]
pub struct HolderLauncher {
    program: PathBuf,
}

impl Default for HolderLauncher {
    /// Holders of this process' own program, also where its file was replaced meanwhile.
    fn default() -> Self {
        Self::new("/proc/self/exe")
    }
}

impl HolderLauncher {
    /// Holders of this program: the `essaim` binary.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
        }
    }

    /// The running holder of the state directory; a new one where there is none, or it is of another version.
    ///
    /// # Errors
    /// [`LaunchError`]; a holder that ran before goes on then.
    pub async fn ensure(&self, state_dir: &StateDir) -> Result<HolderClient, LaunchError> {
        let path = state_dir.holder_socket();
        if let Some(client) = HolderClient::connect(&path)? {
            let running = client.identity();
            if running.protocol == HOLDER_PROTOCOL && running.version == env!("CARGO_PKG_VERSION") {
                return Ok(client);
            }
            tracing::info!(
                pid = running.pid,
                version = running.version,
                "replacing the holder of another version"
            );
        }
        self.start(state_dir).await?;
        HolderClient::connect(&path)?.ok_or(LaunchError::Absent { path })
    }

    /// Starts a holder; it takes over from the one that runs, if any.
    ///
    /// # Errors
    /// [`LaunchError`]; a holder that ran before goes on then.
    pub async fn start(&self, state_dir: &StateDir) -> Result<(), LaunchError> {
        let log_path = state_dir.holder_log();
        let log = File::create(&log_path).map_err(|source| LaunchError::Log {
            path: log_path.clone(),
            source,
        })?;
        let mut child = Command::new(&self.program)
            .arg0("essaim-holder")
            .arg("hold")
            .arg("--state-dir")
            .arg(state_dir.path())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|source| LaunchError::Spawn {
                program: self.program.clone(),
                source,
            })?;
        let mut said = [0; READY.len()];
        let ready = match child.stdout.take() {
            Some(mut stdout) => timeout(START_LIMIT, stdout.read_exact(&mut said)).await,
            None => Ok(Ok(0)),
        };
        // The child is left to itself; the runtime collects it should it ever end.
        if matches!(ready, Ok(Ok(_))) && said == READY.as_bytes() {
            return Ok(());
        }
        let said = std::fs::read_to_string(&log_path).unwrap_or_default();
        Err(LaunchError::NotReady {
            log: log_path,
            said: said.trim().to_owned(),
        })
    }
}
