//! Who is there: SWIM (Das, Gupta and Motivala, 2002) with what Lifeguard (Dadgar, Phillips and Currey, 2018) and
//! the need to hold at 20 % loss add to it.
//!
//! In each interval a node probes two members: one in a random order that visits each once, as in SWIM, and its neighbour
//! on a ring of all members. The first finds whatever the second cannot (neighbours that died together), the second bounds
//! the time until anyone notices, which chance alone does not. A probe that is not answered is repeated and others are asked
//! to probe too; without any answer within the interval the member is suspected. **Everyone who holds the
//! suspicion asks the suspect**, again and again, and says so in the question: its answer contradicts, in a higher
//! incarnation, and is news. A live suspect would have to lose all of these exchanges with all of them to be taken
//! for dead. In a large cluster a random few ask.
//!
//! Four more things keep the living up: a question to a member that is not held to be alive always says so (it can
//! contradict at once, and a healed partition heals in one exchange); those that are down are asked now and then; who is
//! told that a member is down, and holds it to be alive, suspects it first (a node that was cut off comes back with all
//! others down); and a core that was called late, because its machine was busy or stopped, does not count that time
//! against others.

mod probe;

use crate::Config;
use crate::claim::{Claim, Statement};
use crate::digest::{Leaves, OwnerHash};
use crate::epoch::{Epoch, Incarnation, Version};
use crate::view::MemberState;
use crate::wire::Part;
use essaim_model::NodeName;
use probe::{Probe, Relay, Suspicion};
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

/// In clusters up to this size everyone asks a suspect; in larger ones about as many do.
const VERIFIERS: usize = 16;

/// The members and what is claimed of them.
#[derive(Debug)]
pub(crate) struct Membership {
    own: NodeName,
    own_hash: OwnerHash,
    own_claim: Claim,
    config: Config,
    peers: BTreeMap<NodeName, Peer>,
    leaves: Leaves,
    /// Who is to be probed next, last first.
    to_probe: Vec<NodeName>,
    probes: Vec<Probe>,
    next_probe: Instant,
    suspicions: BTreeMap<NodeName, Suspicion>,
    relays: VecDeque<Relay>,
    outbox: VecDeque<(NodeName, Part)>,
    changes: VecDeque<Change>,
}

#[derive(Debug)]
struct Peer {
    address: SocketAddr,
    hash: OwnerHash,
    claim: Claim,
}

/// A claim that has come to count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) about: NodeName,
    pub(crate) before: Claim,
    pub(crate) after: Claim,
}

/// What came of a claim that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It counts now.
    News,
    /// It is known.
    Known,
    /// This one counts.
    Outdone(Claim),
    /// It is about no member.
    Foreign,
    /// It is about this node, which has contradicted.
    Contradicted,
    /// It is about a later run of this node, which must take a later epoch than that.
    LaterRun(Epoch),
}

impl Membership {
    pub(crate) fn new(
        own: NodeName,
        epoch: Epoch,
        config: Config,
        random: &mut impl Rng,
        now: Instant,
    ) -> Self {
        let own_hash = OwnerHash::of(&own);
        let own_claim = Claim::alive(epoch, Incarnation::default());
        let mut leaves = Leaves::default();
        leaves.toggle(own_hash, entry(own_hash, own_claim));
        Self {
            own,
            own_hash,
            own_claim,
            config,
            peers: BTreeMap::new(),
            leaves,
            to_probe: Vec::new(),
            probes: Vec::new(),
            // Nodes that start together should not probe together.
            next_probe: now + config.probe_interval.mul_f64(random.random()),
            suspicions: BTreeMap::new(),
            relays: VecDeque::new(),
            outbox: VecDeque::new(),
            changes: VecDeque::new(),
        }
    }

    /// This node's own claim.
    pub(crate) fn own_claim(&self) -> Claim {
        self.own_claim
    }

    /// Takes a later epoch.
    pub(crate) fn renew(&mut self, epoch: Epoch) {
        self.set_own_claim(Claim::alive(epoch, Incarnation::default()));
    }

    fn set_own_claim(&mut self, claim: Claim) {
        self.leaves
            .toggle(self.own_hash, entry(self.own_hash, self.own_claim));
        self.own_claim = claim;
        self.leaves
            .toggle(self.own_hash, entry(self.own_hash, self.own_claim));
    }

    /// Replaces the members; those that came and those that went.
    pub(crate) fn set_peers(
        &mut self,
        peers: &BTreeMap<NodeName, SocketAddr>,
    ) -> (Vec<NodeName>, Vec<NodeName>) {
        let gone: Vec<NodeName> = self
            .peers
            .keys()
            .filter(|name| !peers.contains_key(*name))
            .cloned()
            .collect();
        for name in &gone {
            if let Some(peer) = self.peers.remove(name) {
                self.leaves.toggle(peer.hash, entry(peer.hash, peer.claim));
            }
            self.suspicions.remove(name);
        }
        self.to_probe.retain(|name| !gone.contains(name));
        self.probes.retain(|probe| !gone.contains(&probe.target));
        let mut come = Vec::new();
        for (name, address) in peers.iter().filter(|(name, _)| **name != self.own) {
            if let Some(peer) = self.peers.get_mut(name) {
                peer.address = *address;
                continue;
            }
            let peer = Peer {
                address: *address,
                hash: OwnerHash::of(name),
                claim: Claim::UNHEARD,
            };
            self.leaves.toggle(peer.hash, entry(peer.hash, peer.claim));
            self.peers.insert(name.clone(), peer);
            come.push(name.clone());
        }
        (come, gone)
    }

    pub(crate) fn is_member(&self, name: &NodeName) -> bool {
        self.peers.contains_key(name)
    }

    /// How many members there are, this node included.
    pub(crate) fn size(&self) -> usize {
        self.peers.len() + 1
    }

    pub(crate) fn address(&self, name: &NodeName) -> Option<SocketAddr> {
        self.peers.get(name).map(|peer| peer.address)
    }

    /// What counts of another member.
    pub(crate) fn claim(&self, name: &NodeName) -> Option<Claim> {
        self.peers.get(name).map(|peer| peer.claim)
    }

    /// What counts of another member, for the member itself, where it should contradict.
    pub(crate) fn reproach(&self, name: &NodeName) -> Option<Statement> {
        let claim = self
            .claim(name)
            .filter(|claim| claim.state != MemberState::Alive)?;
        Some(Statement {
            about: name.clone(),
            claim,
        })
    }

    /// The others that may be there.
    pub(crate) fn reachable(&self) -> impl Iterator<Item = (&NodeName, Claim)> {
        let claims = self.peers.iter().map(|(name, peer)| (name, peer.claim));
        claims.filter(|(_, claim)| claim.state != MemberState::Down)
    }

    /// Some of the others that may be there, at random.
    pub(crate) fn choose(
        &self,
        most: usize,
        random: &mut impl Rng,
        fits: impl Fn(&NodeName) -> bool,
    ) -> Vec<NodeName> {
        let mut names: Vec<&NodeName> = self
            .reachable()
            .map(|(name, _)| name)
            .filter(|name| fits(name))
            .collect();
        let (chosen, _) = names.partial_shuffle(random, most);
        chosen.iter().map(|name| (*name).clone()).collect()
    }

    pub(crate) fn leaves(&self) -> &Leaves {
        &self.leaves
    }

    /// All that counts, of the members in these leaves, this node included.
    pub(crate) fn census(&self, leaves: u64) -> Vec<Statement> {
        let others = self
            .peers
            .iter()
            .map(|(name, peer)| (name, peer.hash, peer.claim));
        let all = others.chain([(&self.own, self.own_hash, self.own_claim)]);
        let chosen = all.filter(|(_, hash, _)| hash.is_in(leaves));
        chosen
            .map(|(name, _, claim)| Statement {
                about: name.clone(),
                claim,
            })
            .collect()
    }

    /// A claim that someone passed on or, for a sender's own, that its datagram makes.
    pub(crate) fn hear(
        &mut self,
        about: &NodeName,
        claim: Claim,
        random: &mut impl Rng,
        now: Instant,
    ) -> Heard {
        if *about == self.own {
            return self.hear_of_self(claim);
        }
        let Some(peer) = self.peers.get(about) else {
            return Heard::Foreign;
        };
        match claim.cmp(&peer.claim) {
            std::cmp::Ordering::Less => Heard::Outdone(peer.claim),
            std::cmp::Ordering::Equal => Heard::Known,
            std::cmp::Ordering::Greater => {
                let asks = self.peers.len() <= VERIFIERS || random.random_ratio(1, self.verify_one_in());
                if claim.state == MemberState::Down && !self.is_plausible(about, now) {
                    return self.doubt(about, claim, asks, now);
                }
                self.take(about, claim, asks, now);
                Heard::News
            }
        }
    }

    /// Whether a member that someone else calls down can be: this node has not heard of it at all, or holds it down in an
    /// earlier incarnation, or has suspected it for as long as an answer may take.
    fn is_plausible(&self, about: &NodeName, now: Instant) -> bool {
        let Some(claim) = self.claim(about) else {
            return false;
        };
        let suspicion = self.suspicions.get(about);
        let is_old = |suspicion: &Suspicion| suspicion.age(now) >= self.config.probe_interval;
        !claim.epoch.is_heard() || claim.state == MemberState::Down || suspicion.is_some_and(is_old)
    }

    /// Suspects a member that someone else calls down, and gives it the time of a probe to contradict: who says so may
    /// have been cut off himself.
    fn doubt(&mut self, about: &NodeName, claim: Claim, asks: bool, now: Instant) -> Heard {
        let suspect = claim.in_state(MemberState::Suspect);
        let is_news = self.claim(about).is_some_and(|held| held < suspect);
        if is_news {
            self.take(about, suspect, asks, now);
        }
        if let Some(suspicion) = self.suspicions.get_mut(about) {
            suspicion.shorten(&self.config);
        }
        if is_news { Heard::News } else { Heard::Known }
    }

    fn verify_one_in(&self) -> u32 {
        u32::try_from(self.peers.len() / VERIFIERS)
            .unwrap_or(u32::MAX)
            .max(1)
    }

    fn hear_of_self(&mut self, claim: Claim) -> Heard {
        let own = self.own_claim;
        if claim.epoch > own.epoch {
            Heard::LaterRun(claim.epoch)
        } else if claim < own {
            Heard::Outdone(own)
        } else if claim == own {
            Heard::Known
        } else {
            self.set_own_claim(Claim::alive(own.epoch, claim.incarnation.next()));
            Heard::Contradicted
        }
    }

    /// Lets a greater claim count.
    fn take(&mut self, about: &NodeName, claim: Claim, asks: bool, now: Instant) {
        let Some(peer) = self.peers.get_mut(about) else {
            return;
        };
        let before = std::mem::replace(&mut peer.claim, claim);
        self.leaves.toggle(peer.hash, entry(peer.hash, before));
        self.leaves.toggle(peer.hash, entry(peer.hash, claim));
        match claim.state {
            MemberState::Suspect => {
                let suspicion = Suspicion::starting(now, asks, &self.config);
                self.suspicions.insert(about.clone(), suspicion);
            }
            MemberState::Alive | MemberState::Down => {
                self.suspicions.remove(about);
            }
        }
        self.changes.push_back(Change {
            about: about.clone(),
            before,
            after: claim,
        });
    }

    /// The next thing to send.
    pub(crate) fn poll_send(&mut self) -> Option<(NodeName, Part)> {
        self.outbox.pop_front()
    }

    /// The next claim that has come to count.
    pub(crate) fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }
}

fn entry(hash: OwnerHash, claim: Claim) -> u64 {
    let state = u64::from(claim.state as u8);
    let version = u64::from(claim.incarnation.number()) << 2 | state;
    hash.entry(claim.epoch, Version::from_number(version))
}

#[cfg(test)]
mod tests;
