//! Waiting for a service to be as asked.

use super::progress::{self, Frame, Progress, Step};
use crate::api::{Filters, encode};
use crate::console::{Exit, Session};
use crate::error::Error;
use essaim_objects::{Node, Service, Task};
use std::time::Duration;

/// How waiting for a service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// It is as asked.
    Converged,
    /// The operator did not want to wait; it goes on by itself.
    Interrupted,
}

impl Session<'_, '_> {
    /// Waits until the service is as asked and stays so, and shows how far it is.
    pub(super) async fn converge(&mut self, service: &str, quiet: bool) -> Result<Exit, Error> {
        match self.wait_for(service, quiet).await? {
            Waited::Converged | Waited::Interrupted => Ok(Exit::Done),
        }
    }

    /// As [`Self::converge`]; tells whether it was interrupted.
    pub(crate) async fn wait_for(&mut self, service: &str, quiet: bool) -> Result<Waited, Error> {
        let mut progress = Progress::default();
        let mut shown = Frame::default();
        let mut drawn = 0;
        let path = format!("/services/{}", encode(service));
        let mut pace = tokio::time::interval(Duration::from_millis(200));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = pace.tick() => {}
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted?;
                    self.line("Operation continuing in background.")?;
                    self.line(&format!("Use `essaim service ps {service}` to check progress."))?;
                    return Ok(Waited::Interrupted);
                }
            }
            let current: Service = self.client.get(&path, &[]).await?;
            let filters = Filters::default()
                .with("service", current.id.as_str())
                .with("_up-to-date", "true")
                .to_query();
            let tasks: Vec<Task> = self
                .client
                .get("/tasks", &[("filters", &filters.unwrap_or_default())])
                .await?;
            let nodes: Vec<Node> = self.client.get("/nodes", &[]).await?;
            let (step, frame) = progress.observe(&current, &tasks, &progress::nodes_up(&nodes), self.now());
            if !quiet {
                drawn = self.draw(&frame, &shown, drawn)?;
                shown = frame;
            }
            match step {
                Step::Going => {}
                Step::Converged(message) => {
                    if let Some(message) = message {
                        self.line(&message)?;
                    }
                    return Ok(Waited::Converged);
                }
                Step::Failed(why) => return Err(Error::NotConverged(why)),
            }
        }
    }

    /// On a terminal the lines are drawn over the ones before; else those that changed are printed.
    fn draw(&mut self, frame: &Frame, before: &Frame, drawn: usize) -> Result<usize, Error> {
        let terminal = self.console.out_is_terminal;
        let (lines, old) = (frame.text(terminal), before.text(terminal));
        if terminal {
            if drawn > 0 {
                write!(self.console.out, "\x1b[{drawn}A")?;
            }
            for line in &lines {
                write!(self.console.out, "\r\x1b[2K{line}\n")?;
            }
            // What was drawn below is no longer so.
            write!(self.console.out, "\x1b[J")?;
        } else {
            for line in lines.iter().filter(|line| !old.contains(line)) {
                writeln!(self.console.out, "{line}")?;
            }
        }
        self.console.out.flush()?;
        Ok(lines.len())
    }
}
