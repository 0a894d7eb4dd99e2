//! A cluster with a catalog, agents and tasks, ready for a test.

use anyhow::{Context as _, ensure};
use essaim_abi::Protocol;
use essaim_lab::{CatalogBuilder, Cluster, ClusterBuilder, Family, eventually};
use essaim_model::{Port, ReturnPath, TaskState};
use std::net::SocketAddr;
use std::time::Duration;

/// How long agents may take to apply a catalog.
pub const APPLIED: Duration = Duration::from_secs(40);

/// How long the kernel, an agent or a peer may take for something small.
pub const SOON: Duration = Duration::from_secs(20);

/// The client that every cluster has.
pub const CLIENT: &str = "c1";

/// The service that most tests use.
pub const WEB: &str = "web";

/// TCP port 8080, for the tasks' HTTP server.
pub const HTTP: Port = Port::new(8080, 80);

/// TCP port 8081, for the tasks' echo.
pub const ECHO: Port = Port::new(8081, 7);

/// UDP port 8081, for the tasks' echo.
pub const UDP_ECHO: Port = Port {
    protocol: Protocol::Udp,
    ..Port::new(8081, 7)
};

/// A port whose replies go straight to the client.
pub const fn dsr(port: Port) -> Port {
    Port {
        replies: ReturnPath::Dsr,
        ..port
    }
}

/// A cluster whose agents run.
#[derive(Debug)]
pub struct Site {
    /// The cluster.
    pub cluster: Cluster,
    /// What its agents were told.
    pub catalog: CatalogBuilder,
}

impl Site {
    /// Service web on network app with these ports, and a task on each of the named nodes (one may be named more than
    /// once); the agents run and the tasks answer.
    ///
    /// # Errors
    /// When the cluster cannot be made, or is not ready in time.
    pub fn web(cluster: ClusterBuilder, ports: &[Port], tasks: &[&str]) -> anyhow::Result<Self> {
        Self::start(cluster, |catalog| {
            catalog.network("app")?;
            catalog.service(WEB, &["app"])?.ports.extend(ports);
            for node in tasks {
                catalog.task(WEB, node)?;
            }
            Ok(())
        })
    }

    /// A cluster with the described catalog; the agents run and the tasks answer.
    ///
    /// # Errors
    /// As [`Site::web`].
    pub fn start(
        cluster: ClusterBuilder,
        describe: impl FnOnce(&mut CatalogBuilder) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let mut site = Self::prepare(cluster, describe)?;
        site.cluster.write_catalog(&mut site.catalog)?;
        site.cluster.spawn_agents()?;
        site.cluster.wait_ready(APPLIED)?;
        site.start_tasks()?;
        Ok(site)
    }

    /// As [`Site::start`], up to the point where agents are started.
    ///
    /// # Errors
    /// As [`Site::web`].
    pub fn prepare(
        cluster: ClusterBuilder,
        describe: impl FnOnce(&mut CatalogBuilder) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let cluster = cluster.build()?;
        let mut catalog = cluster.catalog()?;
        describe(&mut catalog)?;
        let site = Self { cluster, catalog };
        for (task, node) in site.tasks() {
            site.cluster.add_task(&node, &task)?;
        }
        Ok(site)
    }

    /// Starts the process of every task.
    ///
    /// # Errors
    /// When one does not answer in time.
    pub fn start_tasks(&self) -> anyhow::Result<()> {
        let mut tasks = self.tasks().into_iter();
        tasks.try_for_each(|(task, _)| self.cluster.start_whoami(&task))
    }

    /// The tasks and their nodes.
    pub fn tasks(&self) -> Vec<(String, String)> {
        let services = self.catalog.catalog().services.iter();
        let tasks = services.flat_map(|service| &service.tasks);
        tasks
            .map(|task| (task.id.to_string(), task.node.to_string()))
            .collect()
    }

    /// Hands the catalog to the agents and waits until all have applied it.
    ///
    /// # Errors
    /// When one has not in time.
    pub fn apply(&mut self) -> anyhow::Result<()> {
        self.cluster.write_catalog(&mut self.catalog)?;
        self.cluster.wait_ready(APPLIED)
    }

    /// Says how far a task is, to every agent.
    ///
    /// # Errors
    /// As [`Site::apply`].
    pub fn set_state(&mut self, task: &str, state: TaskState) -> anyhow::Result<()> {
        self.catalog.set_state(task, state)?;
        self.apply()
    }

    /// Adds a task to web as an orchestrator does: ready only once it answers.
    ///
    /// # Errors
    /// As [`Site::apply`].
    pub fn add_task(&mut self, node: &str) -> anyhow::Result<String> {
        let task = self.catalog.task(WEB, node)?;
        self.cluster.add_task(node, &task)?;
        self.set_state(&task, TaskState::Starting)?;
        self.cluster.start_whoami(&task)?;
        self.set_state(&task, TaskState::Ready)?;
        Ok(task)
    }

    /// Where clients reach a published port of a node.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn at(&self, node: &str, port: u16, family: Family) -> anyhow::Result<SocketAddr> {
        Ok(SocketAddr::new(self.cluster.address(node, family)?, port))
    }

    /// What `essaim status` tells.
    ///
    /// # Errors
    /// When it fails.
    pub fn status(&self, node: &str) -> anyhow::Result<serde_json::Value> {
        let text = self.cluster.essaim(node, &["status", "--format", "json"])?.ok()?;
        serde_json::from_str(&text).context("essaim status printed no JSON")
    }

    /// How many entries of a map of a node are in use.
    ///
    /// # Errors
    /// When the status does not tell.
    pub fn entries(&self, node: &str, map: &str) -> anyhow::Result<u64> {
        let status = self.status(node)?;
        let maps = status.get("maps").and_then(serde_json::Value::as_array);
        let found = maps
            .into_iter()
            .flatten()
            .find(|found| found.get("map").is_some_and(|name| name.as_str() == Some(map)));
        found
            .and_then(|found| found.get("used")?.as_u64())
            .with_context(|| format!("the status of {node} tells no use of map {map}"))
    }

    /// Waits until everything on a node is as it should be.
    ///
    /// # Errors
    /// When `essaim verify` still tells differences at the deadline.
    pub fn verified(&self, node: &str) -> anyhow::Result<()> {
        eventually(APPLIED, &format!("essaim verify on {node} finds nothing"), || {
            self.cluster.essaim(node, &["verify"])?.ok().map(drop)
        })
    }

    /// Waits for a line in a log that holds all of these words.
    ///
    /// # Errors
    /// When there is none by the deadline.
    pub fn logged(&self, node: &str, words: &[&str]) -> anyhow::Result<String> {
        eventually(SOON, &format!("the log of {node} says {words:?}"), || {
            let text = std::fs::read_to_string(self.cluster.log_file(node))?;
            let line = text
                .lines()
                .find(|line| words.iter().all(|word| line.contains(word)));
            ensure!(
                line.is_some(),
                "the log ends with:\n{}",
                self.cluster.log_tail(node)
            );
            Ok(line.unwrap_or_default().to_owned())
        })
    }
}
