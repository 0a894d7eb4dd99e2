//! The demo's cluster, from empty machines on.

use super::answers::Answers;
use super::client::Client;
use crate::{Cluster, ClusterBuilder, Engine, Family, PlacedTask, Prefix, netns};
use anyhow::{Context as _, ensure};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// The port that web is published at.
pub(super) const PUBLISHED: u16 = 8080;

/// The client outside.
pub(super) const CLIENT: &str = "c1";

/// Three machines, and what came of them.
pub(super) struct Scene {
    client: Client,
    /// Of each machine, where tasks are containers. They go before the cluster does.
    engines: RefCell<BTreeMap<String, Engine>>,
    cluster: Cluster,
    /// The nodes' interfaces before the daemons came.
    interfaces: BTreeMap<String, BTreeSet<String>>,
    /// The tasks that run, by service.
    tasks: RefCell<BTreeMap<String, Vec<PlacedTask>>>,
}

impl Scene {
    /// Three machines with nothing on them but a daemon that is in no cluster.
    pub(super) fn build(prefix: Prefix, client: Client) -> anyhow::Result<Self> {
        let cluster = ClusterBuilder::new().prefix(prefix).build()?;
        let engines = match client {
            Client::Essaim => BTreeMap::new(),
            Client::Docker => {
                let engine = |node: &str| Ok((node.to_owned(), cluster.spawn_engine(node)?));
                cluster.nodes().map(engine).collect::<anyhow::Result<_>>()?
            }
        };
        let interfaces = cluster
            .nodes()
            .map(|node| Ok((node.to_owned(), interfaces(&cluster, node)?)))
            .collect::<anyhow::Result<_>>()?;
        cluster.spawn_nodes()?;
        Ok(Self {
            client,
            engines: RefCell::new(engines),
            cluster,
            interfaces,
            tasks: RefCell::default(),
        })
    }

    /// The nodes that run.
    pub(super) fn nodes(&self) -> Vec<String> {
        let runs = |node: &&str| self.cluster.agent_runs(node).unwrap_or(false);
        self.cluster.nodes().filter(runs).map(str::to_owned).collect()
    }

    /// The cluster.
    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Runs an operator's command at a node that runs.
    pub(super) fn operate(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let nodes = self.nodes();
        let node = nodes.first().context("no node runs")?;
        self.client.operate(&self.cluster, node, arguments)
    }

    /// What the operator types.
    pub(super) fn client(&self) -> Client {
        self.client
    }

    /// Waits until so many tasks of a service run; says where.
    pub(super) fn settle(&self, service: &str, count: usize) -> anyhow::Result<String> {
        let nodes = self.nodes();
        let node = nodes.first().context("no node runs")?;
        let placed = self.cluster.wait_running(node, service, count)?;
        let told: Vec<String> = placed
            .iter()
            .map(|task| format!("{}@{}", task.name, task.node))
            .collect();
        self.tasks.borrow_mut().insert(service.to_owned(), placed);
        Ok(told.join(" "))
    }

    /// The names of a service's tasks.
    pub(super) fn names(&self, service: &str) -> Vec<String> {
        let tasks = self.tasks.borrow();
        let tasks = tasks.get(service).into_iter().flatten();
        tasks.map(|task| task.name.clone()).collect()
    }

    /// Where a client outside reaches web through a node.
    pub(super) fn edge(&self, node: &str, family: Family) -> anyhow::Result<String> {
        Ok(format!(
            "http://{}/",
            SocketAddr::new(self.cluster.address(node, family)?, PUBLISHED)
        ))
    }

    /// Where tasks reach a service.
    pub(super) fn vip(&self, service: &str, family: Family) -> anyhow::Result<String> {
        let nodes = self.nodes();
        let node = nodes.first().context("no node runs")?;
        let vip = self.cluster.virtual_address(node, service, "app", family)?;
        Ok(format!("http://{}/", SocketAddr::new(vip, 80)))
    }

    /// The address of a task.
    pub(super) fn task_address(&self, task: &str, family: Family) -> anyhow::Result<IpAddr> {
        let tasks = self.tasks.borrow();
        let mut tasks = tasks.values().flatten();
        let found = tasks.find(|found| found.name == task);
        let found = found.with_context(|| format!("no task {task} runs"))?;
        let addresses = found
            .addresses
            .iter()
            .filter_map(|address| address.parse::<IpAddr>().ok());
        let address = { addresses }.find(|address| family.is_of(*address));
        address.with_context(|| format!("{task} has no address of {family}"))
    }

    /// Fetches a URL so many times with curl, each time over a new connection.
    pub(super) fn curls(&self, at: &str, url: &str, times: usize) -> anyhow::Result<Answers> {
        let mut answers = Answers::default();
        for number in 1..=times {
            let text = self
                .cluster
                .curl(at, url)
                .with_context(|| format!("request {number} of {times}"))?;
            answers.add(&text)?;
        }
        Ok(answers)
    }

    /// Has every node that runs leave the cluster, and checks what is left.
    pub(super) fn clean(&self) -> anyhow::Result<String> {
        for node in self.nodes() {
            self.client
                .operate(&self.cluster, &node, &["swarm", "leave", "--force"])?;
            self.cluster.left(&node)?;
            self.cluster.stop_agent(&node)?;
            drop(self.engines.borrow_mut().remove(&node));
            self.cluster.essaim(&node, &["clean"])?.ok()?;
            let (before, after) = (self.interfaces.get(&node), interfaces(&self.cluster, &node)?);
            ensure!(
                before == Some(&after),
                "{node} has the interfaces {}, before the daemon came it had {}",
                listed(&after),
                before.map(listed).unwrap_or_default()
            );
            let tables = self.cluster.exec(&node, &["nft", "list", "tables"])?.ok()?;
            ensure!(
                !tables.contains("essaim"),
                "{node} still has nft tables: {}",
                tables.trim()
            );
            let pins = self.cluster.bpf_root(&node);
            let pinned = std::fs::read_dir(&pins).map_or(0, Iterator::count);
            ensure!(
                pinned == 0,
                "{node} still has {pinned} entries in {}",
                pins.display()
            );
        }
        Ok("no interface, nft table or pin is left".to_owned())
    }

    /// Shows the daemons' logs.
    pub(super) fn print_logs(&self) {
        self.cluster.print_logs();
    }

    /// Leaves the cluster up.
    pub(super) fn keep(self) {
        // Their processes are the cluster's.
        self.engines.into_inner().into_values().for_each(std::mem::forget);
        self.cluster.keep();
    }

    /// How to look round.
    pub(super) fn look_round(&self) -> String {
        let enter = |name: &str| {
            let netns = self.cluster.room(name).map(|room| room.netns).unwrap_or_default();
            format!("nsenter --net={}", netns::path(&netns).display())
        };
        let essaim = |node: &str, command: &str, more: &str| {
            let program = self.cluster.binary("essaim");
            let state = self.cluster.state_dir(node);
            let more = if more.is_empty() {
                String::new()
            } else {
                format!(" {more}")
            };
            format!(
                "{} {} {command} --state-dir {}{more}",
                enter(node),
                program.display(),
                state.display()
            )
        };
        let address = |name: &str| {
            self.cluster
                .address(name, Family::V4)
                .map_or_else(|_| String::new(), |a| a.to_string())
        };
        let vip = self.vip("api", Family::V4).unwrap_or_default();
        let mut text = "\nThe cluster stays up. To look round, as root:\n".to_owned();
        let lines = [
            (
                "as the client",
                format!("{} curl http://{}:{PUBLISHED}/", enter(CLIENT), address("n2")),
            ),
            ("as a task", format!("{} curl {vip}", enter("web.1"))),
            (
                "the operator",
                format!(
                    "export ESSAIM_HOST=unix://{}; {} service ls",
                    self.cluster.api_socket("n1").display(),
                    self.cluster.binary("essaim").display()
                ),
            ),
            (
                "docker's own client",
                format!(
                    "docker -H unix://{} service ls",
                    self.cluster.api_socket("n1").display()
                ),
            ),
            ("what a node's data plane knows", essaim("n1", "status", "")),
            ("what it hears", essaim("n1", "monitor", "")),
            ("whether it is so", essaim("n1", "verify", "")),
            (
                "where a packet goes",
                essaim(
                    "n1",
                    "trace",
                    &format!("{} {} tcp {PUBLISHED}", address(CLIENT), address("n1")),
                ),
            ),
            (
                "the daemon's log",
                format!("tail -f {}", self.cluster.log_file("n1").display()),
            ),
            ("take it down", "scripts/demo --down".to_owned()),
        ];
        for (what, line) in lines {
            // Writing to a String does not fail.
            let _ = writeln!(text, "  # {what}\n  {line}");
        }
        text
    }
}

/// The names of a node's interfaces.
fn interfaces(cluster: &Cluster, node: &str) -> anyhow::Result<BTreeSet<String>> {
    let links = cluster.exec(node, &["ip", "-brief", "link"])?.ok()?;
    Ok(links
        .lines()
        .filter_map(|line| line.split(['@', ' ']).next())
        .map(str::to_owned)
        .collect())
}

fn listed(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
