//! Filters of the clsact qdisc, for kernels before 6.6, which have no tcx.
//!
//! A filter is no object that could be pinned: what stands is asked of the kernel, by the place that is ours.

mod look;

use crate::DatapathError;
use aya::programs::links::Link as _;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact};
use aya::programs::{SchedClassifier, TcAttachType};
use std::error::Error;
use std::path::Path;

/// Where the filter stands, so that another agent of this build finds and replaces it.
const PRIORITY: u16 = 50;
const HANDLE: TcHandle = TcHandle::new(0, 0x0e55);

/// The name of an interface; `None` where there is none of this index.
fn interface_name(ifindex: u32) -> Option<String> {
    nix::net::if_::if_indextoname(ifindex)
        .ok()
        .and_then(|name| name.into_string().ok())
}

/// The number of the program in the filter of an interface, in this thread's namespace; `None` where there is no filter,
/// or no interface.
///
/// # Errors
/// Where the kernel refuses.
pub(crate) fn program_at(ifindex: u32) -> Result<Option<u32>, DatapathError> {
    look::program_at(ifindex, PRIORITY, HANDLE.into()).map_err(|error| failed(ifindex, error.into()))
}

/// Attaches the pinned program `program` to what comes in on an interface. The program of a filter that stands there
/// already is replaced, and no packet passes without one.
///
/// # Errors
/// Where the kernel refuses.
pub(crate) fn attach(program: &Path, ifindex: u32) -> Result<(), DatapathError> {
    let failed = |error: Box<dyn Error + Send + Sync>| failed(ifindex, error);
    let interface = interface_name(ifindex).ok_or_else(|| failed("there is no such interface".into()))?;
    let mut program = SchedClassifier::from_pin(program).map_err(|error| failed(error.into()))?;
    let link = if program_at(ifindex)?.is_some() {
        program.attach_to_link(link(&interface).map_err(|error| failed(error.into()))?)
    } else {
        // An error is a qdisc that is there already, or shows below.
        let _there = qdisc_add_clsact(&interface);
        let options = TcAttachOptions::Netlink(NlOptions {
            priority: PRIORITY,
            handle: HANDLE,
            classid: None,
        });
        program.attach_with_options(&interface, TcAttachType::Ingress, options)
    };
    let link = link
        .and_then(|link| program.take_link(link))
        .map_err(|error| failed(error.into()))?;
    // The filter is to outlive this process.
    std::mem::forget(link);
    Ok(())
}

/// Removes the filter; removing what is absent succeeds. The qdisc stays: others may have filters there.
///
/// # Errors
/// Where the kernel refuses.
pub(crate) fn detach(ifindex: u32) -> Result<(), DatapathError> {
    if program_at(ifindex)?.is_none() {
        return Ok(());
    }
    let Some(interface) = interface_name(ifindex) else {
        return Ok(());
    };
    let link = link(&interface).map_err(|error| failed(ifindex, error.into()))?;
    link.detach().map_err(|error| failed(ifindex, error.into()))
}

fn link(interface: &str) -> std::io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(interface, TcAttachType::Ingress, PRIORITY, HANDLE, None)
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
    fn a_filter_stands_once_is_replaced_in_place_and_goes_whole() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        run(
            "ip",
            &["link", "add", "cl0", "type", "veth", "peer", "name", "cl0p"],
        );
        let name = format!("essaim-test-{}-clsact", std::process::id());
        let folder = Folder(Pins::new(&Path::new("/sys/fs/bpf").join(name)));
        Stub::open_or_load(&folder.0).unwrap();
        let ifindex = nix::net::if_::if_nametoindex("cl0").unwrap();
        let filters = || run("tc", &["filter", "show", "dev", "cl0", "ingress"]);
        assert_eq!(program_at(ifindex).unwrap(), None);
        // The longest name there is: the kernel keeps 15 letters of it.
        for name in ["uplink_tc_stub", "uplink_tc_stub", "endpoint_tc_stub"] {
            let pin = folder.0.stub().join(name);
            attach(&pin, ifindex).unwrap();
            let id = aya::programs::ProgramInfo::from_pin(&pin).unwrap().id();
            assert_eq!(program_at(ifindex).unwrap(), Some(id), "{name}");
            assert_eq!(filters().matches("handle 0xe55").count(), 1, "{}", filters());
            assert_eq!(filters().matches("handle").count(), 1, "{}", filters());
        }
        detach(ifindex).unwrap();
        assert_eq!(program_at(ifindex).unwrap(), None, "{}", filters());
        detach(ifindex).unwrap();
        assert!(!filters().contains("_stub"), "{}", filters());
        assert_eq!(program_at(0x7fff_ffff).unwrap(), None);
    }
}
