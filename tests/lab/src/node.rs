//! Nodes of a cluster with managers: the daemon, the operator's commands, and the tasks that the managers place.

use crate::agent::end;
use crate::cluster::{Cluster, Task};
use crate::run::{Ran, run_here};
use crate::spawn::Room;
use crate::wait::eventually;
use crate::{Family, cgroup};
use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a daemon may take until its API answers.
const API_DEADLINE: Duration = Duration::from_secs(20);

/// How long a service may take until it is as it was asked to be.
const CONVERGE_DEADLINE: Duration = Duration::from_mins(1);

/// The port of the managers.
const MANAGERS: u16 = 2377;

/// Runs an operator's command at a node: its name, and the command's arguments; what it prints.
pub type Operate<'a> = &'a dyn Fn(&str, &[&str]) -> anyhow::Result<String>;

/// A task that the managers have placed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlacedTask {
    /// Its service and slot, `web.2`; of a global service, the service and the node.
    pub name: String,
    /// Its identity.
    pub id: String,
    /// The node's name in the lab.
    pub node: String,
    /// Its addresses, without prefixes.
    pub addresses: Vec<String>,
}

impl Cluster {
    /// The state that a node's daemon keeps over a boot.
    pub fn data_dir(&self, node: &str) -> PathBuf {
        self.files(node).join("data")
    }

    /// Where a node's API listens.
    pub fn api_socket(&self, node: &str) -> PathBuf {
        self.state_dir(node).join("docker.sock")
    }

    /// Where a node's Docker Engine listens, where it has one.
    pub fn docker_socket(&self, node: &str) -> PathBuf {
        self.files(node).join("engine/docker.sock")
    }

    /// Where a node's Docker Engine looks for plugins.
    pub(crate) fn plugins(&self, node: &str) -> PathBuf {
        self.files(node).join("plugins")
    }

    /// Where a node's Docker Engine calls the daemon as its network plugin.
    pub fn plugin_socket(&self, node: &str) -> PathBuf {
        self.plugins(node).join("essaim.sock")
    }

    /// Starts a node's daemon, and waits until its API answers.
    ///
    /// # Errors
    /// When it runs already, or does not answer; then with the end of its log.
    pub fn spawn_node(&self, node: &str) -> anyhow::Result<()> {
        self.spawn_node_with(node, &[])
    }

    /// As [`Cluster::spawn_node`], with more arguments.
    ///
    /// # Errors
    /// As [`Cluster::spawn_node`].
    pub fn spawn_node_with(&self, node: &str, more: &[&str]) -> anyhow::Result<()> {
        self.spawn_node_of(node, &self.binary("essaim"), more)
    }

    /// As [`Cluster::spawn_node_with`], of another build of the program.
    ///
    /// # Errors
    /// As [`Cluster::spawn_node`].
    pub fn spawn_node_of(&self, node: &str, program: &Path, more: &[&str]) -> anyhow::Result<()> {
        ensure!(!self.agent_runs(node)?, "the daemon of {node} runs already");
        let data_dir = self.data_dir(node).display().to_string();
        let engine = self.docker_socket(node).display().to_string();
        let plugin = self.plugin_socket(node).display().to_string();
        let own = [
            "--data-dir",
            &data_dir,
            "--docker-socket",
            &engine,
            "--plugin-socket",
            &plugin,
        ];
        let arguments = [&own, more].concat();
        self.start_essaim(node, program, &arguments)?;
        let answers = eventually(API_DEADLINE, &format!("API of {node} answers"), || {
            self.api(node, "/info").map(drop)
        });
        answers.with_context(|| format!("log of {node}:\n{}", self.log_tail(node)))
    }

    /// Starts the daemons of all nodes.
    ///
    /// # Errors
    /// As [`Cluster::spawn_node`].
    pub fn spawn_nodes(&self) -> anyhow::Result<()> {
        self.nodes().try_for_each(|node| self.spawn_node(node))
    }

    /// Makes one cluster of the nodes: the first makes it, those of `managers` join as managers, the others as workers.
    ///
    /// # Errors
    /// When a command fails, or a node is not ready in time.
    pub fn form(&self, managers: usize) -> anyhow::Result<()> {
        self.form_by(managers, &|node, line| self.operate(node, line))
    }

    /// As [`Cluster::form`], by commands that something else runs.
    ///
    /// # Errors
    /// As [`Cluster::form`].
    pub fn form_by(&self, managers: usize, operate: Operate<'_>) -> anyhow::Result<()> {
        let nodes: Vec<&str> = self.nodes().collect();
        let (first, others) = nodes.split_first().context("a lab without nodes")?;
        operate(
            first,
            &["swarm", "init", "--advertise-addr", &self.advertised(first)?],
        )?;
        for (at, node) in others.iter().enumerate() {
            let role = if at + 1 < managers { "manager" } else { "worker" };
            self.join_by(node, first, role, operate)?;
        }
        self.wait_nodes_ready(first, nodes.len())
    }

    /// Has a node join the cluster of another.
    ///
    /// # Errors
    /// When a command fails.
    pub fn join(&self, node: &str, manager: &str, role: &str) -> anyhow::Result<()> {
        self.join_by(node, manager, role, &|node, line| self.operate(node, line))
    }

    fn join_by(&self, node: &str, manager: &str, role: &str, operate: Operate<'_>) -> anyhow::Result<()> {
        let token = operate(manager, &["swarm", "join-token", "-q", role])?;
        let (own, remote) = (self.advertised(node)?, self.advertised(manager)?);
        let remote = format!("{remote}:{MANAGERS}");
        let line = [
            "swarm",
            "join",
            "--advertise-addr",
            &own,
            "--token",
            token.trim(),
            &remote,
        ];
        operate(node, &line).map(drop)
    }

    /// Runs a command of the docker CLI at a node's API; what it prints.
    ///
    /// # Errors
    /// When it fails; then with what it says.
    pub fn docker_cli(&self, node: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let host = format!("unix://{}", self.api_socket(node).display());
        let config = self.data_dir(node).join("cli").display().to_string();
        run_here(&[&["docker", "--config", &config, "--host", &host], arguments].concat())
    }

    /// The options of `service create` by which a container has the lab's server, `essaim-peer`, at `/peer`, and what that is
    /// linked to.
    pub fn peer_mounts(&self) -> Vec<String> {
        let program = self.binary("essaim-peer").display().to_string();
        let mounts = [
            (program.as_str(), "/peer"),
            ("/lib", "/lib"),
            ("/lib64", "/lib64"),
        ];
        let options = mounts.map(|(source, target)| {
            let mount = format!("type=bind,source={source},target={target},readonly");
            ["--mount".to_owned(), mount]
        });
        options.into_iter().flatten().collect()
    }

    fn advertised(&self, node: &str) -> anyhow::Result<String> {
        Ok(self.address(node, Family::V4)?.to_string())
    }

    /// Waits until a manager calls so many nodes ready.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_nodes_ready(&self, manager: &str, count: usize) -> anyhow::Result<()> {
        eventually(CONVERGE_DEADLINE, &format!("{count} nodes are ready"), || {
            let nodes = self.api(manager, "/nodes")?;
            let ready = nodes.as_array().into_iter().flatten();
            let ready =
                ready.filter(|node| node.pointer("/Status/State").and_then(Value::as_str) == Some("ready"));
            let ready = ready.count();
            ensure!(ready == count, "{ready} of {count} are");
            Ok(())
        })
    }

    /// Waits until nothing of a cluster is left on a node that has left it.
    ///
    /// # Errors
    /// When something is, in time.
    pub fn left(&self, node: &str) -> anyhow::Result<()> {
        eventually(API_DEADLINE, &format!("{node} is in no cluster"), || {
            let info = self.api(node, "/info")?;
            let state = info.pointer("/Swarm/LocalNodeState").and_then(Value::as_str);
            ensure!(state == Some("inactive"), "it is {state:?}");
            let kept = self.data_dir(node).join("worker");
            ensure!(!kept.exists(), "{} is still there", kept.display());
            Ok(())
        })
    }

    /// Runs an operator's command at a node; what it prints.
    ///
    /// # Errors
    /// When it fails; then with what it says.
    pub fn operate(&self, node: &str, arguments: &[&str]) -> anyhow::Result<String> {
        self.try_operate(node, arguments)?.ok()
    }

    /// Runs an operator's command at a node.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn try_operate(&self, node: &str, arguments: &[&str]) -> anyhow::Result<Ran> {
        let program = self.binary("essaim").display().to_string();
        let host = format!("ESSAIM_HOST=unix://{}", self.api_socket(node).display());
        self.exec(node, &[&["env", &host, &program], arguments].concat())
    }

    /// Runs an operator's command at a node with this as its standard input.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn operate_with(&self, node: &str, arguments: &[&str], input: &str) -> anyhow::Result<Ran> {
        let program = self.binary("essaim").display().to_string();
        let host = format!("ESSAIM_HOST=unix://{}", self.api_socket(node).display());
        let line = [&["env", &host, &program], arguments].concat();
        let file = self.files(node).join("input");
        std::fs::write(&file, input).with_context(|| format!("failed to write {}", file.display()))?;
        let script = format!("exec \"$@\" < {}", file.display());
        self.exec(node, &[&["sh", "-c", &script, "sh"], &line[..]].concat())
    }

    /// Kills a node's daemon and starts the next; tasks and the data plane are not touched.
    ///
    /// # Errors
    /// As [`Cluster::spawn_node`].
    pub fn restart_node(&self, node: &str) -> anyhow::Result<()> {
        self.kill_agent(node)?;
        self.spawn_node(node)
    }

    /// Kills all processes in a task's network namespace, as if its program had crashed.
    ///
    /// # Errors
    /// When they cannot be found.
    pub fn end_placed(&self, task: &PlacedTask) -> anyhow::Result<()> {
        let pids = run_here(&["ip", "netns", "pids", &format!("es-{}", task.id)])?;
        for pid in pids.split_whitespace() {
            // It may have ended with another.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.parse()?), Signal::SIGKILL);
        }
        Ok(())
    }

    /// What a node's API answers.
    ///
    /// # Errors
    /// When it does not answer, or with an error.
    pub fn api(&self, node: &str, path: &str) -> anyhow::Result<Value> {
        let socket = self.api_socket(node).display().to_string();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let url = format!("http://localhost{path}");
        let mut line = vec![
            "curl",
            "-gsSf",
            "--max-time",
            "10",
            "--unix-socket",
            &socket,
            &url,
        ];
        if !query.is_empty() {
            line.extend(["--get", "--data-urlencode", query]);
        }
        let text = self.exec(node, &line)?.ok()?;
        serde_json::from_str(&text).with_context(|| format!("{path} of {node} answered {text:?}"))
    }

    /// A service's virtual address on a network.
    ///
    /// # Errors
    /// When the manager cannot be asked, or there is none of that family.
    pub fn virtual_address(
        &self,
        manager: &str,
        service: &str,
        network: &str,
        family: Family,
    ) -> anyhow::Result<IpAddr> {
        let found = self.api(manager, &format!("/services/{service}"))?;
        let network = self.api(manager, &format!("/networks/{network}"))?;
        let all = found.pointer("/Endpoint/VirtualIPs").and_then(Value::as_array);
        let there = all
            .into_iter()
            .flatten()
            .filter(|one| one["NetworkID"] == network["Id"]);
        let mut addresses = there.filter_map(|one| one["Addr"].as_str()?.split('/').next()?.parse().ok());
        let address = addresses.find(|address| family.is_of(*address));
        address.with_context(|| format!("{service} has no virtual address of {family} there: {all:?}"))
    }

    /// The tasks of a service that run.
    ///
    /// # Errors
    /// When the manager cannot be asked.
    pub fn running(&self, manager: &str, service: &str) -> anyhow::Result<Vec<PlacedTask>> {
        let nodes = self.api(manager, "/nodes")?;
        let filters = format!("{{\"service\":[\"{service}\"],\"desired-state\":[\"running\"]}}");
        let tasks = self.api(manager, &format!("/tasks?filters={filters}"))?;
        let hostname = |id: &str| {
            let mut nodes = nodes.as_array().into_iter().flatten();
            let node = nodes.find(|node| node.get("ID").and_then(Value::as_str) == Some(id))?;
            node.pointer("/Description/Hostname")?.as_str().map(str::to_owned)
        };
        let mut placed: Vec<PlacedTask> = Vec::new();
        for task in tasks.as_array().into_iter().flatten() {
            let text = |path: &str| task.pointer(path).and_then(Value::as_str).unwrap_or_default();
            if text("/Status/State") != "running" {
                continue;
            }
            let node = hostname(text("/NodeID")).unwrap_or_default();
            let name = match task.get("Slot").and_then(Value::as_u64) {
                Some(slot) => format!("{service}.{slot}"),
                None => format!("{service}.{node}"),
            };
            let attachments = task.get("NetworksAttachments").and_then(Value::as_array);
            let addresses = attachments
                .into_iter()
                .flatten()
                .filter_map(|one| one.get("Addresses")?.as_array());
            let addresses = addresses.flatten().filter_map(Value::as_str);
            let addresses = addresses.filter_map(|address| Some(address.split('/').next()?.to_owned()));
            placed.push(PlacedTask {
                name,
                id: text("/ID").to_owned(),
                node,
                addresses: addresses.collect(),
            });
        }
        placed.sort();
        Ok(placed)
    }

    /// Waits until so many tasks of a service run, and takes them into the lab: commands run at them by their names.
    ///
    /// # Errors
    /// When they do not in time.
    pub fn wait_running(
        &self,
        manager: &str,
        service: &str,
        count: usize,
    ) -> anyhow::Result<Vec<PlacedTask>> {
        let placed = eventually(
            CONVERGE_DEADLINE,
            &format!("{count} tasks of {service} run"),
            || {
                let placed = self.running(manager, service)?;
                ensure!(placed.len() == count, "{} do", placed.len());
                Ok(placed)
            },
        )?;
        for task in &placed {
            let room = Room {
                netns: format!("es-{}", task.id),
                cgroup: self.cgroup(&task.node)?.join("own"),
                resolv_conf: Some(
                    self.state_dir(&task.node)
                        .join("tasks")
                        .join(&task.id)
                        .join("resolv.conf"),
                ),
            };
            self.state()
                .tasks
                .insert(task.name.clone(), Task { room, child: None });
        }
        Ok(placed)
    }

    /// Waits until a manager calls a node down, and none of its tasks is to run there.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_down(&self, manager: &str, node: &str) -> anyhow::Result<()> {
        eventually(CONVERGE_DEADLINE, &format!("{node} is down"), || {
            let nodes = self.api(manager, "/nodes")?;
            let mut nodes = nodes.as_array().into_iter().flatten();
            let found = nodes.find(|found| found.pointer("/Description/Hostname") == Some(&node.into()));
            let found = found.with_context(|| format!("{manager} knows no node {node}"))?;
            let state = found.pointer("/Status/State").and_then(Value::as_str);
            ensure!(state == Some("down"), "it is {state:?}");
            let id = found.get("ID").and_then(Value::as_str).unwrap_or_default();
            let filters = format!("filters={{\"node\":[\"{id}\"],\"desired-state\":[\"running\"]}}");
            let tasks = self.api(manager, &format!("/tasks?{filters}"))?;
            let left = tasks.as_array().map_or(0, Vec::len);
            ensure!(left == 0, "{left} tasks are still to run there");
            Ok(())
        })
    }

    /// As if the node lost its power: everything that runs there ends at once, and its cable carries nothing.
    ///
    /// # Errors
    /// When something of it does not end.
    pub fn power_off(&self, node: &str) -> anyhow::Result<()> {
        self.unplug(node)?;
        cgroup::kill(self.cgroup(node)?)?;
        let child = self.state().agents.remove(node);
        if let Some(mut child) = child {
            end(&mut child, Signal::SIGKILL)?;
        }
        Ok(())
    }

    /// The node, of those that run, whose manager leads.
    ///
    /// # Errors
    /// When none of them says who does.
    pub fn leader(&self) -> anyhow::Result<String> {
        let asked = self.nodes().filter(|node| self.agent_runs(node).unwrap_or(false));
        let leader = |node: &str| {
            let nodes = self.api(node, "/nodes").ok()?;
            let mut nodes = nodes.as_array()?.iter();
            let leads =
                nodes.find(|node| node.pointer("/ManagerStatus/Leader") == Some(&Value::Bool(true)))?;
            leads
                .pointer("/Description/Hostname")?
                .as_str()
                .map(str::to_owned)
        };
        let mut asked = asked;
        asked.find_map(leader).context("no manager says who leads")
    }
}
