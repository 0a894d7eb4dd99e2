use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A part of the kernel that accounts and limits by control group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Controller {
    Cpu,
    Cpuacct,
    Memory,
    Pids,
}

impl Controller {
    pub(crate) const ALL: [Self; 4] = [Self::Cpu, Self::Cpuacct, Self::Memory, Self::Pids];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }
}

/// Where control groups are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    /// That of version 2.
    pub(crate) unified: Option<PathBuf>,
    /// Those of version 1.
    pub(crate) legacy: BTreeMap<Controller, PathBuf>,
    /// What version 2 controls.
    pub(crate) controllers: BTreeSet<Controller>,
}

impl Hierarchies {
    /// Those of this machine.
    pub(crate) fn find() -> io::Result<Self> {
        let mut found = Self::parse(&fs::read_to_string("/proc/self/mountinfo")?);
        if let Some(unified) = &found.unified {
            let listed = fs::read_to_string(unified.join("cgroup.controllers"))?;
            let listed: BTreeSet<&str> = listed.split_whitespace().collect();
            let known = Controller::ALL.into_iter();
            found.controllers = known.filter(|known| listed.contains(known.name())).collect();
        }
        Ok(found)
    }

    /// From the lines of `proc_pid_mountinfo(5)`.
    fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, filesystem)) = line.split_once(" - ") else {
                continue;
            };
            let Some(point) = mount.split(' ').nth(4) else {
                continue;
            };
            let mut filesystem = filesystem.split(' ');
            match (filesystem.next(), filesystem.nth(1)) {
                (Some("cgroup2"), _) => {
                    found.unified.get_or_insert_with(|| point.into());
                }
                (Some("cgroup"), Some(options)) => {
                    for known in Controller::ALL {
                        if options.split(',').any(|option| option == known.name()) {
                            found.legacy.entry(known).or_insert_with(|| point.into());
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Each mount of version 1 that a task is to be in, with what it controls.
    pub(crate) fn legacy_mounts(&self) -> BTreeMap<&Path, BTreeSet<Controller>> {
        let mut mounts: BTreeMap<&Path, BTreeSet<Controller>> = BTreeMap::new();
        for (controller, point) in &self.legacy {
            mounts.entry(point).or_default().insert(*controller);
        }
        mounts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_mount_control_groups_is_understood() {
        let hybrid = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
broken line";
        let found = Hierarchies::parse(hybrid);
        assert_eq!(
            found.unified.as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified"))
        );
        let mounts = found.legacy_mounts();
        let cpu = mounts.get(Path::new("/sys/fs/cgroup/cpu,cpuacct")).unwrap();
        assert_eq!(cpu, &BTreeSet::from([Controller::Cpu, Controller::Cpuacct]));
        assert_eq!(mounts.len(), 3);
        let pure = "27 23 0:24 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let found = Hierarchies::parse(pure);
        assert_eq!(found.unified.as_deref(), Some(Path::new("/sys/fs/cgroup")));
        assert!(found.legacy.is_empty());
        assert_eq!(Hierarchies::parse(""), Hierarchies::default());
    }
}
