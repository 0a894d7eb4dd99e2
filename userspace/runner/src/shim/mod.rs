//! The shim: a small process per task that owns its output, waits for it, and writes down how it ended.
//!
//! It is started by the agent and then on its own: another session, another control group, no child of the agent. What it
//! needs to know comes over its standard input, in one message that holds all of it or is not acted upon; whether the
//! command runs goes out over its standard output. From then on it serves a socket in the task's directory. It ends when
//! the record of the task's end is on the disk.
//!
//! Two threads: one for the task's output, which a slow disk may hold up, and one for all the rest. There is no runtime in
//! it, and it is a fork that becomes the task, so it has one thread only until then.

mod logs;
mod serve;

use crate::cgroup::{Hierarchies, TaskGroup};
use crate::child::{Pipes, SetupError, become_task};
use crate::dirs::TaskDir;
use crate::protocol::{Launch, Launched, receive_launch, send};
use crate::record::{self, Exit, ExitRecord, Reserved, StartRecord};
use crate::sys;
use jiff::Timestamp;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{ForkResult, Pid};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;

/// Why a shim did nothing, or gave up. Said to the agent while that listens, and in the shim's log.
#[derive(Debug, thiserror::Error)]
enum ShimError {
    #[error("no task directory was given")]
    NoDirectory,
    #[error("another shim of this task runs")]
    Locked,
    #[error("the task was started before")]
    StartedBefore,
    #[error("failed to {doing}")]
    Io { doing: &'static str, source: io::Error },
    #[error(transparent)]
    Cgroup(#[from] crate::CgroupError),
}

fn failed<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> ShimError {
    move |source| ShimError::Io {
        doing,
        source: source.into(),
    }
}

/// Runs a shim: what the hidden subcommand of the binary does. `arguments` are those after the subcommand.
pub fn shim_main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match run(arguments.into_iter().next()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut message = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                message = format!("{message}: {cause}");
                source = cause.source();
            }
            let _ = writeln!(io::stderr(), "{message}");
            let _ = send(&mut io::stdout(), &Launched::Refused { message });
            ExitCode::FAILURE
        }
    }
}

fn run(directory: Option<OsString>) -> Result<(), ShimError> {
    let dir = TaskDir::new(directory.ok_or(ShimError::NoDirectory)?);
    // Whatever the agent had open is not to stay open with this.
    sys::close_from(3, false).map_err(failed("close what was inherited"))?;
    match sys::fork_single_threaded().map_err(failed("leave the agent"))? {
        ForkResult::Parent { .. } => return Ok(()),
        ForkResult::Child => {}
    }
    nix::unistd::setsid().map_err(failed("begin a session"))?;
    nix::unistd::chdir("/").map_err(failed("enter /"))?;
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGPIPE] {
        sys::set_default(signal, true).map_err(failed("ignore signals"))?;
    }
    // It holds secrets for a moment.
    nix::sys::prctl::set_dumpable(false).map_err(failed("keep memory to itself"))?;
    let launch = receive_launch(&mut Stdin).map_err(failed("read what to run"))?;
    let Some(lock) = dir.take_lock().map_err(failed("lock the task"))? else {
        return Err(ShimError::Locked);
    };
    if dir.started().exists() || dir.exit().exists() {
        return Err(ShimError::StartedBefore);
    }
    Shim::prepare(dir, &launch, lock)?.start(launch)
}

/// The standard input without a buffer, in which bytes of secrets would stay.
struct Stdin;

impl io::Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(nix::unistd::read(io::stdin(), buffer)?)
    }
}

/// A shim before its task runs.
struct Shim {
    dir: TaskDir,
    group: TaskGroup,
    listener: UnixListener,
    exit: Reserved,
    oom_score: String,
    /// Held as long as the process lives.
    _lock: File,
}

impl Shim {
    fn prepare(dir: TaskDir, launch: &Launch, lock: File) -> Result<Self, ShimError> {
        let listener = {
            let (_directory, path) = dir.socket().map_err(failed("open the task's directory"))?;
            // Of a shim that ended before it started the task.
            let _ = fs::remove_file(&path);
            UnixListener::bind(&path).map_err(failed("listen on the task's socket"))?
        };
        let hierarchies = Hierarchies::find().map_err(failed("find the control groups"))?;
        let group = TaskGroup::new(&hierarchies, &launch.cgroup_parent, &launch.name)?;
        group.join_shim(Pid::this())?;
        let oom_score =
            fs::read_to_string("/proc/self/oom_score_adj").map_err(failed("read oom_score_adj"))?;
        // Where this is not allowed, it is as likely to be killed as the agent.
        let _ = fs::write("/proc/self/oom_score_adj", "-999");
        let exit = Reserved::new(&dir.exit()).and_then(Reserved::set_aside);
        Ok(Self {
            listener,
            group,
            exit: exit.map_err(failed("keep room for the exit record"))?,
            oom_score,
            dir,
            _lock: lock,
        })
    }

    fn start(mut self, launch: Launch) -> Result<(), ShimError> {
        let log_options = launch.spec.log;
        let (stdout, task_stdout) = io::pipe().map_err(failed("make a pipe"))?;
        let (stderr, task_stderr) = io::pipe().map_err(failed("make a pipe"))?;
        let (task_go, mut go) = io::pipe().map_err(failed("make a pipe"))?;
        let (mut errors, task_errors) = io::pipe().map_err(failed("make a pipe"))?;
        let log = logs::Log::open(&self.dir, log_options).map_err(failed("open the log"))?;
        let own = File::open("/proc/self/ns/pid").map_err(failed("open the PID namespace"))?;
        unshare(CloneFlags::CLONE_NEWPID).map_err(failed("make a PID namespace"))?;
        let task = match sys::fork_single_threaded().map_err(failed("start a process"))? {
            ForkResult::Child => {
                let file = |pipe: OwnedFd| File::from(pipe);
                // The other ends: a pipe that the task held itself would never end.
                drop((stdout, stderr, go, errors, self.listener, log));
                let pipes = Pipes {
                    stdout: task_stdout.into(),
                    stderr: task_stderr.into(),
                    go: file(task_go.into()),
                    errors: file(task_errors.into()),
                };
                become_task(launch, &self.dir.root(), &self.oom_score, pipes)
            }
            ForkResult::Parent { child } => child,
        };
        // Children are born here again; while they would not be, the kernel makes no threads either.
        setns(own, CloneFlags::CLONE_NEWPID).map_err(failed("return to the PID namespace"))?;
        // The secrets are wiped here.
        drop((launch, task_stdout, task_stderr, task_go, task_errors));
        let pidfd = sys::pidfd_open(task).map_err(failed("watch the task"))?;
        let started = StartRecord {
            container: None,
            health: None,
            pid: task.as_raw(),
            shim: Pid::this().as_raw(),
            started: Timestamp::now(),
        };
        let let_go = self
            .group
            .join(task)
            .map_err(ShimError::from)
            .and_then(|()| {
                record::write(&self.dir.started(), &started, false).map_err(failed("write the start record"))
            })
            .and_then(|()| go.write_all(&[1]).map_err(failed("let the task go")));
        if let Err(error) = let_go {
            // Without the byte it ends by itself.
            drop(go);
            let _ = sys::collect(Some(task), true);
            let _ = fs::remove_file(self.dir.started());
            return Err(error);
        }
        drop(go);
        let mut said = Vec::new();
        errors
            .read_to_end(&mut said)
            .map_err(failed("wait for the task's start"))?;
        if !said.is_empty() {
            let _ = sys::collect(Some(task), true);
            return self.not_started(&said);
        }
        tell(&Launched::Running(started.clone()));
        let log = log
            .start(stdout.into(), stderr.into())
            .map_err(failed("start a thread"))?;
        serve::serve(
            &self.listener,
            &started,
            &pidfd,
            log,
            &mut |record| self.exit.write(record, true),
            &|| end(&self.group, task, started.started),
        )
    }

    /// Writes down that the command never ran, and says so.
    fn not_started(mut self, said: &[u8]) -> Result<(), ShimError> {
        let error: SetupError = serde_json::from_slice(said).unwrap_or_else(|_| SetupError {
            code: 128,
            message: "the task's process ended before it ran the command".to_owned(),
        });
        let record = ExitRecord {
            exit: Exit::NotStarted {
                code: error.code,
                message: error.message,
            },
            oom_killed: self.group.oom_killed(),
            started: None,
            finished: Timestamp::now(),
        };
        self.exit
            .write(&record, true)
            .map_err(failed("write the exit record"))?;
        tell(&Launched::Failed(record));
        Ok(())
    }
}

/// How the task ended; asked once it has.
fn end(group: &TaskGroup, task: Pid, started: Timestamp) -> ExitRecord {
    use std::os::unix::process::ExitStatusExt as _;
    let exit = match sys::collect(Some(task), true) {
        Ok(Some((_, status))) => match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code {
                code: u8::try_from(code).unwrap_or(u8::MAX),
            },
            (None, signal) => Exit::Signal {
                signal: signal.unwrap_or_default(),
            },
        },
        Ok(None) | Err(_) => Exit::Lost {
            message: "the kernel did not tell how the task ended".to_owned(),
        },
    };
    ExitRecord {
        exit,
        oom_killed: group.oom_killed(),
        started: Some(started),
        finished: Timestamp::now(),
    }
}

/// Says something to the agent, if that still listens, and closes its pipes.
fn tell(launched: &Launched) {
    let mut stdout = io::stdout();
    let _ = send(&mut stdout, launched).and_then(|()| stdout.flush());
    if let Ok(null) = fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
    }
}
