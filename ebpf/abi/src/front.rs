use crate::pod::pod;
use crate::{Addr, Endpoint, LocalEndpoint};

/// Bits of a place in [`crate::maps::FRONT_BY_IFINDEX`] and [`crate::maps::FRONT_BY_ADDR`].
const PLACE_BITS: u32 = 13;
/// Places in each of the two arrays: twice as many as a node has endpoints, a power of two.
pub const FRONT_PLACES: u32 = 1 << PLACE_BITS;
const _: () = assert!(FRONT_PLACES == 2 * crate::maps::MAX_LOCAL_ENDPOINTS);

/// A copy of an entry of [`crate::maps::ENDPOINT_BY_IFINDEX`] in the place of its key, one cache line.
///
/// It counts where it names the interface that is looked for; zeroed, it names none.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FrontLocal {
    /// The interface; 0 where nothing stands here. Written last, and taken away first.
    pub ifindex: u32,
    /// Zero.
    pub reserved: u32,
    /// What the hash holds for it.
    pub local: LocalEndpoint,
}
pod!(FrontLocal, size = 64, align = 4);

impl FrontLocal {
    /// The place of an interface: interfaces are numbered in turn.
    #[inline(always)]
    pub const fn place(ifindex: u32) -> u32 {
        ifindex & (FRONT_PLACES - 1)
    }
}

/// A copy of an entry of [`crate::maps::ENDPOINT_BY_ADDR`] in the place of its key, one cache line.
///
/// It counts where it has a kind and names the address that is looked for; zeroed, it has none.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FrontEndpoint {
    /// The overlay address.
    pub address: Addr,
    /// What the hash holds for it. The kind is written last, and taken away first.
    pub endpoint: Endpoint,
    /// Zero.
    pub reserved: [u32; 4],
}
pod!(FrontEndpoint, size = 64, align = 4);

impl FrontEndpoint {
    /// The place of an address: multiplied with the golden ratio, addresses in a row stand apart.
    #[inline(always)]
    pub const fn place(address: &Addr) -> u32 {
        let words = address.words;
        let mixed = words[0] ^ words[1].rotate_left(11) ^ words[2].rotate_left(22) ^ words[3];
        u32::from_be(mixed).wrapping_mul(0x9e37_79b1) >> (32 - PLACE_BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EndpointKind, MacAddr, Pod};
    use core::mem::offset_of;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use std::collections::BTreeSet;

    #[test]
    fn the_kind_of_an_address_and_its_interface_lie_where_a_store_comes_last() {
        let entry = FrontEndpoint {
            address: Ipv4Addr::new(10, 0, 0, 1).into(),
            endpoint: Endpoint {
                kind: EndpointKind::Local as u8,
                mac: MacAddr([2, 3, 4, 5, 6, 7]),
                ..Endpoint::default()
            },
            reserved: [0; 4],
        };
        let bytes = entry.bytes();
        assert_eq!(bytes[12..16], [10, 0, 0, 1]);
        assert_eq!((bytes[36], &bytes[38..44]), (1, &[2, 3, 4, 5, 6, 7][..]));
        assert_eq!(offset_of!(FrontEndpoint, endpoint), 16);
        assert_eq!(
            (offset_of!(FrontLocal, ifindex), offset_of!(FrontLocal, local)),
            (0, 8)
        );
    }

    #[test]
    fn addresses_in_a_row_hardly_ever_share_a_place() {
        let places = |addresses: &mut dyn Iterator<Item = Addr>| {
            addresses
                .map(|address| FrontEndpoint::place(&address))
                .inspect(|place| assert!(*place < FRONT_PLACES))
                .collect::<BTreeSet<_>>()
                .len()
        };
        for net in [0x0a00_0000_u32, 0xac10_0000, 0x0aff_fe00] {
            let v4 = &mut (0..512).map(|n| Ipv4Addr::from_bits(net + n).into());
            assert!(places(v4) > 500);
            let v6 = &mut (0..512).map(|n| {
                Ipv6Addr::from_bits(0xfd00_0000_0000_0000_0000_0000_0000_0000 | u128::from(net) << 64 | n)
                    .into()
            });
            assert!(places(v6) > 500);
        }
    }
}
