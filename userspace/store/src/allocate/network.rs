//! A network's VNI, subnets and gateways.

use super::addresses::{address, bits, hosts};
use super::{NotAllocated, Why};
use crate::{Holding, ObjectId, View};
use essaim_objects::{Driver, IpamConfig, IpamOptions, Labels, Network, NetworkSpec, VNI_OPTION};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The first that the managers choose themselves.
const FIRST_VNI: u32 = 4096;
/// The last.
const LAST_VNI: u32 = (1 << 24) - 1;
/// The default pool: 10.0.0.0/8.
const DEFAULT_POOL: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8));
/// The default length of an IPv4 subnet's prefix.
const DEFAULT_SIZE: u8 = 24;
/// The length of an IPv6 subnet's prefix.
const V6_SIZE: u8 = 64;

/// Completes a network. One that is there keeps what it has.
pub(super) fn complete(work: &View, network: &mut Network) -> Result<(), NotAllocated> {
    if let Some(old) = work.network(network.id)
        && old.driver_state.is_some()
    {
        network.driver_state.clone_from(&old.driver_state);
        network.ipam.clone_from(&old.ipam);
        return Ok(());
    }
    if network.spec.config_only == Some(true) {
        return Ok(());
    }
    let source = source(work, &network.spec, network.name())?;
    let mut configs = Vec::new();
    for (is_wanted, family) in [(source.has_ipv4(), Family::V4), (source.has_ipv6(), Family::V6)] {
        if is_wanted {
            configs.push(subnet(work, network.name(), &source, family, &configs)?);
        }
    }
    let asked = network
        .spec
        .driver
        .as_ref()
        .and_then(|driver| driver.options.clone());
    let inherited = source.driver.as_ref().and_then(|driver| driver.options.clone());
    let mut options = inherited.unwrap_or_default();
    options.extend(asked.unwrap_or_default());
    let vni = vni(work, network.name(), &options)?;
    options.insert(VNI_OPTION.to_owned(), vni.to_string());
    network.driver_state = Some(driver("overlay", Some(options)));
    network.ipam = Some(IpamOptions {
        driver: Some(driver("default", None)),
        configs: Some(configs),
        ..IpamOptions::default()
    });
    Ok(())
}

fn driver(name: &str, options: Option<Labels>) -> Driver {
    Driver {
        name: Some(name.to_owned()),
        options,
        ..Driver::default()
    }
}

/// The spec that the addresses come from: the network's own, or that of the network whose configuration it takes.
fn source(work: &View, spec: &NetworkSpec, name: &str) -> Result<NetworkSpec, NotAllocated> {
    let from = spec.config_from.as_ref().and_then(|from| from.network.as_deref());
    let Some(from) = from.filter(|from| !from.is_empty()) else {
        return Ok(spec.clone());
    };
    let found = work
        .network_by_name(from)
        .filter(|found| found.spec.config_only == Some(true));
    let found = found.ok_or_else(|| NotAllocated {
        what: format!("the configuration of network {name}"),
        why: Box::new(Why::NoNetwork {
            network: from.to_owned(),
        }),
    })?;
    Ok(found.spec.clone())
}

/// The one that was asked for, else the next after the last that was handed out.
fn vni(work: &View, name: &str, options: &Labels) -> Result<u32, NotAllocated> {
    let asked = options.get(VNI_OPTION).and_then(|vni| vni.parse::<u32>().ok());
    if let Some(vni) = asked {
        return match work.holder_of_vni(vni) {
            Some(by) => Err(NotAllocated {
                what: format!("VNI {vni} to network {name}"),
                why: Box::new(Why::VniTaken {
                    by: name_of(work, by),
                }),
            }),
            None => Ok(vni),
        };
    }
    let start = work.last_vni.saturating_add(1).clamp(FIRST_VNI, LAST_VNI + 1);
    let free = free_vni(work, start, LAST_VNI).or_else(|| free_vni(work, FIRST_VNI, start - 1));
    free.ok_or_else(|| NotAllocated {
        what: format!("a VNI to network {name}"),
        why: Box::new(Why::VnisUsedUp),
    })
}

fn free_vni(work: &View, first: u32, last: u32) -> Option<u32> {
    if first > last {
        return None;
    }
    let mut next = first;
    for (held, _) in work.holders.range(Holding::Vni(first)..=Holding::Vni(last)) {
        if *held != Holding::Vni(next) {
            break;
        }
        next += 1;
    }
    (next <= last).then_some(next)
}

/// The name of a network.
fn name_of(work: &View, id: ObjectId) -> String {
    match work.object(id) {
        Some(crate::Object::Network(network)) => network.name().to_owned(),
        _ => id.to_string(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    const fn of(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// A network's subnet of a family: as it was given, else from the pools; with its gateway.
fn subnet(
    work: &View,
    name: &str,
    spec: &NetworkSpec,
    family: Family,
    others: &[IpamConfig],
) -> Result<IpamConfig, NotAllocated> {
    let given = spec.configs().iter().find_map(|config| {
        let subnet = config.subnet()?;
        (Family::of(&subnet.net) == family).then(|| (config.clone(), subnet))
    });
    let (mut config, net, asked, auxiliary) = match given {
        Some((config, subnet)) => {
            if let Some((other, by)) = work.overlapping(subnet.net) {
                return Err(NotAllocated {
                    what: format!("subnet {} to network {name}", subnet.net),
                    why: Box::new(Why::Overlap {
                        other,
                        by: name_of(work, by.into()),
                    }),
                });
            }
            (config, subnet.net, subnet.gateway, subnet.auxiliary)
        }
        None => (
            IpamConfig::default(),
            free_subnet(work, name, family, others)?,
            None,
            Vec::new(),
        ),
    };
    let own = hosts(net, net)
        .map(|bits| address(bits, net))
        .find(|address| !auxiliary.contains(address));
    let gateway: IpAddr = asked.or(own).ok_or_else(|| NotAllocated {
        what: format!("a gateway to network {name}"),
        why: Box::new(Why::NoGateway { subnet: net }),
    })?;
    config.subnet = Some(net.to_string());
    config.gateway = Some(gateway.to_string());
    Ok(config)
}

/// The first subnet of the pools that no network has.
fn free_subnet(
    work: &View,
    name: &str,
    family: Family,
    others: &[IpamConfig],
) -> Result<IpNet, NotAllocated> {
    let refused = |why| {
        Err(NotAllocated {
            what: format!("an {} subnet to network {name}", family.name()),
            why: Box::new(why),
        })
    };
    let (pools, size) = pools(work, family);
    if pools.is_empty() {
        return refused(Why::NoPool {
            family: family.name(),
        });
    }
    debug_assert!(others.iter().all(|other| {
        other
            .subnet()
            .is_none_or(|other| Family::of(&other.net) != family)
    }));
    if let Some(found) = pools.iter().find_map(|pool| free_in(work, *pool, size)) {
        return Ok(found);
    }
    let within = |net: &&(IpNet, essaim_objects::NetworkId)| pools.iter().any(|pool| pool.contains(&net.0));
    let used = work.subnets.values().filter(within).count() as u128;
    let of = pools
        .iter()
        .map(|pool| 1_u128 << size.saturating_sub(pool.prefix_len()).min(127))
        .sum();
    refused(Why::PoolUsedUp {
        pools,
        size,
        used,
        of,
    })
}

/// The pools of a family, and how long the prefix of a subnet is.
fn pools(work: &View, family: Family) -> (Vec<IpNet>, u8) {
    let cluster = work.cluster();
    let given = cluster
        .and_then(|cluster| cluster.default_addr_pool.as_deref())
        .unwrap_or_default();
    let given = given
        .iter()
        .filter_map(|pool| pool.parse::<IpNet>().ok())
        .map(|pool| pool.trunc());
    let given: Vec<_> = given.filter(|pool| Family::of(pool) == family).collect();
    let size = cluster
        .and_then(|cluster| cluster.subnet_size)
        .and_then(|size| u8::try_from(size).ok());
    match family {
        Family::V4 => {
            let pools = if given.is_empty() {
                vec![DEFAULT_POOL]
            } else {
                given
            };
            (
                pools,
                size.filter(|size| (1..=30).contains(size))
                    .unwrap_or(DEFAULT_SIZE),
            )
        }
        Family::V6 => {
            let own = || {
                let id = cluster.map_or_else(String::new, |cluster| cluster.id.to_string());
                vec![local_pool(essaim_model::stable_id(&id))]
            };
            (if given.is_empty() { own() } else { given }, V6_SIZE)
        }
    }
}

/// The cluster's own prefix among the unique local addresses (RFC 4193): fd, 40 bits that hardly another cluster has,
/// and 16 for subnets.
fn local_pool(seed: u64) -> IpNet {
    let global = u128::from(seed >> 24);
    let bits = (0xfd_u128 << 120) | (global << 80);
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), 48))
}

/// The first subnet of a pool that no network has.
fn free_in(work: &View, pool: IpNet, size: u8) -> Option<IpNet> {
    let end = bits(pool.broadcast());
    let mut start = bits(pool.network());
    loop {
        let candidate = IpNet::new(address(start, pool), size.max(pool.prefix_len())).ok()?;
        let Some((other, _)) = work.overlapping(candidate) else {
            return Some(candidate);
        };
        let after = bits(other.broadcast()).max(bits(candidate.broadcast()));
        if after >= end {
            return None;
        }
        // The first start after it that such a subnet can have.
        let last_of_block = bits(
            IpNet::new(address(after, pool), candidate.prefix_len())
                .ok()?
                .broadcast(),
        );
        start = last_of_block.checked_add(1)?;
        if start > end {
            return None;
        }
    }
}
