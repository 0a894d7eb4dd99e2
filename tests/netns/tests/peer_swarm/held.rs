//! What is seen of connections that go on.

use crate::stage::{CLIENT, MANAGER, Stage, TCP_ECHO};
use crate::{Moment, Seen};
use essaim_lab::peer::HoldReport;
use essaim_lab::{Family, Running};
use std::net::SocketAddr;

/// Connections of each of the two clients.
const FLOWS: &str = "6";

/// Connections of both clients to `echo`.
pub(crate) struct Held {
    outside: Running,
    inside: Running,
}

fn hold(stage: &Stage, from: &str, target: SocketAddr) -> anyhow::Result<Running> {
    let target = target.to_string();
    let line = [
        "hold",
        "--target",
        &target,
        "--flows",
        FLOWS,
        "--seconds",
        "1000",
        "--interval-ms",
        "500",
    ];
    let mut running = stage.start(from, &line)?;
    running.next_line()?;
    Ok(running)
}

impl Held {
    /// Opens them.
    pub(crate) fn open(stage: &Stage) -> anyhow::Result<Self> {
        Ok(Self {
            outside: hold(stage, CLIENT, stage.at(MANAGER, Family::V4, TCP_ECHO)?)?,
            inside: hold(stage, "user", SocketAddr::new(stage.vip("echo")?, 7))?,
        })
    }

    /// Closes those that are open still; which broke, of those to the tasks of these names, that were told to end by a signal that
    /// they do not heed, and were killed 20 s later: until then their connections can go on.
    pub(crate) fn close(self, stage: &Stage, ended: &[&str], moved: Moment) -> anyhow::Result<Seen> {
        stage.end_in_user("hold")?;
        let outside: HoldReport = self.outside.stop()?.json()?;
        let inside: HoldReport = self.inside.finish()?.json()?;
        let mut texts = Vec::new();
        let mut holds = true;
        for (name, report) in [("port", outside), ("VIP", inside)] {
            let there: u64 = ended.iter().filter_map(|name| report.by_name.get(*name)).sum();
            let mut text = format!(
                "{name}: {} open, {there} of them to the drained node; {} broke",
                report.established, report.broken
            );
            let first = report.failures.iter().min_by_key(|failure| failure.at_ms);
            let after = first.map(|first| moved.until(report.began_unix_ms, first.at_ms));
            if let (Some(first), Some(after)) = (first, after) {
                text += &format!(", the first {after:.1} s after the command ({})", first.error);
            }
            // Those of the other node go on, and those of the drained one until the task is killed.
            holds &= report.broken == there && after.is_none_or(|after| after > 18.0);
            texts.push(text);
        }
        Ok(Seen::new(holds, texts.join("; ")))
    }
}
