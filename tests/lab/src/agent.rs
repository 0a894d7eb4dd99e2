//! The agents of a cluster.

use crate::cluster::Cluster;
use crate::run::{Ran, send};
use crate::spawn::{self, Room};
use crate::underlay::UPLINK;
use crate::wait::eventually;
use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

/// How long an agent may take to end when told to.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// How much of a log is shown on failure.
const LOG_LINES: usize = 40;

impl Cluster {
    /// Starts the agent of a node, with the catalog file that [`Cluster::write_catalog`] wrote.
    ///
    /// # Errors
    /// When it runs already, or cannot be started.
    pub fn spawn_agent(&self, node: &str) -> anyhow::Result<()> {
        self.spawn_agent_with(node, &self.binary("essaim"), &[])
    }

    /// As [`Cluster::spawn_agent`], with another build or more arguments.
    ///
    /// # Errors
    /// As [`Cluster::spawn_agent`].
    pub fn spawn_agent_with(&self, node: &str, program: &Path, more: &[&str]) -> anyhow::Result<()> {
        ensure!(!self.agent_runs(node)?, "the agent of {node} runs already");
        ensure!(
            program.exists(),
            "{} does not exist: build the workspace first (cargo build --release)",
            program.display()
        );
        let catalog = self.catalog_file(node).display().to_string();
        let keys = self.gossip_keys();
        let key_file = keys.display().to_string();
        let mut arguments = vec!["--catalog", &catalog];
        arguments.extend(more);
        if keys.exists() {
            arguments.extend(["--gossip-keys", &key_file]);
        }
        self.start_essaim(node, program, &arguments)
    }

    /// Starts `essaim node` in a node's room, with these arguments beside those that every one has.
    pub(crate) fn start_essaim(&self, node: &str, program: &Path, more: &[&str]) -> anyhow::Result<()> {
        let group = self.cgroup(node)?;
        let room = Room {
            netns: self.netns(node),
            cgroup: group.join("agent"),
            resolv_conf: None,
        };
        let log = self.open_log(node)?;
        let child = spawn::command(&room, program)?
            .args(["node", "--name", node, "--uplink", UPLINK])
            .arg("--bpf-root")
            .arg(self.bpf_root(node))
            .arg("--cgroup")
            .arg(group)
            .arg("--state-dir")
            .arg(self.state_dir(node))
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("failed to share a log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        self.state().agents.insert(node.to_owned(), child);
        Ok(())
    }

    /// Starts the agents of all nodes.
    ///
    /// # Errors
    /// As [`Cluster::spawn_agent`].
    pub fn spawn_agents(&self) -> anyhow::Result<()> {
        self.nodes().try_for_each(|node| self.spawn_agent(node))
    }

    /// Kills the agent of a node as `kill -9` does.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_agent(&self, node: &str) -> anyhow::Result<()> {
        self.end_agent(node, Signal::SIGKILL)
    }

    /// Tells the agent of a node to end, and waits for it.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn stop_agent(&self, node: &str) -> anyhow::Result<()> {
        self.end_agent(node, Signal::SIGTERM)
    }

    /// Kills the agent of a node and starts it again.
    ///
    /// # Errors
    /// As [`Cluster::kill_agent`] and [`Cluster::spawn_agent`].
    pub fn restart_agent(&self, node: &str) -> anyhow::Result<()> {
        self.kill_agent(node)?;
        self.spawn_agent(node)
    }

    /// Whether the agent of a node runs.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn agent_runs(&self, node: &str) -> anyhow::Result<bool> {
        match self.state().agents.get_mut(node) {
            Some(child) => Ok(child.try_wait().context("failed to ask for a process")?.is_none()),
            None => Ok(false),
        }
    }

    /// The process of a node's agent.
    pub fn agent_pid(&self, node: &str) -> Option<u32> {
        self.state().agents.get(node).map(Child::id)
    }

    /// Runs `essaim COMMAND` on a node, with the options that name the node's folders.
    ///
    /// # Errors
    /// As [`Cluster::exec`].
    pub fn essaim(&self, node: &str, arguments: &[&str]) -> anyhow::Result<Ran> {
        let program = self.binary("essaim").display().to_string();
        let state_dir = self.state_dir(node).display().to_string();
        let (command, rest) = arguments.split_first().context("no subcommand given")?;
        self.exec(
            node,
            &[&[program.as_str(), command, "--state-dir", &state_dir], rest].concat(),
        )
    }

    /// Waits until every agent has applied the catalog that was written last.
    ///
    /// # Errors
    /// When one has not by then, with the end of its log.
    pub fn wait_ready(&self, deadline: Duration) -> anyhow::Result<()> {
        self.nodes()
            .try_for_each(|node| self.wait_node_ready(node, deadline))
    }

    /// Waits until the agent of a node has applied the catalog that was written last.
    ///
    /// # Errors
    /// As [`Cluster::wait_ready`].
    pub fn wait_node_ready(&self, node: &str, deadline: Duration) -> anyhow::Result<()> {
        let written = self.written_revision(node)?;
        let ready = eventually(
            deadline,
            &format!("agent of {node} has applied revision {written}"),
            || {
                if !self.agent_runs(node)? {
                    return Ok(Err("it has ended"));
                }
                let status: serde_json::Value =
                    serde_json::from_str(&self.essaim(node, &["status", "--format", "json"])?.ok()?)?;
                // Without an agent the last one's word would be told.
                let pid = status.pointer("/agent/pid").and_then(serde_json::Value::as_u64);
                ensure!(
                    pid == self.agent_pid(node).map(u64::from),
                    "the agent that answers is process {pid:?}"
                );
                let applied = status.get("revision").and_then(serde_json::Value::as_u64);
                ensure!(applied == Some(written), "applied revision is {applied:?}");
                Ok(Ok(()))
            },
        );
        match ready {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => bail!("agent of {node}: {reason}\n{}", self.log_tail(node)),
            Err(error) => Err(error.context(format!("agent of {node}:\n{}", self.log_tail(node)))),
        }
    }

    /// The last lines of a node's or task's log.
    pub fn log_tail(&self, name: &str) -> String {
        let text = fs::read_to_string(self.log_file(name)).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines
            .get(lines.len().saturating_sub(LOG_LINES)..)
            .unwrap_or_default()
            .join("\n")
    }

    /// Shows the logs of all agents.
    pub(crate) fn print_logs(&self) {
        for node in self.nodes().filter(|node| self.log_file(node).exists()) {
            eprintln!("---- log of {node}'s agent:\n{}", self.log_tail(node));
        }
    }

    pub(crate) fn open_log(&self, name: &str) -> anyhow::Result<File> {
        let path = self.log_file(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
        }
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("failed to open {}", path.display()))
    }

    fn end_agent(&self, node: &str, signal: Signal) -> anyhow::Result<()> {
        let mut child = self
            .state()
            .agents
            .remove(node)
            .with_context(|| format!("no agent was started on {node}"))?;
        let ended = end(&mut child, signal).with_context(|| format!("agent of {node}"));
        if ended.is_err() && child.try_wait().is_ok_and(|status| status.is_none()) {
            self.state().agents.insert(node.to_owned(), child);
        }
        ended
    }
}

/// Sends a signal and waits for the process's end.
pub(crate) fn end(child: &mut Child, signal: Signal) -> anyhow::Result<()> {
    send(child, signal)?;
    eventually(END_DEADLINE, &format!("end after {signal}"), || {
        child.try_wait()?.map(drop).context("it still runs")
    })
}
