//! Watches the catalog's file and the namespaces of `/run/netns`, through inotify.

use crate::schedule::Trigger;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Where `ip netns` keeps its namespaces.
const NETNS_DIR: &str = "/run/netns";

/// What the kernel rewrites when the first process enters a control group and when the last one leaves.
const GROUP_EVENTS: &str = "cgroup.events";

/// Whether there is a process in a control group of version 2, or in one below it; none where the group is gone.
pub(crate) fn is_populated(group: &Path) -> bool {
    let events = fs::read_to_string(group.join(GROUP_EVENTS)).unwrap_or_default();
    events.lines().any(|line| line == "populated 1")
}

/// Why the files are not watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel gives no inotify instance.
    #[error("failed to open inotify; raise fs.inotify.max_user_instances")]
    Open(#[source] Errno),
    /// The runtime cannot wait for it.
    #[error("failed to wait for inotify")]
    Register(#[source] io::Error),
    /// The folder of the catalog cannot be watched.
    #[error(
        "failed to watch the folder {folder} of the catalog; raise fs.inotify.max_user_watches if it is full"
    )]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The kernel's reason.
        source: Errno,
    },
    /// Events could not be read.
    #[error("failed to read from inotify")]
    Read(#[source] Errno),
}

/// Tells when the catalog was written and when namespaces come and go.
pub struct FileWatch {
    inotify: AsyncFd<Watcher>,
    /// The catalog's folders (that of its link, too, where it is one), and its names there.
    folders: Vec<(WatchDescriptor, PathBuf)>,
    names: BTreeSet<OsString>,
    netns: Option<WatchDescriptor>,
    /// The events of control groups, by the group's folder.
    groups: BTreeMap<PathBuf, WatchDescriptor>,
}

/// What `AsyncFd` asks for: nix' type has `AsFd` only.
struct Watcher(Inotify);

impl AsRawFd for Watcher {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Has the runtime wait for the instance.
fn register(inotify: Inotify) -> io::Result<AsyncFd<Watcher>> {
    // Safe code cannot do it: tokio takes only descriptors that are promised to stay the same.
    // SAFETY: the instance owns its descriptor, returns the same one every time, and closes it when it is dropped; it
    // is moved into the `AsyncFd`, which never gives it out to be changed.
    let registered = unsafe { AsyncFd::register_with_interest(Watcher(inotify), Interest::READABLE) };
    registered.map_err(Into::into)
}

impl FileWatch {
    /// Watches the folder of `catalog`, where there is such a file; it need not exist yet.
    ///
    /// # Errors
    /// [`WatchError`].
    pub fn new(catalog: Option<&Path>) -> Result<Self, WatchError> {
        let inotify =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(WatchError::Open)?;
        let mut folders = Vec::new();
        let mut names = BTreeSet::new();
        let real = catalog.and_then(|catalog| fs::canonicalize(catalog).ok());
        for path in catalog.into_iter().chain(real.as_deref()) {
            let folder = match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            // Not IN_MODIFY: a file that is being written is read when it is closed, not before.
            let flags = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE;
            let watch = inotify
                .add_watch(folder, flags)
                .map_err(|source| WatchError::Folder {
                    folder: folder.to_owned(),
                    source,
                })?;
            folders.push((watch, folder.to_owned()));
            names.extend(path.file_name().map(ToOwned::to_owned));
        }
        let inotify = register(inotify).map_err(WatchError::Register)?;
        let mut watch = Self {
            inotify,
            folders,
            names,
            netns: None,
            groups: BTreeMap::new(),
        };
        watch.watch_namespaces();
        Ok(watch)
    }

    /// Watches the folder of namespaces, which exists from the first `ip netns add` on. Cheap; called again on every
    /// slow tick until it does.
    pub fn watch_namespaces(&mut self) {
        if self.netns.is_none() {
            // A namespace is usable when it was mounted over its file, which no event tells; closing the file comes
            // before. The reconciler retries what it meets too early.
            let flags = AddWatchFlags::IN_CREATE
                | AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_CLOSE
                | AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_ATTRIB;
            self.netns = self.inotify.get_ref().0.add_watch(NETNS_DIR, flags).ok();
        }
    }

    /// Watches the events of exactly these control groups. One that does not exist (yet) is left out; called again on
    /// every round, this finds it when it does.
    pub fn watch_groups(&mut self, groups: &BTreeSet<PathBuf>) {
        let inotify = &self.inotify.get_ref().0;
        self.groups.retain(|group, watch| {
            let stays = groups.contains(group);
            if !stays {
                // It fails where the group is gone, and its watch with it.
                let _ = inotify.rm_watch(*watch);
            }
            stays
        });
        for group in groups {
            if !self.groups.contains_key(group)
                && let Ok(watch) = inotify.add_watch(&group.join(GROUP_EVENTS), AddWatchFlags::IN_MODIFY)
            {
                self.groups.insert(group.clone(), watch);
            }
        }
    }

    /// Waits for what happens next. Safe to drop at any time.
    ///
    /// # Errors
    /// [`WatchError::Read`].
    pub async fn next(&mut self) -> Result<BTreeSet<Trigger>, WatchError> {
        loop {
            let mut guard = self.inotify.readable().await.map_err(WatchError::Register)?;
            let events = match guard.get_inner().0.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => {
                    guard.clear_ready();
                    continue;
                }
                Err(Errno::EINTR) => continue,
                Err(source) => return Err(WatchError::Read(source)),
            };
            drop(guard);
            let triggers: BTreeSet<Trigger> = events.iter().filter_map(|event| self.meaning(event)).collect();
            if !triggers.is_empty() {
                return Ok(triggers);
            }
        }
    }

    fn meaning(&mut self, event: &InotifyEvent) -> Option<Trigger> {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return Some(Trigger::Catalog);
        }
        if Some(event.wd) == self.netns {
            if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                self.netns = None;
                self.watch_namespaces();
            }
            return Some(Trigger::Netns);
        }
        if let Some(group) = self.groups.iter().find(|(_, watch)| **watch == event.wd) {
            let group = group.0.clone();
            if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                self.groups.remove(&group);
            }
            return Some(Trigger::Tasks);
        }
        let (_, folder) = self.folders.iter().find(|(watch, _)| *watch == event.wd)?;
        let name = event.name.as_ref().filter(|name| self.names.contains(*name))?;
        // A file that was just created is still empty; a link that was just created is whole.
        let created = event.mask.contains(AddWatchFlags::IN_CREATE);
        (!created || folder.join(name).is_symlink()).then_some(Trigger::Catalog)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    async fn soon(watch: &mut FileWatch) -> Option<BTreeSet<Trigger>> {
        // Other tests of the machine may make namespaces meanwhile.
        let wanted = async {
            loop {
                let triggers = watch.next().await.unwrap();
                if triggers.contains(&Trigger::Catalog) {
                    return triggers;
                }
            }
        };
        timeout(Duration::from_secs(5), wanted).await.ok()
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    #[test]
    fn a_rename_and_a_write_in_place_are_both_noticed() {
        runtime().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let catalog = folder.path().join("catalog.toml");
            let mut watch = FileWatch::new(Some(&catalog)).unwrap();
            fs::write(folder.path().join("other"), "x").unwrap();
            fs::write(folder.path().join("new"), "x").unwrap();
            fs::rename(folder.path().join("new"), &catalog).unwrap();
            assert!(soon(&mut watch).await.is_some(), "renamed");
            fs::write(&catalog, "y").unwrap();
            assert!(soon(&mut watch).await.is_some(), "written in place");
        });
    }

    #[test]
    fn the_events_of_groups_are_noticed_while_they_are_asked_for() {
        runtime().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let group = folder.path().join("web.1");
            fs::create_dir(&group).unwrap();
            let events = group.join(GROUP_EVENTS);
            fs::write(&events, "populated 0\n").unwrap();
            let mut watch = FileWatch::new(Some(&folder.path().join("catalog.toml"))).unwrap();
            let groups = BTreeSet::from([group.clone(), folder.path().join("absent")]);
            watch.watch_groups(&groups);
            watch.watch_groups(&groups);
            assert!(!is_populated(&group));
            fs::write(&events, "populated 1\nfrozen 0\n").unwrap();
            let noticed = timeout(Duration::from_secs(5), watch.next()).await.unwrap();
            assert!(noticed.unwrap().contains(&Trigger::Tasks));
            assert!(is_populated(&group));
            fs::remove_dir_all(&group).unwrap();
            assert!(!is_populated(&group));
            watch.watch_groups(&BTreeSet::new());
            assert!(watch.groups.is_empty());
        });
    }

    #[test]
    fn a_link_that_is_turned_elsewhere_is_noticed() {
        runtime().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let catalog = folder.path().join("catalog.toml");
            fs::create_dir(folder.path().join("data")).unwrap();
            fs::write(folder.path().join("data/one"), "x").unwrap();
            fs::write(folder.path().join("data/two"), "x").unwrap();
            std::os::unix::fs::symlink("data/one", &catalog).unwrap();
            let mut watch = FileWatch::new(Some(&catalog)).unwrap();
            fs::write(folder.path().join("data/one"), "z").unwrap();
            assert!(soon(&mut watch).await.is_some(), "its target was written");
            std::os::unix::fs::symlink("data/two", folder.path().join("new")).unwrap();
            fs::rename(folder.path().join("new"), &catalog).unwrap();
            assert!(soon(&mut watch).await.is_some(), "it was replaced");
        });
    }
}
