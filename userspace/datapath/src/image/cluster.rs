use super::endpoint::{halves, netns};
use super::service::Indexed;
use super::{Environment, Image, v4_word, v6_addr};
use crate::DatapathError;
use essaim_abi::maps::MAX_ENCRYPTED_VNIS;
use essaim_abi::{
    ABI_VERSION, Addr, Config, ConfigFlags, LocalEndpoint, LocalEndpointFlags, MacAddr, NetnsFlags,
};
use essaim_model::{AddressKind, ClusterPlan, NodeFacts};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// How long a client may take to answer a SYN-ACK: Linux gives up on its own side after 63 s (five retries).
const HALF_OPEN: Duration = Duration::from_secs(63);
/// One new flow of 1,024 is reported.
const SAMPLE_MASK: u32 = 1023;

/// The entries that belong to no service, those of the VTEPs left out.
///
/// # Errors
/// Where the plan contradicts itself.
pub(crate) fn cluster(
    plan: &ClusterPlan,
    facts: &NodeFacts,
    environment: &Environment,
    image: &mut Image,
) -> Result<(), DatapathError> {
    let indexed = Indexed::none(facts, environment);
    for (address, what) in &plan.addresses {
        image.endpoints.insert((*address).into(), indexed.address(what)?);
    }
    let encrypted = plan.subnets.values().filter(|subnet| subnet.encrypted);
    let vnis = encrypted.map(|subnet| (subnet.vni.get(), 1));
    image
        .encrypted_vnis
        .extend(vnis.take(MAX_ENCRYPTED_VNIS as usize));
    if facts.node_ifindex != 0 {
        let own = plan
            .addresses
            .values()
            .find(|address| address.kind == AddressKind::ThisNode);
        let local = LocalEndpoint {
            addr6: v6_addr(overlay(plan)),
            addr4: v4_word(overlay(plan)),
            vni: plan.ingress_vni.get(),
            flags: LocalEndpointFlags::NODE,
            slot: environment.node_slot,
            mtu: environment.mtu,
            backend: 0,
            netns_cookie: halves(facts.node_netns_cookie),
            mac: own.map_or(MacAddr::default(), |address| address.mac),
            reserved: [0; 2],
        };
        image.locals.insert(facts.node_ifindex, local);
    }
    if facts.node_netns_cookie != 0 {
        image.netns.insert(
            facts.node_netns_cookie,
            netns(&plan.node, NetnsFlags::NODE, &BTreeSet::new())?,
        );
    }
    Ok(())
}

/// The node's configuration; `old` is what the map holds, whose switches stay as they are.
///
/// # Errors
/// Where there are more uplinks than the entry holds.
pub(crate) fn config(
    plan: &ClusterPlan,
    facts: &NodeFacts,
    environment: &Environment,
    old: &Config,
) -> Result<Config, DatapathError> {
    let fresh = old.abi_version == 0;
    let mut uplinks = [0; 4];
    if facts.uplinks.len() > uplinks.len() {
        return Err(DatapathError::Plan {
            subject: plan.node.to_string(),
            problem: format!(
                "{} uplinks, at most {} are supported",
                facts.uplinks.len(),
                uplinks.len()
            ),
        });
    }
    for (to, from) in uplinks.iter_mut().zip(&facts.uplinks) {
        *to = from.ifindex;
    }
    Ok(Config {
        abi_version: ABI_VERSION,
        flags: switches(old, fresh, facts.ipsec),
        ingress_vni: plan.ingress_vni.get(),
        trace_mark: old.trace_mark,
        hz: environment.hz,
        half_open_timeout: environment.jiffies(HALF_OPEN),
        sample_mask: if fresh { SAMPLE_MASK } else { old.sample_mask },
        vxlan_ifindex: facts.vxlan_ifindex,
        node_ifindex: facts.node_ifindex,
        own_vtep: environment.vtep(plan.vtep).0,
        vxlan_port: plan.vxlan_port.to_be(),
        gossip_port: plan.gossip_port.to_be(),
        manager_port: plan.manager_port.to_be(),
        reserved: 0,
        uplinks,
        node_addr4: overlay(plan)
            .find(IpAddr::is_ipv4)
            .map_or(Addr::UNSPECIFIED, Addr::from),
        node_addr6: v6_addr(overlay(plan)),
    })
}

fn switches(old: &Config, fresh: bool, ipsec: bool) -> ConfigFlags {
    let flags = if fresh {
        0
    } else {
        old.flags.0 & !ConfigFlags::IPSEC.0
    };
    ConfigFlags(flags | if ipsec { ConfigFlags::IPSEC.0 } else { 0 })
}

/// The addresses that clients may send to.
pub(crate) fn local_addresses(facts: &NodeFacts) -> BTreeSet<Addr> {
    facts
        .local_addresses
        .iter()
        .copied()
        .map(Addr::from)
        .filter(|address| !address.is_unspecified())
        .collect()
}

fn overlay(plan: &ClusterPlan) -> impl Iterator<Item = IpAddr> {
    plan.overlay.iter().map(ipnet::IpNet::addr)
}
