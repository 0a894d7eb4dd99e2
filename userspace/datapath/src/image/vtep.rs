use essaim_abi::{VXLAN_OVERHEAD_V4, VXLAN_OVERHEAD_V6, Vtep, VtepFlags};
use essaim_model::NextHop;
use std::net::IpAddr;

/// Time to live and hop limit of the outer header.
const HOPS: u8 = 64;
/// IP protocol number of UDP.
const UDP: u8 = 17;
/// The VNI field is valid (RFC 7348, section 5).
const VXLAN_FLAGS: u8 = 0x08;
/// DF, in the flags and fragment offset of IPv4.
const DONT_FRAGMENT: [u8; 2] = [0x40, 0x00];

/// Bytes that VXLAN adds to an inner IP packet on an underlay of this address's family.
pub(super) fn overhead(vtep: IpAddr) -> u32 {
    match vtep {
        IpAddr::V4(_) => VXLAN_OVERHEAD_V4,
        IpAddr::V6(_) => VXLAN_OVERHEAD_V6,
    }
}

/// This node's own entry.
pub(super) fn own(vtep: IpAddr, mtu: u32) -> Vtep {
    let entry = Vtep {
        addr: vtep.into(),
        mtu,
        ..Vtep::default()
    };
    Vtep {
        flags: VtepFlags::USED.with(VtepFlags::SELF).with(family(vtep)),
        ..entry
    }
}

/// Another node's entry; without a next hop its packets go through the VXLAN device.
pub(super) fn other(vtep: IpAddr, hop: Option<&NextHop>, vxlan_port: u16, unresolved_mtu: u32) -> Vtep {
    let used = VtepFlags::USED.with(family(vtep));
    let entry = Vtep {
        addr: vtep.into(),
        flags: used,
        mtu: unresolved_mtu,
        ..Vtep::default()
    };
    let Some(hop) = hop else { return entry };
    let NextHop {
        ifindex,
        source,
        source_mac,
        destination_mac,
        mtu,
    } = hop;
    let mut header = Vec::with_capacity(70);
    header.extend(destination_mac.0);
    header.extend(source_mac.0);
    let mut ipv4_sum = 0;
    match (source, vtep) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            header.extend([0x08, 0x00]);
            let mut ip = vec![0x45, 0, 0, 0, 0, 0];
            ip.extend(DONT_FRAGMENT);
            ip.extend([HOPS, UDP, 0, 0]);
            ip.extend(source.octets());
            ip.extend(destination.octets());
            ipv4_sum = ip
                .chunks_exact(2)
                .map(|pair| u32::from(u16::from_ne_bytes([pair[0], pair[1]])))
                .sum();
            header.extend(ip);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            header.extend([0x86, 0xdd]);
            header.extend([0x60, 0, 0, 0, 0, 0, UDP, HOPS]);
            header.extend(source.octets());
            header.extend(destination.octets());
        }
        // A route whose source is of the other family is none for a VXLAN packet.
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return entry,
    }
    header.extend([0, 0]);
    header.extend(vxlan_port.to_be_bytes());
    header.extend([0, 0, 0, 0]);
    header.extend([VXLAN_FLAGS, 0, 0, 0, 0, 0, 0, 0]);
    let mut resolved = Vtep {
        flags: used.with(VtepFlags::RESOLVED),
        ifindex: *ifindex,
        mtu: mtu.saturating_sub(overhead(vtep)),
        ipv4_sum,
        ..entry
    };
    resolved.header[..header.len()].copy_from_slice(&header);
    resolved
}

fn family(vtep: IpAddr) -> VtepFlags {
    if vtep.is_ipv6() {
        VtepFlags::V6
    } else {
        VtepFlags::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_abi::MacAddr;

    fn hop(source: &str) -> NextHop {
        NextHop {
            ifindex: 3,
            source: source.parse().unwrap(),
            source_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            destination_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            mtu: 1500,
        }
    }

    #[test]
    fn an_ipv4_header_lies_as_on_the_wire_and_its_sum_makes_the_checksum() {
        let vtep = other("192.0.2.2".parse().unwrap(), Some(&hop("192.0.2.1")), 4789, 1000);
        let expected = [
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00, // Ethernet
            0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, // IPv4
            0, 0, 0x12, 0xb5, 0, 0, 0, 0, // UDP
            8, 0, 0, 0, 0, 0, 0, 0, // VXLAN
        ];
        assert_eq!(&vtep.header[..50], &expected);
        assert_eq!(vtep.header[50..], [0; 22]);
        assert_eq!((vtep.mtu, vtep.ifindex), (1450, 3));
        assert_eq!(vtep.flags, VtepFlags::USED.with(VtepFlags::RESOLVED));

        // A packet of 100 bytes, summed as RFC 1071 says over the finished header, must give all ones.
        let mut ip = vtep.header[14..34].to_vec();
        ip[2..4].copy_from_slice(&100_u16.to_be_bytes());
        let mut sum = vtep.ipv4_sum + u32::from(100_u16.to_be());
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        ip[10..12].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_ne_bytes());
        let total: u32 = ip
            .chunks_exact(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        assert_eq!((total & 0xffff) + (total >> 16), 0xffff);
    }

    #[test]
    fn an_ipv6_header_lies_as_on_the_wire() {
        let vtep = other(
            "2001:db8::2".parse().unwrap(),
            Some(&hop("2001:db8::1")),
            4789,
            1000,
        );
        assert_eq!(vtep.header[12..22], [0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 17, 64]);
        assert_eq!(vtep.header[22..26], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(vtep.header[53], 2);
        assert_eq!(
            vtep.header[54..70],
            [0, 0, 0x12, 0xb5, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!((vtep.mtu, vtep.ipv4_sum), (1430, 0));
        assert!(vtep.flags.has(VtepFlags::V6) && vtep.flags.has(VtepFlags::RESOLVED));
    }

    #[test]
    fn what_is_unresolved_has_no_header() {
        let without = other("192.0.2.2".parse().unwrap(), None, 4789, 1450);
        let mixed = other(
            "192.0.2.2".parse().unwrap(),
            Some(&hop("2001:db8::1")),
            4789,
            1450,
        );
        assert_eq!(without, mixed);
        assert_eq!(
            (without.flags, without.mtu, without.header),
            (VtepFlags::USED, 1450, [0; 72])
        );
    }
}
