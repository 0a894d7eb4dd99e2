//! A service's ports and virtual addresses.

use super::addresses::{Purpose, pick};
use super::{NotAllocated, Why, task};
use crate::{Holding, Object, ObjectId, View};
use essaim_objects::{Endpoint, PortConfig, Protocol, PublishMode, ResolutionMode, Service, VirtualIp};
use std::collections::BTreeSet;

/// The ports that the managers choose of.
const CHOSEN_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// Completes a service; what it has and still asks for, it keeps.
pub(super) fn complete(work: &View, service: &mut Service) -> Result<(), NotAllocated> {
    let old = work
        .service(service.id)
        .and_then(|old| old.endpoint.clone())
        .unwrap_or_default();
    let spec = service.spec.endpoint_spec.clone().unwrap_or_default();
    let ports = ports(work, service, spec.ports(), old.ports())?;
    let virtual_ips = match spec.mode() {
        ResolutionMode::Vip | ResolutionMode::Unset => virtual_ips(work, service, old.virtual_ips())?,
        ResolutionMode::Dnsrr => Vec::new(),
    };
    service.endpoint = Some(Endpoint {
        spec: Some(spec),
        ports: (!ports.is_empty()).then_some(ports),
        virtual_ips: (!virtual_ips.is_empty()).then_some(virtual_ips),
        ..Endpoint::default()
    });
    Ok(())
}

/// What a port is told apart by, where the client leaves it to the managers which one is published.
type PortKey<'a> = (Option<&'a str>, Protocol, u16, PublishMode);

fn key(port: &PortConfig) -> PortKey<'_> {
    (
        port.name.as_deref(),
        port.protocol(),
        port.target(),
        port.publish_mode(),
    )
}

fn ports(
    work: &View,
    service: &Service,
    asked: &[PortConfig],
    old: &[PortConfig],
) -> Result<Vec<PortConfig>, NotAllocated> {
    let refused = |port: &PortConfig, why| {
        Err(NotAllocated {
            what: format!(
                "a port of {} for {} to service {}",
                port.protocol(),
                port.target(),
                service.spec.name()
            ),
            why: Box::new(why),
        })
    };
    let is_ingress = |port: &&PortConfig| port.publish_mode() == PublishMode::Ingress;
    let mut own = BTreeSet::new();
    for port in asked
        .iter()
        .filter(is_ingress)
        .filter(|port| port.published() != 0)
    {
        let (protocol, published) = (port.protocol(), port.published());
        match work.holder_of_port(protocol, published) {
            Some(id) if id != service.id.into() => {
                let by = name_of(work, id);
                return refused(
                    port,
                    Why::PortTaken {
                        port: published,
                        by,
                        id,
                    },
                );
            }
            _ => own.insert((protocol, published)),
        };
    }
    let mut kept: Vec<&PortConfig> = old.iter().filter(is_ingress).collect();
    let mut ports = Vec::with_capacity(asked.len());
    for port in asked {
        let mut allotted = port.clone();
        if is_ingress(&port) && port.published() == 0 {
            let protocol = port.protocol();
            let may_keep =
                |old: &&PortConfig| key(old) == key(port) && !own.contains(&(protocol, old.published()));
            let before = kept
                .iter()
                .position(may_keep)
                .map(|at| kept.swap_remove(at).published());
            let Some(published) = before.or_else(|| free_port(work, protocol, &own)) else {
                return refused(port, Why::PortsUsedUp { protocol });
            };
            own.insert((protocol, published));
            allotted.published_port = Some(published.into());
        }
        ports.push(allotted);
    }
    Ok(ports)
}

/// The lowest port of the managers' choice that nothing has. What the service itself has from before may be taken up
/// again by another of its ports, so it is left alone.
fn free_port(work: &View, protocol: Protocol, own: &BTreeSet<(Protocol, u16)>) -> Option<u16> {
    let [first, last] = [CHOSEN_PORTS.start(), CHOSEN_PORTS.end()].map(|port| Holding::Port(protocol, *port));
    let mut held = work.holders.range(first..=last).map(|(held, _)| *held).peekable();
    CHOSEN_PORTS.into_iter().find(|port| {
        let is_held = held.next_if_eq(&Holding::Port(protocol, *port)).is_some();
        !is_held && !own.contains(&(protocol, *port))
    })
}

fn name_of(work: &View, id: ObjectId) -> String {
    match work.object(id) {
        Some(Object::Service(service)) => service.spec.name().to_owned(),
        _ => id.to_string(),
    }
}

fn virtual_ips(work: &View, service: &Service, old: &[VirtualIp]) -> Result<Vec<VirtualIp>, NotAllocated> {
    let mut virtual_ips = Vec::new();
    for target in service.spec.networks() {
        let target = target.target.as_deref().unwrap_or_default();
        let network = task::network(work, target, || {
            format!("a virtual address to service {}", service.spec.name())
        })?;
        for subnet in network.subnets() {
            let is_here = |vip: &&VirtualIp| {
                vip.network_id == network.id
                    && vip
                        .addr
                        .is_some_and(|address| subnet.net.contains(&address.addr()))
            };
            let kept = old.iter().find(is_here).and_then(|vip| vip.addr);
            let address = match kept {
                Some(address) => address,
                None => pick(work, network, &subnet, Purpose::Vip)?,
            };
            virtual_ips.push(VirtualIp {
                network_id: network.id,
                addr: Some(address),
                extra: essaim_objects::Extra::new(),
            });
        }
    }
    Ok(virtual_ips)
}
