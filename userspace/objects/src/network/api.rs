//! Networks in the words of the API's network routes.

use super::given;
use crate::object::{object, spec};
use crate::{ConfigReferenceName, Driver, IpamConfig, IpamOptions, Labels, Network, NetworkSpec, Timestamp};

spec! {
    /// The body that creates a network.
    NetworkCreate {
        /// Its name.
        "Name" name: Option<String>,
        /// Of old clients; names are always unique here.
        "CheckDuplicate" check_duplicate: Option<bool>,
        /// The driver.
        "Driver" driver: Option<String>,
        /// `swarm`, or empty.
        "Scope" scope: Option<String>,
        /// Whether it has IPv4 addresses.
        "EnableIPv4" enable_ipv4: Option<bool>,
        /// Whether it has IPv6 addresses.
        "EnableIPv6" enable_ipv6: Option<bool>,
        /// Its subnets.
        "IPAM" ipam: Option<Ipam>,
        /// Whether it has no way to the outside.
        "Internal" internal: Option<bool>,
        /// Whether containers that are not the cluster's may join.
        "Attachable" attachable: Option<bool>,
        /// Whether it is the one between the nodes and published services.
        "Ingress" ingress: Option<bool>,
        /// Whether it only holds the configuration of others.
        "ConfigOnly" config_only: Option<bool>,
        /// The network whose configuration it takes.
        "ConfigFrom" config_from: Option<ConfigReferenceName>,
        /// Options of the driver.
        "Options" options: Option<Labels>,
        /// Its labels.
        "Labels" labels: Option<Labels>,
    }
}

spec! {
    /// Who hands out addresses, and which, in the network routes' words.
    Ipam {
        /// The driver.
        "Driver" driver: Option<String>,
        /// Its options.
        "Options" options: Option<Labels>,
        /// The subnets.
        "Config" config: Option<Vec<IpamPool>>,
    }
}

spec! {
    /// A subnet, in the network routes' words.
    IpamPool {
        /// The subnet.
        "Subnet" subnet: Option<String>,
        /// The part of it that tasks get addresses of.
        "IPRange" ip_range: Option<String>,
        /// The gateway.
        "Gateway" gateway: Option<String>,
        /// Addresses that are never handed out, by name.
        "AuxiliaryAddresses" auxiliary_addresses: Option<Labels>,
    }
}

impl From<NetworkCreate> for NetworkSpec {
    fn from(create: NetworkCreate) -> Self {
        let NetworkCreate {
            name,
            check_duplicate: _,
            driver,
            scope: _,
            enable_ipv4,
            enable_ipv6,
            ipam,
            internal,
            attachable,
            ingress,
            config_only,
            config_from,
            options,
            labels,
            extra,
        } = create;
        let driver = Driver {
            name: driver.filter(|name| !name.is_empty()),
            options,
            ..Driver::default()
        };
        Self {
            name,
            labels,
            driver: Some(driver),
            ipv4_enabled: enable_ipv4,
            ipv6_enabled: enable_ipv6,
            internal,
            attachable,
            ingress,
            config_only,
            ipam: ipam.map(IpamOptions::from),
            config_from: config_from.filter(|from| given(from.network.as_deref()).is_some()),
            scope: Some("swarm".to_owned()),
            extra,
        }
    }
}

impl From<Ipam> for IpamOptions {
    fn from(ipam: Ipam) -> Self {
        let Ipam {
            driver,
            options,
            config,
            extra,
        } = ipam;
        let driver = Driver {
            name: driver.filter(|name| !name.is_empty()),
            options,
            ..Driver::default()
        };
        Self {
            driver: Some(driver),
            configs: config.map(|pools| pools.into_iter().map(IpamConfig::from).collect()),
            extra,
        }
    }
}

impl From<IpamPool> for IpamConfig {
    fn from(pool: IpamPool) -> Self {
        let IpamPool {
            subnet,
            ip_range,
            gateway,
            auxiliary_addresses,
            extra,
        } = pool;
        Self {
            family: None,
            subnet,
            range: ip_range,
            gateway,
            auxiliary_addresses,
            extra,
        }
    }
}

impl From<IpamConfig> for IpamPool {
    fn from(config: IpamConfig) -> Self {
        let IpamConfig {
            family: _,
            subnet,
            range,
            gateway,
            auxiliary_addresses,
            extra,
        } = config;
        Self {
            subnet,
            ip_range: range,
            gateway,
            auxiliary_addresses,
            extra,
        }
    }
}

object! {
    /// A network as the API's network routes show it.
    NetworkResource {
        /// Its name.
        "Name" name: String,
        /// Its identity.
        "Id" id: String,
        /// When it was made.
        "Created" created: Timestamp,
        /// `swarm`.
        "Scope" scope: String,
        /// The driver.
        "Driver" driver: String,
        /// Whether it has IPv4 addresses.
        "EnableIPv4" enable_ipv4: bool,
        /// Whether it has IPv6 addresses.
        "EnableIPv6" enable_ipv6: bool,
        /// Its subnets.
        "IPAM" ipam: Ipam,
        /// Whether it has no way to the outside.
        "Internal" internal: bool,
        /// Whether containers that are not the cluster's may join.
        "Attachable" attachable: bool,
        /// Whether it is the one between the nodes and published services.
        "Ingress" ingress: bool,
        /// The network whose configuration it takes.
        "ConfigFrom" config_from: ConfigReferenceName,
        /// Whether it only holds the configuration of others.
        "ConfigOnly" config_only: bool,
        /// Options of the driver, the VNI among them.
        "Options" options: Option<Labels>,
        /// Its labels.
        "Labels" labels: Option<Labels>,
    }
}

impl From<&Network> for NetworkResource {
    fn from(network: &Network) -> Self {
        let spec = &network.spec;
        let asked = spec.driver.as_ref();
        let state = network.driver_state.as_ref();
        let mut options = asked
            .and_then(|driver| driver.options.clone())
            .unwrap_or_default();
        options.extend(
            state
                .and_then(|driver| driver.options.clone())
                .unwrap_or_default(),
        );
        let driver = state.or(asked).and_then(|driver| driver.name.clone());
        let ipam = network
            .ipam
            .as_ref()
            .or(spec.ipam.as_ref())
            .cloned()
            .unwrap_or_default();
        let ipam_driver = ipam.driver.unwrap_or_default();
        let named = ConfigReferenceName {
            network: Some(String::new()),
            ..ConfigReferenceName::default()
        };
        Self {
            name: network.name().to_owned(),
            id: network.id.to_string(),
            created: network.created_at,
            scope: "swarm".to_owned(),
            driver: driver.unwrap_or_else(|| "overlay".to_owned()),
            enable_ipv4: spec.has_ipv4(),
            enable_ipv6: spec.has_ipv6(),
            ipam: Ipam {
                driver: Some(ipam_driver.name.unwrap_or_else(|| "default".to_owned())),
                options: ipam_driver.options,
                config: Some(
                    ipam.configs
                        .unwrap_or_default()
                        .into_iter()
                        .map(IpamPool::from)
                        .collect(),
                ),
                extra: ipam.extra,
            },
            internal: spec.internal == Some(true),
            attachable: spec.attachable == Some(true),
            ingress: network.is_ingress(),
            config_from: spec.config_from.clone().unwrap_or(named),
            config_only: spec.config_only == Some(true),
            options: Some(options),
            labels: Some(spec.labels.clone().unwrap_or_default()),
            extra: crate::Extra::new(),
        }
    }
}
