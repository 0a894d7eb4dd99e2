//! The rules that one field cannot hold alone.

mod addresses;
mod cluster;
mod ports;
mod services;
#[cfg(test)]
mod tests;

use super::path::{At, Path};
use super::{Catalog, Network, Problem};
use crate::{NetworkName, NodeName};
use addresses::Owner;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

/// Everything that breaks a rule, in no special order; what refers to something in `broken` is let pass.
pub(super) fn findings(catalog: &Catalog, broken: &BTreeSet<String>) -> Vec<(Path, Problem)> {
    let ingress = catalog.ingress_network();
    let mut networks = HashMap::new();
    for network in catalog.networks.iter().chain([&ingress]) {
        // The first of a name: that the others have it too is an error of its own.
        networks.entry(&network.name).or_insert(network);
    }
    let mut checker = Checker {
        catalog,
        broken,
        networks,
        nodes: catalog.nodes.iter().map(|node| &node.name).collect(),
        addresses: HashMap::new(),
        findings: Vec::new(),
    };
    checker.cluster();
    checker.networks();
    checker.nodes();
    checker.services();
    checker.published_ports();
    checker.findings
}

struct Checker<'c> {
    catalog: &'c Catalog,
    broken: &'c BTreeSet<String>,
    networks: HashMap<&'c NetworkName, &'c Network>,
    nodes: HashSet<&'c NodeName>,
    /// Who has an overlay address.
    addresses: HashMap<IpAddr, Owner<'c>>,
    findings: Vec<(Path, Problem)>,
}

impl Checker<'_> {
    fn found(&mut self, at: At<'_>, problem: Problem) {
        self.findings.push((at.path(), problem));
    }
}
