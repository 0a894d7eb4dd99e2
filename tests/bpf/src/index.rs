//! Numbers of what a [`crate::Node`] has.

/// The first uplink.
pub const UP0: u32 = 10;
/// The second uplink.
pub const UP1: u32 = 11;
/// The VXLAN device.
pub const VXLAN: u32 = 12;
/// The node's own endpoint, 10.255.0.1 and `fd00:ff::1`.
pub const NODE: u32 = 13;
/// The task 10.1.0.11 of network [`RED`].
pub const TASK1: u32 = 21;
/// The task 10.1.0.12 of network [`RED`].
pub const TASK2: u32 = 22;
/// The task 10.2.0.13 of network [`BLUE`].
pub const TASK3: u32 = 23;
/// The task 10.3.0.14 of the internal network [`INSIDE`].
pub const TASK4: u32 = 24;
/// Every interface and its name.
pub const INTERFACES: [(u32, &str); 8] = [
    (UP0, "up0"),
    (UP1, "up1"),
    (VXLAN, "vx0"),
    (NODE, "node0"),
    (TASK1, "task1"),
    (TASK2, "task2"),
    (TASK3, "task3"),
    (TASK4, "task4"),
];

/// The ingress VNI.
pub const INGRESS: u32 = 4096;
/// A network.
pub const RED: u32 = 4100;
/// Another network.
pub const BLUE: u32 = 4101;
/// An internal network.
pub const INSIDE: u32 = 4102;

/// This node's VTEP.
pub const SELF: u32 = 1;
/// 192.0.2.2, through [`UP0`].
pub const VTEP2: u32 = 2;
/// `2001:db8:f::3`, through [`UP0`].
pub const VTEP3: u32 = 3;
/// 192.0.2.4, whose next hop is not known.
pub const VTEP4: u32 = 4;
/// 192.0.2.5, through [`UP1`].
pub const VTEP5: u32 = 5;
/// The number of a VTEP's node.
pub fn number(vtep: u32) -> u16 {
    0x1200 + u16::try_from(vtep).unwrap()
}

/// The backends on this node: [`TASK1`] and [`TASK2`].
pub const HERE1: u32 = 1;
/// As above.
pub const HERE2: u32 = 2;
/// The backend 10.1.0.2`n` behind VTEP `n`, from 2 to 5.
pub const fn behind(vtep: u32) -> u32 {
    10 + vtep
}

/// The service of the VIP 10.1.0.100.
pub const VIP: u32 = 1;
/// The service behind the published ports.
pub const WEB: u32 = 2;
