use super::vtep::overhead;
use super::{Allocators, Image};
use crate::DatapathError;
use essaim_abi::Vtep;
use essaim_model::{AddressKind, ClusterPlan, NodeFacts};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// An underlay without an uplink that is known.
const USUAL_MTU: u32 = 1500;

/// What the entries of every service depend on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Environment {
    /// Index and inner MTU of the VTEPs.
    vteps: BTreeMap<IpAddr, (u32, u32)>,
    /// Largest inner IP packet that fits every uplink.
    pub(super) mtu: u32,
    /// Slot of the node's own endpoint, 0 where it has none.
    pub(super) node_slot: u32,
    pub(super) node_ifindex: u32,
    /// Ticks a second.
    pub(super) hz: u32,
}

impl Environment {
    /// Gives the VTEPs and the node's endpoint their indices, and puts the VTEPs' entries into `image`.
    ///
    /// # Errors
    /// Where there is no index left.
    pub(crate) fn new(
        plan: &ClusterPlan,
        facts: &NodeFacts,
        hz: u32,
        allocators: &mut Allocators,
        image: &mut Image,
        now: Instant,
    ) -> Result<Self, DatapathError> {
        let underlay = facts
            .uplinks
            .iter()
            .map(|uplink| uplink.mtu)
            .min()
            .unwrap_or(USUAL_MTU);
        let mut vteps = BTreeMap::new();
        let numbers = numbers(plan);
        for address in plan.vteps.keys().chain([&plan.vtep]) {
            let index = allocators.vtep(*address, now)?;
            let mtu = underlay.saturating_sub(overhead(*address));
            let mut entry: Vtep = if *address == plan.vtep {
                super::vtep::own(*address, mtu)
            } else {
                super::vtep::other(*address, facts.next_hops.get(address), plan.vxlan_port, mtu)
            };
            if let Some(number) = numbers.get(address) {
                entry.number = *number;
                image.vtep_by_number.insert(*number, index);
            }
            vteps.insert(*address, (index, entry.mtu));
            image.vtep_by_addr.insert(entry.addr, index);
            image.vteps.insert(index, entry);
        }
        let node_slot = if facts.node_ifindex == 0 {
            0
        } else {
            allocators.slot(facts.node_ifindex, now)?
        };
        Ok(Self {
            vteps,
            mtu: underlay.saturating_sub(overhead(plan.vtep)),
            node_slot,
            node_ifindex: facts.node_ifindex,
            hz,
        })
    }

    /// Index of a VTEP, 0 where it is no member's, and the largest inner packet that fits the way there.
    pub(super) fn vtep(&self, address: IpAddr) -> (u32, u32) {
        self.vteps.get(&address).copied().unwrap_or((0, self.mtu))
    }

    /// A time in jiffies, rounded up, as far as programs can compare it.
    pub(super) fn jiffies(&self, time: Duration) -> u32 {
        let ticks = (time.as_millis() * u128::from(self.hz)).div_ceil(1000);
        u32::try_from(ticks)
            .unwrap_or(u32::MAX)
            .min(i32::MAX.unsigned_abs())
    }
}

/// The numbers of the nodes by their VTEPs, as [`Vtep::number`] says.
fn numbers(plan: &ClusterPlan) -> BTreeMap<IpAddr, u32> {
    let mut numbers = BTreeMap::new();
    // IPv4 addresses come first.
    for (address, what) in &plan.addresses {
        let vtep = match &what.kind {
            AddressKind::ThisNode => plan.vtep,
            AddressKind::OtherNode(vtep) => *vtep,
            AddressKind::Local(..)
            | AddressKind::Remote(..)
            | AddressKind::Vip(_)
            | AddressKind::Gateway
            | AddressKind::Tombstone => continue,
        };
        let low = match address {
            IpAddr::V4(address) => address.to_bits() & 0xffff,
            IpAddr::V6(address) => u32::from(address.segments()[7]),
        };
        numbers.entry(vtep).or_insert(low);
    }
    numbers
}
