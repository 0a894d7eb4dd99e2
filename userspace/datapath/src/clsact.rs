//! Filters of the clsact qdisc, for kernels before 6.6, which have no tcx.

use crate::DatapathError;
use aya::programs::tc::{NlOptions, TcAttachOptions, TcHandle, qdisc_add_clsact, qdisc_detach_program};
use aya::programs::{SchedClassifier, TcAttachType, TcError};
use std::error::Error;
use std::io;
use std::path::Path;

/// Where the filter stands, so that another agent of this build finds and replaces it.
const PRIORITY: u16 = 50;
const HANDLE: TcHandle = TcHandle::new(0, 0x0e55);

/// The name of an interface; `None` where there is none of this index.
pub(crate) fn interface_name(ifindex: u32) -> Option<String> {
    nix::net::if_::if_indextoname(ifindex)
        .ok()
        .and_then(|name| name.into_string().ok())
}

/// Attaches the pinned program `program` to what comes in on an interface; a filter that stands there already is
/// replaced.
///
/// # Errors
/// Where the kernel refuses.
pub(crate) fn attach(program: &Path, ifindex: u32) -> Result<(), DatapathError> {
    let interface =
        interface_name(ifindex).ok_or_else(|| failed(ifindex, "there is no such interface".into()))?;
    // An error is a qdisc that is there already, or shows below.
    let _there = qdisc_add_clsact(&interface);
    // What stands there may be a filter of a process that died before it could pin its mark.
    let name = program
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    detach_from(&interface, &name).map_err(|error| failed(ifindex, error.into()))?;
    let mut program = SchedClassifier::from_pin(program).map_err(|error| failed(ifindex, error.into()))?;
    let options = TcAttachOptions::Netlink(NlOptions {
        priority: PRIORITY,
        handle: HANDLE,
        classid: None,
    });
    let link = program
        .attach_with_options(&interface, TcAttachType::Ingress, options)
        .map_err(|error| failed(ifindex, error.into()))?;
    let link = program
        .take_link(link)
        .map_err(|error| failed(ifindex, error.into()))?;
    // The filter is to outlive this process.
    std::mem::forget(link);
    Ok(())
}

/// Removes the filter with the program of this name; removing what is absent succeeds.
///
/// # Errors
/// Where the kernel refuses.
pub(crate) fn detach(name: &str, ifindex: u32) -> Result<(), DatapathError> {
    match interface_name(ifindex) {
        Some(interface) => detach_from(&interface, name).map_err(|error| failed(ifindex, error.into())),
        None => Ok(()),
    }
}

fn detach_from(interface: &str, name: &str) -> Result<(), TcError> {
    match qdisc_detach_program(interface, TcAttachType::Ingress, name) {
        Err(TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn failed(ifindex: u32, source: Box<dyn Error + Send + Sync>) -> DatapathError {
    DatapathError::Load {
        object: format!("the tc filter of interface {ifindex}"),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pins::Pins;
    use crate::stub::Stub;
    use nix::sched::{CloneFlags, unshare};
    use std::process::Command;

    fn run(command: &str, arguments: &[&str]) -> String {
        let output = Command::new(command).args(arguments).output().unwrap();
        assert!(output.status.success(), "{command} {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    struct Folder(Pins);

    impl Drop for Folder {
        fn drop(&mut self) {
            crate::clean(self.0.root()).unwrap();
        }
    }

    #[test]
    fn a_filter_stands_once_however_often_it_is_attached_and_goes_whole() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        run(
            "ip",
            &["link", "add", "cl0", "type", "veth", "peer", "name", "cl0p"],
        );
        let name = format!("essaim-test-{}-clsact", std::process::id());
        let folder = Folder(Pins::new(&Path::new("/sys/fs/bpf").join(name)));
        Stub::open_or_load(&folder.0).unwrap();
        let ifindex = nix::net::if_::if_nametoindex("cl0").unwrap();
        let program = folder.0.stub().join("uplink_tc_stub");
        let filters = || run("tc", &["filter", "show", "dev", "cl0", "ingress"]);
        for _ in 0..2 {
            attach(&program, ifindex).unwrap();
            assert_eq!(
                filters().matches("handle 0xe55 uplink_tc_stub").count(),
                1,
                "{}",
                filters()
            );
            assert_eq!(filters().matches("handle").count(), 1, "{}", filters());
        }
        detach("uplink_tc_stub", ifindex).unwrap();
        detach("uplink_tc_stub", ifindex).unwrap();
        assert!(!filters().contains("uplink_tc_stub"), "{}", filters());
    }
}
