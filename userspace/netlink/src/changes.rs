//! Tells when the kernel's links, addresses, routes or neighbours change.

use crate::NetlinkError;
use crate::observe::decode;
use essaim_abi::MacAddr;
use futures_util::StreamExt;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::{MulticastGroup, new_multicast_connection};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc;
use std::thread;
use tokio::runtime::Builder;
use tokio::sync::watch;

const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Neigh,
];

/// How many neighbours are remembered; beyond it, every change of one counts.
const NEIGHBOURS: usize = 65_536;

/// A stream of wake-ups: something changed, so it is worth a look. However much changes between two looks, it is one.
#[derive(Clone, Debug)]
pub struct Changes(watch::Receiver<u64>);

impl Changes {
    /// Waits until something has changed since the last call; `false` when the reconciler is gone.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// Watches from a thread of its own until this is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    changes: watch::Receiver<u64>,
    /// The thread ends when this goes.
    _alive: tokio::sync::mpsc::Sender<()>,
}

impl Watcher {
    /// Starts to watch the calling thread's namespace.
    pub(crate) fn start() -> Result<Self, NetlinkError> {
        let (sender, changes) = watch::channel(0);
        let (alive, gone) = tokio::sync::mpsc::channel(1);
        let (started, start) = mpsc::channel();
        thread::Builder::new()
            .name("essaim-changes".to_owned())
            .spawn(move || watch_changes(&sender, gone, &started))
            .map_err(|source| NetlinkError::Socket { source })?;
        start.recv().map_err(|_| NetlinkError::ThreadGone {
            name: "essaim-changes",
        })??;
        Ok(Self {
            changes,
            _alive: alive,
        })
    }

    pub(crate) fn changes(&self) -> Changes {
        Changes(self.changes.clone())
    }
}

fn watch_changes(
    sender: &watch::Sender<u64>,
    mut gone: tokio::sync::mpsc::Receiver<()>,
    started: &mpsc::Sender<Result<(), NetlinkError>>,
) {
    let runtime = Builder::new_current_thread().enable_io().build();
    let outcome = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let (connection, _handle, mut messages) = new_multicast_connection(&GROUPS)?;
            tokio::spawn(connection);
            // Nobody waits for it any more when it fails.
            let _ = started.send(Ok(()));
            let mut neighbours = KnownNeighbours::default();
            loop {
                let message = tokio::select! {
                    message = messages.next() => message,
                    _ = gone.recv() => return Ok(()),
                };
                let Some((message, _)) = message else {
                    tracing::error!(
                        "the netlink connection for changes broke off; only the slow resync is left"
                    );
                    return Ok(());
                };
                if neighbours.is_worth_a_look(&message.payload) {
                    sender.send_modify(|count| *count += 1);
                }
            }
        })
    });
    if let Err(source) = outcome {
        let _ = started.send(Err(NetlinkError::Socket { source }));
    }
}

/// Which Ethernet address each neighbour was last heard to have: its entry changes every few seconds (fresh, stale,
/// being confirmed, fresh), the address hardly ever.
#[derive(Default)]
struct KnownNeighbours(BTreeMap<(u32, IpAddr), MacAddr>);

impl KnownNeighbours {
    fn is_worth_a_look(&mut self, payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
        let (message, is_gone) = match payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message)) => (message, false),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(message)) => (message, true),
            // All else, also that messages were lost.
            _ => return true,
        };
        let Some((key, found)) = decode::neighbour(message) else {
            return false;
        };
        let known = found
            .mac
            .filter(|_| !is_gone && found.certainty != crate::observed::Certainty::Unknown);
        if self.0.len() >= NEIGHBOURS {
            self.0.clear();
        }
        match known {
            Some(mac) => self.0.insert(key, mac) != Some(mac),
            // Never known is as good as gone.
            None => self.0.remove(&key).is_some(),
        }
    }
}

#[cfg(test)]
#[path = "changes/tests.rs"]
mod tests;
