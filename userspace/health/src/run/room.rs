use crate::TaskPlace;
use crate::pidfd::Pidfd;
use crate::processes::NamespaceId;
use crate::sys::Privileges;
use essaim_netlink::{NetnsError, NetnsRef};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid, chroot, fchdir};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The namespaces of a process that a command enters where they are not the agent's own anyway; the network's aside.
const ENTERED: [(&str, CloneFlags); 5] = [
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
];

/// Why a command cannot be run where its task is.
#[derive(Debug, thiserror::Error)]
pub(super) enum RoomError {
    /// There is no such namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// There is no such process.
    #[error("failed to open process {pid}")]
    Process { pid: u32, source: io::Error },
    /// What the kernel tells of the process could not be read.
    #[error("failed to read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// What the kernel tells of the process lacks something.
    #[error("{} has no valid {field} line", path.display())]
    Field { path: PathBuf, field: &'static str },
    /// The number has passed to a process that is none of the task's.
    #[error("process {pid} is not in the task's network namespace {}", netns.display())]
    Elsewhere { pid: u32, netns: PathBuf },
    /// Its capabilities mean nothing outside, and the agent cannot enter.
    #[error("process {pid} has a user namespace of its own, which commands cannot enter")]
    UserNamespace { pid: u32 },
    /// It could not be entered.
    #[error("failed to enter {what} of the task")]
    Enter { what: &'static str, source: io::Error },
}

/// Where a command runs: the namespaces of its task, held open.
pub(super) struct Room {
    netns: NetnsRef,
    process: Option<ProcessRoom>,
}

struct ProcessRoom {
    pidfd: Pidfd,
    namespaces: CloneFlags,
    root: File,
    directory: File,
}

/// What the child takes over from the task's process.
pub(super) struct Inheritance {
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) members: Option<File>,
    pub(super) privileges: Privileges,
}

impl Room {
    /// Opens all of it; the inheritance is that of the task's process, where the task has one.
    pub(super) fn open(place: &TaskPlace) -> Result<(Self, Option<Inheritance>), RoomError> {
        let netns = NetnsRef::open(&place.netns)?;
        let Some(pid) = place.process else {
            let room = Self { netns, process: None };
            return Ok((room, None));
        };
        let pidfd = Pidfd::open(pid).map_err(|errno| RoomError::Process {
            pid,
            source: errno.into(),
        })?;
        let proc = Path::new("/proc").join(pid.to_string());
        let id = |path: &Path| NamespaceId::at(path).map_err(reading(path));
        let expected = NamespaceId::of(&netns).map_err(reading(netns.path()))?;
        if id(&proc.join("ns/net"))? != expected {
            let netns = netns.path().to_owned();
            return Err(RoomError::Elsewhere { pid, netns });
        }
        if id(&proc.join("ns/user"))? != id(Path::new("/proc/self/ns/user"))? {
            return Err(RoomError::UserNamespace { pid });
        }
        let mut namespaces = CloneFlags::empty();
        for (name, flag) in ENTERED {
            if id(&proc.join("ns").join(name))? != id(&Path::new("/proc/self/ns").join(name))? {
                namespaces |= flag;
            }
        }
        let process = ProcessRoom {
            namespaces,
            root: directory(&proc.join("root"))?,
            directory: directory(&proc.join("cwd"))?,
            pidfd,
        };
        let inheritance = Inheritance {
            environment: environment(&read(&proc.join("environ"))?),
            members: members(&proc)?,
            privileges: privileges(&proc.join("status"))?,
        };
        // All of it was read by number: it is of this process where that still has the number.
        if !process.pidfd.exists() {
            let source = io::Error::from(nix::errno::Errno::ESRCH);
            return Err(RoomError::Process { pid, source });
        }
        let room = Self {
            netns,
            process: Some(process),
        };
        Ok((room, Some(inheritance)))
    }

    /// Moves the calling thread, and the children that it starts, into the room. The thread is of no other use then.
    pub(super) fn enter(&self) -> Result<(), RoomError> {
        let failed = |what| {
            move |errno: nix::errno::Errno| RoomError::Enter {
                what,
                source: errno.into(),
            }
        };
        setns(&self.netns, CloneFlags::CLONE_NEWNET).map_err(failed("the network namespace"))?;
        if let Some(process) = &self.process {
            // Root and working directory are shared by the threads of a process, until one steps out.
            unshare(CloneFlags::CLONE_FS).map_err(failed("a root directory"))?;
            if !process.namespaces.is_empty() {
                setns(process.pidfd.as_fd(), process.namespaces).map_err(failed("the namespaces"))?;
            }
            fchdir(&process.root)
                .and_then(|()| chroot("."))
                .map_err(failed("the root directory"))?;
            fchdir(&process.directory).map_err(failed("the working directory"))?;
        }
        Ok(())
    }
}

fn reading(path: &Path) -> impl FnOnce(io::Error) -> RoomError + use<> {
    let path = path.to_owned();
    move |source| RoomError::Read { path, source }
}

fn read(path: &Path) -> Result<Vec<u8>, RoomError> {
    fs::read(path).map_err(reading(path))
}

fn directory(path: &Path) -> Result<File, RoomError> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY);
    options.open(path).map_err(reading(path))
}

/// The variables of `/proc/PID/environ`.
fn environment(text: &[u8]) -> Vec<(OsString, OsString)> {
    let pairs = text.split(|byte| *byte == 0).filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
        let (name, value) = (pair.get(..at)?, pair.get(at + 1..)?);
        Some((
            OsString::from_vec(name.to_vec()),
            OsString::from_vec(value.to_vec()),
        ))
    });
    pairs.collect()
}

/// The list of members of the process' control group, to be written to; none where version 2 is not mounted.
fn members(proc: &Path) -> Result<Option<File>, RoomError> {
    let mounts = PathBuf::from("/proc/self/mountinfo");
    let table = String::from_utf8_lossy(&read(&mounts)?).into_owned();
    let Some(mount_point) = cgroup_mount(&table) else {
        return Ok(None);
    };
    let path = proc.join("cgroup");
    let groups = String::from_utf8_lossy(&read(&path)?).into_owned();
    let group = cgroup_of(&groups).ok_or(RoomError::Field { path, field: "0::" })?;
    let path = Path::new(mount_point).join(group).join("cgroup.procs");
    let opened = OpenOptions::new().write(true).open(&path);
    opened.map(Some).map_err(reading(&path))
}

/// Where the whole hierarchy of version 2 is mounted, as `/proc/PID/mountinfo` tells.
fn cgroup_mount(mountinfo: &str) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (root == "/" && file_system.starts_with("cgroup2 ")).then_some(point)
    })
}

/// The group of version 2 in `/proc/PID/cgroup`, relative to the mount; none where it lies outside of what is seen.
fn cgroup_of(groups: &str) -> Option<&Path> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let group = Path::new(group);
    let plain = |part| matches!(part, std::path::Component::Normal(_));
    group.components().all(plain).then_some(group)
}

fn privileges(path: &Path) -> Result<Privileges, RoomError> {
    let text = String::from_utf8_lossy(&read(path)?).into_owned();
    parse_privileges(&text).map_err(|field| RoomError::Field {
        path: path.to_owned(),
        field,
    })
}

/// The effective user and groups, and the limits, of `/proc/PID/status`; or the field that is missing.
fn parse_privileges(status: &str) -> Result<Privileges, &'static str> {
    let field = |name: &'static str| {
        let values = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values.map(str::split_ascii_whitespace).ok_or(name)
    };
    let effective = |name: &'static str| {
        let value = field(name)?.nth(1).and_then(|id| id.parse().ok());
        value.ok_or(name)
    };
    let first = |name: &'static str, radix| {
        let value = field(name)?
            .next()
            .and_then(|value| u64::from_str_radix(value, radix).ok());
        value.ok_or(name)
    };
    let groups = field("Groups")?.map(|group| group.parse().map(Gid::from_raw));
    let groups: Result<Vec<Gid>, _> = groups.collect();
    Ok(Privileges {
        uid: Uid::from_raw(effective("Uid")?),
        gid: Gid::from_raw(effective("Gid")?),
        groups: groups.map_err(|_| "Groups")?,
        bounding: first("CapBnd", 16)?,
        gains_nothing: first("NoNewPrivs", 10)? != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_of_a_process_is_read() {
        let text = b"PATH=/bin\0EMPTY=\0=strange\0junk\0A=b=c\0";
        let expected = [("PATH", "/bin"), ("EMPTY", ""), ("A", "b=c")];
        let expected = expected.map(|(name, value)| (name.into(), value.into()));
        assert_eq!(environment(text), expected);
        assert!(environment(b"").is_empty());
    }

    #[test]
    fn the_control_group_is_found_under_the_mount_of_version_2() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 24 0:35 /deep /mnt rw - cgroup2 cgroup2 rw\n\
                      40 24 0:35 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup_mount(mounts), Some("/sys/fs/cgroup/unified"));
        assert_eq!(cgroup_mount(""), None);
        let groups = "4:memory:/other\n0::/essaim/web.1\n";
        assert_eq!(cgroup_of(groups), Some(Path::new("essaim/web.1")));
        assert_eq!(cgroup_of("0::/\n"), Some(Path::new("")));
        assert_eq!(cgroup_of("0::/../outside\n"), None);
        assert_eq!(cgroup_of("4:memory:/other\n"), None);
    }

    #[test]
    fn the_privileges_of_a_process_are_its_effective_ones() {
        let status = "Name:\tweb\nUid:\t0\t33\t0\t0\nGid:\t0\t34\t0\t0\nGroups:\t4 24 \nNoNewPrivs:\t1\nCapBnd:\t00000000a80425fb\n";
        let found = parse_privileges(status).unwrap();
        assert_eq!((found.uid, found.gid), (Uid::from_raw(33), Gid::from_raw(34)));
        assert_eq!(found.groups, [4, 24].map(Gid::from_raw));
        assert_eq!(found.bounding, 0xa804_25fb);
        assert!(found.gains_nothing);
        for field in ["Uid", "Gid", "Groups", "NoNewPrivs", "CapBnd"] {
            let without: Vec<&str> = status.lines().filter(|line| !line.starts_with(field)).collect();
            assert_eq!(parse_privileges(&without.join("\n")).unwrap_err(), field);
        }
    }
}
