//! The network between the machines of a lab: one bridge in a namespace of its own, and what lies beyond it.

use crate::netem::Netem;
use crate::traces::Prefix;
use crate::xdp_pass::XdpPass;
use crate::{ip, netns};
use anyhow::Context as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

/// The bridge's name, within its namespace.
const BRIDGE: &str = "br0";

/// Every machine's interface to the underlay.
pub const UPLINK: &str = "eth0";

/// The namespace of the bridge.
pub const HUB: &str = "hub";

/// An address beyond the underlay's router, which stands for the world.
pub const WORLD_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// As [`WORLD_V4`].
pub const WORLD_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// The underlay's IPv4 address of a machine: the router is 1, nodes are 10 and up, clients 200 and up.
pub(crate) const fn v4(machine: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 0, machine)
}

/// The underlay's IPv6 address of a machine, with the same last digits in its text as the IPv4 address.
pub(crate) fn v6(machine: u8) -> Ipv6Addr {
    let digits = u16::from(machine);
    Ipv6Addr::new(
        0xfd00,
        0x30,
        0,
        0,
        0,
        0,
        0,
        (digits / 100) << 8 | (digits / 10 % 10) << 4 | (digits % 10),
    )
}

/// How the underlay is made.
#[derive(Clone, Debug)]
pub(crate) struct Underlay {
    /// MTU of every link, in bytes.
    pub(crate) mtu: u32,
    /// Whether the machines have IPv6 addresses too.
    pub(crate) ipv6: bool,
    /// Whether the bridge's ends of the links let `XDP_TX` frames in.
    pub(crate) xdp: bool,
    /// What happens to frames under way, if anything.
    pub(crate) netem: Option<Netem>,
}

impl Underlay {
    /// Makes the bridge, with the router's addresses and the world's.
    pub(crate) fn create(&self, prefix: &Prefix) -> anyhow::Result<()> {
        let hub = prefix.netns(HUB);
        netns::create(&hub)?;
        let mut lines = vec![
            format!(
                "link add {BRIDGE} mtu {} type bridge mcast_snooping 0 stp_state 0 forward_delay 0",
                self.mtu
            ),
            format!("addr add {}/24 dev {BRIDGE}", v4(1)),
            format!("addr add {WORLD_V4}/32 dev lo"),
            format!("link set {BRIDGE} up"),
        ];
        if self.ipv6 {
            lines.push(format!("addr add {}/64 dev {BRIDGE} nodad", v6(1)));
            lines.push(format!("addr add {WORLD_V6}/128 dev lo nodad"));
        }
        ip::batch(&hub, &lines)?;
        Self::offload_off(&hub, BRIDGE)
    }

    /// Plugs a machine in.
    pub(crate) fn attach(&self, prefix: &Prefix, name: &str, machine: u8) -> anyhow::Result<()> {
        let (hub, machine_netns) = (prefix.netns(HUB), prefix.netns(name));
        let mtu = self.mtu;
        ip::batch(
            &hub,
            &[
                format!(
                    "link add {name} mtu {mtu} type veth peer name {UPLINK} mtu {mtu} netns {machine_netns}"
                ),
                format!("link set {name} master {BRIDGE}"),
                format!("link set {name} up"),
            ],
        )?;
        let mut lines = vec![
            format!("addr add {}/24 dev {UPLINK}", v4(machine)),
            format!("link set {UPLINK} up"),
        ];
        lines.push(format!("route add default via {}", v4(1)));
        if self.ipv6 {
            lines.push(format!("addr add {}/64 dev {UPLINK} nodad", v6(machine)));
            lines.push(format!("route add default via {}", v6(1)));
        }
        Self::offload_off(&machine_netns, UPLINK)?;
        ip::batch(&machine_netns, &lines)?;
        if let Some(netem) = &self.netem {
            netem.attach(&hub, name)?;
        }
        if self.xdp {
            let pins = prefix.pins().join(HUB);
            std::fs::create_dir_all(&pins).with_context(|| format!("failed to make {}", pins.display()))?;
            netns::inside(&hub, || XdpPass::load()?.attach(name, &pins.join(name)))?;
        }
        Ok(())
    }

    /// A NIC never delivers a frame whose checksum is not filled in, a veth does; the programs under test are made for
    /// NICs, so no machine of the lab may send such frames.
    fn offload_off(netns_name: &str, interface: &str) -> anyhow::Result<()> {
        netns::inside(netns_name, || {
            let output = Command::new("ethtool")
                .env("PATH", ip::PATH)
                .args(["-K", interface, "tx", "off"])
                .output()
                .context("failed to run ethtool")?;
            anyhow::ensure!(
                output.status.success(),
                "ethtool -K {interface} tx off failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
            Ok(())
        })
    }
}

/// The address of a machine in one family.
pub(crate) fn address(machine: u8, ipv6: bool) -> IpAddr {
    if ipv6 {
        v6(machine).into()
    } else {
        v4(machine).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_end_alike() {
        for (machine, expected) in [(1, "fd00:30::1"), (11, "fd00:30::11"), (201, "fd00:30::201")] {
            assert_eq!(v6(machine).to_string(), expected);
            assert!(v4(machine).to_string().ends_with(&format!(".{machine}")));
        }
    }
}
