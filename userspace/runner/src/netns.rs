//! The network namespaces that the runner makes, under names in `/run/netns` as `ip netns` keeps them.

use crate::sys;
use essaim_netlink::{NAMED_NETNS, NetnsNameError, is_netns, netns_path};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::io;
use std::path::Path;

/// Makes a namespace with its loopback interface up; one that is there already is kept.
pub(crate) fn create(name: &str) -> Result<(), NetnsNameError> {
    let path = netns_path(name);
    if is_netns(&path) {
        return Ok(());
    }
    fs::create_dir_all(NAMED_NETNS).map_err(NetnsNameError::new("make the directory of", &path))?;
    // A file without a namespace on it is left where a start was cut short.
    let open = fs::OpenOptions::new().create(true).append(true).open(&path);
    open.map_err(NetnsNameError::new("make", &path))?;
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        sys::loopback_up()?;
        let own = Path::new("/proc/thread-self/ns/net");
        mount(Some(own), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
    };
    // The namespace is a thread's, and ends with it unless its name holds it.
    let result = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("essaim-netns".to_owned());
        let thread = thread.spawn_scoped(scope, make)?;
        let joined = thread.join().unwrap_or(Err(Errno::EFAULT));
        joined.map_err(io::Error::from)
    });
    result.map_err(NetnsNameError::new("make the network namespace", &path))
}
