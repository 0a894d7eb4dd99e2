//! Requests and held connections that go on while something happens to the cluster.

use crate::held::Held;
use crate::site::{CLIENT, Site};
use anyhow::{Context as _, ensure};
use essaim_lab::peer::LoadReport;
use essaim_lab::{Family, Running};

/// The longest that a load may last, in seconds.
const SECONDS: u64 = 100;

/// A continuous load, a new connection for each request, with connections held beside it.
#[derive(Debug)]
pub struct Load {
    requests: Vec<Running>,
    held: Held,
}

impl Load {
    /// Starts it through these nodes, in both families: requests to HTTP at port 8080, held connections to the echo at
    /// port 8081.
    ///
    /// # Errors
    /// When a connection cannot be made.
    pub fn start(site: &Site, nodes: &[&str], held_each: usize) -> anyhow::Result<Self> {
        let mut load = Self {
            requests: Vec::new(),
            held: Held::default(),
        };
        for node in nodes {
            for family in Family::BOTH {
                let echo = site.at(node, 8081, family)?;
                load.held
                    .flows
                    .extend(Held::open(&site.cluster, CLIENT, echo, held_each)?.flows);
                let http = format!("http://{}/", site.at(node, 8080, family)?);
                let requests = site.cluster.start_load(CLIENT, &http, 2, 4, SECONDS)?;
                load.requests.push(requests);
            }
        }
        Ok(load)
    }

    /// Uses every held connection and checks that none broke.
    ///
    /// # Errors
    /// When one did.
    pub fn all_live(&mut self) -> anyhow::Result<()> {
        self.held.all_live()
    }

    /// Takes out the held connections of a task that is about to end.
    pub fn let_go(&mut self, task: &str) -> Held {
        self.held.split_off(task)
    }

    /// Ends the load, and checks that nothing of it ever failed: no request, and no connection that was held.
    ///
    /// # Errors
    /// When something did.
    pub fn end_without_failure(mut self) -> anyhow::Result<()> {
        self.all_live()?;
        let mut made = 0;
        for requests in self.requests {
            let report: LoadReport = requests.stop()?.json().context("report of the load")?;
            ensure!(
                report.failed == 0,
                "{} of {} requests failed: {:?}",
                report.failed,
                report.failed + report.ok,
                report.failures
            );
            made += report.ok;
        }
        // What happened meanwhile may have been quick; that there was load at all is what counts here.
        ensure!(made >= 20, "only {made} requests were made");
        Ok(())
    }
}
