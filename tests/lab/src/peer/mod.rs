//! The far end of every test: a server that tells what it sees, and clients that count what fails.

mod args;
mod echo;
mod hold;
mod http;
mod listen;
mod load;
mod probe;
mod report;
mod whoami;

pub use args::{Command, EchoArgs, HoldArgs, LoadArgs, PeerArgs, ProbeArgs, Target, WhoamiArgs};
pub use report::{Failure, HoldReport, LoadReport};

use anyhow::Context as _;

/// Runs one subcommand to its end.
///
/// # Errors
/// When an address is taken or a target is not one; failed requests are no error, they are counted in the report.
pub fn run(args: PeerArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the I/O event loop")?;
    runtime.block_on(async {
        match args.command {
            Command::Whoami(serve) => whoami::run(serve).await,
            Command::Echo(serve) => echo::run(serve).await,
            Command::Load(load) => load::run(load).await,
            Command::Hold(hold) => hold::run(hold).await,
            Command::UdpProbe(probe) => probe::run(probe).await,
        }
    })
}

/// Waits until the process is told to end (SIGTERM or SIGINT).
async fn told_to_end() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("failed to watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to watch for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
