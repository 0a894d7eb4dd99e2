//! The underlay address and Ethernet addresses (next hop, own) of an uplink or VTEP.

use essaim_abi::MacAddr;

/// The own address of the first uplink.
pub const MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x10]);
/// The router's address.
pub const ROUTER: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0xfe]);
/// This node on the underlay.
pub const V4: &str = "192.0.2.1";
/// This node on the underlay.
pub const V6: &str = "2001:db8:f::1";
