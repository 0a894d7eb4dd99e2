//! What a node says in a session.

use super::{CALL, Ended, Shared, description};
use crate::outbox::Outbox;
use essaim_objects::NodeDescription;
use essaim_protocol::{Heartbeat, HeartbeatReply, Report, SessionId, TaskReport, decode, encode, method};
use essaim_rpc::{Client, Code};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// After a report, others are gathered for so long. Too low and a node that starts many tasks sends a report for each,
/// too high and an update waits for its tasks' states.
const GATHER: Duration = Duration::from_millis(20);
/// From a report that failed to its next try.
const REPORT_AGAIN: Duration = Duration::from_millis(200);

/// Gives signs of life at the times that the leader names.
pub(super) async fn heartbeats<R, D>(
    shared: &Shared<R, D>,
    client: &Client,
    session: SessionId,
    first: Duration,
    described: &NodeDescription,
    answered: mpsc::Sender<()>,
) -> Result<Infallible, Ended> {
    let message = encode(&Heartbeat { session });
    let mut due = first;
    loop {
        sleep(due).await;
        if description(shared) != *described {
            return Err(Ended::Described);
        }
        let reply = client.call(method::HEARTBEAT, message.clone(), CALL).await?;
        let HeartbeatReply { next_ms } = decode(&reply)?;
        due = Duration::from_millis(next_ms);
        // Full where an earlier answer was not looked at yet.
        let _ = answered.try_send(());
    }
}

/// Sends what is to be reported: the first at once, and then what gathers.
pub(super) async fn reports(
    outbox: &Outbox,
    client: &Client,
    session: SessionId,
) -> Result<Infallible, Ended> {
    loop {
        let mut taken = Taken::new(outbox, outbox.take().await);
        let report = Report {
            session,
            tasks: std::mem::take(&mut taken.reports),
        };
        let message = encode(&report);
        taken.reports = report.tasks;
        match client.call(method::REPORT, message, CALL).await {
            Ok(_) => {
                taken.reports.clear();
                sleep(GATHER).await;
            }
            Err(error) if matches!(error.code, Code::Unavailable | Code::DeadlineExceeded) => {
                tracing::debug!(%error, "a report was not taken, and is sent again");
                drop(taken);
                sleep(REPORT_AGAIN).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reports that were taken and, unless they arrive, go back: also where the session ends meanwhile.
struct Taken<'a> {
    outbox: &'a Outbox,
    reports: Vec<TaskReport>,
}

impl<'a> Taken<'a> {
    fn new(outbox: &'a Outbox, reports: Vec<TaskReport>) -> Self {
        Self { outbox, reports }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.outbox.put_back(std::mem::take(&mut self.reports));
    }
}
