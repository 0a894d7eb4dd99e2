//! Taking and freeing what only one object can have.

use crate::view::Cursors;
use crate::{Conflict, Holding, Object, View, holding};
use essaim_objects::{Network, NetworkId, Subnet};
use std::net::IpAddr;
use std::sync::Arc;

impl View {
    /// What the object held and holds no more is free; what it holds anew was free.
    pub(super) fn hold(&mut self, old: Option<&Object>, new: Option<&Object>) -> Result<(), Conflict> {
        self.hold_subnets(old, new)?;
        let [before, after] = [old, new].map(|object| object.map(holding::holdings).unwrap_or_default());
        if before == after {
            return Ok(());
        }
        for gone in before.iter().filter(|held| after.binary_search(held).is_err()) {
            self.holders.remove(gone);
        }
        let Some(new) = new else { return Ok(()) };
        let object = new.id();
        for &what in after.iter().filter(|held| before.binary_search(held).is_err()) {
            if let Holding::Address(network, address) = what {
                self.check_address(new, network, address)?;
            }
            if let Some(by) = self.holders.insert(what, object) {
                return Err(Conflict::Taken { object, what, by });
            }
            self.advance(new, what);
        }
        Ok(())
    }

    /// An address lies in its network, and a host can have it.
    fn check_address(&self, object: &Object, network: NetworkId, address: IpAddr) -> Result<(), Conflict> {
        let is_in = |subnet: &Subnet| {
            let net = subnet.net;
            let is_edge = address == net.network() || address.is_ipv4() && address == net.broadcast();
            net.contains(&address) && !is_edge
        };
        let is_host = match object {
            Object::Network(own) => own.subnets().any(|subnet| is_in(&subnet)),
            _ => self
                .network(network)
                .is_some_and(|network| network.subnets().any(|subnet| is_in(&subnet))),
        };
        let object = object.id();
        if is_host {
            Ok(())
        } else {
            Err(Conflict::Stray {
                object,
                address,
                network,
            })
        }
    }

    /// Notes what was handed out last, so that what is freed is not handed out at once.
    fn advance(&mut self, object: &Object, what: Holding) {
        let (network, address) = match what {
            Holding::Address(network, address) => (network, address),
            Holding::Vni(vni) => {
                self.last_vni = vni;
                return;
            }
            Holding::Cluster | Holding::Ingress | Holding::Port(..) => return,
        };
        let is_vip = match object {
            Object::Service(_) => true,
            Object::Task(_) | Object::Node(_) => false,
            Object::Cluster(_) | Object::Network(_) | Object::Secret(_) | Object::Config(_) => return,
        };
        let mut cursors = self.cursors.get(&network).copied().unwrap_or_default();
        let Cursors {
            task_v4,
            task_v6,
            vip_v4,
            vip_v6,
        } = &mut cursors;
        match (address, is_vip) {
            (IpAddr::V4(address), true) => *vip_v4 = Some(address),
            (IpAddr::V4(address), false) => *task_v4 = Some(address),
            (IpAddr::V6(address), true) => *vip_v6 = Some(address),
            (IpAddr::V6(address), false) => *task_v6 = Some(address),
        }
        self.cursors.insert(network, cursors);
    }

    /// No two networks share an address, and a network that is used keeps its subnets and VNI.
    fn hold_subnets(&mut self, old: Option<&Object>, new: Option<&Object>) -> Result<(), Conflict> {
        let network = |object: Option<&Object>| match object {
            Some(Object::Network(network)) => Some(Arc::clone(network)),
            _ => None,
        };
        let [old, new] = [network(old), network(new)];
        let nets = |network: &Option<Arc<Network>>| -> Vec<_> {
            network
                .iter()
                .flat_map(|network| network.subnets())
                .map(|subnet| subnet.net)
                .collect()
        };
        let [before, after] = [nets(&old), nets(&new)];
        if let (Some(old), Some(new)) = (&old, &new)
            && (before != after || old.vni() != new.vni())
            && let Some(by) = self.user_of(old)
        {
            let object = new.id.into();
            return Err(Conflict::InUse { object, by });
        }
        if before == after {
            return Ok(());
        }
        for net in before {
            self.subnets.remove(&net.network());
        }
        let Some(new) = new else { return Ok(()) };
        for subnet in after {
            if let Some((other, by)) = self.overlapping(subnet) {
                return Err(Conflict::Overlap {
                    object: new.id.into(),
                    subnet,
                    other,
                    by,
                });
            }
            self.subnets.insert(subnet.network(), (subnet, new.id));
        }
        Ok(())
    }
}
