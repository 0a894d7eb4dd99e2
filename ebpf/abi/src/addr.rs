use crate::pod::pod;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv6 address, or an IPv4 address in its mapped form `::ffff:a.b.c.d`.
///
/// The words hold four bytes each, as they lie in the packet (network order); they are compared and copied,
/// never counted with.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, PartialOrd, Ord)]
pub struct Addr {
    /// The address in memory order.
    pub words: [u32; 4],
}
pod!(Addr, size = 16, align = 4);

/// The third word of a mapped IPv4 address, as it lies in memory.
const MAPPED: u32 = 0x0000_ffff_u32.to_be();

impl Addr {
    /// The unspecified address, `::`.
    pub const UNSPECIFIED: Self = Self { words: [0; 4] };

    /// Maps an IPv4 address given as it lies in the packet.
    #[inline(always)]
    pub const fn v4(network_order: u32) -> Self {
        Self {
            words: [0, 0, MAPPED, network_order],
        }
    }

    /// Whether this is an IPv4 address in mapped form.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == MAPPED
    }

    /// The IPv4 address as it lies in the packet; meaningful only where [`Self::is_v4`] holds.
    #[inline(always)]
    pub const fn v4_word(&self) -> u32 {
        self.words[3]
    }

    /// Whether every word is zero.
    #[inline(always)]
    pub const fn is_unspecified(&self) -> bool {
        self.words[0] | self.words[1] | self.words[2] | self.words[3] == 0
    }

    /// Whether this is an IPv6 link-local address (`fe80::/10`).
    #[inline(always)]
    pub const fn is_link_local(&self) -> bool {
        self.words[0] & 0xffc0_0000_u32.to_be() == 0xfe80_0000_u32.to_be()
    }

    /// Whether this is a multicast or the broadcast address.
    #[inline(always)]
    pub const fn is_multicast(&self) -> bool {
        if self.is_v4() {
            self.words[3] & 0xf000_0000_u32.to_be() == 0xe000_0000_u32.to_be() || self.words[3] == u32::MAX
        } else {
            self.words[0] & 0xff00_0000_u32.to_be() == 0xff00_0000_u32.to_be()
        }
    }

    /// Whether this is a loopback address (127.0.0.0/8 or `::1`).
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        if self.is_v4() {
            self.words[3] & 0xff00_0000_u32.to_be() == 0x7f00_0000_u32.to_be()
        } else {
            self.words[0] | self.words[1] | self.words[2] == 0 && self.words[3] == 1_u32.to_be()
        }
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(u32::from_ne_bytes(address.octets()))
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(address: Ipv6Addr) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(address.octets().chunks_exact(4)) {
            *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Self { words }
    }
}

impl From<IpAddr> for Addr {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl From<Addr> for IpAddr {
    fn from(address: Addr) -> Self {
        let mut octets = [0; 16];
        for (bytes, word) in octets.chunks_exact_mut(4).zip(address.words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        Ipv6Addr::from(octets).to_canonical()
    }
}

impl core::fmt::Display for Addr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

/// An Ethernet address, in the order of the wire.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);
pod!(MacAddr, size = 6, align = 1);

impl MacAddr {
    /// The address of all stations.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// What every gateway of an overlay network answers with, on every node: the node's side of each veth has it.
    pub const GATEWAY: Self = Self([0x06, 0xe5, 0x5a, 0x00, 0x00, 0x01]);
    /// The own address of every VXLAN device. Inner source addresses are never this one: the kernel would drop them.
    pub const VXLAN_DEVICE: Self = Self([0x06, 0xe5, 0x5a, 0x00, 0x00, 0x02]);

    /// The address of the endpoint with this IPv4 address: `02:42` and the four bytes, as Docker does.
    pub const fn of_ipv4(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }
}

impl core::fmt::Display for MacAddr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pod;

    #[test]
    fn an_ipv4_address_lies_mapped_in_network_order() {
        let address = Addr::from(Ipv4Addr::new(10, 0, 1, 2));
        assert_eq!(
            address.bytes(),
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 1, 2]
        );
        assert!(address.is_v4());
        assert_eq!(IpAddr::from(address), IpAddr::V4(Ipv4Addr::new(10, 0, 1, 2)));
    }

    #[test]
    fn an_ipv6_address_lies_in_network_order() {
        let v6: Ipv6Addr = "fd00:1::2".parse().unwrap();
        assert_eq!(Addr::from(v6).bytes(), v6.octets());
        assert!(!Addr::from(v6).is_v4());
        assert_eq!(IpAddr::from(Addr::from(v6)), IpAddr::V6(v6));
    }

    #[test]
    fn classes_of_addresses_are_told_apart() {
        let of = |text: &str| Addr::from(text.parse::<IpAddr>().unwrap());
        assert!(of("127.8.9.1").is_loopback() && of("::1").is_loopback());
        assert!(!of("128.0.0.1").is_loopback() && !of("::2").is_loopback());
        assert!(of("224.0.0.1").is_multicast() && of("ff02::1").is_multicast());
        assert!(of("255.255.255.255").is_multicast() && !of("10.0.0.1").is_multicast());
        assert!(of("fe80::1").is_link_local() && !of("fd00::1").is_link_local());
    }
}
