//! The demo's cluster with its two services.

use super::answers::Answers;
use crate::{CatalogBuilder, Cluster, ClusterBuilder, Family, Prefix, netns};
use anyhow::{Context as _, ensure};
use essaim_model::Port;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The port that web is published at.
pub(super) const PUBLISHED: u16 = 8080;

/// The client outside of the cluster.
pub(super) const CLIENT: &str = "c1";

/// How long agents may take to apply a catalog.
const READY: Duration = Duration::from_secs(30);

/// Where tasks run: web one on each node, api on two.
const TASKS: [(&str, &str); 5] = [
    ("web", "n1"),
    ("web", "n2"),
    ("web", "n3"),
    ("api", "n1"),
    ("api", "n2"),
];

/// A cluster that runs web and api.
pub(super) struct Scene {
    cluster: Cluster,
    catalog: CatalogBuilder,
    /// The nodes' interfaces before the agents came.
    interfaces: BTreeMap<String, BTreeSet<String>>,
}

impl Scene {
    /// Makes it.
    pub(super) fn build(prefix: Prefix) -> anyhow::Result<Self> {
        let cluster = ClusterBuilder::new().prefix(prefix).gossip(true).build()?;
        let mut catalog = cluster.catalog()?;
        catalog.network("app")?;
        catalog
            .service("web", &["app"])?
            .ports
            .push(Port::new(PUBLISHED, 80));
        catalog.service("api", &["app"])?;
        let mut tasks = Vec::new();
        for (service, node) in TASKS {
            let task = catalog.task(service, node)?;
            cluster.add_task(node, &task)?;
            tasks.push(task);
        }
        let interfaces = cluster
            .nodes()
            .map(|node| Ok((node.to_owned(), interfaces(&cluster, node)?)))
            .collect::<anyhow::Result<_>>()?;
        cluster.write_catalog(&mut catalog)?;
        cluster.spawn_agents()?;
        cluster.wait_ready(READY)?;
        tasks.iter().try_for_each(|task| cluster.start_whoami(task))?;
        Ok(Self {
            cluster,
            catalog,
            interfaces,
        })
    }

    /// What it is, in a line.
    pub(super) fn told(&self) -> String {
        let tasks = self
            .catalog
            .catalog()
            .services
            .iter()
            .flat_map(|service| &service.tasks);
        let places: Vec<_> = tasks.map(|task| format!("{}@{}", task.id, task.node)).collect();
        places.join(" ")
    }

    /// The nodes' names.
    pub(super) fn nodes(&self) -> Vec<String> {
        self.cluster.nodes().map(str::to_owned).collect()
    }

    /// The cluster.
    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
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
        Ok(format!(
            "http://{}/",
            SocketAddr::new(self.catalog.vip(service, "app", family)?, 80)
        ))
    }

    /// The address of a task.
    pub(super) fn task_address(&self, task: &str, family: Family) -> anyhow::Result<IpAddr> {
        self.catalog.task_address(task, "app", family)
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

    /// Runs `essaim clean` on every node, with the agent ended first, and checks what is left.
    pub(super) fn clean(&self) -> anyhow::Result<String> {
        for node in self.nodes() {
            self.cluster.stop_agent(&node)?;
            self.cluster.essaim(&node, &["clean"])?.ok()?;
            let (before, after) = (self.interfaces.get(&node), interfaces(&self.cluster, &node)?);
            ensure!(
                before == Some(&after),
                "{node} has the interfaces {}, before the agent came it had {}",
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

    /// Shows the agents' logs.
    pub(super) fn print_logs(&self) {
        self.cluster.print_logs();
    }

    /// Leaves the cluster up.
    pub(super) fn keep(self) {
        self.cluster.keep();
    }

    /// How to look round.
    pub(super) fn look_round(&self) -> String {
        let enter = |name: &str| {
            format!(
                "nsenter --net={}",
                netns::path(&self.cluster.netns(name)).display()
            )
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
            ("what a node knows", essaim("n1", "status", "")),
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
                "change the catalog",
                format!("$EDITOR {}", self.cluster.catalog_file("n1").display()),
            ),
            (
                "the agent's log",
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
