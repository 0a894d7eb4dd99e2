use super::Draw;
use crate::handle::RaftHandle;
use crate::machine::StateMachine;
use crate::transport::{Transport, TransportError};
use crate::types::NodeId;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::sleep;

/// How a [`MemoryNetwork`] treats messages and replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// How long each takes at least.
    pub delay: Duration,
    /// By how much that varies; so they overtake one another.
    pub jitter: Duration,
    /// How many of a thousand are lost.
    pub lost: u32,
    /// How many of a thousand messages arrive a second time, later.
    pub doubled: u32,
}

/// Answers a message; what [`MemoryNetwork::attach`] wants.
pub type Receive = Arc<dyn Fn(Vec<u8>) -> BoxFuture<'static, Vec<u8>> + Send + Sync>;

/// A network in one process. Copies are the same network.
#[derive(Clone)]
pub struct MemoryNetwork(Arc<Mutex<State>>);

struct State {
    nodes: BTreeMap<NodeId, Receive>,
    /// How often each was detached: what a manager from before that still sends goes nowhere.
    lives: BTreeMap<NodeId, u64>,
    /// Nothing goes from the first to the second.
    cut: BTreeSet<(NodeId, NodeId)>,
    faults: Faults,
    draw: Draw,
    carried: u64,
}

impl MemoryNetwork {
    /// A network without faults; those that are set later are drawn from the seed.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            nodes: BTreeMap::new(),
            lives: BTreeMap::new(),
            cut: BTreeSet::new(),
            faults: Faults::default(),
            draw: Draw(seed),
            carried: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects a manager, in place of an earlier one of that id.
    pub fn attach<S: StateMachine>(&self, handle: &RaftHandle<S>) {
        let node = handle.node();
        let handle = handle.clone();
        let receive: Receive = Arc::new(move |message| {
            let handle = handle.clone();
            async move { handle.receive(&message).await }.boxed()
        });
        self.state().nodes.insert(node, receive);
    }

    /// Disconnects a manager, as when its machine dies: calls to it find nobody, and nothing that it still sends or
    /// answers arrives.
    pub fn detach(&self, node: NodeId) {
        let mut state = self.state();
        state.nodes.remove(&node);
        *state.lives.entry(node).or_default() += 1;
    }

    /// What `from` sends goes through this, until it is detached.
    pub fn transport(&self, from: NodeId) -> Arc<dyn Transport> {
        Arc::new(End {
            network: self.clone(),
            from,
            life: self.life(from),
        })
    }

    fn life(&self, node: NodeId) -> u64 {
        self.state().lives.get(&node).copied().unwrap_or_default()
    }

    /// Changes what happens to messages from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Lets nothing pass from one manager to another; the other way stays.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.state().cut.insert((from, to));
    }

    /// Cuts off a group from all others, both ways.
    pub fn partition(&self, group: &BTreeSet<NodeId>) {
        let mut state = self.state();
        let others: Vec<NodeId> = state
            .nodes
            .keys()
            .filter(|node| !group.contains(node))
            .copied()
            .collect();
        for inside in group {
            for outside in &others {
                state.cut.insert((*inside, *outside));
                state.cut.insert((*outside, *inside));
            }
        }
    }

    /// Ends all partitions.
    pub fn heal(&self) {
        self.state().cut.clear();
    }

    /// How many messages were sent.
    pub fn carried(&self) -> u64 {
        self.state().carried
    }

    /// What happens to one message on its way: how long it takes, or that it is lost.
    fn pass(&self, from: NodeId, to: NodeId) -> Option<Duration> {
        let mut state = self.state();
        let Faults {
            delay, jitter, lost, ..
        } = state.faults;
        let micros = u64::try_from(jitter.as_micros()).unwrap_or(u64::MAX);
        let delay = delay + Duration::from_micros(state.draw.below(micros));
        (!state.draw.chance(lost) && !state.cut.contains(&(from, to))).then_some(delay)
    }
}

struct End {
    network: MemoryNetwork,
    from: NodeId,
    life: u64,
}

impl Transport for End {
    fn send(
        &self,
        to: NodeId,
        _address: &str,
        message: Vec<u8>,
    ) -> BoxFuture<'static, Result<Vec<u8>, TransportError>> {
        let network = self.network.clone();
        let (from, life) = (self.from, self.life);
        async move {
            if network.life(from) != life {
                return std::future::pending().await;
            }
            let doubled = {
                let mut state = network.state();
                state.carried += 1;
                let doubled = state.faults.doubled;
                state.draw.chance(doubled)
            };
            let there = network.pass(from, to);
            let Some(delay) = there else {
                return std::future::pending().await;
            };
            sleep(delay).await;
            let answering = network.life(to);
            let receive = network.state().nodes.get(&to).cloned();
            let Some(receive) = receive else {
                return Err(TransportError::Unreachable(format!("{to} is not there")));
            };
            if doubled && let Some(later) = network.pass(from, to) {
                let again = receive(message.clone());
                tokio::spawn(async move {
                    sleep(later * 2).await;
                    again.await;
                });
            }
            // What arrived is worked on, also when the caller stops waiting.
            let reply = tokio::spawn(receive(message)).await;
            let reply = reply.map_err(|error| TransportError::Failed(error.to_string()))?;
            let back = network.pass(to, from).filter(|_| network.life(to) == answering);
            let Some(delay) = back else {
                return std::future::pending().await;
            };
            sleep(delay).await;
            Ok(reply)
        }
        .boxed()
    }
}
