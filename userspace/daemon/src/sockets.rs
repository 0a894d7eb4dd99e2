//! The sockets of the plugin. The holder keeps them open while the daemon is away: whoever connects to them waits for the
//! next one, for a limited time, instead of being refused.

use crate::DaemonOptions;
use crate::plane::Plane;
use essaim_agent::StateDir;
use essaim_agent::holder::{HOLDER_PROTOCOL, HolderClient, HolderError};
use essaim_plugin::Socket;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;
use tokio::time::sleep;

/// Why the sockets are not kept.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    /// The holder did not take them.
    #[error(transparent)]
    Holder(#[from] HolderError),
    /// Its end cannot be waited for.
    #[error("failed to wait at the connection to the holder")]
    Wait(#[source] io::Error),
}

/// How long to wait before a holder that did not answer is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// The plugin's sockets. One that cannot be had is missed, and the rest goes on.
pub(crate) struct Sockets {
    /// Where the Docker Engine calls.
    pub(crate) engine: Option<Socket>,
    /// Where `essaim-cni` calls.
    pub(crate) cni: Option<Socket>,
}

impl Sockets {
    /// Opens those that the holder has not kept.
    pub(crate) fn open(options: &DaemonOptions) -> Self {
        let without_plugin =
            "the node's Docker Engine finds no plugin: its containers cannot be on the cluster's networks";
        let without_cni = "essaim-cni does not find the node: containers of other engines than Docker's cannot be on \
                           the cluster's networks";
        Self {
            engine: opened(&options.plugin_socket, &options.state_dir, without_plugin),
            cni: opened(&options.cni_socket, &options.state_dir, without_cni),
        }
    }

    /// Has the holder of each agent keep them, until this is dropped.
    pub(crate) async fn keep(&self, plane: &Plane, options: &DaemonOptions) -> Infallible {
        if options.absence.is_zero() {
            return pending().await;
        }
        loop {
            plane.has_agent().await;
            if let Err(error) = self.keep_at(&options.state_dir, options.absence).await {
                tracing::warn!(
                    error = essaim_rpc::chain(&error),
                    "the plugin's sockets would be closed without the daemon; tried again"
                );
            }
            self.set_kept(false);
            sleep(AGAIN).await;
        }
    }

    /// Ends with the holder that runs, if one of this build does.
    async fn keep_at(&self, state_dir: &StateDir, limit: Duration) -> Result<(), KeepError> {
        let holder = HolderClient::connect(&state_dir.holder_socket())?;
        // One of another build is about to be replaced.
        let Some(mut holder) = holder.filter(|holder| holder.identity().protocol == HOLDER_PROTOCOL) else {
            return Ok(());
        };
        for socket in [&self.engine, &self.cni].into_iter().flatten() {
            // A file that somebody else has put in its place, or taken away, leads nobody here.
            if let Ok(name) = name_of(socket.path()) {
                holder.lend(&name, socket.as_fd(), limit)?;
            }
        }
        self.set_kept(true);
        holder.ended().await.map_err(KeepError::Wait)
    }

    fn set_kept(&self, is_kept: bool) {
        let all = [&self.engine, &self.cni].into_iter().flatten();
        all.for_each(|socket| socket.set_kept(is_kept));
    }
}

fn opened(path: &Path, state_dir: &StateDir, without: &str) -> Option<Socket> {
    let kept = kept(path, state_dir).unwrap_or_else(|error| {
        tracing::warn!(
            error = essaim_rpc::chain(&error),
            path = %path.display(),
            "whoever waits at the socket of an earlier run is not answered"
        );
        None
    });
    let socket = match kept {
        Some(kept) => Socket::adopt(path, kept),
        None => Socket::bind(path),
    };
    let said = |error| tracing::warn!(error = essaim_rpc::chain(&error), "{without}");
    socket.map_err(said).ok()
}

/// The socket that an earlier run has listened at, if the holder has kept it and its file is there.
fn kept(path: &Path, state_dir: &StateDir) -> Result<Option<OwnedFd>, HolderError> {
    let Ok(name) = name_of(path) else {
        return Ok(None);
    };
    match HolderClient::connect(&state_dir.holder_socket())? {
        Some(mut holder) => holder.fetch(&name),
        None => Ok(None),
    }
}

/// What a socket is kept under. Its file has a number that no other has while it is there: a file of the same name that
/// leads elsewhere has another.
fn name_of(path: &Path) -> io::Result<String> {
    let file = std::fs::metadata(path)?;
    Ok(format!(
        "listener {} {}:{}",
        path.display(),
        file.dev(),
        file.ino()
    ))
}
