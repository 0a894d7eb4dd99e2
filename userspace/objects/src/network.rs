//! Networks: as the store keeps them (which is what a task's attachments show), and as the API's own routes do.

mod api;

pub use api::{Ipam, IpamPool, NetworkCreate, NetworkResource};

use crate::object::{object, spec};
use crate::{Driver, Labels, NetworkId, Timestamp, Version};
use ipnet::IpNet;
use std::net::IpAddr;

/// The option that carries a network's VNI.
pub const VNI_OPTION: &str = "com.docker.network.driver.overlay.vxlanid_list";
/// The option that carries the MTU of the underlay that a network is made for.
pub const MTU_OPTION: &str = "com.docker.network.driver.mtu";
/// What VXLAN over IPv4 takes of it, in bytes.
pub const VXLAN_OVERHEAD: u32 = 50;

object! {
    /// An overlay network.
    Network {
        /// Its identity.
        "ID" id: NetworkId,
        /// The log index of its last change.
        "Version" version: Version,
        /// When it was made.
        "CreatedAt" created_at: Timestamp,
        /// When it was last changed.
        "UpdatedAt" updated_at: Timestamp,
        /// What is asked.
        "Spec" spec: NetworkSpec,
        /// The driver with its options, the VNI among them, as allotted.
        "DriverState" driver_state: Option<Driver>,
        /// Its subnets with their gateways, as allotted.
        "IPAMOptions" ipam: Option<IpamOptions>,
    }
}

impl Network {
    /// A network to which nothing is allotted yet; the store gives it version and times.
    pub fn new(id: NetworkId, spec: NetworkSpec) -> Self {
        Self {
            id,
            version: Version::default(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            spec,
            driver_state: None,
            ipam: None,
            extra: crate::Extra::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.spec.name.as_deref().unwrap_or_default()
    }

    /// Whether it is the one between the nodes and published services.
    pub fn is_ingress(&self) -> bool {
        self.spec.ingress == Some(true)
    }

    /// The value of an option of its driver: as allotted, which is with those of the network whose configuration it
    /// takes; else as asked.
    pub fn option(&self, name: &str) -> Option<&str> {
        let allotted = self
            .driver_state
            .as_ref()
            .and_then(|driver| driver.options.as_ref());
        match allotted {
            Some(options) => options.get(name).map(String::as_str),
            None => self.spec.option(name),
        }
    }

    /// Its VXLAN network identifier, once allotted.
    pub fn vni(&self) -> Option<u32> {
        vni_of(self.driver_state.as_ref()?)
    }

    /// Its subnets, once allotted, at most one of a family.
    pub fn subnets(&self) -> impl Iterator<Item = Subnet> + '_ {
        let configs = self.ipam.as_ref().and_then(|ipam| ipam.configs.as_deref());
        configs.unwrap_or_default().iter().filter_map(IpamConfig::subnet)
    }
}

/// The VNI that a driver's options name.
pub(crate) fn vni_of(driver: &Driver) -> Option<u32> {
    driver.options.as_ref()?.get(VNI_OPTION)?.parse().ok()
}

spec! {
    /// What is asked of a network.
    NetworkSpec {
        /// Its name.
        "Name" name: Option<String>,
        /// Its labels.
        "Labels" labels: Option<Labels>,
        /// The driver with its options.
        "DriverConfiguration" driver: Option<Driver>,
        /// Whether it has IPv4 addresses; it does where nothing is said.
        "IPv4Enabled" ipv4_enabled: Option<bool>,
        /// Whether it has IPv6 addresses.
        "IPv6Enabled" ipv6_enabled: Option<bool>,
        /// Whether it has no way to the outside.
        "Internal" internal: Option<bool>,
        /// Whether containers that are not the cluster's may join.
        "Attachable" attachable: Option<bool>,
        /// Whether it is the one between the nodes and published services.
        "Ingress" ingress: Option<bool>,
        /// Whether it only holds the configuration of others. Not part of Docker's API, which keeps those on the nodes.
        "ConfigOnly" config_only: Option<bool>,
        /// Its subnets as asked.
        "IPAMOptions" ipam: Option<IpamOptions>,
        /// The network whose configuration it takes.
        "ConfigFrom" config_from: Option<ConfigReferenceName>,
        /// `swarm`.
        "Scope" scope: Option<String>,
    }
}

impl NetworkSpec {
    /// Whether an option is given.
    pub fn has_option(&self, name: &str) -> bool {
        self.option(name).is_some()
    }

    /// The value of an option of its driver.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.driver
            .as_ref()?
            .options
            .as_ref()?
            .get(name)
            .map(String::as_str)
    }

    /// The subnets as asked.
    pub fn configs(&self) -> &[IpamConfig] {
        self.ipam
            .as_ref()
            .and_then(|ipam| ipam.configs.as_deref())
            .unwrap_or_default()
    }

    /// Whether it has IPv4 addresses.
    pub fn has_ipv4(&self) -> bool {
        self.ipv4_enabled.unwrap_or(true)
    }

    /// Whether it has IPv6 addresses: it was asked for, or a subnet of IPv6 was given.
    pub fn has_ipv6(&self) -> bool {
        let given = || {
            self.configs()
                .iter()
                .any(|config| matches!(config.parsed_subnet(), Some(IpNet::V6(_))))
        };
        self.ipv6_enabled == Some(true) || given()
    }
}

spec! {
    /// The name of a network whose configuration another takes.
    ConfigReferenceName {
        /// The name.
        "Network" network: Option<String>,
    }
}

spec! {
    /// Who hands out addresses, and which.
    IpamOptions {
        /// The driver.
        "Driver" driver: Option<Driver>,
        /// The subnets.
        "Configs" configs: Option<Vec<IpamConfig>>,
    }
}

spec! {
    /// A subnet.
    IpamConfig {
        /// Its family.
        "Family" family: Option<String>,
        /// The subnet, such as `10.0.1.0/24`.
        "Subnet" subnet: Option<String>,
        /// The part of it that tasks get addresses of.
        "Range" range: Option<String>,
        /// The nodes' address as the tasks' gateway.
        "Gateway" gateway: Option<String>,
        /// Addresses that are never handed out, by name. Not part of Docker's swarm API.
        "AuxiliaryAddresses" auxiliary_addresses: Option<Labels>,
    }
}

/// A subnet, read from its strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// All of it.
    pub net: IpNet,
    /// The part that addresses are handed out of.
    pub range: IpNet,
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// Addresses that are never handed out.
    pub auxiliary: Vec<IpAddr>,
}

impl IpamConfig {
    /// The subnet with its parts, where all can be read; the checks refuse what cannot.
    pub fn subnet(&self) -> Option<Subnet> {
        let net = self.parsed_subnet()?;
        let range = match given(self.range.as_deref()) {
            Some(range) => range.parse::<IpNet>().ok()?.trunc(),
            None => net,
        };
        let gateway = match given(self.gateway.as_deref()) {
            Some(gateway) => Some(gateway.parse().ok()?),
            None => None,
        };
        let auxiliary = self.auxiliary_addresses.iter().flat_map(Labels::values);
        let auxiliary = auxiliary
            .map(|address| address.parse().ok())
            .collect::<Option<Vec<_>>>()?;
        Some(Subnet {
            net,
            range,
            gateway,
            auxiliary,
        })
    }

    /// The subnet itself, without host bits.
    pub(crate) fn parsed_subnet(&self) -> Option<IpNet> {
        given(self.subnet.as_deref())?
            .parse::<IpNet>()
            .ok()
            .map(|net| net.trunc())
    }
}

/// What was given; clients also send the empty string for nothing.
pub(crate) fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}
