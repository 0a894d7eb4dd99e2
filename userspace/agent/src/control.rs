//! The agent's control socket: one JSON line asks, one answers; `watch` goes on answering.

use crate::event::Decision;
use crate::monitor::Change;
use crate::state_dir::StateDir;
use crate::status::Status;
use essaim_model::{NodeName, TaskId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longest request, in bytes.
const MAX_REQUEST: u64 = 64 << 10;
/// Longest time for a request to arrive, or for an answer to be read.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that wait for the agent's loop; more are refused.
pub(crate) const QUEUE: usize = 16;
/// Decisions that wait for a watcher; more are left out.
const WATCH_QUEUE: usize = 4096;

/// What is asked of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum AgentRequest {
    /// How is the node?
    Status,
    /// What differs from the plan?
    Verify,
    /// What would become of this packet?
    Trace(TraceQuestion),
    /// Tell every decision from now on.
    Watch,
    /// Tell every change of members, tasks and catalog from now on.
    Monitor,
    /// Take a task of this node out of service, and tell how far that is.
    Stop(StopQuestion),
}

impl AgentRequest {
    /// Answers that may wait for whoever asked.
    fn queue(&self) -> usize {
        match self {
            Self::Watch | Self::Monitor => WATCH_QUEUE,
            // One for each phase, and the outcome.
            Self::Stop(_) => 8,
            Self::Status | Self::Verify | Self::Trace(_) => 1,
        }
    }
}

/// A task to be stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopQuestion {
    /// The task.
    pub task: TaskId,
    /// Only until no node sends it new flows: its processes are left to whoever asked.
    pub drain_only: bool,
    /// Longest wait for the nodes to take it out of their tables, in milliseconds.
    pub drain_deadline_ms: u64,
    /// What its processes are asked to end with, as Docker names signals.
    pub signal: String,
    /// From that signal to SIGKILL, in milliseconds.
    pub grace_ms: u64,
}

/// A packet to be traced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceQuestion {
    /// Its source address.
    pub source: std::net::IpAddr,
    /// Its destination address.
    pub destination: std::net::IpAddr,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Its destination port.
    pub port: u16,
    /// The interface where it comes in, or `client`; chosen by its source where none is named.
    pub from: Option<String>,
}

/// What one program decided about a packet that is traced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceStep {
    /// The program.
    pub program: String,
    /// The interface that the packet was at.
    pub interface: String,
    /// What it did: `pass`, `drop`, `encapsulated`, `delivered`, `forwarded`, `answered` or `tunnelled`.
    pub verdict: String,
    /// Why it went no further.
    pub reason: Option<String>,
    /// The group of backends that was concerned.
    pub service: Option<String>,
    /// The backend that was chosen.
    pub backend: Option<String>,
    /// The node that it was sent to.
    pub to_node: Option<String>,
    /// The interface where it was delivered or sent out.
    pub to_interface: Option<String>,
    /// The VNI that it was sent with.
    pub vni: Option<u32>,
    /// The above in a sentence.
    pub text: String,
}

/// What an agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum AgentReply {
    /// To [`AgentRequest::Status`].
    Status(Box<Status>),
    /// To [`AgentRequest::Verify`].
    Verified {
        /// What differs; empty where everything is as planned.
        differences: Vec<String>,
    },
    /// To [`AgentRequest::Trace`].
    Traced {
        /// What each program decided, in order.
        steps: Vec<TraceStep>,
    },
    /// To [`AgentRequest::Watch`], again and again.
    Decision(Box<Decision>),
    /// To [`AgentRequest::Watch`]: as many decisions were made too fast to be told.
    Missed {
        /// How many.
        count: u64,
    },
    /// To [`AgentRequest::Monitor`], again and again.
    Changed(Change),
    /// To [`AgentRequest::Stop`], at the begin of each phase.
    Stopping {
        /// `draining`, `signalled`, `killed` or `gone`.
        phase: String,
    },
    /// To [`AgentRequest::Stop`], at the end of the drain where nothing else was asked for.
    Drained {
        /// The nodes that may still send it new flows: they had not answered by the deadline.
        pending: BTreeSet<NodeName>,
    },
    /// To [`AgentRequest::Stop`], at the end.
    Stopped {
        /// The nodes that had not taken it out of their tables when its processes were asked to end.
        pending: BTreeSet<NodeName>,
        /// It did not end by itself within its grace period.
        killed: bool,
        /// How long it all took, in milliseconds.
        took_ms: u64,
    },
    /// It could not be done.
    Error {
        /// Why.
        message: String,
    },
}

/// A request on its way to the agent's loop.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: AgentRequest,
    pub(crate) answer: mpsc::Sender<AgentReply>,
}

/// Why the control socket does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It could not be opened.
    #[error("failed to listen on {}", path.display())]
    Listen {
        /// Its place.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The agent did not answer.
    #[error("failed to ask the agent at {}", path.display())]
    Ask {
        /// Its socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The agent answered what this build does not understand.
    #[error("the agent at {} answered what this build does not understand; is it of another version?", path.display())]
    Answer {
        /// Its socket.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Opens the control socket, in place of one that a dead agent left. The caller holds the lock of the state directory.
pub(crate) fn listen(state_dir: &StateDir) -> Result<UnixListener, ControlError> {
    let path = state_dir.agent_socket();
    let failed = |source| ControlError::Listen {
        path: path.clone(),
        source,
    };
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Serves one connection: root's, or that of the agent's own user.
pub(crate) async fn serve(mut stream: UnixStream, asked: mpsc::Sender<Asked>) {
    let own = nix::unistd::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == own => {}
        _ => return,
    }
    // Whoever asked may have gone: that is theirs.
    if let Err(error) = converse(&mut stream, &asked).await {
        tracing::debug!(%error, "a control connection ended early");
    }
}

async fn converse(stream: &mut UnixStream, asked: &mpsc::Sender<Asked>) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader.take(MAX_REQUEST));
    let mut line = String::new();
    timeout(PATIENCE, reader.read_line(&mut line)).await??;
    let request: AgentRequest = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => {
            return say(
                &mut writer,
                &AgentReply::Error {
                    message: format!("request not understood: {error}"),
                },
            )
            .await;
        }
    };
    let (answer, mut answers) = mpsc::channel(request.queue());
    if asked.try_send(Asked { request, answer }).is_err() {
        return say(
            &mut writer,
            &AgentReply::Error {
                message: "the agent is busy; ask again".to_owned(),
            },
        )
        .await;
    }
    let mut rest = [0; 1];
    loop {
        tokio::select! {
            reply = answers.recv() => match reply {
                Some(reply) => say(&mut writer, &reply).await?,
                None => return Ok(()),
            },
            // A watcher that hangs up is not written to until the next decision.
            gone = reader.read(&mut rest) => if gone? == 0 { return Ok(()) },
        }
    }
}

async fn say(writer: &mut (impl AsyncWriteExt + Unpin), reply: &AgentReply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    timeout(PATIENCE, writer.write_all(&line)).await?
}

/// The asking side.
pub mod client {
    use super::{AgentReply, AgentRequest, ControlError, StateDir};
    use std::io::{BufRead, BufReader, ErrorKind, Write};
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;

    /// The answers of an agent to one request.
    #[derive(Debug)]
    pub struct Answers {
        path: PathBuf,
        reader: BufReader<UnixStream>,
    }

    /// Asks the agent of a state directory; `None` where none runs.
    ///
    /// # Errors
    /// [`ControlError::Ask`].
    pub fn ask(state_dir: &StateDir, request: &AgentRequest) -> Result<Option<Answers>, ControlError> {
        let path = state_dir.agent_socket();
        let failed = |source| ControlError::Ask {
            path: path.clone(),
            source,
        };
        let mut stream = match UnixStream::connect(&path) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        let mut line = serde_json::to_vec(request).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        stream.write_all(&line).map_err(failed)?;
        Ok(Some(Answers {
            path,
            reader: BufReader::new(stream),
        }))
    }

    impl Iterator for Answers {
        type Item = Result<AgentReply, ControlError>;

        fn next(&mut self) -> Option<Self::Item> {
            let mut line = String::new();
            match self.reader.read_line(&mut line) {
                Ok(0) => None,
                Ok(_) => {
                    let reply = serde_json::from_str(&line);
                    Some(reply.map_err(|source| ControlError::Answer {
                        path: self.path.clone(),
                        source,
                    }))
                }
                Err(source) => Some(Err(ControlError::Ask {
                    path: self.path.clone(),
                    source,
                })),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_written_as_documented() {
        for (request, text) in [
            (AgentRequest::Status, r#"{"request":"status"}"#),
            (AgentRequest::Watch, r#"{"request":"watch"}"#),
            (
                AgentRequest::Trace(TraceQuestion {
                    source: "10.0.1.11".parse().unwrap(),
                    destination: "10.0.1.3".parse().unwrap(),
                    protocol: "tcp".into(),
                    port: 80,
                    from: None,
                }),
                r#"{"request":"trace","source":"10.0.1.11","destination":"10.0.1.3","protocol":"tcp","port":80,"from":null}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
            assert_eq!(serde_json::from_str::<AgentRequest>(text).unwrap(), request);
        }
    }

    #[test]
    fn a_request_is_answered_and_nonsense_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let state_dir = StateDir::new(folder.path());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let reply = runtime.block_on(async {
            let listener = listen(&state_dir).unwrap();
            let (asked, mut questions) = mpsc::channel(QUEUE);
            let client = std::thread::spawn({
                let state_dir = state_dir.clone();
                move || {
                    let path = state_dir.agent_socket();
                    let mut nonsense = std::os::unix::net::UnixStream::connect(path).unwrap();
                    std::io::Write::write_all(&mut nonsense, b"sing\n").unwrap();
                    let mut said = String::new();
                    std::io::Read::read_to_string(&mut nonsense, &mut said).unwrap();
                    assert!(said.contains("not understood"), "{said}");
                    client::ask(&state_dir, &AgentRequest::Verify)
                        .unwrap()
                        .unwrap()
                        .next()
                        .unwrap()
                        .unwrap()
                }
            });
            for _ in 0..2 {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, asked.clone()));
            }
            let Asked { request, answer } = questions.recv().await.unwrap();
            assert_eq!(request, AgentRequest::Verify);
            answer
                .send(AgentReply::Verified {
                    differences: vec!["x".into()],
                })
                .await
                .unwrap();
            drop(answer);
            tokio::task::spawn_blocking(move || client.join().unwrap())
                .await
                .unwrap()
        });
        assert_eq!(
            reply,
            AgentReply::Verified {
                differences: vec!["x".into()]
            }
        );
    }

    #[test]
    fn no_agent_is_told_from_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            client::ask(&StateDir::new(folder.path()), &AgentRequest::Status)
                .unwrap()
                .is_none()
        );
    }
}
