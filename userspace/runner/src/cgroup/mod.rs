//! The control groups of a task, in whatever versions are mounted.
//!
//! In version 2 a task has a group `PARENT/ID` with two below it: `task`, which is limited, and `shim`, whose process
//! must neither count towards the limits nor end with the agent's service. In version 1 it has `PARENT/ID` in each
//! hierarchy that limits or counts.

mod hierarchy;
mod limits;
mod stats;

pub(crate) use hierarchy::{Controller, Hierarchies};
pub use stats::Stats;

use crate::Resources;
use nix::poll::{PollTimeout, poll};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the kernel may take to end processes that were killed.
const END_LIMIT: Duration = Duration::from_secs(10);
/// From one look at what is to end to the next, where the kernel has no event for it; milliseconds.
const LOOK_AGAIN_MS: u16 = 2;

/// Why a control group is not as it was asked to be.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No hierarchy is mounted; nothing was made.
    #[error("no control groups are mounted, expected version 2 on /sys/fs/cgroup")]
    None,
    /// A limit needs a controller that is not there; the groups are left, without it.
    #[error(
        "the {controller} controller of control groups is not available in {}: it is not mounted, or a group above \
         holds processes of its own",
        group.display()
    )]
    NoController {
        /// Its name.
        controller: &'static str,
        /// The group.
        group: PathBuf,
    },
    /// The kernel refused; what was made is left.
    #[error("failed to {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Processes did not end though they were killed; they are left.
    #[error("{count} processes of {} still run {END_LIMIT:?} after SIGKILL", group.display())]
    Stuck {
        /// The group.
        group: PathBuf,
        /// How many.
        count: usize,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    move |source| CgroupError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// The groups of one task.
#[derive(Clone, Debug)]
pub(crate) struct TaskGroup {
    unified: Option<PathBuf>,
    /// Whether version 2 limits.
    controllers: BTreeSet<Controller>,
    legacy: Vec<(BTreeSet<Controller>, PathBuf)>,
}

impl TaskGroup {
    /// The groups of this name below this parent; none is made yet.
    pub(crate) fn new(hierarchies: &Hierarchies, parent: &Path, name: &str) -> Result<Self, CgroupError> {
        let at = |mount: &Path| mount.join(parent.strip_prefix("/").unwrap_or(parent)).join(name);
        let mounts = hierarchies.legacy_mounts().into_iter();
        let group = Self {
            unified: hierarchies.unified.as_deref().map(at),
            controllers: hierarchies.controllers.clone(),
            legacy: mounts
                .map(|(mount, controllers)| (controllers, at(mount)))
                .collect(),
        };
        if group.unified.is_none() && group.legacy.is_empty() {
            return Err(CgroupError::None);
        }
        Ok(group)
    }

    fn task(&self) -> Option<PathBuf> {
        self.unified.as_ref().map(|group| group.join("task"))
    }

    /// The directories of the groups that the task's processes are in.
    fn task_groups(&self) -> impl Iterator<Item = PathBuf> {
        self.task()
            .into_iter()
            .chain(self.legacy.iter().map(|(_, group)| group.clone()))
    }

    /// The directory that holds what a controller says of the task.
    fn of(&self, controller: Controller) -> Option<(PathBuf, bool)> {
        let mut legacy = self.legacy.iter();
        if let Some((_, group)) = legacy.find(|(controllers, _)| controllers.contains(&controller)) {
            return Some((group.clone(), false));
        }
        self.task().map(|task| (task, true))
    }

    /// Makes the groups and limits them; what is there already is kept.
    pub(crate) fn create(&self, resources: &Resources) -> Result<(), CgroupError> {
        if let Some(unified) = &self.unified {
            for name in ["task", "shim"] {
                let group = unified.join(name);
                fs::create_dir_all(&group).map_err(failed("make the control group", &group))?;
            }
            self.enable(unified);
        }
        for (_, group) in &self.legacy {
            fs::create_dir_all(group).map_err(failed("make the control group", group))?;
        }
        let is_legacy = |controller| {
            self.legacy
                .iter()
                .any(|(controllers, _)| controllers.contains(&controller))
        };
        let legacy = limits::legacy(resources).into_iter();
        let unified = limits::unified(resources).into_iter();
        let legacy = legacy.filter(|setting| is_legacy(setting.controller));
        for setting in legacy.chain(unified.filter(|setting| !is_legacy(setting.controller))) {
            let Some((group, _)) = self.of(setting.controller) else {
                return Err(CgroupError::NoController {
                    controller: setting.controller.name(),
                    group: PathBuf::from("/sys/fs/cgroup"),
                });
            };
            let path = group.join(setting.file);
            if !path.exists() {
                return Err(CgroupError::NoController {
                    controller: setting.controller.name(),
                    group,
                });
            }
            fs::write(&path, &setting.value).map_err(failed("write the limit", &path))?;
        }
        Ok(())
    }

    /// Has version 2 control what it can, from its root down to the task's group. Where a group above holds processes,
    /// the kernel refuses; that is an error only for limits that need it, whose files are then missing.
    fn enable(&self, unified: &Path) {
        let mut above: Vec<&Path> = unified
            .ancestors()
            .filter(|group| group.join("cgroup.subtree_control").exists())
            .collect();
        above.reverse();
        for group in above {
            for controller in &self.controllers {
                // Refused where it is shown by the missing file of a limit.
                let _ = fs::write(
                    group.join("cgroup.subtree_control"),
                    format!("+{}", controller.name()),
                );
            }
        }
    }

    /// Moves a process into the task's groups.
    pub(crate) fn join(&self, pid: Pid) -> Result<(), CgroupError> {
        for group in self.task_groups() {
            let path = group.join("cgroup.procs");
            fs::write(&path, pid.to_string()).map_err(failed("put the task into", &path))?;
        }
        Ok(())
    }

    /// Moves a shim out of the agent's groups, whose end it must outlive.
    pub(crate) fn join_shim(&self, pid: Pid) -> Result<(), CgroupError> {
        if let Some(unified) = &self.unified {
            let path = unified.join("shim/cgroup.procs");
            fs::write(&path, pid.to_string()).map_err(failed("put the shim into", &path))?;
        }
        Ok(())
    }

    /// The processes of the task, whoever started them.
    pub(crate) fn pids(&self) -> Result<BTreeSet<Pid>, CgroupError> {
        let mut pids = BTreeSet::new();
        for group in self.task_groups() {
            let path = group.join("cgroup.procs");
            let text = present(fs::read_to_string(&path)).map_err(failed("read", &path))?;
            let numbers = text
                .as_deref()
                .unwrap_or_default()
                .lines()
                .filter_map(|line| line.parse().ok());
            // 0 stands for a process of another PID namespace.
            pids.extend(numbers.filter(|number| *number != 0).map(Pid::from_raw));
        }
        Ok(pids)
    }

    /// Kills every process of the task, and waits until none is left.
    pub(crate) fn kill(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + END_LIMIT;
        if let Some(task) = self.task() {
            let path = task.join("cgroup.kill");
            // Since Linux 5.14; the signals below do the rest.
            let _ = fs::write(&path, "1");
        }
        loop {
            let pids = self.pids()?;
            if pids.is_empty() {
                return Ok(());
            }
            for pid in &pids {
                // It may have ended meanwhile.
                let _ = crate::sys::kill(*pid, libc::SIGKILL);
            }
            if Instant::now() > deadline {
                return Err(CgroupError::Stuck {
                    group: self.task_groups().next().unwrap_or_default(),
                    count: pids.len(),
                });
            }
            // Fails only where a signal comes between, which is as good.
            let _ = poll(&mut [], PollTimeout::from(LOOK_AGAIN_MS));
        }
    }

    /// Whether the out-of-memory killer took a process of the task.
    pub(crate) fn oom_killed(&self) -> bool {
        self.of(Controller::Memory).is_some_and(|(group, unified)| {
            let file = if unified {
                "memory.events"
            } else {
                "memory.oom_control"
            };
            let text = fs::read_to_string(group.join(file)).unwrap_or_default();
            stats::field(&text, "oom_kill").is_some_and(|kills| kills > 0)
        })
    }

    /// What the task has used and uses.
    pub(crate) fn stats(&self) -> Stats {
        let read = |controller, legacy: &str, unified: &str| {
            let (group, version_2) = self.of(controller)?;
            fs::read_to_string(group.join(if version_2 { unified } else { legacy })).ok()
        };
        stats::Readings {
            cpuacct: self
                .legacy
                .iter()
                .find(|(controllers, _)| controllers.contains(&Controller::Cpuacct))
                .and_then(|(_, group)| fs::read_to_string(group.join("cpuacct.usage")).ok()),
            cpu_stat: self
                .task()
                .and_then(|task| fs::read_to_string(task.join("cpu.stat")).ok()),
            memory: read(Controller::Memory, "memory.usage_in_bytes", "memory.current"),
            memory_stat: read(Controller::Memory, "memory.stat", "memory.stat"),
            memory_limit: read(Controller::Memory, "memory.limit_in_bytes", "memory.max"),
            pids: read(Controller::Pids, "pids.current", "pids.current"),
        }
        .stats()
    }

    /// Kills what is left of the task and removes its groups; those that are absent are no error.
    pub(crate) fn remove(&self) -> Result<(), CgroupError> {
        self.kill()?;
        let mut groups: Vec<PathBuf> = self.legacy.iter().map(|(_, group)| group.clone()).collect();
        if let Some(unified) = &self.unified {
            groups.extend([unified.join("task"), unified.join("shim"), unified.clone()]);
        }
        for group in groups {
            remove_group(&group)?;
        }
        Ok(())
    }

    /// Removes the parent, and those above it, as far as they hold nothing else.
    pub(crate) fn remove_empty_parents(hierarchies: &Hierarchies, parent: &Path) {
        let mounts = hierarchies.unified.iter().map(PathBuf::as_path);
        for mount in mounts.chain(hierarchies.legacy_mounts().into_keys()) {
            let parent = parent.strip_prefix("/").unwrap_or(parent);
            for part in parent.ancestors().filter(|part| !part.as_os_str().is_empty()) {
                if fs::remove_dir(mount.join(part)).is_err() {
                    break;
                }
            }
        }
    }
}

/// Removes a group. One whose last process has just been waited for is busy for a moment longer.
fn remove_group(group: &Path) -> Result<(), CgroupError> {
    let deadline = Instant::now() + END_LIMIT;
    loop {
        match present(fs::remove_dir(group)) {
            Ok(_) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                let _ = poll(&mut [], PollTimeout::from(LOOK_AGAIN_MS));
            }
            Err(source) => return Err(failed("remove the control group", group)(source)),
        }
    }
}

/// Nothing where there is no such file, or its group was removed while it was open.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error)
            if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV) =>
        {
            Ok(None)
        }
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests;
