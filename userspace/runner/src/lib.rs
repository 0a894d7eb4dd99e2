//! Runs tasks as processes of the host in namespaces and a control group of their own, each under a shim.
//!
//! [`Runner`] is what an agent asks of whatever runs its tasks; [`ProcessRunner`] is the one that needs nothing but the
//! kernel. It prepares a task (directory, control groups, network namespace), then starts a shim ([`shim_main`], a hidden
//! subcommand of the one binary), which becomes independent of the agent, makes the task's process, puts it into its
//! control groups, and lets it go. The shim owns the task's output, waits for it, and writes down how it ended. Agents come
//! and go: each new one finds all of it again by what lies in the tasks' directories.
//!
//! | part | does |
//! |---|---|
//! | `spec` | [`ProcessSpec`]: how a task is to run, checked before anything is made; contents of secrets are never shown or serialised |
//! | `process` | [`ProcessRunner`]: prepare, start, stop, remove, adopt; sees the end of tasks |
//! | `shim` | the process beside each task; no runtime, two threads |
//! | `child` | what becomes of its child until exec: namespaces, root, mounts, files, limits, user; the small init |
//! | `cgroup` | control groups of version 2, version 1 and both |
//! | `log` | Docker's `json-file` format, rotation, and reading along |
//! | `record`, `protocol`, `dirs` | what shim and agent leave for and say to each other |
//!
//! # What lies in a task's directory
//! `spec.json` comes first and goes last, since it names all the rest; `prepared` says that nothing is missing. A task
//! without it is removed by [`Runner::adopt`]. `started.json` is written before the command is let go, `exit.json` when it
//! has ended, into room that was set aside before, so that a full disk does not lose it. `shim.lock` is locked as long as
//! the shim lives, `shim.sock` is its socket, `logs` has the output.
//!
//! # Decisions
//! - A task whose shim is killed is killed, too, by the kernel at once and by the agent for certain: what it says would
//!   go nowhere, and nobody could learn how it ends. Its end is stated as [`Exit::Lost`].
//! - With the node's root ([`Root::Host`]) a task sees the node's files, as what `/` holds, and nothing of `/run`, `/proc`,
//!   `/sys` and `/dev` but its own. Mount points are not made in the node's directories. A task of user 0 can change what
//!   root can; what it cannot do is mount, load modules, use devices or change kernel settings. The boundary against other
//!   tasks' secrets is the user: give services one each.
//! - Devices are those that every container has. All other mounts are `nodev`, so a device that a task makes is of no use.
//! - There are no terminals, no seccomp filter, and no labels of security modules.
//! - A log holds at most `max_size` times `max_file` bytes, 100 MB where nothing else is said.

mod cgroup;
mod child;
mod dirs;
mod error;
mod log;
mod netns;
mod process;
mod protocol;
mod record;
mod runner;
mod shim;
mod spec;
mod sys;

pub use cgroup::{CgroupError, Stats};
pub use error::RunnerError;
pub use essaim_netlink::{NetnsNameError, hold_netns, remove_netns};
pub use log::{LogError, LogQuery, LogRecord, LogStream};
pub use process::{LogFollower, ProcessRunner, ProcessRunnerConfig, ShimProgram};
pub use protocol::ShimStatus;
pub use record::{Exit, ExitRecord, StartRecord, TaskHealth, read as read_record, write as write_record};
pub use runner::{Adopted, Runner, TaskEvent, TaskState};
pub use shim::shim_main;
pub use spec::{
    Capability, CapabilityError, Contents, EtcFile, FileKind, LogOptions, Mount, MountSource,
    NetworkNamespace, ProcessSpec, Propagation, Resources, Root, SpecError, TaskFile, Ulimit,
};
