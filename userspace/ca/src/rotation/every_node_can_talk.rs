//! Rotations and renewals in any order, messages and reports that are late: every pair of nodes can talk after every
//! step.

use super::*;
use crate::testing::{Clock, NOW, Seeded, cluster_of, connect, issue, renew};
use crate::{
    Admit, Callee, ClusterId, End, Expected, LiveIdentity, client_config, joining_client_config,
    server_config,
};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// What happens; nodes by their place, modulo how many there are.
#[derive(Clone, Debug)]
enum Step {
    /// A rotation to a new root begins, or replaces the one under way.
    Rotate,
    /// A rotation begins to a root that was the next one before, or the one under way is called off.
    RotateBack(usize),
    /// The managers send a node the roots to trust.
    Tell(usize),
    /// The managers issue a certificate for a node, and send it.
    Issue(usize),
    /// One of the messages that are on their way to a node arrives, in whatever order.
    Arrive(usize, usize),
    /// A node reports what it has.
    Report(usize),
    /// All of it for one node at once.
    Renew(usize),
    /// A node joins.
    Join,
    /// A node is removed.
    Remove(usize),
    /// The rotation finishes, where it can.
    Finish,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Rotate),
        2 => any::<usize>().prop_map(Step::RotateBack),
        3 => any::<usize>().prop_map(Step::Tell),
        4 => any::<usize>().prop_map(Step::Issue),
        8 => any::<(usize, usize)>().prop_map(|(node, message)| Step::Arrive(node, message)),
        5 => any::<usize>().prop_map(Step::Report),
        6 => any::<usize>().prop_map(Step::Renew),
        1 => Just(Step::Join),
        1 => any::<usize>().prop_map(Step::Remove),
        4 => Just(Step::Finish),
    ]
}

/// A message of the managers, with the version of the state that it comes from.
struct Message {
    version: u64,
    content: Content,
}

enum Content {
    Trust(TrustBundle),
    Issued(Box<Identity>),
}

struct Node {
    live: Arc<LiveIdentity>,
    /// The version of what it has taken over; what is older is ignored.
    version: u64,
    inbox: Vec<Message>,
    /// What the managers last heard of it.
    report: Option<TlsInfo>,
}

struct Cluster {
    entropy: Seeded,
    now: Timestamp,
    id: ClusterId,
    ca: RootCa,
    /// How often the state of the authority has changed.
    version: u64,
    /// Every root that was the current or the next one since the last rotation finished, as the operator has them.
    roots: Vec<Root>,
    nodes: Vec<Node>,
    finished: usize,
}

impl Cluster {
    fn new(seed: u64, nodes: usize) -> Self {
        let mut entropy = Seeded::new(seed);
        let root = Root::create(NOW, &mut entropy).unwrap();
        let ca = RootCa::with_root(root.clone(), &mut entropy).unwrap();
        let id = cluster_of(&mut entropy);
        let (roots, nodes_of) = (vec![root], nodes);
        let mut cluster = Self {
            entropy,
            now: NOW,
            id,
            ca,
            version: 0,
            roots,
            nodes: Vec::new(),
            finished: 0,
        };
        (0..nodes_of).for_each(|_| cluster.join());
        cluster
    }

    fn join(&mut self) {
        let node = issue(
            &self.ca,
            &self.id,
            Role::Manager,
            NodeLife::default(),
            self.now,
            &mut self.entropy,
        );
        let live = LiveIdentity::new(node).unwrap();
        self.nodes.push(Node {
            live,
            version: self.version,
            inbox: Vec::new(),
            report: None,
        });
    }

    fn rotate(&mut self, desired: DesiredRoot) {
        match self.ca.rotate(desired, self.now, &mut self.entropy).unwrap() {
            RotateOutcome::Started => {
                let next = serde_json::to_value(&self.ca).unwrap()["rotation"]["next"].clone();
                let next = serde_json::from_value(next).unwrap();
                if !self.roots.contains(&next) {
                    self.roots.push(next);
                }
                self.version += 1;
            }
            RotateOutcome::CalledOff => self.version += 1,
            RotateOutcome::UnderWay | RotateOutcome::Unchanged => {}
        }
    }

    fn issue(&mut self, at: usize) {
        let subject = self.nodes[at].live.current().certificate().subject().unwrap();
        let identity = renew(
            &self.ca,
            &subject,
            NodeLife::default(),
            self.now,
            &mut self.entropy,
        );
        let content = Content::Issued(Box::new(identity));
        self.nodes[at].inbox.push(Message {
            version: self.version,
            content,
        });
    }

    fn arrive(&mut self, at: usize, which: usize) {
        let node = &mut self.nodes[at];
        if node.inbox.is_empty() {
            return;
        }
        let message = node.inbox.remove(which % node.inbox.len());
        if message.version < node.version {
            return;
        }
        node.version = message.version;
        let identity = match message.content {
            Content::Trust(trust) => node.live.current().with_trust(trust).unwrap(),
            Content::Issued(identity) => *identity,
        };
        node.live.replace(identity).unwrap();
    }

    fn report(&mut self, at: usize) {
        self.nodes[at].report = TlsInfo::of(&self.nodes[at].live.current());
    }

    fn renew(&mut self, at: usize) {
        self.issue(at);
        let newest = self.nodes[at].inbox.len() - 1;
        self.arrive(at, newest);
        self.report(at);
    }

    fn finish(&mut self) {
        let report = |node: &Node| (node.live.current().peer().node_id.clone(), node.report.clone());
        let reports = self.nodes.iter().map(report).collect();
        if self.ca.finish(&reports, &mut self.entropy).is_ok() {
            let root = serde_json::to_value(&self.ca).unwrap()["root"].clone();
            self.roots = vec![serde_json::from_value(root).unwrap()];
            self.version += 1;
            self.finished += 1;
        }
    }

    fn take(&mut self, step: &Step) {
        self.now = self.now.after(Duration::from_mins(10));
        let count = self.nodes.len();
        match step {
            Step::Rotate => self.rotate(DesiredRoot::New),
            Step::RotateBack(which) => {
                let root = self.roots[which % self.roots.len()].clone();
                self.rotate(DesiredRoot::Given(Box::new(root)));
            }
            Step::Tell(at) => {
                let content = Content::Trust(self.ca.trust());
                self.nodes[at % count].inbox.push(Message {
                    version: self.version,
                    content,
                });
            }
            Step::Issue(at) => self.issue(at % count),
            Step::Arrive(at, which) => self.arrive(at % count, *which),
            Step::Report(at) => self.report(at % count),
            Step::Renew(at) => self.renew(at % count),
            Step::Join if count < 5 => self.join(),
            Step::Remove(at) if count > 2 => {
                self.nodes.remove(at % count);
            }
            Step::Join | Step::Remove(_) => {}
            Step::Finish => self.finish(),
        }
    }

    /// What makes it so that everybody can talk: all trust the current root.
    fn check_invariant(&self) {
        for node in &self.nodes {
            assert!(
                node.live.current().trust().trusts(self.ca.root()),
                "{:?}",
                node.live.current()
            );
        }
    }

    fn check_by_verifying(&self) {
        self.check_invariant();
        for (by, whom) in self.pairs() {
            let (by, whom) = (by.current(), whom.current());
            for end in [End::Client, End::Server] {
                let expected = Expected {
                    end,
                    cluster_id: Some(&self.id),
                    role: Role::Manager,
                };
                let verified = by.trust().verify(&whom.chain_der(), self.now, &expected);
                assert_eq!(verified.as_ref(), Ok(whom.peer()));
            }
        }
    }

    fn check_by_shaking_hands(&self) {
        self.check_invariant();
        let clock = Clock::at(self.now);
        for (client, server) in self.pairs() {
            let server = server_config(server, Admit::Members(Role::Manager), clock.clone()).unwrap();
            let client = client_config(client, clock.clone()).unwrap();
            assert!(connect(client, server, &Callee::AnyManager).unwrap().talk());
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (&Arc<LiveIdentity>, &Arc<LiveIdentity>)> {
        self.nodes
            .iter()
            .flat_map(|a| self.nodes.iter().map(move |b| (&a.live, &b.live)))
    }

    /// Renews everybody: then a rotation that is under way finishes.
    fn settle(&mut self) {
        for node in 0..self.nodes.len() {
            self.renew(node);
        }
        self.finish();
        assert_eq!(self.ca.rotation(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn every_pair_verifies_after_every_step(seed: u64, steps in proptest::collection::vec(step(), 1..80)) {
        let mut cluster = Cluster::new(seed, 3);
        for step in &steps {
            cluster.take(step);
            cluster.check_by_verifying();
        }
        cluster.settle();
        cluster.check_by_verifying();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn every_pair_shakes_hands_after_every_step(seed: u64, steps in proptest::collection::vec(step(), 1..24)) {
        let mut cluster = Cluster::new(seed, 3);
        cluster.check_by_shaking_hands();
        for step in &steps {
            cluster.take(step);
            cluster.check_by_shaking_hands();
        }
        cluster.settle();
        cluster.check_by_shaking_hands();
    }
}

#[test]
fn every_order_of_three_renewals_keeps_every_pair_talking() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut cluster = Cluster::new(1, 3);
        for rotation in 1..=2 {
            cluster.take(&Step::Rotate);
            cluster.check_by_shaking_hands();
            for node in order {
                cluster.take(&Step::Finish);
                assert_eq!(cluster.finished, rotation - 1, "finished before node {node}");
                cluster.take(&Step::Renew(node));
                cluster.check_by_shaking_hands();
            }
            cluster.take(&Step::Finish);
            assert_eq!(cluster.finished, rotation);
            cluster.check_by_shaking_hands();
        }
    }
}

#[test]
fn a_node_joins_by_any_manager_at_every_moment_of_a_rotation() {
    let mut cluster = Cluster::new(1, 3);
    let check = |cluster: &Cluster| {
        let token = cluster.ca.token(Role::Worker);
        let root = token.check_root(&cluster.ca.root().to_pem()).unwrap();
        let clock = Clock::at(cluster.now);
        for node in &cluster.nodes {
            let client = joining_client_config(TrustBundle::of(root.clone()), None, clock.clone()).unwrap();
            let server = server_config(&node.live, Admit::MembersAndJoining, clock.clone()).unwrap();
            assert!(connect(client, server, &Callee::AnyManager).unwrap().talk());
        }
    };
    check(&cluster);
    for step in [
        Step::Rotate,
        Step::Renew(0),
        Step::Renew(1),
        Step::Rotate,
        Step::Renew(2),
        Step::Renew(1),
    ] {
        cluster.take(&step);
        check(&cluster);
    }
    cluster.settle();
    check(&cluster);
    assert_eq!(cluster.finished, 1);
}
