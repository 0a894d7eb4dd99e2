//! Nodes that are away for a while, cut off or dead, in clusters of several sizes, while clients send requests.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family, eventually};
use essaim_netns_tests::site::{CLIENT, HTTP, SOON, Site};
use std::time::{Duration, Instant};

/// What a request may take that met the node while it was there, or not known to be away: the client's own patience.
const PATIENCE: Duration = Duration::from_secs(3);

/// The client's clock starts with its process.
const STARTING: Duration = Duration::from_millis(500);

/// How a node is away.
#[derive(Clone, Copy, Debug)]
enum Absence {
    /// Nothing reaches it and nothing leaves it.
    CutOff(Duration),
    /// As above, and its agent is killed: as far as the others can tell, it has lost its power.
    Dead,
}

/// A cluster with three tasks, one of them on the node that will be away.
struct Trial {
    site: Site,
    names: Vec<String>,
}

impl Trial {
    fn new(nodes: u8) -> anyhow::Result<Self> {
        let names: Vec<String> = (1..=nodes).map(|number| format!("n{number}")).collect();
        let tasks = [&names[0], &names[1], &names[names.len() - 1]].map(String::as_str);
        let site = Site::web(ClusterBuilder::new().nodes(nodes).gossip(true), &[HTTP], &tasks)?;
        let trial = Self { site, names };
        trial.wait_all_up()?;
        Ok(trial)
    }

    fn away(&self) -> anyhow::Result<(&str, Vec<&str>)> {
        let (away, others) = self.names.split_last().context("a cluster without nodes")?;
        Ok((away, others.iter().map(String::as_str).collect()))
    }

    fn wait_all_up(&self) -> anyhow::Result<()> {
        let (away, others) = self.away()?;
        self.site.wait_member(&others, away, "up", SOON)?;
        for node in others {
            self.site.wait_member(&[away], node, "up", SOON)?;
        }
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        for task in ["web.1", "web.2", "web.3"] {
            self.site.wait_task(&names, task, "ready", SOON)?;
        }
        Ok(())
    }

    fn leave(&self, away: &str, absence: Absence) -> anyhow::Result<()> {
        self.site.cluster.unplug(away)?;
        match absence {
            Absence::CutOff(_) => Ok(()),
            Absence::Dead => self.site.cluster.kill_agent(away),
        }
    }

    fn come_back(&self, away: &str, absence: Absence) -> anyhow::Result<()> {
        self.site.cluster.plug(away)?;
        match absence {
            Absence::CutOff(_) => Ok(()),
            Absence::Dead => self.site.cluster.spawn_agent(away),
        }
    }

    /// Requests through the first node fail, if at all, between the loss of the node and the moment the others know of
    /// it; none fails because it is back.
    fn survives(&self, absence: Absence) -> anyhow::Result<()> {
        let (away, others) = self.away()?;
        let url = format!("http://{}/", self.site.at("n1", 8080, Family::V4)?);
        let begun = Instant::now();
        let load = self.site.cluster.start_load(CLIENT, &url, 4, 5, 100)?;
        wait(Duration::from_secs(1))?;

        let left = Instant::now();
        self.leave(away, absence)?;
        let known = match absence {
            Absence::CutOff(time) if time < Duration::from_secs(1) => None,
            Absence::CutOff(_) | Absence::Dead => {
                self.site.wait_member(&others, away, "down", SOON)?;
                self.site.wait_task(&["n1"], "web.3", "gone", SOON)?;
                Some(Instant::now())
            }
        };
        if let Absence::CutOff(time) = absence {
            wait(time.saturating_sub(left.elapsed()))?;
        }
        let back = Instant::now();
        self.come_back(away, absence)?;
        self.wait_all_up()?;
        let healed = back.elapsed();
        wait(Duration::from_secs(3))?;

        let report: essaim_lab::peer::LoadReport = load.stop()?.json()?;
        println!(
            "{} nodes, {absence:?}: all others knew after {:?}, all of all {healed:?} after the return; {} of {} requests failed",
            self.names.len(),
            known.map(|known| known - left),
            report.failed,
            report.failed + report.ok
        );
        let may_fail = known.map(|known| (left - begun).saturating_sub(STARTING)..=known - begun + PATIENCE);
        let may_fail = |at: u64| {
            may_fail
                .as_ref()
                .is_some_and(|when| when.contains(&Duration::from_millis(at)))
        };
        let wrong: Vec<_> = report
            .failures
            .iter()
            .filter(|failure| !may_fail(failure.at_ms))
            .collect();
        ensure!(
            wrong.is_empty() && report.failed == report.failures.len() as u64,
            "left at {:?}, known at {:?}: {report:?}",
            left - begun,
            known.map(|known| known - begun)
        );
        ensure!(report.ok > 100, "{report:?}");
        Ok(())
    }
}

fn wait(time: Duration) -> anyhow::Result<()> {
    let begun = Instant::now();
    eventually(time + SOON, "some time has passed", || {
        ensure!(begun.elapsed() >= time);
        Ok(())
    })
}

fn absences(nodes: u8) -> anyhow::Result<()> {
    let trial = Trial::new(nodes)?;
    for absence in [
        Absence::CutOff(Duration::from_millis(500)),
        Absence::CutOff(Duration::from_secs(10)),
        Absence::Dead,
        Absence::CutOff(Duration::from_mins(1)),
    ] {
        trial.survives(absence).with_context(|| format!("{absence:?}"))?;
    }
    Ok(())
}

#[test]
fn three_nodes_serve_while_one_is_away() -> anyhow::Result<()> {
    absences(3)
}

#[test]
fn ten_nodes_serve_while_one_is_away() -> anyhow::Result<()> {
    absences(10)
}

#[test]
fn twenty_five_nodes_serve_while_one_is_away() -> anyhow::Result<()> {
    absences(25)
}

#[test]
fn half_a_second_takes_nobody_down() -> anyhow::Result<()> {
    let trial = Trial::new(3)?;
    let site = &trial.site;
    let program = site.cluster.binary("essaim").display().to_string();
    let state_dir = site.cluster.state_dir("n1").display().to_string();
    let monitor = ["monitor", "--state-dir", &state_dir, "--format", "json"];
    let mut monitor = site
        .cluster
        .start("n1", &[&[program.as_str()], &monitor[..]].concat())?;
    site.cluster.unplug("n3")?;
    wait(Duration::from_millis(500))?;
    site.cluster.plug("n3")?;
    // A change that is told after the partition shows that the monitor has told everything until then.
    wait(Duration::from_secs(4))?;
    let mut site = trial.site;
    site.apply()?;
    let mut told = Vec::new();
    loop {
        let line = monitor.next_line()?;
        ensure!(!line.contains("member-down"), "{line}; before: {told:?}");
        let is_last = line.contains("catalog-applied") && line.contains("\"n1\"");
        told.push(line);
        if is_last {
            return Ok(());
        }
    }
}
