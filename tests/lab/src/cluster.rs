//! A cluster: nodes, clients, and the underlay between them.

use crate::family::Family;
use crate::netem::Netem;
use crate::run::run_here;
use crate::spawn::Room;
use crate::traces::{BPFFS, Prefix, remove_leftovers};
use crate::underlay::{self, HUB, Underlay};
use crate::{ip, netns};
use anyhow::{Context as _, ensure};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The first node's number on the underlay is one more.
const NODES: u8 = 10;

/// The first client's number on the underlay is one more.
const CLIENTS: u8 = 200;

/// What a cluster is to be.
#[derive(Clone, Debug)]
#[must_use]
pub struct ClusterBuilder {
    prefix: Prefix,
    nodes: u8,
    clients: u8,
    underlay: Underlay,
    gossip: bool,
    binaries: Option<PathBuf>,
}

impl Default for ClusterBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ClusterBuilder {
    /// Three nodes and a client on a dual-stack underlay of MTU 1500, where native XDP works.
    pub fn new() -> Self {
        Self {
            prefix: Prefix::unique(),
            nodes: 3,
            clients: 1,
            underlay: Underlay {
                mtu: 1500,
                ipv6: true,
                xdp: true,
                netem: None,
            },
            gossip: false,
            binaries: None,
        }
    }

    /// Another prefix than a unique one.
    pub fn prefix(mut self, prefix: Prefix) -> Self {
        self.prefix = prefix;
        self
    }

    /// How many nodes (`n1`, `n2`, …), at most 100.
    pub fn nodes(mut self, nodes: u8) -> Self {
        self.nodes = nodes;
        self
    }

    /// How many clients outside of the cluster (`c1`, `c2`, …), at most 50.
    pub fn clients(mut self, clients: u8) -> Self {
        self.clients = clients;
        self
    }

    /// Whether the underlay has IPv6.
    pub fn underlay_v6(mut self, ipv6: bool) -> Self {
        self.underlay.ipv6 = ipv6;
        self
    }

    /// MTU of the underlay, in bytes.
    pub fn uplink_mtu(mut self, mtu: u32) -> Self {
        self.underlay.mtu = mtu;
        self
    }

    /// Whether frames that a node sends with `XDP_TX` arrive: the bridge's ends of the veths get a program for that.
    pub fn xdp(mut self, xdp: bool) -> Self {
        self.underlay.xdp = xdp;
        self
    }

    /// Whether the agents gossip, under a key of the cluster's own; else their catalogs alone say who is up.
    pub fn gossip(mut self, gossip: bool) -> Self {
        self.gossip = gossip;
        self
    }

    /// Where `essaim` and `essaim-peer` are, if not beside the program that runs.
    pub fn binaries(mut self, folder: impl Into<PathBuf>) -> Self {
        self.binaries = Some(folder.into());
        self
    }

    /// Makes the cluster; agents and tasks come later.
    ///
    /// # Errors
    /// When this is not root on a machine with `ip`, `ethtool`, bpffs and control groups of version 2. What was made
    /// until then is removed.
    pub fn build(mut self) -> anyhow::Result<Cluster> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "a lab needs root: run it with sudo"
        );
        ensure!(
            self.nodes <= 100 && self.clients <= 50,
            "a lab has at most 100 nodes and 50 clients"
        );
        remove_leftovers();
        mount_bpffs()?;
        let left = self.prefix.left()?;
        ensure!(
            left.is_empty(),
            "lab {} is up already: {}",
            self.prefix,
            left.join(", ")
        );
        let binaries = match self.binaries {
            Some(folder) => folder,
            None => folder_of_binaries()?,
        };
        let group = self.prefix.cgroup()?;
        let machine = |kind: char, number: u8, base: u8| {
            let name = format!("{kind}{number}");
            Machine {
                room: Room {
                    netns: self.prefix.netns(&name),
                    cgroup: group.join(&name),
                    resolv_conf: None,
                },
                name,
                number: base + number,
            }
        };
        self.underlay.netem = Netem::wanted()?;
        // From here on, dropping the cluster removes what exists.
        let cluster = Cluster {
            nodes: (1..=self.nodes)
                .map(|number| machine('n', number, NODES))
                .collect(),
            clients: (1..=self.clients)
                .map(|number| machine('c', number, CLIENTS))
                .collect(),
            prefix: self.prefix,
            binaries,
            state: Mutex::default(),
            keep: false,
        };
        self.underlay.create(&cluster.prefix)?;
        for machine in cluster.nodes.iter().chain(&cluster.clients) {
            netns::create(&machine.room.netns)?;
            self.underlay
                .attach(&cluster.prefix, &machine.name, machine.number)?;
        }
        for node in &cluster.nodes {
            for folder in [
                &cluster.bpf_root(&node.name),
                &cluster.state_dir(&node.name),
                &node.room.cgroup,
            ] {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("failed to make {}", folder.display()))?;
            }
        }
        if self.gossip {
            let program = cluster.binary("essaim").display().to_string();
            let keys = run_here(&[&program, "keygen"])?;
            let file = cluster.gossip_keys();
            std::fs::write(&file, keys).with_context(|| format!("failed to write {}", file.display()))?;
        }
        Ok(cluster)
    }
}

/// A cluster that exists until it is dropped.
#[derive(Debug)]
pub struct Cluster {
    prefix: Prefix,
    nodes: Vec<Machine>,
    clients: Vec<Machine>,
    pub(crate) binaries: PathBuf,
    state: Mutex<State>,
    keep: bool,
}

/// A node, or a client.
#[derive(Debug)]
struct Machine {
    name: String,
    number: u8,
    room: Room,
}

/// What changes while a cluster runs.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The agents, by node.
    pub(crate) agents: BTreeMap<String, Child>,
    /// The tasks, by identity.
    pub(crate) tasks: BTreeMap<String, Task>,
}

/// A task's namespace, and its process where it has one.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) room: Room,
    pub(crate) child: Option<Child>,
}

impl Cluster {
    /// The beginning of all its names.
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// The names of its nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.name.as_str())
    }

    /// The names of its clients, in order.
    pub fn clients(&self) -> impl Iterator<Item = &str> {
        self.clients.iter().map(|client| client.name.as_str())
    }

    /// The underlay address of a node or client.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn address(&self, machine: &str, family: Family) -> anyhow::Result<IpAddr> {
        let number = self.machine(machine)?.number;
        Ok(underlay::address(number, family == Family::V6))
    }

    /// The name of a machine's or a task's network namespace; `hub` is the bridge's.
    pub fn netns(&self, name: &str) -> String {
        self.prefix.netns(name)
    }

    /// The bpffs folder of a node's agent.
    pub fn bpf_root(&self, node: &str) -> PathBuf {
        self.prefix.pins().join(node)
    }

    /// The control group of a node, which holds those of its agent and its tasks.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn cgroup(&self, node: &str) -> anyhow::Result<&Path> {
        Ok(&self.machine(node)?.room.cgroup)
    }

    /// The state folder of a node's agent.
    pub fn state_dir(&self, node: &str) -> PathBuf {
        self.files(node).join("state")
    }

    /// The catalog file of a node's agent.
    pub fn catalog_file(&self, node: &str) -> PathBuf {
        self.files(node).join("catalog.toml")
    }

    /// The keys of gossip, which all agents share where there is such a file.
    pub fn gossip_keys(&self) -> PathBuf {
        self.prefix.files().join("gossip.toml")
    }

    /// The control group of a task: when its last process has ended, the task is gone.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn task_cgroup(&self, node: &str, task: &str) -> anyhow::Result<PathBuf> {
        Ok(self.cgroup(node)?.join(task))
    }

    /// Where a node's agent, or a task, writes what it has to say.
    pub fn log_file(&self, name: &str) -> PathBuf {
        self.files(name).join("log")
    }

    /// The path of one of the workspace's programs.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// Takes a machine off the underlay.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn unplug(&self, machine: &str) -> anyhow::Result<()> {
        ip::batch(&self.netns(HUB), &[format!("link set {machine} down")])
    }

    /// Puts a machine back on the underlay.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn plug(&self, machine: &str) -> anyhow::Result<()> {
        ip::batch(&self.netns(HUB), &[format!("link set {machine} up")])
    }

    /// Leaves everything as it is when this value goes; [`Prefix::remove`] takes it down.
    pub fn keep(mut self) {
        self.keep = true;
    }

    /// Where a process of a machine or task runs.
    pub(crate) fn room(&self, name: &str) -> anyhow::Result<Room> {
        if let Some(task) = self.state().tasks.get(name) {
            return Ok(task.room.clone());
        }
        if name == HUB {
            return Ok(Room {
                netns: self.prefix.netns(HUB),
                cgroup: self.prefix.cgroup()?.join(HUB),
                resolv_conf: None,
            });
        }
        let room = &self.machine(name)?.room;
        Ok(Room {
            netns: room.netns.clone(),
            cgroup: room.cgroup.join("own"),
            resolv_conf: None,
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A test that failed with the lock held still wants its cluster taken down.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn files(&self, name: &str) -> PathBuf {
        self.prefix.files().join(name)
    }

    fn machine(&self, name: &str) -> anyhow::Result<&Machine> {
        let machine = self
            .nodes
            .iter()
            .chain(&self.clients)
            .find(|machine| machine.name == name);
        machine.with_context(|| format!("lab {} has no node or client called {name}", self.prefix))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if std::thread::panicking() {
            self.print_logs();
        }
        self.print_frames();
        let removed = self.prefix.remove();
        let state = std::mem::take(&mut *self.state());
        let children = state
            .agents
            .into_values()
            .chain(state.tasks.into_values().filter_map(|task| task.child));
        for mut child in children {
            // They were ended above; this takes them off the process table.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Err(error) = removed {
            eprintln!("{error:#}");
        }
    }
}

/// Cargo puts programs in the profile's folder, and tests one below it.
fn folder_of_binaries() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("failed to find the program that runs")?;
    let found = program
        .ancestors()
        .skip(1)
        .take(2)
        .find(|folder| folder.join("essaim-peer").exists());
    found.map(Path::to_owned).with_context(|| {
        format!(
            "no essaim-peer beside {}: build the workspace first (cargo build --release)",
            program.display()
        )
    })
}

fn mount_bpffs() -> anyhow::Result<()> {
    let mounts = std::fs::read_to_string("/proc/mounts").context("failed to read /proc/mounts")?;
    if mounts
        .lines()
        .any(|line| line.split(' ').skip(1).take(2).eq([BPFFS, "bpf"]))
    {
        return Ok(());
    }
    nix::mount::mount(
        Some("bpf"),
        BPFFS,
        Some("bpf"),
        nix::mount::MsFlags::empty(),
        None::<&str>,
    )
    .with_context(|| format!("failed to mount bpffs at {BPFFS}"))
}
