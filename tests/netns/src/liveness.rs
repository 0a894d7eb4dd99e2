//! What nodes know of each other, as `essaim status` tells it.

use crate::site::Site;
use anyhow::{Context as _, ensure};
use essaim_lab::eventually;
use serde_json::Value;
use std::time::{Duration, Instant};

impl Site {
    /// How a node sees another member: `up`, `suspect`, `down` or `unheard`.
    ///
    /// # Errors
    /// When the status does not tell.
    pub fn member_state(&self, at: &str, node: &str) -> anyhow::Result<String> {
        let status = self.status(at)?;
        let state = status
            .pointer(&format!("/members/{node}/state"))
            .and_then(Value::as_str);
        Ok(state
            .with_context(|| format!("{at} does not tell of {node}"))?
            .to_owned())
    }

    /// How far a node sees a task.
    ///
    /// # Errors
    /// When the status does not tell.
    pub fn task_state(&self, at: &str, task: &str) -> anyhow::Result<String> {
        let status = self.status(at)?;
        let services = status
            .get("services")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let mut backends = services
            .filter_map(|service| service.get("backends")?.as_array())
            .flatten();
        let found = backends.find(|backend| backend.get("task").and_then(Value::as_str) == Some(task));
        let state = found.and_then(|backend| backend.get("state")?.as_str());
        Ok(state
            .with_context(|| format!("{at} does not tell of task {task}"))?
            .to_owned())
    }

    /// Waits until all of these nodes see a member so; tells how long that took.
    ///
    /// # Errors
    /// When one does not by the deadline.
    pub fn wait_member(
        &self,
        at: &[&str],
        node: &str,
        state: &str,
        deadline: Duration,
    ) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        for seen_by in at {
            eventually(deadline, &format!("{seen_by} sees {node} {state}"), || {
                let found = self.member_state(seen_by, node)?;
                ensure!(found == state, "it is {found}");
                Ok(())
            })?;
        }
        Ok(begun.elapsed())
    }

    /// Waits until all of these nodes see a task so; tells how long that took.
    ///
    /// # Errors
    /// When one does not by the deadline.
    pub fn wait_task(
        &self,
        at: &[&str],
        task: &str,
        state: &str,
        deadline: Duration,
    ) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        for seen_by in at {
            eventually(deadline, &format!("{seen_by} sees {task} {state}"), || {
                let found = self.task_state(seen_by, task)?;
                ensure!(found == state, "it is {found}");
                Ok(())
            })?;
        }
        Ok(begun.elapsed())
    }

    /// Has the end of a task's processes be the end of the task.
    ///
    /// # Errors
    /// When there is no such task.
    pub fn watch_processes(&mut self, task: &str) -> anyhow::Result<()> {
        let node = self.catalog.task_mut(task)?.node.to_string();
        let group = self.cluster.task_cgroup(&node, task)?;
        self.catalog.task_mut(task)?.cgroup = Some(group.display().to_string());
        Ok(())
    }
}
