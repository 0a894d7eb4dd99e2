//! The firewall rules of a node: what only the kernel's netfilter can do, and nothing else.
//!
//! VXLAN is not tracked; what tasks send to the world is masqueraded, into ports that no published port may have;
//! what the node forwards for tasks is accepted, what would enter a task uninvited is dropped. An accept here cannot
//! overrule a drop in a table of somebody else; Docker's (whose policy for forwarded packets is to drop) has a chain
//! for such rules, `DOCKER-USER`, so essaim puts its own there too where that chain exists.

use crate::ownership::LINK_GROUP;
use essaim_model::{ClusterPlan, Uplink, stable_id};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The ports that masqueraded flows leave from; published ports may not be among them.
const MASQUERADE_PORTS: &str = "61000-65535";
/// What every mark of a rule begins with.
pub(crate) const MARK_PREFIX: &str = "essaim-";

/// What netfilter holds of essaim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedFirewall {
    /// The mark of every rule in the table `inet essaim`; empty where a rule has none.
    pub table: Vec<String>,
    /// The marked rules in the chains `DOCKER-USER` that exist.
    pub docker_user: BTreeMap<Family, Vec<MarkedRule>>,
}

/// An address family, as netfilter names its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::Ip, Self::Ip6];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        }
    }

    const fn of(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::Ip,
            IpNet::V6(_) => Self::Ip6,
        }
    }
}

/// A rule with essaim's mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkedRule {
    /// The kernel's number for it.
    pub handle: u64,
    /// Its mark.
    pub mark: String,
}

/// The whole of the table `inet essaim`. Every rule carries the same mark, a digest of all of them, so that what the
/// kernel holds can be compared without parsing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    chains: Vec<(&'static str, Vec<String>)>,
    mark: String,
}

impl Ruleset {
    /// What the node needs.
    pub(crate) fn of(cluster: &ClusterPlan, uplinks: &[Uplink]) -> Self {
        let untracked = vec![format!("udp dport {} notrack", cluster.vxlan_port)];
        let chains = vec![
            (
                "prerouting { type filter hook prerouting priority raw; policy accept;",
                untracked.clone(),
            ),
            (
                "output { type filter hook output priority raw; policy accept;",
                untracked,
            ),
            (
                "forward { type filter hook forward priority filter; policy accept;",
                forward_rules(cluster),
            ),
            (
                "postrouting { type nat hook postrouting priority srcnat; policy accept;",
                postrouting_rules(cluster, uplinks),
            ),
        ];
        let mark = mark_of(
            chains
                .iter()
                .flat_map(|(head, rules)| std::iter::once(*head).chain(rules.iter().map(String::as_str))),
        );
        Self { chains, mark }
    }

    /// Whether the kernel holds exactly this.
    pub(crate) fn is_met_by(&self, observed: &ObservedFirewall) -> bool {
        let rules: usize = self.chains.iter().map(|(_, rules)| rules.len()).sum();
        observed.table.len() == rules && observed.table.iter().all(|mark| *mark == self.mark)
    }

    /// The script that puts it in place of what is there, in one transaction.
    pub(crate) fn script(&self) -> String {
        // The first line makes sure that there is something to delete.
        let mut script = String::from("table inet essaim\ndelete table inet essaim\ntable inet essaim {\n");
        for (head, rules) in &self.chains {
            let _ = writeln!(script, "chain {head}");
            for rule in rules {
                let _ = writeln!(script, "{rule} comment \"{}\"", self.mark);
            }
            script.push_str("}\n");
        }
        script.push_str("}\n");
        script
    }
}

#[cfg(test)]
impl Ruleset {
    /// What the kernel holds once this is in place.
    pub(crate) fn marks(&self) -> Vec<String> {
        self.chains
            .iter()
            .flat_map(|(_, rules)| rules)
            .map(|_| self.mark.clone())
            .collect()
    }
}

/// The script that removes the table, whether it is there or not.
pub(crate) const REMOVE_TABLE: &str = "table inet essaim\ndelete table inet essaim\n";

/// Essaim's rules in a chain `DOCKER-USER`, and those they replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerUserRules {
    family: Family,
    rules: Vec<String>,
    mark: String,
    replaced: Vec<u64>,
}

impl DockerUserRules {
    /// What the chain needs, where it does not have it already.
    ///
    /// The rules stay within what `iptables` can show, which would refuse to touch its table otherwise. They accept
    /// what is new towards a task too: that is dropped in the table `inet essaim`, which sees every packet as well.
    pub(crate) fn missing(cluster: &ClusterPlan, family: Family, found: &[MarkedRule]) -> Option<Self> {
        let rules: Vec<String> = subnets(cluster, family, false)
            .flat_map(|net| ["saddr", "daddr"].map(|side| format!("{} {side} {net} accept", family.name())))
            .collect();
        let mark = mark_of(rules.iter().map(String::as_str));
        let met = found.len() == rules.len() && found.iter().all(|rule| rule.mark == mark);
        (!met).then(|| Self {
            family,
            rules,
            mark,
            replaced: found.iter().map(|rule| rule.handle).collect(),
        })
    }

    /// The removal of the rules that were found.
    pub(crate) fn removal(family: Family, found: &[MarkedRule]) -> Option<Self> {
        let replaced: Vec<u64> = found.iter().map(|rule| rule.handle).collect();
        (!replaced.is_empty()).then(|| Self {
            family,
            rules: Vec::new(),
            mark: String::new(),
            replaced,
        })
    }

    /// The script that does it, in one transaction.
    pub(crate) fn script(&self) -> String {
        let mut script = String::new();
        for handle in &self.replaced {
            let _ = writeln!(script, "delete rule {} handle {handle}", self.chain());
        }
        for rule in &self.rules {
            let _ = writeln!(
                script,
                "insert rule {} {rule} comment \"{}\"",
                self.chain(),
                self.mark
            );
        }
        script
    }

    /// The chain, as `nft` names it.
    pub(crate) fn chain(&self) -> String {
        docker_user_chain(self.family)
    }
}

/// The chain for rules of users, as `nft` names it.
pub(crate) fn docker_user_chain(family: Family) -> String {
    format!("{} filter DOCKER-USER", family.name())
}

fn forward_rules(cluster: &ClusterPlan) -> Vec<String> {
    let mut rules = Vec::new();
    for family in Family::ALL {
        if let Some(internal) = set(internal_subnets(cluster, family)) {
            rules.push(format!("{} saddr {internal} drop", family.name()));
            rules.push(format!("{} daddr {internal} drop", family.name()));
        }
    }
    rules.push(format!("iifgroup {LINK_GROUP} accept"));
    rules.push(format!(
        "oifgroup {LINK_GROUP} ct state established,related accept"
    ));
    rules.push(format!("oifgroup {LINK_GROUP} drop"));
    rules
}

fn postrouting_rules(cluster: &ClusterPlan, uplinks: &[Uplink]) -> Vec<String> {
    let names = uplinks.iter().map(|uplink| format!("\"{}\"", uplink.name));
    let Some(uplinks) = set(names) else {
        return Vec::new();
    };
    let mut rules = Vec::new();
    for family in Family::ALL {
        let name = family.name();
        let (Some(sources), Some(overlay)) = (
            set(subnets(cluster, family, false).map(ToString::to_string)),
            set(all_subnets(cluster, family)),
        ) else {
            continue;
        };
        let leaving = format!("{name} saddr {sources} {name} daddr != {overlay} oifname {uplinks}");
        rules.push(format!(
            "{leaving} meta l4proto {{ tcp, udp, sctp }} masquerade to :{MASQUERADE_PORTS}"
        ));
        rules.push(format!("{leaving} masquerade"));
    }
    rules
}

fn subnets(cluster: &ClusterPlan, family: Family, internal: bool) -> impl Iterator<Item = &IpNet> {
    cluster
        .subnets
        .iter()
        .filter(move |(net, plan)| Family::of(net) == family && plan.internal == internal)
        .map(|(net, _)| net)
}

fn internal_subnets(cluster: &ClusterPlan, family: Family) -> impl Iterator<Item = String> {
    subnets(cluster, family, true).map(ToString::to_string)
}

fn all_subnets(cluster: &ClusterPlan, family: Family) -> impl Iterator<Item = String> {
    cluster
        .subnets
        .keys()
        .filter(move |net| Family::of(net) == family)
        .map(ToString::to_string)
}

/// A set of `nft`, which cannot be empty.
fn set(elements: impl Iterator<Item = String>) -> Option<String> {
    let elements: Vec<String> = elements.collect();
    (!elements.is_empty()).then(|| format!("{{ {} }}", elements.join(", ")))
}

fn mark_of<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let text = parts.fold(String::new(), |text, part| text + part + "\n");
    format!("{MARK_PREFIX}{:016x}", stable_id(&text))
}

#[cfg(test)]
#[path = "firewall/tests.rs"]
mod tests;
