//! Host-mode ports: what a task has on its node alone.
//!
//! A task carries its own in `Status.PortStatus` from the moment it is made, so that they are known whatever becomes of
//! its service's spec; its node fills in those that the system chose.

use essaim_objects::{PortConfig, PortStatus, Protocol, PublishMode, Service, Task, TaskState};

/// A port of a node.
pub(crate) type HostPort = (Protocol, u16);

fn is_of_host(port: &PortConfig) -> bool {
    port.publish_mode() == PublishMode::Host
}

/// What a service's next task gets.
pub(crate) fn host_ports_of_service(service: &Service) -> Option<PortStatus> {
    let asked = service.spec.endpoint_spec.as_ref()?.ports().iter();
    let ports: Vec<_> = asked.filter(|port| is_of_host(port)).cloned().collect();
    (!ports.is_empty()).then(|| PortStatus {
        ports: Some(ports),
        ..PortStatus::default()
    })
}

fn ports_of(task: &Task) -> impl Iterator<Item = &PortConfig> {
    let status = task.status.port_status.iter();
    status
        .flat_map(|status| status.ports.iter().flatten())
        .filter(|port| is_of_host(port))
}

/// The ports that a task has, or will have, on its node; those that the system will choose left out.
pub(crate) fn host_ports_of_task(task: &Task) -> impl Iterator<Item = HostPort> + '_ {
    let fixed = ports_of(task).filter(|port| port.published() != 0);
    fixed.map(|port| (port.protocol(), port.published()))
}

/// Whether a task has the host-mode ports that its service now asks for.
pub(crate) fn has_ports_of(task: &Task, service: &Service) -> bool {
    let asked = host_ports_of_service(service);
    let asked = asked.iter().flat_map(|status| status.ports.iter().flatten());
    let mut has: Vec<_> = ports_of(task).collect();
    for port in asked {
        let is_it = |found: &&PortConfig| {
            let is_published = port.published() == 0 || port.published() == found.published();
            is_published && found.target() == port.target() && found.protocol() == port.protocol()
        };
        let Some(at) = has.iter().position(is_it) else {
            return false;
        };
        has.swap_remove(at);
    }
    has.is_empty()
}

/// Whether a task got its networks before its service published anything, and so has no address to be asked at.
pub(crate) fn has_no_address_for_ports(task: &Task, service: &Service) -> bool {
    service.spec.publishes() && task.status.state > TaskState::New && task.networks_attachments.is_empty()
}
