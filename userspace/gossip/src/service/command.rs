//! What handles ask of a service.

use super::{GossipService, now};
use crate::{KeyRing, OwnTask, TooMuch, ViewVersion};
use essaim_ipsec::Said;
use essaim_model::{NetworkName, NodeName, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

pub(super) enum Command {
    Peers(BTreeMap<NodeName, SocketAddr>),
    Interests(BTreeSet<NetworkName>, oneshot::Sender<Result<(), TooMuch>>),
    Tasks(BTreeMap<TaskId, OwnTask>, oneshot::Sender<Result<(), TooMuch>>),
    Vtep(Option<IpAddr>),
    CatalogApplied(u64),
    Ipsec(Said),
    Applied(ViewVersion),
    Keys(KeyRing),
    WaitAcks {
        task: TaskId,
        within: Duration,
        answer: oneshot::Sender<BTreeSet<NodeName>>,
    },
}

/// Someone who waits for acknowledgements.
pub(super) struct AckWaiter {
    pub(super) task: TaskId,
    pub(super) deadline: Instant,
    pub(super) pending: BTreeSet<NodeName>,
    pub(super) answer: oneshot::Sender<BTreeSet<NodeName>>,
}

impl GossipService {
    pub(super) fn obey(&mut self, command: Command) {
        let (core, now) = (&mut self.core, now());
        match command {
            Command::Peers(peers) => core.set_peers(&peers, now),
            Command::Interests(networks, answer) => {
                let said = core.set_interests(networks, now);
                // Whoever asked may have given up; it is said all the same.
                let _ = answer.send(said);
            }
            Command::Tasks(tasks, answer) => {
                let said = core.set_tasks(tasks, now);
                let _ = answer.send(said);
            }
            Command::Vtep(vtep) => core.set_vtep(vtep, now),
            Command::CatalogApplied(revision) => core.set_catalog_applied(revision, now),
            Command::Ipsec(said) => core.set_ipsec(said, now),
            Command::Applied(version) => core.applied(version),
            Command::Keys(keys) => core.set_keys(keys),
            Command::WaitAcks { task, within, answer } => {
                let deadline = now + within;
                core.request_acks(&task, deadline, now);
                self.waiters.push(AckWaiter {
                    task,
                    deadline,
                    pending: BTreeSet::new(),
                    answer,
                });
            }
        }
    }
}
