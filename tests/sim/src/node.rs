//! One simulated node: a core that runs or not, and what survives it.

use crate::check::Checks;
use essaim_gossip::{Caretaker, Epoch, Gossip, KeyRing, MemberView, OwnTask, ViewVersion};
use essaim_model::{NetworkName, NodeName, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What a restart finds of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// The last epoch was kept.
    Kept,
    /// Nothing was kept.
    Lost,
}

pub(crate) struct SimNode {
    pub(crate) name: NodeName,
    /// `None` while it is down.
    pub(crate) core: Option<Gossip>,
    /// Counts runs, so that what is on its way to an earlier one does not reach a later.
    pub(crate) run: u64,
    pub(crate) kept_epoch: Epoch,
    /// The wall clock at the start of the simulation, in milliseconds; jumps move it.
    pub(crate) wall_clock_ms: u64,
    pub(crate) tasks: BTreeMap<TaskId, OwnTask>,
    pub(crate) interests: BTreeSet<NetworkName>,
    pub(crate) keys: KeyRing,
    /// When it is due to be woken.
    pub(crate) wake: Option<Duration>,
    /// The newest view that is on its way into its data plane.
    pub(crate) applying: ViewVersion,
    /// What it last said of itself.
    pub(crate) said: Option<Arc<MemberView>>,
    /// Answers while the core is away.
    pub(crate) caretaker: Option<Caretaker>,
    pub(crate) checks: Checks,
}

impl SimNode {
    /// The networks it keeps facts of.
    pub(crate) fn networks(&self) -> BTreeSet<NetworkName> {
        let of_tasks = self.tasks.values().flat_map(|task| &task.networks);
        let all = self.interests.iter().chain(of_tasks).cloned();
        all.chain([NetworkName::ingress()]).collect()
    }
}
