//! Questions and answers: probes, probes for others, and what suspects are asked.

use super::{Membership, Peer};
use crate::Config;
use crate::view::MemberState;
use crate::wire::Part;
use essaim_model::NodeName;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt};
use std::time::{Duration, Instant};

/// The most probes for others at a time.
const MAX_RELAYS: usize = 256;

/// A probe that is under way.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) target: NodeName,
    /// Random, so that an old answer is none.
    number: u64,
    next_try: Instant,
    tries: u32,
}

/// A member that has to contradict in time.
#[derive(Debug)]
pub(super) struct Suspicion {
    since: Instant,
    deadline: Instant,
    /// When it is asked next, where this node asks.
    next_try: Option<Instant>,
}

impl Suspicion {
    pub(super) fn starting(now: Instant, asks: bool, config: &Config) -> Self {
        Self {
            since: now,
            deadline: now + config.suspicion,
            next_try: asks.then_some(now),
        }
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Leaves it no more than the time of a probe.
    pub(super) fn shorten(&mut self, config: &Config) {
        self.deadline = self.deadline.min(self.since + config.probe_interval);
    }
}

/// A probe for another member.
#[derive(Debug)]
pub(super) struct Relay {
    asker: NodeName,
    their_number: u64,
    own_number: u64,
    deadline: Instant,
}

impl Membership {
    /// Answers a member that asks this node to probe another.
    pub(crate) fn probe_for(
        &mut self,
        asker: &NodeName,
        number: u64,
        target: &NodeName,
        random: &mut impl Rng,
        now: Instant,
    ) {
        if !self.is_member(target) {
            return;
        }
        if self.relays.len() == MAX_RELAYS {
            self.relays.pop_front();
        }
        let own_number = random.random();
        self.relays.push_back(Relay {
            asker: asker.clone(),
            their_number: number,
            own_number,
            deadline: now + self.config.probe_interval,
        });
        self.outbox
            .push_back((target.clone(), Part::Ping { number: own_number }));
    }

    /// Takes an answer in.
    pub(crate) fn acknowledged(&mut self, number: u64) {
        self.probes.retain(|probe| probe.number != number);
        if let Some(at) = self.relays.iter().position(|relay| relay.own_number == number)
            && let Some(relay) = self.relays.remove(at)
        {
            let answer = Part::Ack {
                number: relay.their_number,
            };
            self.outbox.push_back((relay.asker, answer));
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.peers.is_empty() {
            return None;
        }
        let tries = self.probes.iter().map(|probe| probe.next_try);
        let suspicions = self.suspicions.values();
        let asked = suspicions.map(|suspicion| {
            suspicion
                .next_try
                .map_or(suspicion.deadline, |next| next.min(suspicion.deadline))
        });
        tries.chain(asked).chain([self.next_probe]).min()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, random: &mut impl Rng, now: Instant) {
        let Some(due) = self.poll_timeout() else { return };
        let late = now.saturating_duration_since(due);
        if late > self.config.probe_timeout {
            self.forgive(late);
        }
        self.relays.retain(|relay| relay.deadline > now);
        self.judge_suspects(now);
        self.ask_suspects(random, now);
        self.repeat_probes(random, now);
        if self.next_probe <= now {
            self.conclude_probes(now);
            self.next_probe = now + self.config.probe_interval;
            self.start_probes(random, now);
            self.ask_one_that_is_down(random);
        }
    }

    /// Nobody could have answered while this node was not running.
    fn forgive(&mut self, late: Duration) {
        if !self.probes.is_empty() {
            self.next_probe += late;
        }
        for suspicion in self.suspicions.values_mut() {
            suspicion.since += late;
            suspicion.deadline += late;
        }
    }

    fn judge_suspects(&mut self, now: Instant) {
        let judged = self
            .suspicions
            .iter()
            .filter(|(_, suspicion)| suspicion.deadline <= now);
        let judged: Vec<NodeName> = judged.map(|(name, _)| name.clone()).collect();
        for name in judged {
            if let Some(claim) = self.claim(&name) {
                self.take(&name, claim.in_state(MemberState::Down), false, now);
            }
        }
    }

    fn ask_suspects(&mut self, random: &mut impl Rng, now: Instant) {
        for (name, suspicion) in &mut self.suspicions {
            if let Some(next) = suspicion.next_try.filter(|next| *next <= now) {
                // Its answer needs no number: it contradicts.
                self.outbox.push_back((
                    name.clone(),
                    Part::Ping {
                        number: random.random(),
                    },
                ));
                suspicion.next_try = Some((next + self.config.suspicion_probe_interval).max(now));
            }
        }
    }

    fn repeat_probes(&mut self, random: &mut impl Rng, now: Instant) {
        let mut unanswered = Vec::new();
        for probe in self.probes.iter_mut().filter(|probe| probe.next_try <= now) {
            probe.tries += 1;
            probe.next_try = now + self.config.probe_timeout;
            unanswered.push((probe.target.clone(), probe.number, probe.tries == 2));
        }
        for (target, number, is_first_repetition) in unanswered {
            self.outbox.push_back((target.clone(), Part::Ping { number }));
            if is_first_repetition {
                let helpers = self.choose(self.config.indirect_probes, random, |name| *name != target);
                for helper in helpers {
                    let target = target.clone();
                    self.outbox.push_back((helper, Part::ProbeFor { number, target }));
                }
            }
        }
    }

    fn conclude_probes(&mut self, now: Instant) {
        for probe in std::mem::take(&mut self.probes) {
            let claim = self.claim(&probe.target);
            if let Some(claim) = claim.filter(|claim| claim.state == MemberState::Alive) {
                self.take(&probe.target, claim.in_state(MemberState::Suspect), true, now);
            }
        }
    }

    fn start_probes(&mut self, random: &mut impl Rng, now: Instant) {
        let neighbour = self.neighbour();
        self.start_probe(neighbour.clone(), random, now);
        let target = self.next_target(random);
        if target != neighbour {
            self.start_probe(target, random, now);
        }
    }

    fn start_probe(&mut self, target: Option<NodeName>, random: &mut impl Rng, now: Instant) {
        let Some(target) = target else { return };
        let number = random.random();
        self.outbox.push_back((target.clone(), Part::Ping { number }));
        self.probes.push(Probe {
            target,
            number,
            next_try: now + self.config.probe_timeout,
            tries: 1,
        });
    }

    /// The next living member on the ring: in the order of the hashes of their names, so that nodes that fail together are
    /// seldom neighbours.
    fn neighbour(&self) -> Option<NodeName> {
        let alive = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.claim.state == MemberState::Alive);
        let next = alive.min_by_key(|(_, peer)| peer.hash.distance_from(self.own_hash))?;
        Some(next.0.clone())
    }

    fn next_target(&mut self, random: &mut impl Rng) -> Option<NodeName> {
        let is_alive = |peer: &Peer| peer.claim.state == MemberState::Alive;
        for is_new_round in [false, true] {
            if is_new_round {
                let alive = self.peers.iter().filter(|(_, peer)| is_alive(peer));
                self.to_probe = alive.map(|(name, _)| name.clone()).collect();
                self.to_probe.shuffle(random);
            }
            while let Some(name) = self.to_probe.pop() {
                if self.peers.get(&name).is_some_and(is_alive) {
                    return Some(name);
                }
            }
        }
        None
    }

    fn ask_one_that_is_down(&mut self, random: &mut impl Rng) {
        let down = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.claim.state == MemberState::Down);
        let down: Vec<&NodeName> = down.map(|(name, _)| name).collect();
        if let Some(name) = down.choose(random) {
            let name = (*name).clone();
            self.outbox.push_back((
                name,
                Part::Ping {
                    number: random.random(),
                },
            ));
        }
    }
}
