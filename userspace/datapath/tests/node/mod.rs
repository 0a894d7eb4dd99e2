//! A node of a test's own: a network namespace for the thread, a folder of pins and a cgroup; gone with the value.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what a test builds on must be there"
)]

use essaim_datapath::{DatapathOptions, Sizing, clean};
use essaim_model::NodeFacts;
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Node {
    pub(crate) options: DatapathOptions,
}

impl Node {
    /// Moves this thread into a new namespace with the veth pairs `up0` (uplink), `vx0`, `no0` and `ep0`.
    pub(crate) fn new(name: &str) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
        let unique = format!("essaim-test-{}-{name}", std::process::id());
        let node = Self {
            options: DatapathOptions {
                pin_dir: Path::new("/sys/fs/bpf").join(&unique),
                cgroup: cgroup2().join(&unique),
                sizing: Sizing::default(),
            },
        };
        fs::create_dir(&node.options.cgroup).expect("a cgroup needs root and a mounted cgroup2");
        for interface in ["up0", "vx0", "no0", "ep0"] {
            add_veth(interface);
        }
        node
    }

    /// Gives the facts of a plan this namespace's interfaces.
    pub(crate) fn facts(mut facts: NodeFacts) -> NodeFacts {
        facts.uplinks[0].ifindex = ifindex("up0");
        facts.vxlan_ifindex = ifindex("vx0");
        facts.node_ifindex = ifindex("no0");
        for attachment in facts.attachments.values_mut() {
            attachment.ifindex = ifindex("ep0");
        }
        facts
    }

    pub(crate) fn pin(&self, name: &str) -> PathBuf {
        self.options.pin_dir.join(name)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let cleaned = clean(&self.options.pin_dir);
        let removed = fs::remove_dir(&self.options.cgroup);
        if !std::thread::panicking() {
            cleaned.unwrap();
            removed.unwrap();
        }
    }
}

pub(crate) fn add_veth(name: &str) {
    ip(&[
        "link",
        "add",
        name,
        "type",
        "veth",
        "peer",
        "name",
        &format!("{name}p"),
    ]);
    ip(&["link", "set", name, "up"]);
}

pub(crate) fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?}");
}

pub(crate) fn ifindex(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap()
}

fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields
        .find(|fields| fields[2] == "cgroup2")
        .map(|fields| PathBuf::from(fields[1]))
        .expect("no cgroup2 is mounted")
}
