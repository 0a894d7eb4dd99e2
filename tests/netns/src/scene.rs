//! A cluster that runs what its catalog says.

use anyhow::{Context as _, ensure};
use essaim_abi::DropReason;
use essaim_lab::{CatalogBuilder, Cluster, Family, eventually, netns};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long agents may take to apply a catalog, on a machine where other suites run too.
pub const READY: Duration = Duration::from_mins(1);

/// How long a counter may take to show what has happened.
const COUNTED: Duration = Duration::from_secs(10);

/// A cluster with its catalog. Dropping it takes everything down.
#[derive(Debug)]
pub struct Scene {
    /// The machines.
    pub cluster: Cluster,
    /// What runs on them.
    pub catalog: CatalogBuilder,
}

/// Who answered an HTTP request, and whom it saw.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Seen {
    /// The task that answered.
    pub name: String,
    /// The address and port that the request came from.
    #[serde(rename = "remote_addr")]
    pub client: SocketAddr,
}

impl Scene {
    /// Brings up the agents, and the HTTP server and the echoes in every task of the catalog.
    ///
    /// # Errors
    /// When a part of it does not come up in time.
    pub fn start(cluster: Cluster, catalog: CatalogBuilder) -> anyhow::Result<Self> {
        let scene = Self::start_idle(cluster, catalog)?;
        for task in scene.tasks() {
            scene.cluster.start_whoami(&task)?;
        }
        Ok(scene)
    }

    /// As [`Scene::start`], with nothing running in the tasks.
    ///
    /// # Errors
    /// As [`Scene::start`].
    pub fn start_idle(cluster: Cluster, mut catalog: CatalogBuilder) -> anyhow::Result<Self> {
        for service in &catalog.catalog().services {
            for task in &service.tasks {
                cluster.add_task(task.node.as_str(), task.id.as_str())?;
            }
        }
        cluster.write_catalog(&mut catalog)?;
        cluster.spawn_agents()?;
        cluster.wait_ready(READY)?;
        let scene = Self { cluster, catalog };
        for task in scene.tasks() {
            let netns = scene.cluster.netns(&task);
            eventually(READY, &format!("task {task} has an interface"), || {
                ensure!(netns::has_interface(&netns, "eth0")?, "no eth0 in {netns}");
                Ok(())
            })?;
        }
        Ok(scene)
    }

    /// Hands the changed catalog to the agents, and waits until they have applied it.
    ///
    /// # Errors
    /// When one has not in time.
    pub fn apply(&mut self) -> anyhow::Result<()> {
        self.cluster.write_catalog(&mut self.catalog)?;
        self.cluster.wait_ready(READY)
    }

    /// The tasks of the catalog.
    pub fn tasks(&self) -> Vec<String> {
        let services = &self.catalog.catalog().services;
        let tasks = services.iter().flat_map(|service| &service.tasks);
        tasks.map(|task| task.id.to_string()).collect()
    }

    /// The address of a task on its first network.
    ///
    /// # Errors
    /// When there is none.
    pub fn task(&self, id: &str, family: Family) -> anyhow::Result<IpAddr> {
        let network = self.first_network(id.rsplit_once('.').map_or(id, |(service, _)| service))?;
        self.catalog.task_address(id, &network, family)
    }

    /// The VIP of a service on its first network.
    ///
    /// # Errors
    /// When there is none.
    pub fn vip(&self, service: &str, family: Family) -> anyhow::Result<IpAddr> {
        self.catalog.vip(service, &self.first_network(service)?, family)
    }

    /// Asks the HTTP server at an address who it is, with curl.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn ask(&self, at: &str, to: IpAddr, port: u16) -> anyhow::Result<Seen> {
        let url = format!("http://{}/json", SocketAddr::new(to, port));
        let text = self.cluster.curl(at, &url)?;
        serde_json::from_str(&text).with_context(|| format!("{url} answered {text:?}"))
    }

    /// Sends datagrams to a UDP echo, and counts who answered. All must be answered.
    ///
    /// # Errors
    /// When one is not.
    pub fn probe(&self, at: &str, to: SocketAddr, more: &[&str]) -> anyhow::Result<Probed> {
        let target = to.to_string();
        let arguments = [&["udp-probe", "--target", &target], more].concat();
        let probed: Probed = self.cluster.peer(at, &arguments)?.json()?;
        ensure!(
            probed.failed == 0 && probed.ok > 0,
            "{at} to {to}: {probed:?}; {}",
            self.all_drops()
        );
        Ok(probed)
    }

    /// Pings once, and hands out what ping prints.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn ping(&self, at: &str, to: IpAddr, more: &[&str]) -> anyhow::Result<String> {
        let to = to.to_string();
        let ping = [&["ping", "-n", "-c", "1", "-W", "2"], more, &[&to]].concat();
        self.cluster.exec(at, &ping)?.ok()
    }

    /// How many packets a node has dropped for a reason.
    ///
    /// # Errors
    /// When its status cannot be read.
    pub fn drops(&self, node: &str, reason: DropReason) -> anyhow::Result<u64> {
        Ok(self
            .drop_counts(node)?
            .get(reason.name())
            .copied()
            .unwrap_or_default())
    }

    /// Runs something that must be counted as so many drops of a node, or more.
    ///
    /// # Errors
    /// When it fails, or is not counted.
    pub fn counted(
        &self,
        node: &str,
        reason: DropReason,
        at_least: u64,
        work: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let before = self.drops(node, reason)?;
        work()?;
        let what = format!("{node} counts {at_least} or more of {}", reason.name());
        eventually(COUNTED, &what, || {
            let more = self.drops(node, reason)?.saturating_sub(before);
            ensure!(more >= at_least, "it has counted {more}; {}", self.all_drops());
            Ok(())
        })
    }

    /// What every node has dropped, for a message.
    pub fn all_drops(&self) -> String {
        let of = |node: &str| {
            let counts = self
                .drop_counts(node)
                .map_or_else(|error| error.to_string(), |counts| format!("{counts:?}"));
            format!("{node} dropped {counts}")
        };
        self.cluster.nodes().map(of).collect::<Vec<_>>().join("; ")
    }

    fn drop_counts(&self, node: &str) -> anyhow::Result<BTreeMap<String, u64>> {
        #[derive(Deserialize)]
        struct Status {
            drops: Vec<Dropped>,
        }
        #[derive(Deserialize)]
        struct Dropped {
            reason: String,
            packets: u64,
        }
        let text = self.cluster.essaim(node, &["status", "--format", "json"])?.ok()?;
        let status: Status = serde_json::from_str(&text).context("essaim status printed something else")?;
        let drops = status.drops.into_iter();
        Ok(drops.map(|drop| (drop.reason, drop.packets)).collect())
    }

    fn first_network(&self, service: &str) -> anyhow::Result<String> {
        let services = &self.catalog.catalog().services;
        let found = services.iter().find(|found| found.name.as_str() == service);
        let found = found.with_context(|| format!("the catalog has no service {service}"))?;
        let first = found.networks.first();
        Ok(first.map_or_else(|| "ingress".to_owned(), |network| network.name.to_string()))
    }
}

/// What `essaim-peer udp-probe` and `essaim-peer load` report.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Probed {
    /// Answered.
    pub ok: u64,
    /// Not answered, or wrongly.
    pub failed: u64,
    /// The longest time between two answers, in milliseconds.
    pub longest_gap_ms: u64,
    /// Answers by the name of who answered.
    pub by_name: BTreeMap<String, u64>,
    /// Answers by the address that the server saw.
    pub by_seen: BTreeMap<String, u64>,
    /// The first failures.
    pub failures: Vec<serde_json::Value>,
}
