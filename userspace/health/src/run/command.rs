//! Commands at the task.
//!
//! A thread of their own enters the task's namespaces and starts the command there: a child is born where its parent
//! *thread* is, in the PID namespace too, so no second fork is needed, and the child stays ours to wait for.

use super::connect::not_run;
use super::room::{Room, RoomError};
use crate::pidfd::Pidfd;
use crate::sys::before_exec;
use crate::{CommandLine, FailureCause, Output, TaskPlace};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::pin::pin;
use std::process::ExitStatus;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Child;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

/// Where commands are looked for where the task's process says nothing else; as in Docker.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a command did not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Room(#[from] RoomError),
    #[error("failed to make a pipe for the output")]
    Pipe(#[source] io::Error),
    #[error("failed to open /dev/null for the input")]
    Input(#[source] io::Error),
    #[error("failed to start a thread")]
    Thread(#[source] io::Error),
    #[error("the thread that starts commands panicked (a bug)")]
    Panicked,
    #[error("failed to start {program}")]
    Spawn {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to watch the process of {program}")]
    Watch {
        program: String,
        #[source]
        source: Errno,
    },
}

/// Runs a command, with what it writes to its output and error stream, and waits for its end.
///
/// Its process group is killed when it ends, and when it is called off; its output is read to the end, so that a full
/// pipe does not hold it up.
pub(super) async fn run(
    line: &CommandLine,
    place: &TaskPlace,
    called_off: oneshot::Receiver<()>,
    output: &mut Output,
) -> Result<(), FailureCause> {
    let (line, place) = (line.clone(), place.clone());
    let started = spawn_blocking(move || start(&line, &place)).await;
    let (mut group, reader) = started
        .map_err(|error| not_run(&error))?
        .map_err(|error| not_run(&error))?;
    let pipe = Receiver::from_owned_fd(reader).map_err(|error| not_run(&error))?;
    let ended = follow(&group, pipe, called_off, output).await;
    let status = group.reap().await.map_err(|error| not_run(&error))?;
    ended
        .map_err(|error| not_run(&error))?
        .map_or_else(|| verdict(status), Err)
}

/// Reads what a command says until it has ended; what ended it in place of its own status, where it was called off.
async fn follow(
    group: &Group,
    mut pipe: Receiver,
    mut called_off: oneshot::Receiver<()>,
    output: &mut Output,
) -> io::Result<Option<FailureCause>> {
    let mut ended = pin!(group.pidfd.ended());
    let mut buffer = [0; 4096];
    let (mut open, mut cause) = (true, None);
    loop {
        tokio::select! {
            biased;
            _ = &mut called_off, if cause.is_none() => {
                cause = Some(FailureCause::CalledOff);
                group.kill();
            }
            read = pipe.read(&mut buffer), if open => match read {
                Ok(count @ 1..) => output.push(buffer.get(..count).unwrap_or_default()),
                Ok(0) | Err(_) => open = false,
            },
            result = &mut ended => {
                result?;
                break;
            }
        }
    }
    // The rest of what it said. Processes that it left behind may go on for ever.
    while let Ok(count @ 1..) = pipe.try_read(&mut buffer) {
        output.push(buffer.get(..count).unwrap_or_default());
        if output.is_cut() {
            break;
        }
    }
    Ok(cause)
}

fn verdict(status: ExitStatus) -> Result<(), FailureCause> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(status), _) => Err(FailureCause::Exit { status }),
        (None, signal) => Err(FailureCause::Signal {
            signal: signal.unwrap_or_default(),
        }),
    }
}

/// A command that runs, with its process group. What is left of it is killed when this is dropped.
struct Group {
    child: Child,
    /// The number of the leader, and so of the group, which no other gets before the leader is waited for.
    leader: u32,
    pidfd: Pidfd,
    reaped: bool,
}

impl Group {
    fn new(mut child: Child, program: &str) -> Result<Self, StartError> {
        let leader = child.id().unwrap_or_default();
        match Pidfd::open(leader) {
            Ok(pidfd) => Ok(Self {
                child,
                leader,
                pidfd,
                reaped: false,
            }),
            Err(source) => {
                // Best effort: the runtime collects it in any case.
                let _ = child.start_kill();
                Err(StartError::Watch {
                    program: program.to_owned(),
                    source,
                })
            }
        }
    }

    fn kill(&self) {
        if let Ok(leader @ 1..) = i32::try_from(self.leader) {
            // Fails where nobody is left in the group.
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }

    /// Ends what the leader left behind, and collects the leader, which has ended.
    async fn reap(&mut self) -> io::Result<ExitStatus> {
        self.kill();
        let status = self.child.wait().await?;
        self.reaped = true;
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped {
            // The runtime collects the leader.
            self.kill();
        }
    }
}

/// Starts a command at the task; what it says can be read from the descriptor.
fn start(line: &CommandLine, place: &TaskPlace) -> Result<(Group, OwnedFd), StartError> {
    let (room, inheritance) = Room::open(place)?;
    // The node's own: what the task has under that name is not for the agent to open.
    let input = File::open("/dev/null").map_err(StartError::Input)?;
    let (reader, writer) = io::pipe().map_err(StartError::Pipe)?;
    let mut command = std::process::Command::new(line.program());
    command
        .args(line.arguments())
        .env_clear()
        .env("PATH", PATH)
        .stdin(input)
        .stdout(writer.try_clone().map_err(StartError::Pipe)?)
        .stderr(writer)
        .process_group(0);
    if let Some(inheritance) = inheritance {
        command.envs(inheritance.environment);
        before_exec(&mut command, inheritance.members, inheritance.privileges);
    }
    let mut command = tokio::process::Command::from(command);
    let runtime = Handle::current();
    let inside = move || {
        room.enter()?;
        // Children are watched by the runtime that this thread says it is part of.
        let _entered = runtime.enter();
        command.spawn().map_err(|source| StartError::Spawn {
            program: line.program().to_owned(),
            source,
        })
    };
    let child = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("essaim-probe".to_owned());
        let thread = thread.spawn_scoped(scope, inside).map_err(StartError::Thread)?;
        thread.join().map_err(|_| StartError::Panicked)?
    })?;
    Ok((Group::new(child, line.program())?, reader.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exit_status_0_passes() {
        let exit = |code: i32| ExitStatus::from_raw(code << 8);
        assert_eq!(verdict(exit(0)), Ok(()));
        for status in [1, 2, 127, 255] {
            assert_eq!(verdict(exit(status)), Err(FailureCause::Exit { status }));
        }
        let killed = ExitStatus::from_raw(libc::SIGKILL);
        assert_eq!(
            verdict(killed),
            Err(FailureCause::Signal {
                signal: libc::SIGKILL
            })
        );
    }
}
