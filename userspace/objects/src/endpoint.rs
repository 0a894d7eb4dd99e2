//! How services are reached.

use crate::NetworkId;
use crate::object::{spec, words};
use ipnet::IpNet;

spec! {
    /// How a service is to be reached.
    EndpointSpec {
        /// By a virtual address, or by its tasks' own.
        "Mode" mode: Option<ResolutionMode>,
        /// Its published ports.
        "Ports" ports: Option<Vec<PortConfig>>,
    }
}

impl EndpointSpec {
    /// By a virtual address where nothing else is said.
    pub fn mode(&self) -> ResolutionMode {
        match self.mode {
            None | Some(ResolutionMode::Unset) => ResolutionMode::Vip,
            Some(mode) => mode,
        }
    }

    /// Its published ports.
    pub fn ports(&self) -> &[PortConfig] {
        self.ports.as_deref().unwrap_or_default()
    }
}

words! {
    /// How a service's name resolves.
    ResolutionMode {
        /// What the default says: to a virtual address.
        "" Unset,
        /// To a virtual address.
        "vip" Vip,
        /// To its tasks' addresses.
        "dnsrr" Dnsrr,
    }
}

spec! {
    /// A published port.
    PortConfig {
        /// Its name, for SRV questions.
        "Name" name: Option<String>,
        /// The protocol.
        "Protocol" protocol: Option<Protocol>,
        /// What the tasks listen at.
        "TargetPort" target_port: Option<u32>,
        /// What clients use; the managers choose where it is 0 or not given.
        "PublishedPort" published_port: Option<u32>,
        /// Which nodes answer.
        "PublishMode" publish_mode: Option<PublishMode>,
    }
}

impl PortConfig {
    /// TCP where nothing is said.
    pub fn protocol(&self) -> Protocol {
        self.protocol.unwrap_or(Protocol::Tcp)
    }

    /// Every node where nothing is said.
    pub fn publish_mode(&self) -> PublishMode {
        self.publish_mode.unwrap_or(PublishMode::Ingress)
    }

    /// What the tasks listen at; 0 where nothing is said, which the checks refuse.
    pub fn target(&self) -> u16 {
        self.target_port
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or_default()
    }

    /// What clients use; 0 where the managers choose.
    pub fn published(&self) -> u16 {
        self.published_port
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or_default()
    }
}

words! {
    /// A transport protocol.
    Protocol {
        /// TCP.
        "tcp" Tcp,
        /// UDP.
        "udp" Udp,
        /// SCTP.
        "sctp" Sctp,
    }
}

words! {
    /// Which nodes answer a published port.
    PublishMode {
        /// Every node.
        "ingress" Ingress,
        /// The nodes that run a task.
        "host" Host,
    }
}

spec! {
    /// How a service is reached: what was allotted.
    Endpoint {
        /// What it was allotted for.
        "Spec" spec: Option<EndpointSpec>,
        /// Its ports, all with what clients use.
        "Ports" ports: Option<Vec<PortConfig>>,
        /// Its virtual addresses.
        "VirtualIPs" virtual_ips: Option<Vec<VirtualIp>>,
    }
}

impl Endpoint {
    /// Its ports, all with what clients use.
    pub fn ports(&self) -> &[PortConfig] {
        self.ports.as_deref().unwrap_or_default()
    }

    /// Its virtual addresses.
    pub fn virtual_ips(&self) -> &[VirtualIp] {
        self.virtual_ips.as_deref().unwrap_or_default()
    }
}

crate::object::object! {
    /// A service's virtual address on a network; one for each family that the network has.
    VirtualIp {
        /// The network.
        "NetworkID" network_id: NetworkId,
        /// The address, with the length of the subnet's prefix.
        "Addr" addr: Option<IpNet>,
    }
}
