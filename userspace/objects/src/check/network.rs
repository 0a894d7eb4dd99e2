//! The checks of networks.

use super::{Invalid, Problems};
use crate::network::given;
use crate::{IpamConfig, Labels, MTU_OPTION, NetworkSpec, VNI_OPTION, VXLAN_OVERHEAD};
use ipnet::IpNet;
use std::net::IpAddr;

/// The options that a network can have. `dsr` asks for what is always so: tasks see each other's addresses.
const OPTIONS: [&str; 4] = [MTU_OPTION, VNI_OPTION, "dsr", "encrypted"];
/// The least MTU of endpoints, of an IPv4 network and of one with IPv6; and the most.
const ENDPOINT_MTU: [u32; 3] = [576, 1280, 65_465];
/// Largest VXLAN network identifier.
const MAX_VNI: u32 = (1 << 24) - 1;

impl NetworkSpec {
    /// Whether such a network can be made. That its subnets are free is the store's to say.
    ///
    /// # Errors
    /// Every member that cannot be as it is.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let mut problems = Problems::default();
        problems.name("Name", self.name.as_deref());
        problems.labels("Labels", self.labels.as_ref());
        let driver = self
            .driver
            .as_ref()
            .and_then(|driver| driver.name.as_deref())
            .unwrap_or_default();
        if !matches!(driver, "" | "overlay") {
            problems.text("DriverConfiguration.Name", driver, "overlay");
        }
        let ipam = self.ipam.as_ref().and_then(|ipam| ipam.driver.as_ref());
        let name = ipam.and_then(|driver| driver.name.as_deref()).unwrap_or_default();
        if !matches!(name, "" | "default") {
            problems.text("IPAMOptions.Driver.Name", name, "default");
        }
        let options = ipam.and_then(|driver| driver.options.as_ref());
        for name in options.into_iter().flat_map(Labels::keys) {
            problems.text(
                "IPAMOptions.Driver.Options",
                name,
                "none: the default driver has no options",
            );
        }
        problems.within("DriverConfiguration.Options", |problems| {
            self.check_options(problems);
        });
        if self.ingress == Some(true) {
            for (name, is_set) in [
                ("Attachable", self.attachable),
                ("Internal", self.internal),
                ("ConfigOnly", self.config_only),
            ] {
                if is_set == Some(true) {
                    problems.add(name, true, "false for the ingress network");
                }
            }
        }
        if !self.has_ipv4() && !self.has_ipv6() {
            problems.add(
                "IPv4Enabled",
                false,
                "true, or IPv6Enabled true: a network has addresses",
            );
        }
        if self.config_from.is_some() {
            let own = [
                ("IPAMOptions.Configs", !self.configs().is_empty()),
                ("IPv6Enabled", self.ipv6_enabled == Some(true)),
                ("ConfigOnly", self.config_only == Some(true)),
            ];
            for (name, _) in own.into_iter().filter(|(_, is_given)| *is_given) {
                problems.add(name, "given", "none beside ConfigFrom");
            }
        }
        let mut families = [false; 2];
        let configs = self.ipam.as_ref().and_then(|ipam| ipam.configs.as_deref());
        problems.each("IPAMOptions.Configs", configs, |problems, config| {
            subnet(problems, config, &mut families);
        });
        problems.finish()
    }

    fn check_options(&self, problems: &mut Problems) {
        let mut number = |name: &str, least: u32, most: u32| {
            let Some(text) = self.option(name) else { return };
            if !text
                .parse::<u32>()
                .is_ok_and(|number| (least..=most).contains(&number))
            {
                problems.text(name, text, format_args!("a number from {least} to {most}"));
            }
        };
        number(VNI_OPTION, 1, MAX_VNI);
        let [v4, v6, most] = ENDPOINT_MTU.map(|mtu| mtu + VXLAN_OVERHEAD);
        number(MTU_OPTION, if self.has_ipv6() { v6 } else { v4 }, most);
        let options = self.driver.as_ref().and_then(|driver| driver.options.as_ref());
        for name in options.into_iter().flat_map(Labels::keys) {
            if !OPTIONS.contains(&name.as_str()) {
                problems.text("", name, format_args!("one of {}", OPTIONS.join(", ")));
            }
        }
    }
}

/// A subnet, of which a network has one of a family.
fn subnet(problems: &mut Problems, config: &IpamConfig, families: &mut [bool; 2]) {
    let Some(text) = given(config.subnet.as_deref()) else {
        if given(config.range.as_deref())
            .or(given(config.gateway.as_deref()))
            .is_some()
        {
            problems.add("Subnet", "absent", "a subnet beside its range and gateway");
        }
        return;
    };
    let Ok(net) = text.parse::<IpNet>() else {
        problems.text("Subnet", text, "a subnet such as 10.1.0.0/24 or fd00:1::/64");
        return;
    };
    if net != net.trunc() {
        problems.text("Subnet", text, format_args!("{}, without host bits", net.trunc()));
    }
    let (family, least, most) = match net {
        IpNet::V4(_) => (0, 8, 30),
        IpNet::V6(_) => (1, 16, 126),
    };
    problems.number("Subnet's prefix length", Some(net.prefix_len()), least, most);
    let address = net.addr();
    if address.is_loopback() || address.is_multicast() || address.is_unspecified() {
        problems.text("Subnet", text, "addresses that a host can have");
    }
    if let Some(taken) = families.get_mut(family)
        && std::mem::replace(taken, true)
    {
        problems.text("Subnet", text, "at most one subnet of IPv4 and one of IPv6");
    }
    let net = net.trunc();
    if let Some(text) = given(config.range.as_deref()) {
        match text.parse::<IpNet>() {
            Ok(range) if net.contains(&range) => {}
            Ok(_) => problems.text("Range", text, format_args!("a part of {net}")),
            Err(_) => problems.text("Range", text, "a part of the subnet such as 10.1.0.128/25"),
        }
    }
    let mut address_in = |name: &str, text: &str| match text.parse::<IpAddr>() {
        Ok(address) if net.contains(&address) && is_host(net, address) => {}
        Ok(_) => problems.text(name, text, format_args!("an address of a host in {net}")),
        Err(_) => problems.text(name, text, "an IP address"),
    };
    if let Some(text) = given(config.gateway.as_deref()) {
        address_in("Gateway", text);
    }
    for text in config.auxiliary_addresses.iter().flat_map(crate::Labels::values) {
        address_in("AuxiliaryAddresses", text);
    }
}

/// Whether an address of a subnet is neither its first (the network's) nor, for IPv4, its last (the broadcast's).
fn is_host(net: IpNet, address: IpAddr) -> bool {
    address != net.network() && (address.is_ipv6() || address != net.broadcast())
}
