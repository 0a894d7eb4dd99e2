//! Network namespaces: opening them, running code inside, and their cookies.

use crate::NetnsError;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, getsockopt, socket};
use nix::{getsockopt_impl, sockopt_impl};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::thread;

/// Where `ip netns` keeps its names of network namespaces.
pub const NAMED_NETNS: &str = "/run/netns";
/// `SO_NETNS_COOKIE` of `asm-generic/socket.h`; since Linux 5.14.
const SO_NETNS_COOKIE: i32 = 71;

sockopt_impl!(
    /// The cookie of the namespace that a socket is in.
    NetnsCookie,
    GetOnly,
    libc::SOL_SOCKET,
    SO_NETNS_COOKIE,
    u64
);

/// An open network namespace. It stays alive as long as this is held.
#[derive(Debug)]
pub struct NetnsRef {
    path: PathBuf,
    file: File,
}

impl NetnsRef {
    /// Opens a namespace by a name under `/run/netns`, or by a path (anything with a `/`).
    ///
    /// # Errors
    /// It does not exist or cannot be opened.
    pub fn open(name_or_path: &str) -> Result<Self, NetnsError> {
        let path = netns_path(name_or_path);
        match File::open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Err(NetnsError::Missing { path }),
            Err(source) => Err(NetnsError::Open { path, source }),
        }
    }

    /// Opens the namespace of the calling thread.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn current() -> Result<Self, NetnsError> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// The file it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn enter(&self) -> Result<(), NetnsError> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| NetnsError::Enter {
            path: self.path.clone(),
            source: errno.into(),
        })
    }
}

impl AsFd for NetnsRef {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The file of a namespace, by a name under `/run/netns` or by a path (anything with a `/`).
pub fn netns_path(name_or_path: &str) -> PathBuf {
    if name_or_path.contains('/') {
        name_or_path.into()
    } else {
        Path::new(NAMED_NETNS).join(name_or_path)
    }
}

/// Runs `work` inside the namespace, on a thread of its own that ends with it, and waits for the result.
///
/// # Errors
/// The namespace cannot be entered, no thread can be started, or `work` panicked.
pub fn in_netns<T: Send>(netns: &NetnsRef, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    thread::scope(|scope| {
        let inside = || {
            netns.enter()?;
            Ok(work())
        };
        let worker = thread::Builder::new()
            .name("essaim-netns".to_owned())
            .spawn_scoped(scope, inside)
            .map_err(|source| NetnsError::Thread {
                path: netns.path.clone(),
                source,
            })?;
        worker.join().unwrap_or_else(|_| {
            Err(NetnsError::Panicked {
                path: netns.path.clone(),
            })
        })
    })
}

/// The cookie of a namespace: a number that no other namespace has until the machine restarts.
///
/// # Errors
/// The namespace cannot be entered, or the kernel is older than 5.14.
pub fn netns_cookie(netns: &NetnsRef) -> Result<u64, NetnsError> {
    in_netns(netns, own_cookie)?.map_err(|source| NetnsError::Cookie {
        path: netns.path.clone(),
        source,
    })
}

/// The cookie of the calling thread's namespace.
pub(crate) fn own_cookie() -> io::Result<u64> {
    let socket = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    Ok(getsockopt(&socket, NetnsCookie)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_lies_under_run_netns_and_a_path_is_taken_as_it_is() {
        assert_eq!(netns_path("web.1"), Path::new("/run/netns/web.1"));
        assert_eq!(netns_path("/proc/1/ns/net"), Path::new("/proc/1/ns/net"));
    }

    #[test]
    fn a_namespace_that_is_missing_is_named() {
        let error = NetnsRef::open("essaim-no-such-namespace").unwrap_err();
        assert!(matches!(&error, NetnsError::Missing { .. }), "{error}");
        assert!(
            error.to_string().contains("/run/netns/essaim-no-such-namespace"),
            "{error}"
        );
    }

    #[test]
    fn the_cookie_of_one_namespace_is_the_same_from_every_thread() {
        let own = NetnsRef::current().unwrap();
        assert_eq!(netns_cookie(&own).unwrap(), own_cookie().unwrap());
    }
}
