//! Which address of a subnet is next.
//!
//! Tasks and nodes get the low three quarters, one after the other and round again, so that a freed address is not
//! handed out at once. Services get the top quarter from its end downwards, likewise. Only when its own part is full does
//! either go into the other's, so virtual addresses leave the tasks' addresses alone as long as they can.

use super::{NotAllocated, Why};
use crate::View;
use essaim_objects::{Network, Subnet};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A task's or node's.
    Task,
    /// A service's.
    Vip,
}

/// An address as a number; of the same family as the subnet.
pub(super) fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address of a number, of a subnet's family.
pub(super) fn address(bits: u128, net: IpNet) -> IpAddr {
    match net {
        IpNet::V4(_) => Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).into(),
        IpNet::V6(_) => Ipv6Addr::from_bits(bits).into(),
    }
}

/// The addresses of a part of a subnet that hosts can have.
pub(super) fn hosts(net: IpNet, part: IpNet) -> RangeInclusive<u128> {
    let is_v4 = matches!(net, IpNet::V4(_));
    let first = bits(part.network()).max(bits(net.network()) + 1);
    let last = bits(part.broadcast()).min(bits(net.broadcast()) - u128::from(is_v4));
    first..=last
}

/// The next address of a subnet for a purpose, with the subnet's prefix length.
pub(super) fn pick(
    work: &View,
    network: &Network,
    subnet: &Subnet,
    purpose: Purpose,
) -> Result<IpNet, NotAllocated> {
    let hosts = hosts(subnet.net, subnet.range);
    let (first, last) = (*hosts.start(), *hosts.end());
    let size = (last + 1).saturating_sub(first);
    let split = last + 1 - (size / 4).max(1).min(size);
    let search = Search {
        work,
        network,
        net: subnet.net,
    };
    let found = match purpose {
        Purpose::Task => {
            let start = search
                .last_task()
                .filter(|last| (first..split).contains(last))
                .map_or(first, |last| last + 1);
            let serial = search.up(start, split).or_else(|| search.up(first, start));
            serial.or_else(|| search.up(split, last + 1))
        }
        Purpose::Vip => {
            let end = search
                .last_vip()
                .filter(|last| (split..=*hosts.end()).contains(last))
                .unwrap_or(last + 1);
            let serial = search.down(split, end).or_else(|| search.down(end, last + 1));
            serial.or_else(|| search.down(first, split))
        }
    };
    let found = found.map(|bits| address(bits, subnet.net));
    let with_prefix = found.and_then(|address| IpNet::new(address, subnet.net.prefix_len()).ok());
    with_prefix.ok_or_else(|| NotAllocated {
        what: match purpose {
            Purpose::Task => format!("an address on network {}", network.name()),
            Purpose::Vip => format!("a virtual address on network {}", network.name()),
        },
        why: Box::new(Why::AddressesUsedUp {
            network: network.name().to_owned(),
            range: subnet.range,
            used: search.used(first, last),
            of: size,
        }),
    })
}

struct Search<'a> {
    work: &'a View,
    network: &'a Network,
    net: IpNet,
}

impl Search<'_> {
    fn held(&self, least: u128, most: u128) -> impl DoubleEndedIterator<Item = u128> + '_ {
        let [least, most] = [least, most].map(|bits| address(bits, self.net));
        let held = self.work.addresses_within(self.network.id, least, most);
        held.map(|(address, _)| bits(address))
    }

    fn used(&self, first: u128, last: u128) -> u128 {
        if first > last {
            0
        } else {
            self.held(first, last).count() as u128
        }
    }

    /// The lowest free one from `start` to before `end`.
    fn up(&self, start: u128, end: u128) -> Option<u128> {
        if start >= end {
            return None;
        }
        let mut next = start;
        for held in self.held(start, end - 1) {
            if held != next {
                break;
            }
            next += 1;
        }
        (next < end).then_some(next)
    }

    /// The highest free one from `start` to before `end`.
    fn down(&self, start: u128, end: u128) -> Option<u128> {
        if start >= end {
            return None;
        }
        let mut next = end;
        for held in self.held(start, end - 1).rev() {
            if held + 1 != next {
                break;
            }
            next -= 1;
        }
        (next > start).then(|| next - 1)
    }

    fn last_task(&self) -> Option<u128> {
        let cursors = self.work.cursors.get(&self.network.id)?;
        match self.net {
            IpNet::V4(_) => cursors.task_v4.map(|address| address.to_bits().into()),
            IpNet::V6(_) => cursors.task_v6.map(Ipv6Addr::to_bits),
        }
    }

    fn last_vip(&self) -> Option<u128> {
        let cursors = self.work.cursors.get(&self.network.id)?;
        match self.net {
            IpNet::V4(_) => cursors.vip_v4.map(|address| address.to_bits().into()),
            IpNet::V6(_) => cursors.vip_v6.map(Ipv6Addr::to_bits),
        }
    }
}
