//! From what is wanted and what the kernel holds to the steps in between.

use crate::derive::{End, association};
use crate::{Generation, Ring, Sa, SaId, Said, Salt};
use essaim_model::NodeName;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long an association is kept that has been replaced. Too short: packets that are under way in the kernel, or on the
/// wire, are lost. Too long: a key is of use for as much longer.
const LINGER: Duration = Duration::from_secs(5);
/// How many generations may come while an inbound association waits for its sender to be seen with another. Too few: who
/// was away for long is not understood when it returns, until it has heard.
const PATIENCE: u64 = 4;
/// How many replaced associations from, or to, one peer are kept at most: as many as an agent that restarts again and again
/// leaves.
const MOST_REPLACED: usize = 32;

/// The version of IP that a policy is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Another node that this one shares encrypted traffic with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its underlay address.
    pub vtep: IpAddr,
    /// What it says of itself; none before it was heard.
    pub said: Option<Said>,
}

/// What a node should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// This node.
    pub node: NodeName,
    /// Its underlay address.
    pub vtep: IpAddr,
    /// UDP port of VXLAN.
    pub port: u16,
    /// The keys that it has.
    pub ring: Ring,
    /// The others.
    pub peers: BTreeMap<NodeName, Peer>,
}

/// A policy that has what is marked, and for a peer's VXLAN port, go through an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Policy {
    /// This node's VTEP.
    pub source: IpAddr,
    /// The peer's.
    pub destination: IpAddr,
    /// UDP port of VXLAN.
    pub port: u16,
    /// The number of the association.
    pub spi: u32,
}

impl Policy {
    const fn sa(&self) -> SaId {
        SaId {
            source: self.source,
            destination: self.destination,
            spi: self.spi,
        }
    }

    /// What the kernel knows it by.
    const fn key(&self) -> (IpAddr, IpAddr, u16) {
        (self.source, self.destination, self.port)
    }
}

/// An association that the kernel holds, and that is essaim's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedSa {
    /// Number and key.
    pub sa: Sa,
    /// Packets that went, or came, through it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When it was added, in seconds since 1970, by the kernel's clock: to be shown, and for nothing else.
    pub added: u64,
    /// Packets that came a second time, or too late to know.
    pub replayed: u64,
    /// Packets that were not what the key says.
    pub forged: u64,
}

/// What the kernel holds of essaim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Associations.
    pub sas: BTreeMap<SaId, ObservedSa>,
    /// Policies that encrypt.
    pub policies: BTreeSet<Policy>,
    /// Families of which all that is marked and has no policy of its own is blocked.
    pub blocks: BTreeSet<Family>,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Blocks all of a family that is marked and that no policy encrypts.
    AddBlock(Family),
    /// Adds an association by which this node receives.
    AddInbound(Sa),
    /// Adds an association by which this node sends.
    AddOutbound(Sa),
    /// Sends through this association from now on.
    SetPolicy(Policy),
    /// Sends nothing to the peer any more: what is marked is blocked.
    RemovePolicy(Policy),
    /// Removes an association.
    RemoveSa(SaId),
    /// Removes a block.
    RemoveBlock(Family),
}

/// As a log may show it: without its key.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddBlock(family) => write!(f, "block what is marked and not encrypted, {family}"),
            Self::AddInbound(sa) => write!(f, "add the inbound association {}", sa.id),
            Self::AddOutbound(sa) => write!(f, "add the outbound association {}", sa.id),
            Self::SetPolicy(policy) => write!(
                f,
                "encrypt what goes to port {} of {} with SPI {:#010x}",
                policy.port, policy.destination, policy.spi
            ),
            Self::RemovePolicy(policy) => write!(f, "remove the policy for {}", policy.destination),
            Self::RemoveSa(id) => write!(f, "remove the association {id}"),
            Self::RemoveBlock(family) => write!(f, "remove the block, {family}"),
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps, in the order in which they must be taken.
    pub ops: Vec<Op>,
    /// An association of this run was lost: [`Keeper::renew`] with fresh randomness, and plan again.
    pub needs_salt: bool,
    /// When something is to be done though nothing is heard.
    pub again: Option<Instant>,
}

/// Which way an association goes, seen from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

/// What is known of an association beside what the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The other node.
    pub peer: NodeName,
    /// Its direction.
    pub direction: Direction,
    /// The generation of its key.
    pub generation: Generation,
}

/// Keeps a node's associations and policies. It remembers what it has installed, so that no key is installed twice.
#[derive(Clone, Debug)]
pub struct Keeper {
    salt: Salt,
    /// All that was installed with this salt.
    installed: BTreeSet<SaId>,
    /// Those that were replaced.
    replaced: BTreeMap<SaId, Replaced>,
    said: Said,
    known: BTreeMap<SaId, Known>,
}

#[derive(Clone, Copy, Debug)]
struct Replaced {
    since: Instant,
    /// The newest generation then.
    newest: Generation,
    /// Since when its sender is known to use another.
    left: Option<Instant>,
}

/// The inbound associations of one peer, one for each generation.
type Inbound = BTreeMap<NodeName, Vec<(Generation, Sa)>>;

impl Keeper {
    /// Begins with a fresh salt: 16 random bytes.
    pub const fn new(salt: Salt) -> Self {
        Self {
            salt,
            installed: BTreeSet::new(),
            replaced: BTreeMap::new(),
            said: Said {
                salt,
                held: None,
                heard: BTreeMap::new(),
            },
            known: BTreeMap::new(),
        }
    }

    /// Goes on with another salt. What is in use stays in use until the peers have heard of it.
    pub fn renew(&mut self, salt: Salt) {
        self.salt = salt;
        self.installed.clear();
        self.said = Said {
            salt,
            held: self.said.held,
            heard: BTreeMap::new(),
        };
    }

    /// What the others may be told: what was installed, as far as is known.
    pub const fn said(&self) -> &Said {
        &self.said
    }

    /// Whose an association is, and of which generation; none where an earlier run made it.
    pub fn known(&self, id: &SaId) -> Option<&Known> {
        self.known.get(id)
    }

    /// Says what must be done so that the kernel holds what is wanted; nothing where it does already.
    pub fn plan(&mut self, wanted: &Wanted, observed: &Observed, now: Instant) -> Plan {
        let mut plan = Plan::default();
        let blocked = Family::ALL
            .into_iter()
            .filter(|family| !observed.blocks.contains(family));
        plan.ops.extend(blocked.map(Op::AddBlock));
        let inbound = self.inbound(wanted);
        for (_, sa) in inbound.values().flatten() {
            self.add(sa, observed, &mut plan, Op::AddInbound);
        }
        let policies = self.outbound(wanted, observed, &mut plan);
        for policy in &observed.policies {
            if !policies.contains_key(&policy.key()) {
                plan.ops.push(Op::RemovePolicy(*policy));
            }
        }
        self.remove(wanted, observed, &inbound, &policies, &mut plan, now);
        plan
    }

    /// Takes note of what came of a plan: the kernel holds `observed` now.
    pub fn applied(&mut self, wanted: &Wanted, observed: &Observed) {
        let inbound = self.inbound(wanted);
        let holds = |sa: &Sa| observed.sas.get(&sa.id).is_some_and(|found| found.sa == *sa);
        let has_all = |sas: &Vec<(Generation, Sa)>| sas.iter().all(|(_, sa)| holds(sa));
        let heard = inbound.iter().filter(|(_, sas)| has_all(sas));
        let salt = |node: &NodeName| wanted.peers.get(node)?.said.as_ref().map(|said| said.salt);
        self.said = Said {
            salt: self.salt,
            held: wanted.ring.span(),
            heard: heard
                .filter_map(|(node, _)| Some((node.clone(), salt(node)?)))
                .collect(),
        };
        self.known.retain(|id, _| observed.sas.contains_key(id));
    }

    /// What must be removed so that nothing is left.
    pub fn teardown(observed: &Observed) -> Vec<Op> {
        let policies = observed.policies.iter().map(|policy| Op::RemovePolicy(*policy));
        let sas = observed.sas.keys().map(|id| Op::RemoveSa(*id));
        let blocks = observed.blocks.iter().map(|family| Op::RemoveBlock(*family));
        policies.chain(sas).chain(blocks).collect()
    }

    /// The associations by which this node should be able to receive.
    fn inbound(&mut self, wanted: &Wanted) -> Inbound {
        let mut inbound = Inbound::new();
        for (node, peer) in &wanted.peers {
            let Some(said) = &peer.said else { continue };
            let (from, to) = (remote(node, peer, said), self.own(wanted));
            let sas: Vec<_> = wanted
                .ring
                .iter()
                .map(|(generation, key)| (generation, association(from, to, generation, key)))
                .collect();
            for (generation, sa) in &sas {
                self.note(sa.id, node, Direction::In, *generation);
            }
            inbound.insert(node.clone(), sas);
        }
        inbound
    }

    /// The policies that there should be, by what the kernel knows them by. Adds what they need.
    fn outbound(
        &mut self,
        wanted: &Wanted,
        observed: &Observed,
        plan: &mut Plan,
    ) -> BTreeMap<(IpAddr, IpAddr, u16), Policy> {
        let mut policies = BTreeMap::new();
        let (mut sas, mut sets) = (Vec::new(), Vec::new());
        for (node, peer) in &wanted.peers {
            let policy = |spi| Policy {
                source: wanted.vtep,
                destination: peer.vtep,
                port: wanted.port,
                spi,
            };
            let standing = observed
                .policies
                .iter()
                .find(|found| found.key() == policy(0).key());
            let chosen = self.choose(wanted, node, peer).filter(|(_, sa)| {
                // Lost, it may not be installed again: the nonces of its key would be used twice.
                observed.sas.contains_key(&sa.id) || !self.installed.contains(&sa.id)
            });
            let Some((generation, sa)) = chosen else {
                if let Some(policy) = standing {
                    policies.insert(policy.key(), *policy);
                }
                plan.needs_salt |= self
                    .choose(wanted, node, peer)
                    .is_some_and(|(_, sa)| self.installed.contains(&sa.id));
                continue;
            };
            self.note(sa.id, node, Direction::Out, generation);
            let policy = policy(sa.id.spi);
            if standing != Some(&policy) {
                sets.push(Op::SetPolicy(policy));
            }
            policies.insert(policy.key(), policy);
            sas.push(sa);
        }
        for sa in &sas {
            self.add(sa, observed, plan, Op::AddOutbound);
        }
        plan.ops.extend(sets);
        policies
    }

    /// What this node may send to a peer with: the newest generation of both, once the peer knows this node's salt.
    fn choose(&self, wanted: &Wanted, node: &NodeName, peer: &Peer) -> Option<(Generation, Sa)> {
        let said = peer.said.as_ref()?;
        let (oldest, newest) = said.held?;
        if said.heard.get(&wanted.node) != Some(&self.salt) {
            return None;
        }
        let both = |(generation, _): &(Generation, _)| (oldest..=newest).contains(generation);
        let (generation, key) = wanted.ring.iter().rev().find(both)?;
        let sa = association(self.own(wanted), remote(node, peer, said), generation, key);
        Some((generation, sa))
    }

    /// Adds an association that is not there; one that was, and is lost, needs another salt.
    fn add(&mut self, sa: &Sa, observed: &Observed, plan: &mut Plan, op: impl Fn(Sa) -> Op) {
        match observed.sas.get(&sa.id) {
            Some(found) if found.sa == *sa => {}
            Some(_) => {
                // Another ring's, of managers that began again from a copy.
                plan.ops.push(Op::RemoveSa(sa.id));
                plan.ops.push(op(sa.clone()));
            }
            None if self.installed.contains(&sa.id) => plan.needs_salt = true,
            None => plan.ops.push(op(sa.clone())),
        }
        self.installed.insert(sa.id);
    }

    /// Removes what is of no use any more.
    fn remove(
        &mut self,
        wanted: &Wanted,
        observed: &Observed,
        inbound: &Inbound,
        policies: &BTreeMap<(IpAddr, IpAddr, u16), Policy>,
        plan: &mut Plan,
        now: Instant,
    ) {
        let mut needed: BTreeSet<SaId> = inbound.values().flatten().map(|(_, sa)| sa.id).collect();
        needed.extend(policies.values().map(Policy::sa));
        let newest = wanted.ring.span().map(|(_, newest)| newest).unwrap_or_default();
        let used: BTreeSet<IpAddr> = inbound
            .values()
            .flatten()
            .filter(|(_, sa)| observed.sas.get(&sa.id).is_some_and(|found| found.packets > 0))
            .map(|(_, sa)| sa.id.source)
            .collect();
        let peers: BTreeSet<IpAddr> = wanted.peers.values().map(|peer| peer.vtep).collect();
        self.replaced
            .retain(|id, _| observed.sas.contains_key(id) && !needed.contains(id));
        // Or one that was replaced later: its sender was further already.
        let mut used_until: BTreeMap<IpAddr, Instant> = BTreeMap::new();
        for (id, replaced) in &self.replaced {
            if observed.sas.get(id).is_some_and(|found| found.packets > 0) {
                let until = used_until.entry(id.source).or_insert(replaced.since);
                *until = replaced.since.max(*until);
            }
        }
        let mut of_peer: BTreeMap<IpAddr, Vec<(bool, Instant, SaId)>> = BTreeMap::new();
        for (id, found) in observed.sas.iter().filter(|(id, _)| !needed.contains(id)) {
            let outbound = id.source == wanted.vtep && peers.contains(&id.destination);
            let is_inbound = id.destination == wanted.vtep && peers.contains(&id.source);
            if !outbound && !is_inbound {
                plan.ops.push(Op::RemoveSa(*id));
                continue;
            }
            let replaced = self.replaced.entry(*id).or_insert(Replaced {
                since: now,
                newest,
                left: None,
            });
            let was_further = used_until
                .get(&id.source)
                .is_some_and(|until| replaced.since < *until);
            if outbound || was_further || used.contains(&id.source) {
                let left = *replaced.left.get_or_insert(now);
                if now.saturating_duration_since(left) >= LINGER {
                    plan.ops.push(Op::RemoveSa(*id));
                } else {
                    let due = left + LINGER;
                    plan.again = Some(plan.again.map_or(due, |again| again.min(due)));
                    if outbound {
                        let order = (found.packets > 0, replaced.since, *id);
                        of_peer.entry(id.destination).or_default().push(order);
                    }
                }
            } else if newest.0 >= replaced.newest.0.saturating_add(PATIENCE) {
                plan.ops.push(Op::RemoveSa(*id));
            } else {
                // One that was never used is the least loss.
                let order = (found.packets > 0, replaced.since, *id);
                of_peer.entry(id.source).or_default().push(order);
            }
        }
        for replaced in of_peer.values_mut() {
            replaced.sort_unstable();
            let surplus = replaced.len().saturating_sub(MOST_REPLACED);
            plan.ops
                .extend(replaced.iter().take(surplus).map(|(_, _, id)| Op::RemoveSa(*id)));
        }
    }

    fn note(&mut self, id: SaId, peer: &NodeName, direction: Direction, generation: Generation) {
        let peer = peer.clone();
        self.known.insert(
            id,
            Known {
                peer,
                direction,
                generation,
            },
        );
    }

    fn own<'a>(&self, wanted: &'a Wanted) -> End<'a> {
        End {
            node: &wanted.node,
            vtep: wanted.vtep,
            salt: self.salt,
        }
    }
}

fn remote<'a>(node: &'a NodeName, peer: &Peer, said: &Said) -> End<'a> {
    End {
        node,
        vtep: peer.vtep,
        salt: said.salt,
    }
}

#[cfg(test)]
mod tests;
