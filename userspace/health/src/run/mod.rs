//! One probe from begin to end, at its task.

mod command;
mod connect;
mod http;
mod room;

use crate::{FailureCause, Output, Probe, ProbeFailure, ProbeResult, TaskPlace};
use tokio::sync::oneshot;

/// Runs a probe; it is called off by dropping the other end of `called_off`, and ends soon after.
///
/// Nothing of it is left when this returns, but for processes that left their group.
pub(crate) async fn run(probe: &Probe, place: &TaskPlace, called_off: oneshot::Receiver<()>) -> ProbeResult {
    let mut output = Output::default();
    let ended = match probe {
        Probe::Command(line) => command::run(line, place, called_off, &mut output).await,
        Probe::Tcp { port } => {
            tokio::select! {
                biased;
                _ = called_off => Err(FailureCause::CalledOff),
                connected = connect::connect(place, *port) => connected.map(drop),
            }
        }
        Probe::Http(request) => {
            tokio::select! {
                biased;
                _ = called_off => Err(FailureCause::CalledOff),
                answered = http::get(request, place, &mut output) => answered,
            }
        }
    };
    match ended {
        Ok(()) => Ok(output),
        Err(cause) => Err(ProbeFailure { cause, output }),
    }
}
