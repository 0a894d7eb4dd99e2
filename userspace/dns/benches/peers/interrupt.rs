//! An end that cleans up when the bench is told to end, too.

use anyhow::{Context as _, ensure};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

static TOLD: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM do not end the process but are remembered.
pub(crate) fn watch() -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to wait for signals")?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        TOLD.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// Fails once one of them has come.
pub(crate) fn check() -> anyhow::Result<()> {
    ensure!(!TOLD.load(Ordering::Relaxed), "told to end");
    Ok(())
}
