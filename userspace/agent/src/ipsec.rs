//! The agent's part in IPsec: it knows who takes part in encrypted networks, hears what they say, and has the kernel hold
//! what follows.

use crate::agent::Round;
use crate::keys::random;
use essaim_gossip::View;
use essaim_ipsec::{Direction, Family, Keeper, Observed, Peer, Ring, Said, Salt, Wanted};
use essaim_model::{Catalog, ClusterPlan, NodeName, TaskState};
use essaim_netlink::{LinkReconciler, NetlinkError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// How often a plan is made anew that needs another salt.
const SALTS: usize = 3;

/// Why traffic of encrypted networks does not leave this node.
#[derive(Debug, thiserror::Error)]
pub enum IpsecError {
    /// Nodes tell each other of their keys by gossip.
    #[error(
        "networks are encrypted, and this node takes no part in gossip: nothing of them leaves it; give it --gossip-keys"
    )]
    NoGossip,
    /// There are no keys to encrypt with.
    #[error(
        "networks are encrypted, and there are no keys for it: nothing of them leaves this node; add them to the file of keys ([data], see essaim keygen)"
    )]
    NoKeys,
    /// The kernel does not say, or cannot.
    #[error(transparent)]
    Links(#[from] NetlinkError),
    /// The system gave no randomness.
    #[error("failed to get randomness for the keys of encrypted networks")]
    Random(#[source] io::Error),
}

/// This node's IPsec.
#[derive(Debug, Default)]
pub(crate) struct Ipsec {
    keeper: Option<Keeper>,
    /// What the last round went by.
    wanted: Option<Wanted>,
    /// What the kernel held after the last round.
    observed: Observed,
    /// Nothing of essaim was left, as far as is known.
    is_clean: bool,
}

/// An association, as `essaim status` shows it. Its key is not shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaStatus {
    /// The other node; none where it is not known any more.
    pub peer: Option<NodeName>,
    /// The other node's VTEP.
    pub vtep: IpAddr,
    /// Whether this node receives by it, or sends.
    pub inbound: bool,
    /// Its number.
    pub spi: u32,
    /// The generation of its key; none where an earlier run of the agent made it.
    pub generation: Option<u64>,
    /// Since when it is there, in seconds.
    pub age_seconds: u64,
    /// Whether packets leave by it (outbound), or may come by it.
    pub in_use: bool,
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that were dropped because they came a second time, or too late to know.
    pub replayed: u64,
    /// Packets that were dropped because they are not what the key says.
    pub forged: u64,
}

impl Ipsec {
    /// Has the kernel hold what is wanted. Whether what is marked is encrypted or blocked from here on.
    pub(crate) fn keep(
        &mut self,
        wanted: Option<&Wanted>,
        links: &LinkReconciler,
        round: &mut Round,
    ) -> bool {
        let Some(wanted) = wanted else {
            self.clean(links, round);
            return false;
        };
        self.wanted = Some(wanted.clone());
        self.is_clean = false;
        match self.converge(wanted, links, round) {
            Ok(is_ready) => is_ready,
            Err(IpsecError::Links(error @ NetlinkError::NoEsp)) => {
                round.noted(&error);
                false
            }
            Err(error) => {
                round.failed(&error);
                false
            }
        }
    }

    fn converge(
        &mut self,
        wanted: &Wanted,
        links: &LinkReconciler,
        round: &mut Round,
    ) -> Result<bool, IpsecError> {
        self.observed = links.observe_ipsec()?;
        let keeper = match &mut self.keeper {
            Some(keeper) => keeper,
            none => none.insert(Keeper::new(salt()?)),
        };
        for _ in 0..SALTS {
            let plan = keeper.plan(wanted, &self.observed, now());
            if plan.needs_salt {
                tracing::warn!("an association of IPsec was lost: this node takes other keys");
                keeper.renew(salt()?);
                continue;
            }
            if plan.ops.is_empty() {
                break;
            }
            let outcome = links.apply_ipsec(plan.ops)?;
            self.observed = outcome.observed;
            outcome.problems.iter().for_each(|problem| round.failed(problem));
            if !outcome.is_taken {
                break;
            }
            keeper.renew(salt()?);
        }
        keeper.applied(wanted, &self.observed);
        if wanted.ring.span().is_none() {
            round.noted(&IpsecError::NoKeys);
        }
        let family = match wanted.vtep {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        };
        Ok(self.observed.blocks.contains(&family))
    }

    fn clean(&mut self, links: &LinkReconciler, round: &mut Round) {
        if self.is_clean {
            return;
        }
        match links.clean_ipsec() {
            Ok(()) => {
                *self = Self {
                    is_clean: true,
                    ..Self::default()
                };
            }
            Err(errors) => errors.iter().for_each(|error| round.failed(error)),
        }
    }

    /// What the others may be told; none where this node has no part in it.
    pub(crate) fn said(&self) -> Option<&Said> {
        self.keeper.as_ref().map(Keeper::said)
    }

    /// Whether the others say what the last round did not know.
    pub(crate) fn has_news(&self, wanted: Option<&Wanted>) -> bool {
        wanted.is_some() && wanted != self.wanted.as_ref()
    }

    /// What would be done now. Changes nothing.
    pub(crate) fn differences(&self, links: &LinkReconciler) -> Result<Vec<String>, NetlinkError> {
        let (Some(wanted), Some(keeper)) = (&self.wanted, &self.keeper) else {
            return Ok(Vec::new());
        };
        let plan = keeper.clone().plan(wanted, &links.observe_ipsec()?, now());
        let lost = plan
            .needs_salt
            .then(|| "an association was lost: other keys are needed".to_owned());
        let texts = plan.ops.iter().map(ToString::to_string).chain(lost);
        Ok(texts.map(|text| format!("ipsec: {text}")).collect())
    }

    /// What there is to be seen.
    pub(crate) fn status(&self) -> Vec<SaStatus> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let used: BTreeSet<_> = self
            .observed
            .policies
            .iter()
            .map(|policy| (policy.destination, policy.spi))
            .collect();
        let senders: BTreeSet<_> = self
            .observed
            .policies
            .iter()
            .map(|policy| policy.source)
            .collect();
        let status = |found: &essaim_ipsec::ObservedSa| {
            let id = found.sa.id;
            let known = self.keeper.as_ref().and_then(|keeper| keeper.known(&id));
            let inbound = known.map_or(!senders.contains(&id.source), |known| {
                known.direction == Direction::In
            });
            SaStatus {
                peer: known.map(|known| known.peer.clone()),
                vtep: if inbound { id.source } else { id.destination },
                inbound,
                spi: id.spi,
                generation: known.map(|known| known.generation.0),
                age_seconds: now.as_secs().saturating_sub(found.added),
                in_use: inbound || used.contains(&(id.destination, id.spi)),
                packets: found.packets,
                bytes: found.bytes,
                replayed: found.replayed,
                forged: found.forged,
            }
        };
        self.observed.sas.values().map(status).collect()
    }
}

/// What a node should hold; none where no network is encrypted.
pub(crate) fn wanted(catalog: &Catalog, cluster: &ClusterPlan, ring: Ring, view: &View) -> Option<Wanted> {
    if !catalog.networks.iter().any(|network| network.encrypted) {
        return None;
    }
    let (node, taking_part) = (&cluster.node, taking_part(catalog));
    let takes_part = taking_part.contains(node);
    let others = catalog.nodes.iter().filter(|other| other.name != *node);
    let peers = others.filter(|other| takes_part || taking_part.contains(&other.name));
    let peer = |other: &essaim_model::Node| {
        let member = view.members.get(&other.name);
        let peer = Peer {
            vtep: other.address,
            said: member.and_then(|member| member.ipsec.clone()),
        };
        (other.name.clone(), peer)
    };
    Some(Wanted {
        node: node.clone(),
        vtep: cluster.vtep,
        port: cluster.vxlan_port,
        ring,
        peers: peers.map(peer).collect(),
    })
}

/// The nodes with tasks on encrypted networks. They exchange packets with each other, and with every node that is an edge for
/// their published ports, or whose own processes talk to them: with all.
fn taking_part(catalog: &Catalog) -> BTreeSet<NodeName> {
    let encrypted: BTreeSet<_> = catalog
        .networks
        .iter()
        .filter(|network| network.encrypted)
        .map(|network| &network.name)
        .collect();
    let tasks = catalog.services.iter().flat_map(|service| &service.tasks);
    let on_encrypted = tasks.filter(|task| {
        let mut endpoints = task.endpoints.iter();
        task.state != TaskState::Gone && endpoints.any(|endpoint| encrypted.contains(&endpoint.network))
    });
    on_encrypted.map(|task| task.node.clone()).collect()
}

fn salt() -> Result<Salt, IpsecError> {
    let bytes = random().map_err(IpsecError::Random)?;
    let mut salt = [0; essaim_ipsec::SALT_LENGTH];
    salt.copy_from_slice(&bytes[..essaim_ipsec::SALT_LENGTH]);
    Ok(Salt(salt))
}

fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::{Liveness, example, plan};

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    #[test]
    fn nothing_is_wanted_where_no_network_is_encrypted_and_only_of_those_that_take_part() {
        let mut catalog = Catalog::parse(example()).unwrap();
        let this = node("n1");
        let cluster = |catalog: &Catalog| plan(catalog, &Liveness::of(catalog), &this).unwrap().cluster;
        let view = View::default();
        assert_eq!(wanted(&catalog, &cluster(&catalog), Ring::default(), &view), None);
        for network in &mut catalog.networks {
            network.encrypted = true;
        }
        let found = wanted(&catalog, &cluster(&catalog), Ring::default(), &view).unwrap();
        let others: BTreeSet<_> = catalog
            .nodes
            .iter()
            .map(|node| node.name.clone())
            .filter(|name| *name != this)
            .collect();
        assert!(!others.is_empty());
        assert_eq!(found.peers.keys().cloned().collect::<BTreeSet<_>>(), others);
        // Without tasks here, only those that have some.
        for service in &mut catalog.services {
            service.tasks.retain(|task| task.node == node("n2"));
        }
        let found = wanted(&catalog, &cluster(&catalog), Ring::default(), &view).unwrap();
        assert_eq!(found.peers.keys().collect::<Vec<_>>(), [&node("n2")]);
        for service in &mut catalog.services {
            service.tasks.clear();
        }
        let found = wanted(&catalog, &cluster(&catalog), Ring::default(), &view).unwrap();
        assert!(found.peers.is_empty());
    }
}
