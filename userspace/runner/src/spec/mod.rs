mod capability;
mod check;
mod contents;

pub use capability::{Capability, CapabilityError};
pub use check::SpecError;
#[cfg(test)]
pub(crate) use check::ULIMITS;
pub use contents::Contents;

pub(crate) use capability::bounding_set;

use essaim_health::StopSignal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How a task of the process runner is to run. Terminals (`tty`) are not there: its output is two pipes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessSpec {
    /// The program, and its first arguments. A name without `/` is looked for in the `PATH` of `env`.
    pub command: Vec<String>,
    /// The arguments after those.
    pub args: Vec<String>,
    /// The whole environment; `PATH`, `HOME` and `HOSTNAME` are added where they are missing.
    pub env: BTreeMap<String, String>,
    /// The working directory, in the task's root; `/` where there is none given.
    pub dir: Option<PathBuf>,
    /// Who it runs as: `user`, `user:group`, by name in the root's `/etc/passwd` and `/etc/group` or by number; root
    /// where it is empty.
    pub user: String,
    /// Further groups, by name or number.
    pub groups: Vec<String>,
    /// The name of its machine; the node's where there is none given.
    pub hostname: Option<String>,
    /// Its network namespace.
    pub network: NetworkNamespace,
    /// Its root directory.
    pub root: Root,
    /// Whether it may not write to its root; its mounts are as they say themselves.
    pub read_only_root: bool,
    /// What is mounted in it, besides `/proc`, `/sys`, `/dev` and `/run`.
    pub mounts: Vec<Mount>,
    /// Secrets and configs.
    pub files: Vec<TaskFile>,
    /// What is mounted as `/etc/resolv.conf`.
    pub resolv_conf: Option<EtcFile>,
    /// What is mounted as `/etc/hosts`.
    pub hosts: Option<EtcFile>,
    /// What asks it to stop.
    #[serde(with = "signal")]
    pub stop_signal: StopSignal,
    /// From that signal to SIGKILL. Too low, requests in progress are cut off; too high, a task that ignores the signal
    /// holds up every update.
    pub stop_grace: Duration,
    /// Whether a small init is process 1, which forwards signals to the command and collects orphans.
    pub init: bool,
    /// Capabilities that Docker's default set lacks.
    pub cap_add: Vec<Capability>,
    /// Capabilities of Docker's default set that it is to lack.
    pub cap_drop: Vec<Capability>,
    /// Whether it gains no privileges through programs either.
    pub no_new_privileges: bool,
    /// Its resource limits.
    pub ulimits: Vec<Ulimit>,
    /// Settings below `net.` of its network namespace.
    pub sysctls: BTreeMap<String, String>,
    /// How much rather it is killed than others where memory is short: -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// What it may use.
    pub resources: Resources,
    /// How much of its output is kept.
    pub log: LogOptions,
}

impl Default for ProcessSpec {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            args: Vec::new(),
            env: BTreeMap::new(),
            dir: None,
            user: String::new(),
            groups: Vec::new(),
            hostname: None,
            network: NetworkNamespace::Host,
            root: Root::Host,
            read_only_root: false,
            mounts: Vec::new(),
            files: Vec::new(),
            resolv_conf: None,
            hosts: None,
            stop_signal: StopSignal::TERM,
            stop_grace: Duration::from_secs(10),
            init: false,
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            no_new_privileges: false,
            ulimits: Vec::new(),
            sysctls: BTreeMap::new(),
            oom_score_adj: None,
            resources: Resources::default(),
            log: LogOptions::default(),
        }
    }
}

impl ProcessSpec {
    /// The program with all arguments.
    pub(crate) fn argv(&self) -> impl Iterator<Item = &str> {
        self.command.iter().chain(&self.args).map(String::as_str)
    }
}

/// Which network namespace a task is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkNamespace {
    /// The node's own.
    Host,
    /// One that the runner makes when it prepares the task, under this name in `/run/netns`, and removes with it.
    Create(String),
    /// One that somebody else made and removes.
    Existing(PathBuf),
}

/// What a task has as its root directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Root {
    /// The node's: each of its top directories but `/run`, `/proc`, `/sys` and `/dev`. What the task makes in `/` itself
    /// stays in memory, and goes with it.
    Host,
    /// A directory of the node that holds a root file system. Mount points that it lacks are made in it.
    Directory(PathBuf),
}

/// Something that is mounted in a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, in the task's root.
    pub target: PathBuf,
    /// Whether it may not write there.
    #[serde(default)]
    pub read_only: bool,
    /// What.
    pub source: MountSource,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountSource {
    /// A directory or file of the node.
    Bind {
        /// Which.
        path: PathBuf,
        /// Whether what is mounted below it is left out.
        #[serde(default)]
        non_recursive: bool,
        /// Whether what the node mounts below it later appears in the task, too.
        #[serde(default)]
        propagation: Propagation,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// Its most bytes; half of the machine's memory where there is none given.
        #[serde(default)]
        size: Option<u64>,
        /// Its mode; 1777 where there is none given.
        #[serde(default)]
        mode: Option<u32>,
    },
}

/// How mounts pass between the node and a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// From the node to the task.
    Slave,
    /// Both ways.
    Shared,
}

/// A secret or a config of a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskFile {
    /// Which of both.
    pub kind: FileKind,
    /// Where: below `/run/secrets` a secret's, below `/` a config's, where it does not begin with `/` itself.
    pub target: PathBuf,
    /// Its mode bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// What it holds.
    #[serde(skip)]
    pub contents: Contents,
}

/// What a file of a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// To be seen by nobody else.
    Secret,
    /// A setting.
    Config,
}

/// What a task has as one of the files below `/etc` that Docker writes, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EtcFile {
    /// This text; the runner keeps it in the task's directory.
    Text(String),
    /// A file of the node, which may be written to in place later.
    File(PathBuf),
}

/// A resource limit of setrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Which, as `ulimit` of Docker names it: `nofile`, `nproc`, `core` and so on.
    pub name: String,
    /// What it may raise itself up to `hard`; -1 stands for no limit.
    pub soft: i64,
    /// What it cannot pass; -1 stands for no limit.
    pub hard: i64,
}

/// What a task may use. Each needs a controller of control groups; what is not limited needs none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Processor time, in 10⁻⁹ of one processor (`NanoCPUs`).
    pub nano_cpus: Option<u64>,
    /// Most bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Bytes of memory that are left to it where memory is short.
    pub memory_reservation_bytes: Option<u64>,
    /// Most bytes of swap, besides its memory; needs a limit of memory.
    pub swap_bytes: Option<u64>,
    /// Most processes and threads.
    pub pids: Option<u64>,
}

/// How much of a task's output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogOptions {
    /// Most bytes of one file; 20 MB, as of Docker's `local` driver. Too low, what a task said before its end is gone
    /// when somebody looks; too high, a chatty task fills the disk.
    pub max_size: u64,
    /// Most files; 5. With 1, all that was said is gone each time that the file is full.
    pub max_file: u32,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            max_size: 20_000_000,
            max_file: 5,
        }
    }
}

/// A signal by its name.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
mod signal {
    use essaim_health::StopSignal;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(signal: &StopSignal, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(signal)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<StopSignal, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
