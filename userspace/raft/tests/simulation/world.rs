use crate::support::{Journal, Line, TestSeal};
use essaim_raft::memory::{DiskFaults, MemoryDisk, MemoryNetwork};
use essaim_raft::{
    ClusterId, Member, NodeId, RaftHandle, Role, Seal, Settings, StartError, Started, Status, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub(crate) const CLUSTER: ClusterId = ClusterId::new(0xe55a);

pub(crate) fn id(number: u64) -> NodeId {
    NodeId::new(number)
}

pub(crate) fn member(node: NodeId) -> Member {
    Member {
        node: format!("node-{node}"),
        address: format!("10.0.0.{node}:2377"),
    }
}

/// One manager, alive or not.
pub(crate) struct Node {
    pub(crate) disk: MemoryDisk,
    pub(crate) handle: Option<RaftHandle<Journal>>,
    pub(crate) journal: Journal,
    /// How much of the journal was compared already.
    compared: usize,
}

/// What clients were told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) index: u64,
    pub(crate) command: Vec<u8>,
}

/// The managers, and what must hold of them.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) network: MemoryNetwork,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) settings: Settings,
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// How many of those were found in the log.
    verified: usize,
    /// What was applied anywhere, in order.
    applied: Vec<Line>,
    leader_by_term: BTreeMap<u64, NodeId>,
}

/// The world, as the tasks of a simulation share it.
pub(crate) type Shared = Arc<Mutex<World>>;

impl World {
    pub(crate) fn new(seed: u64, mut settings: Settings) -> Self {
        let begun = Instant::now();
        settings.clock =
            Arc::new(move || Timestamp::from_millis(1_800_000_000_000 + begun.elapsed().as_millis() as u64));
        Self {
            seed,
            network: MemoryNetwork::new(seed),
            nodes: BTreeMap::new(),
            settings,
            acknowledged: Vec::new(),
            verified: 0,
            applied: Vec::new(),
            leader_by_term: BTreeMap::new(),
        }
    }

    pub(crate) fn add_disk(&mut self, node: NodeId) {
        let disk = MemoryDisk::new(self.seed ^ node.number().wrapping_mul(0x9e37_79b9));
        self.nodes.insert(
            node,
            Node {
                disk,
                handle: None,
                journal: Journal::default(),
                compared: 0,
            },
        );
    }

    pub(crate) fn alive(&self) -> Vec<(NodeId, RaftHandle<Journal>)> {
        let alive = self.nodes.iter();
        alive
            .filter_map(|(id, node)| Some((*id, node.handle.clone()?)))
            .collect()
    }

    /// The leader of the newest term that says so itself.
    pub(crate) fn leader(&self) -> Option<(NodeId, RaftHandle<Journal>)> {
        let leading = self.alive().into_iter().filter_map(|(id, handle)| {
            let status = handle.status();
            (status.leader == Some(id)).then_some((status.term, id, handle))
        });
        leading
            .max_by_key(|(term, ..)| *term)
            .map(|(_, id, handle)| (id, handle))
    }

    /// What must hold at every moment.
    pub(crate) fn check(&mut self) {
        let seed = self.seed;
        for (id, node) in &mut self.nodes {
            if let Some(handle) = &node.handle {
                let Status { role, term, .. } = handle.status();
                if role == Role::Leader {
                    let known = *self.leader_by_term.entry(term).or_insert(*id);
                    assert_eq!(known, *id, "seed {seed}: two leaders in term {term}");
                }
            }
            let lines = node.journal.lines();
            if lines.len() < node.compared {
                node.compared = 0;
            }
            for (position, line) in lines.iter().enumerate().skip(node.compared) {
                match self.applied.get(position) {
                    Some(expected) => {
                        assert_eq!(
                            expected, line,
                            "seed {seed}: {id} applied something else at {position}"
                        );
                    }
                    None => self.applied.push(line.clone()),
                }
            }
            node.compared = lines.len();
        }
        for acknowledged in self.acknowledged.iter().skip(self.verified) {
            let found = self
                .applied
                .binary_search_by_key(&acknowledged.index, |line| line.index);
            let found = found.ok().map(|position| &self.applied[position].command);
            assert_eq!(
                found,
                Some(&acknowledged.command),
                "seed {seed}: an acknowledged write is not in the log"
            );
        }
        self.verified = self.acknowledged.len();
    }

    /// A number that differs when anything that was applied or sent does.
    pub(crate) fn fingerprint(&self) -> (usize, u64, u64) {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for line in &self.applied {
            for byte in line
                .index
                .to_be_bytes()
                .iter()
                .chain(&line.at.millis().to_be_bytes())
                .chain(&line.command)
            {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        (self.applied.len(), hash, self.network.carried())
    }
}

pub(crate) fn seal() -> Arc<dyn Seal> {
    Arc::new(TestSeal::new(7))
}

/// Starts a manager on its disk.
pub(crate) async fn try_start(world: &Shared, node: NodeId) -> Result<RaftHandle<Journal>, StartError> {
    let journal = Journal::default();
    let started = {
        let mut world = world.lock().unwrap();
        let network = world.network.clone();
        let settings = world.settings.clone();
        let slot = world.nodes.get_mut(&node).unwrap();
        slot.journal = journal.clone();
        slot.compared = 0;
        Started {
            node,
            disk: Arc::new(slot.disk.clone()),
            seal: seal(),
            transport: network.transport(node),
            state: journal,
            settings,
        }
    };
    let handle = RaftHandle::start(started).await?;
    let mut world = world.lock().unwrap();
    world.network.attach(&handle);
    world.nodes.get_mut(&node).unwrap().handle = Some(handle.clone());
    Ok(handle)
}

/// Starts a manager whose disk must be sound.
pub(crate) async fn start(world: &Shared, node: NodeId) -> RaftHandle<Journal> {
    let seed = world.lock().unwrap().seed;
    match try_start(world, node).await {
        Ok(handle) => handle,
        Err(error) => panic!("seed {seed}: {node} does not start: {error}: {error:?}"),
    }
}

/// Cuts a manager's power.
pub(crate) fn crash(world: &Shared, node: NodeId) {
    let mut world = world.lock().unwrap();
    world.network.detach(node);
    let slot = world.nodes.get_mut(&node).unwrap();
    slot.disk = slot.disk.crash();
    if let Some(handle) = slot.handle.take() {
        tokio::spawn(async move { handle.shutdown().await });
    }
}

/// A cluster of managers 1 to `size`, all voters.
pub(crate) async fn cluster(seed: u64, size: u64, settings: Settings) -> Shared {
    let world = Arc::new(Mutex::new(World::new(seed, settings)));
    for number in 1..=size {
        world.lock().unwrap().add_disk(id(number));
        start(&world, id(number)).await;
    }
    let first = handle(&world, id(1));
    first.init(CLUSTER, member(id(1))).await.unwrap();
    wait(&world, "the first manager leads", |world| {
        world.leader().is_some()
    })
    .await;
    for number in 2..=size {
        first.add_learner(id(number), member(id(number))).await.unwrap();
        first.promote(id(number)).await.unwrap();
    }
    world
}

/// What a manager has applied.
pub(crate) fn commands(world: &Shared, node: NodeId) -> Vec<Vec<u8>> {
    let world = world.lock().unwrap();
    let lines = world.nodes[&node].journal.lines();
    lines.iter().map(|line| line.command.clone()).collect()
}

pub(crate) fn handle(world: &Shared, node: NodeId) -> RaftHandle<Journal> {
    world.lock().unwrap().nodes[&node].handle.clone().unwrap()
}

/// Lets time pass until something holds, checking all the while; 30 s at most.
pub(crate) async fn wait(world: &Shared, what: &str, holds: impl Fn(&World) -> bool) -> Duration {
    let begun = Instant::now();
    loop {
        {
            let mut world = world.lock().unwrap();
            world.check();
            if holds(&world) {
                return begun.elapsed();
            }
            if begun.elapsed() > Duration::from_secs(30) {
                let seed = world.seed;
                let states: Vec<String> = world
                    .alive()
                    .iter()
                    .map(|(_, handle)| format!("{:?}", handle.status()))
                    .collect();
                drop(world);
                panic!("seed {seed}: not within 30 s: {what}:\n{}", states.join("\n"));
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Lets time pass, checking all the while.
pub(crate) async fn pass(world: &Shared, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        world.lock().unwrap().check();
        sleep(Duration::from_millis(25).min(until - Instant::now())).await;
    }
}

/// Ends all faults, brings every manager back, and sees that they agree, serve, and lost nothing.
pub(crate) async fn heal_and_agree(world: &Shared) {
    let dead: Vec<NodeId> = {
        let world = world.lock().unwrap();
        world.network.heal();
        world.network.set_faults(essaim_raft::memory::Faults {
            delay: Duration::from_millis(1),
            ..Default::default()
        });
        for node in world.nodes.values() {
            node.disk.set_faults(DiskFaults::default());
        }
        let failed = |node: &Node| {
            node.handle
                .as_ref()
                .is_none_or(|handle| handle.status().failure.is_some())
        };
        world
            .nodes
            .iter()
            .filter(|(_, node)| failed(node))
            .map(|(id, _)| *id)
            .collect()
    };
    for node in dead {
        if world.lock().unwrap().nodes[&node].handle.is_some() {
            crash(world, node);
        }
        start(world, node).await;
    }
    wait(world, "a leader", |world| world.leader().is_some()).await;
    let mut number = 0;
    let committed = loop {
        let leader = world.lock().unwrap().leader();
        if let Some((_, leader)) = leader
            && let Ok(committed) = leader.propose(format!("after all {number}").into_bytes()).await
        {
            break committed;
        }
        number += 1;
        assert!(
            number < 100,
            "seed {}: nothing commits after all",
            world.lock().unwrap().seed
        );
        pass(world, Duration::from_millis(100)).await;
    };
    wait(world, "all members have applied everything", |world| {
        let Some((_, leader)) = world.leader() else {
            return false;
        };
        let status = leader.status();
        let members: BTreeSet<NodeId> = status.members.keys().copied().collect();
        status.applied >= Some(committed.index)
            && members.iter().all(|id| {
                world.nodes[id]
                    .handle
                    .as_ref()
                    .is_some_and(|handle| handle.status().applied == status.applied)
            })
    })
    .await;
    let world = world.lock().unwrap();
    let (_, leader) = world.leader().unwrap();
    for id in leader.status().members.keys() {
        let lines = world.nodes[id].journal.lines();
        assert_eq!(*lines, world.applied, "seed {}: {id} differs", world.seed);
    }
}
