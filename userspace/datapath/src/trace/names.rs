//! What the numbers in an event stand for.

use super::TraceStep;
use crate::maps::Maps;
use essaim_abi::{DropReason, Event, Hook, Verdict};
use essaim_model::{BackendKey, DesiredState, NodeName, ServiceKey};
use std::net::IpAddr;

/// Maps and plan, asked by index.
pub(super) struct Names<'a> {
    maps: &'a Maps,
    desired: &'a DesiredState,
}

impl<'a> Names<'a> {
    pub(super) fn new(maps: &'a Maps, desired: &'a DesiredState) -> Self {
        Self { maps, desired }
    }

    /// An event of a hook as a step.
    pub(super) fn step(&self, event: &Event, at: Hook, ifindex: u32) -> TraceStep {
        let hook = Hook::ALL
            .into_iter()
            .find(|hook| *hook as u8 == event.hook)
            .unwrap_or(at);
        let present = |number: u32| (number != 0).then_some(number);
        let flow = (
            event.flow.remote.into(),
            u16::from_be(event.flow.remote_port),
            event.flow.local.into(),
            u16::from_be(event.flow.local_port),
        );
        let mut step = TraceStep {
            hook,
            ifindex,
            verdict: Verdict::of(event.verdict).unwrap_or(Verdict::Drop),
            reason: DropReason::of(event.reason),
            service: self.service(event.service),
            backend: self.backend(event.backend),
            node: self.node(event.vtep),
            to_ifindex: present(event.ifindex),
            vni: present(event.vni),
            flow,
            text: String::new(),
        };
        step.text = sentence(&step);
        step
    }

    fn service(&self, index: u32) -> Option<ServiceKey> {
        let id = self.maps.services.read(index).ok()?.id;
        let mut keys = self.desired.services.values().flat_map(|plan| plan.groups.keys());
        keys.find(|key| id != 0 && key.id() == id).cloned()
    }

    fn backend(&self, index: u32) -> Option<BackendKey> {
        let id = self.maps.backends.read(index).ok()?.id;
        let mut keys = self
            .desired
            .services
            .values()
            .flat_map(|plan| plan.backends.keys());
        keys.find(|key| id != 0 && key.id() == id).cloned()
    }

    fn node(&self, vtep: u32) -> Option<NodeName> {
        let address = self.maps.vteps.read(vtep).ok().filter(|_| vtep != 0)?.addr;
        self.desired.cluster.vteps.get(&IpAddr::from(address)).cloned()
    }
}

/// A step in words.
fn sentence(step: &TraceStep) -> String {
    let backend = step
        .backend
        .as_ref()
        .map(|key| format!(" for {key}"))
        .unwrap_or_default();
    let service = step
        .service
        .as_ref()
        .map(|key| format!(" of service {key}"))
        .unwrap_or_default();
    let node = step
        .node
        .as_ref()
        .map_or_else(|| "another node".to_owned(), |node| format!("node {node}"));
    let vni = step.vni.map(|vni| format!(" with VNI {vni}")).unwrap_or_default();
    let interface = step
        .to_ifindex
        .map(|index| format!(" by interface {index}"))
        .unwrap_or_default();
    let why = step
        .reason
        .map(|reason| format!(": {} ({})", reason.text(), reason.name()))
        .unwrap_or_default();
    match step.verdict {
        Verdict::Pass => format!("left to the kernel{backend}{service}{why}"),
        Verdict::Drop => format!("dropped{why}"),
        Verdict::Encapsulated => format!("sent in VXLAN to {node}{vni}{backend}{service}"),
        Verdict::Tunnelled => format!("left to the kernel's VXLAN device, to {node}{vni}{backend}{service}"),
        Verdict::Delivered => format!("delivered to the endpoint{interface}{backend}{service}"),
        Verdict::Forwarded => format!("sent out of an uplink{interface}{backend}{service}"),
        Verdict::Answered => format!("answered on the spot{why}"),
    }
}
