use super::*;
use crate::{RING_KEY_LENGTH, RingKey, SALT_LENGTH};

/// A kernel as far as the keeper sees it.
#[derive(Default)]
struct Kernel {
    observed: Observed,
    /// Takes no associations any more.
    refuses: bool,
}

impl Kernel {
    fn apply(&mut self, ops: &[Op]) {
        for op in ops {
            match op {
                Op::AddBlock(family) => drop(self.observed.blocks.insert(*family)),
                Op::RemoveBlock(family) => drop(self.observed.blocks.remove(family)),
                Op::AddInbound(sa) | Op::AddOutbound(sa) => {
                    if self.refuses {
                        continue;
                    }
                    let found = ObservedSa {
                        sa: sa.clone(),
                        packets: 0,
                        bytes: 0,
                        added: 0,
                        replayed: 0,
                        forged: 0,
                    };
                    let before = self.observed.sas.insert(sa.id, found);
                    assert_eq!(before, None, "the kernel refuses a number that is taken");
                }
                Op::SetPolicy(policy) => {
                    assert!(
                        self.observed.sas.contains_key(&policy.sa()) || self.refuses,
                        "a policy's association is added before it"
                    );
                    self.observed.policies.retain(|found| found.key() != policy.key());
                    self.observed.policies.insert(*policy);
                }
                Op::RemovePolicy(policy) => assert!(self.observed.policies.remove(policy)),
                Op::RemoveSa(id) => assert!(self.observed.sas.remove(id).is_some()),
            }
        }
    }
}

struct Node {
    name: NodeName,
    vtep: IpAddr,
    keeper: Keeper,
    kernel: Kernel,
    ring: Ring,
    /// What it has heard of each other node.
    heard: BTreeMap<usize, Said>,
    /// What it holds ready for whoever listens.
    saying: Option<Said>,
}

/// Some nodes, the managers' ring, and a clock that only grows.
struct World {
    nodes: Vec<Node>,
    ring: Vec<(Generation, RingKey)>,
    now: Instant,
    random: u64,
    salts: u8,
    /// The keys that were ever used to send, and those to receive, of each node.
    sent_with: BTreeSet<[u8; crate::SA_KEY_LENGTH]>,
    received_with: BTreeSet<[u8; crate::SA_KEY_LENGTH]>,
    delivered: usize,
    lost: usize,
}

/// How many generations the managers hand out.
const HANDED_OUT: usize = 4;

impl World {
    fn new(nodes: u8, seed: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any moment will do to count from")]
        let now = Instant::now();
        let mut world = Self {
            nodes: Vec::new(),
            ring: Vec::new(),
            now,
            random: seed.wrapping_mul(2).wrapping_add(1),
            salts: 0,
            sent_with: BTreeSet::new(),
            received_with: BTreeSet::new(),
            delivered: 0,
            lost: 0,
        };
        world.rotate();
        for number in 1..=nodes {
            let salt = world.salt();
            world.nodes.push(Node {
                name: NodeName::new(&format!("n{number}")).unwrap(),
                vtep: IpAddr::from([192, 0, 2, number]),
                keeper: Keeper::new(salt),
                kernel: Kernel::default(),
                ring: Ring::default(),
                heard: BTreeMap::new(),
                saying: None,
            });
        }
        world
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).unwrap() % bound
    }

    fn salt(&mut self) -> Salt {
        self.salts += 1;
        Salt([self.salts; SALT_LENGTH])
    }

    fn rotate(&mut self) {
        let next = self.ring.last().map_or(1, |(generation, _)| generation.0 + 1);
        let byte = u8::try_from(next).unwrap();
        self.ring
            .push((Generation(next), RingKey::new([byte; RING_KEY_LENGTH])));
        if self.ring.len() > HANDED_OUT {
            self.ring.remove(0);
        }
    }

    fn hand_out(&mut self, to: usize) {
        self.nodes[to].ring = Ring::new(self.ring.clone());
    }

    fn tell(&mut self, from: usize, to: usize) {
        if let Some(said) = self.nodes[from].saying.clone() {
            self.nodes[to].heard.insert(from, said);
        }
    }

    fn wanted(&self, at: usize) -> Wanted {
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != at);
        let node = &self.nodes[at];
        Wanted {
            node: node.name.clone(),
            vtep: node.vtep,
            port: 4789,
            ring: node.ring.clone(),
            peers: others
                .map(|(other, peer)| {
                    let said = node.heard.get(&other).cloned();
                    (
                        peer.name.clone(),
                        Peer {
                            vtep: peer.vtep,
                            said,
                        },
                    )
                })
                .collect(),
        }
    }

    fn round(&mut self, at: usize) -> usize {
        let wanted = self.wanted(at);
        let mut plan = {
            let node = &mut self.nodes[at];
            node.keeper.plan(&wanted, &node.kernel.observed, self.now)
        };
        if plan.needs_salt {
            let salt = self.salt();
            let node = &mut self.nodes[at];
            node.keeper.renew(salt);
            plan = node.keeper.plan(&wanted, &node.kernel.observed, self.now);
            assert!(!plan.needs_salt);
        }
        for op in &plan.ops {
            match op {
                Op::AddOutbound(sa) => {
                    assert!(self.sent_with.insert(*sa.key.bytes()), "a key is sent with twice");
                }
                Op::AddInbound(sa) => {
                    assert!(
                        self.received_with.insert(*sa.key.bytes()),
                        "what was heard opens again"
                    );
                }
                Op::AddBlock(_)
                | Op::RemoveBlock(_)
                | Op::SetPolicy(_)
                | Op::RemovePolicy(_)
                | Op::RemoveSa(_) => {}
            }
        }
        let node = &mut self.nodes[at];
        node.kernel.apply(&plan.ops);
        node.keeper.applied(&wanted, &node.kernel.observed);
        node.saying = Some(node.keeper.said().clone());
        plan.ops.len()
    }

    /// Sends a packet; whether there was a policy to send it by.
    fn send(&mut self, from: usize, to: usize) -> bool {
        let (source, destination) = (self.nodes[from].vtep, self.nodes[to].vtep);
        let policies = &self.nodes[from].kernel.observed.policies;
        let policy = policies.iter().find(|policy| policy.destination == destination);
        let Some(id) = policy.map(Policy::sa) else {
            assert!(
                self.nodes[from].kernel.observed.blocks.len() == 2 || self.nodes[from].saying.is_none(),
                "without a policy there is a block"
            );
            return false;
        };
        assert_eq!(id.source, source);
        let Some(sent) = self.nodes[from].kernel.observed.sas.get_mut(&id) else {
            // The kernel drops it: there is no association.
            self.lost += 1;
            return true;
        };
        sent.packets += 1;
        let sent = sent.sa.clone();
        match self.nodes[to].kernel.observed.sas.get_mut(&id) {
            Some(found) if found.sa == sent => {
                found.packets += 1;
                self.delivered += 1;
            }
            Some(_) | None => self.lost += 1,
        }
        true
    }

    fn settle(&mut self) {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        for _ in 0..6 {
            for at in &all {
                self.hand_out(*at);
                self.round(*at);
            }
            for from in &all {
                for to in all.iter().filter(|to| *to != from) {
                    self.tell(*from, *to);
                }
            }
        }
    }

    /// The generation with which a node sends to another; none where that is not known, or it does not.
    fn sends_with(&self, from: usize, to: usize) -> Option<Generation> {
        let destination = self.nodes[to].vtep;
        let policies = &self.nodes[from].kernel.observed.policies;
        let policy = policies.iter().find(|policy| policy.destination == destination)?;
        Some(self.nodes[from].keeper.known(&policy.sa())?.generation)
    }

    fn newest(&self) -> Generation {
        self.ring.last().unwrap().0
    }

    fn pairs(&self) -> Vec<(usize, usize)> {
        let all = 0..self.nodes.len();
        let to = |from| {
            all.clone()
                .filter(move |to| *to != from)
                .map(move |to| (from, to))
        };
        all.clone().flat_map(to).collect()
    }
}

#[test]
fn all_pairs_come_to_send_with_the_newest_generation_and_then_rest() {
    let mut world = World::new(3, 1);
    world.settle();
    for (from, to) in world.pairs() {
        assert!(world.send(from, to));
        assert_eq!(world.sends_with(from, to), Some(Generation(1)));
    }
    assert_eq!((world.lost, world.delivered), (0, 6));
    for at in 0..3 {
        assert_eq!(world.round(at), 0, "a second plan changes nothing");
        // A block for either family, two policies, an association each way for every peer.
        let observed = &world.nodes[at].kernel.observed;
        assert_eq!(
            (observed.blocks.len(), observed.policies.len(), observed.sas.len()),
            (2, 2, 4)
        );
    }
    let left = Keeper::teardown(&world.nodes[0].kernel.observed);
    world.nodes[0].kernel.apply(&left);
    assert_eq!(world.nodes[0].kernel.observed, Observed::default());
}

#[test]
fn nothing_is_sent_before_the_receiver_has_said_that_it_can_hear() {
    let mut world = World::new(2, 1);
    for at in 0..2 {
        world.hand_out(at);
        world.round(at);
    }
    // The first hears the second, and not the other way round.
    world.tell(1, 0);
    world.round(0);
    assert!(!world.send(0, 1), "the second does not know the first's salt");
    world.tell(0, 1);
    world.round(1);
    assert!(
        !world.send(0, 1),
        "the second has not said so, as far as the first knows"
    );
    assert!(world.send(1, 0), "the first has said that it hears the second");
    world.tell(1, 0);
    world.round(0);
    assert!(world.send(0, 1));
    assert_eq!(world.lost, 0);
}

#[test]
fn a_generation_is_sent_with_only_where_both_have_it() {
    let mut world = World::new(2, 1);
    world.settle();
    world.rotate();
    world.hand_out(0);
    world.round(0);
    world.tell(0, 1);
    world.round(1);
    world.round(0);
    for (from, to) in [(0, 1), (1, 0)] {
        assert!(world.send(from, to));
        assert_eq!(
            world.sends_with(from, to),
            Some(Generation(1)),
            "the second has no key of it yet"
        );
    }
    world.settle();
    for (from, to) in [(0, 1), (1, 0)] {
        assert!(world.send(from, to));
        assert_eq!(world.sends_with(from, to), Some(Generation(2)));
    }
    assert_eq!(world.lost, 0);
}

#[test]
fn old_keys_go_once_all_have_moved_on() {
    let mut world = World::new(2, 1);
    world.settle();
    for _ in 0..10 {
        world.rotate();
        world.settle();
        for (from, to) in world.pairs() {
            world.send(from, to);
        }
        world.now += Duration::from_secs(2);
    }
    world.settle();
    world.now += LINGER;
    world.settle();
    let observed = &world.nodes[0].kernel.observed;
    assert_eq!(observed.sas.len(), HANDED_OUT + 1, "{observed:?}");
    assert_eq!(world.lost, 0);
}

#[test]
fn idle_pairs_let_go_of_old_keys_too() {
    let mut world = World::new(2, 1);
    for _ in 0..12 {
        world.rotate();
        world.settle();
        world.now += LINGER;
    }
    let most = HANDED_OUT + 1 + usize::try_from(PATIENCE).unwrap() + 1;
    let held = world.nodes[0].kernel.observed.sas.len();
    assert!(held <= most, "{held}");
}

#[test]
fn an_agent_that_restarts_again_and_again_leaves_a_bounded_number() {
    let mut world = World::new(2, 1);
    world.settle();
    for _ in 0..80 {
        let salt = world.salt();
        world.nodes[0].keeper = Keeper::new(salt);
        world.settle();
        assert!(world.send(0, 1) && world.send(1, 0));
        world.now += LINGER;
    }
    assert_eq!(world.lost, 0);
    // A run that lives for less than it takes to let go of anything leaves it to the next.
    for node in &world.nodes {
        let held = node.kernel.observed.sas.len();
        assert!(held <= 2 * (MOST_REPLACED + 2), "{held}");
    }
    // One that lives on cleans up.
    for _ in 0..3 {
        assert!(world.send(0, 1) && world.send(1, 0));
        world.settle();
        world.now += LINGER;
    }
    for node in &world.nodes {
        assert_eq!(node.kernel.observed.sas.len(), 2);
    }
}

#[test]
fn an_association_that_is_lost_is_never_installed_again() {
    let mut world = World::new(2, 1);
    world.settle();
    world.nodes[0].kernel.observed.sas.clear();
    let before = world.nodes[0].keeper.said().salt;
    world.round(0);
    assert_ne!(world.nodes[0].keeper.said().salt, before);
    world.settle();
    let lost = world.lost;
    for (from, to) in world.pairs() {
        assert!(world.send(from, to));
    }
    assert_eq!(world.lost, lost, "all is well again");
}

#[test]
fn a_peer_that_leaves_takes_all_with_it_and_another_ring_replaces_keys() {
    let mut world = World::new(3, 1);
    world.settle();
    let mut wanted = world.wanted(0);
    wanted.peers.remove(&world.nodes[2].name);
    let now = world.now;
    let node = &mut world.nodes[0];
    let plan = node.keeper.plan(&wanted, &node.kernel.observed, now);
    node.kernel.apply(&plan.ops);
    assert_eq!(
        (
            node.kernel.observed.policies.len(),
            node.kernel.observed.sas.len()
        ),
        (1, 2)
    );
    // The same generation with another key: the managers began again from a copy.
    wanted.ring = Ring::new([(Generation(1), RingKey::new([0x55; RING_KEY_LENGTH]))]);
    let plan = node.keeper.plan(&wanted, &node.kernel.observed, now);
    node.kernel.apply(&plan.ops);
    let plan = node.keeper.plan(&wanted, &node.kernel.observed, now);
    assert_eq!(plan.ops, [], "and then it rests");
}

#[test]
fn what_the_kernel_refuses_is_not_said_to_be_there() {
    let mut world = World::new(2, 1);
    world.settle();
    world.nodes[0].kernel.refuses = true;
    world.rotate();
    world.hand_out(0);
    world.round(0);
    assert_eq!(world.nodes[0].saying.as_ref().unwrap().heard, BTreeMap::new());
}

/// News in any order, agents that restart, at every pace that leaves nobody more than two generations behind, and that
/// has a restart heard of before the next generation comes.
#[test]
fn no_packet_is_lost_whatever_the_order_of_news() {
    for seed in 0..60 {
        let mut world = World::new(3, seed);
        world.settle();
        for _ in 0..1500 {
            let (one, other) = (world.below(3), world.below(3));
            match world.below(12) {
                0 => {
                    let newest = world.newest().0;
                    let keeps_up = |(from, to): (usize, usize)| {
                        let salt = world.nodes[to].keeper.said().salt;
                        let has_heard = world.nodes[from].heard.get(&to).map(|said| said.salt) == Some(salt);
                        has_heard
                            && world
                                .sends_with(from, to)
                                .is_some_and(|generation| generation.0 + 2 >= newest)
                    };
                    if newest < 200 && world.pairs().into_iter().all(keeps_up) {
                        world.rotate();
                    }
                }
                1 => world.hand_out(one),
                2..=4 if one != other => world.tell(one, other),
                5..=6 => drop(world.round(one)),
                7 if world.below(20) == 0 && world.salts < 250 => {
                    let salt = world.salt();
                    world.nodes[one].keeper = Keeper::new(salt);
                    world.round(one);
                }
                8 => world.now += Duration::from_millis(700),
                _ if one != other => {
                    assert!(
                        world.send(one, other),
                        "seed {seed}: a pair that talked falls silent"
                    );
                }
                _ => {}
            }
            assert_eq!(world.lost, 0, "seed {seed}");
        }
        assert!(world.newest().0 > 5, "seed {seed}: {}", world.newest());
        assert!(world.delivered > 100);
        world.settle();
        for (from, to) in world.pairs() {
            assert_eq!(world.sends_with(from, to), Some(world.newest()), "seed {seed}");
        }
    }
}

/// As above, and machines that lose all that their kernels held: what is lost meanwhile is lost, nothing is sent in clear,
/// no key is used twice, and all is well in the end.
#[test]
fn nodes_that_reboot_come_back_with_other_keys() {
    for seed in 0..30 {
        let mut world = World::new(3, seed);
        for _ in 0..800 {
            let (one, other) = (world.below(3), world.below(3));
            match world.below(12) {
                0 if world.newest().0 < 200 => world.rotate(),
                1 | 2 => world.hand_out(one),
                3..=5 if one != other => world.tell(one, other),
                6..=7 => drop(world.round(one)),
                8 if world.below(15) == 0 && world.salts < 200 => {
                    let salt = world.salt();
                    let node = &mut world.nodes[one];
                    node.keeper = Keeper::new(salt);
                    node.kernel = Kernel::default();
                    node.saying = None;
                }
                9 => world.now += Duration::from_millis(700),
                _ if one != other => drop(world.send(one, other)),
                _ => {}
            }
        }
        world.settle();
        let lost = world.lost;
        for (from, to) in world.pairs() {
            assert!(world.send(from, to));
        }
        assert_eq!(world.lost, lost, "seed {seed}");
    }
}
