//! VXLAN encapsulation (RFC 7348) from a VTEP's prepared header.

use crate::checksum;
use crate::frame::settled;
use crate::wire::{ethernet, ipv4, ipv6, protocol, udp, vxlan};
use crate::{Frame, Packet, ViewMut, load};
use essaim_abi::{DropReason, Vtep, VtepFlags};

/// Outer Ethernet, IPv4, UDP and VXLAN header.
pub const LEN_V4: usize = ethernet::LEN + ipv4::LEN + udp::LEN + vxlan::LEN;
/// Outer Ethernet, IPv6, UDP and VXLAN header.
pub const LEN_V6: usize = ethernet::LEN + ipv6::LEN + udp::LEN + vxlan::LEN;

/// The source port of a flow: in the dynamic range, so that the underlay spreads flows (RFC 7348 section 5).
#[inline(always)]
const fn source_port(hash: u32) -> u16 {
    (0xc000 | (hash >> 8) as u16 & 0x3fff).to_be()
}

/// The VNI of a VXLAN packet whose outer headers were read.
///
/// # Errors
/// [`DropReason::Truncated`] where the packet ends before it.
#[inline(always)]
pub fn vni_behind(frame: &impl Frame, outer: &Packet) -> Result<u32, DropReason> {
    let word: u32 = load(frame, settled(usize::from(outer.transport) + udp::LEN + 4))?;
    Ok(u32::from_be(word) >> 8)
}

/// Writes the outer header over IPv4 in front of an inner frame of `inner_len` bytes, its Ethernet header included.
#[inline(always)]
pub fn write_v4(to: &mut ViewMut<'_, LEN_V4>, vtep: &Vtep, vni: u32, inner_len: u16, hash: u32) {
    to.copy::<LEN_V4, 72>(&vtep.header);
    let udp_len = inner_len.wrapping_add((udp::LEN + vxlan::LEN) as u16);
    let total = udp_len.wrapping_add(ipv4::LEN as u16).to_be();
    to.put(ethernet::LEN + ipv4::TOTAL_LEN, total);
    let sum = checksum::fold(u64::from(vtep.ipv4_sum) + u64::from(total));
    to.put(ethernet::LEN + ipv4::CHECKSUM, !sum);
    tail(to, ethernet::LEN + ipv4::LEN, udp_len, vni, hash);
}

/// Writes the outer header over IPv6 in front of an inner frame of `inner_len` bytes, its Ethernet header included.
#[inline(always)]
pub fn write_v6(to: &mut ViewMut<'_, LEN_V6>, vtep: &Vtep, vni: u32, inner_len: u16, hash: u32) {
    to.copy::<LEN_V6, 72>(&vtep.header);
    let udp_len = inner_len.wrapping_add((udp::LEN + vxlan::LEN) as u16);
    to.put(ethernet::LEN + ipv6::PAYLOAD_LEN, udp_len.to_be());
    tail(to, ethernet::LEN + ipv6::LEN, udp_len, vni, hash);
}

#[inline(always)]
fn tail<const N: usize>(to: &mut ViewMut<'_, N>, udp_at: usize, udp_len: u16, vni: u32, hash: u32) {
    to.put(udp_at, source_port(hash));
    to.put(udp_at + 4, udp_len.to_be());
    to.put(udp_at + udp::LEN + 4, (vni << 8).to_be());
}

/// Prepares the header that leads to a VTEP; `None` where the addresses are of different families.
///
/// The rest of the entry (interface, MTU, flags beside `V6` and `RESOLVED`) is the caller's.
pub fn prepare(
    source_mac: essaim_abi::MacAddr,
    destination_mac: essaim_abi::MacAddr,
    source: core::net::IpAddr,
    destination: core::net::IpAddr,
    port: u16,
) -> Option<Vtep> {
    use core::net::IpAddr;
    let mut vtep = Vtep {
        addr: destination.into(),
        ..Vtep::default()
    };
    let mut frame = crate::SliceMut(&mut vtep.header);
    let mut to = crate::view_mut::<72>(&mut frame, 0).ok()?;
    to.put_mac(0, &destination_mac);
    to.put_mac(ethernet::SOURCE, &source_mac);
    let (udp_at, v6) = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            to.put(ethernet::TYPE, ethernet::IPV4);
            to.put(ethernet::LEN, 0x45_u8);
            to.put(ethernet::LEN + ipv4::FRAGMENT, ipv4::DF);
            to.put(ethernet::LEN + ipv4::TTL, 64_u8);
            to.put(ethernet::LEN + ipv4::PROTOCOL, protocol::UDP);
            to.put_address(ethernet::LEN + ipv4::SOURCE, &source.into(), false);
            to.put_address(ethernet::LEN + ipv4::DESTINATION, &destination.into(), false);
            (ethernet::LEN + ipv4::LEN, false)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            to.put(ethernet::TYPE, ethernet::IPV6);
            to.put(ethernet::LEN, 0x60_u8);
            to.put(ethernet::LEN + ipv6::NEXT, protocol::UDP);
            to.put(ethernet::LEN + ipv6::HOP_LIMIT, 64_u8);
            to.put_address(ethernet::LEN + ipv6::SOURCE, &source.into(), true);
            to.put_address(ethernet::LEN + ipv6::DESTINATION, &destination.into(), true);
            (ethernet::LEN + ipv6::LEN, true)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    to.put(udp_at + 2, port.to_be());
    to.put(udp_at + udp::LEN, vxlan::FLAGS);
    if !v6 {
        let sum = checksum::sum(&crate::view::<{ ipv4::LEN }>(&frame, ethernet::LEN).ok()?);
        vtep.ipv4_sum = u32::from(checksum::fold(sum));
    }
    vtep.flags =
        VtepFlags::USED
            .with(VtepFlags::RESOLVED)
            .with(if v6 { VtepFlags::V6 } else { VtepFlags::NONE });
    Some(vtep)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SliceMut, view_mut};
    use essaim_abi::MacAddr;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    #[test]
    fn the_ipv4_header_is_valid_vxlan() {
        let vtep = prepare(
            MacAddr([1; 6]),
            MacAddr([2; 6]),
            "10.1.0.1".parse().unwrap(),
            "10.1.0.2".parse().unwrap(),
            4789,
        )
        .unwrap();
        for inner_len in [60_u16, 1464, 9000] {
            let mut frame = vec![0xff; LEN_V4 + inner_len as usize];
            write_v4(
                &mut view_mut(&mut SliceMut(&mut frame), 0).unwrap(),
                &vtep,
                0x00ab_cdef,
                inner_len,
                0xffff_1234,
            );
            let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(NetSlice::Ipv4(ip)) = &sliced.net else {
                panic!("no IPv4")
            };
            assert_eq!(
                ip.header().header_checksum(),
                ip.header().to_header().calc_header_checksum()
            );
            assert!(ip.header().dont_fragment());
            let Some(TransportSlice::Udp(datagram)) = &sliced.transport else {
                panic!("no UDP")
            };
            assert_eq!((datagram.destination_port(), datagram.checksum()), (4789, 0));
            assert_eq!(datagram.length(), inner_len + 16);
            assert_eq!(datagram.source_port(), 0xc000 | 0x3f12);
            assert_eq!(&datagram.payload()[..8], [8, 0, 0, 0, 0xab, 0xcd, 0xef, 0]);
        }
    }

    #[test]
    fn the_ipv6_header_is_valid_vxlan() {
        let vtep = prepare(
            MacAddr([1; 6]),
            MacAddr([2; 6]),
            "fd00::1".parse().unwrap(),
            "fd00::2".parse().unwrap(),
            7777,
        )
        .unwrap();
        assert!(vtep.flags.has(VtepFlags::V6) && vtep.outer_len() as usize == LEN_V6 - ethernet::LEN);
        let mut frame = vec![0xff; LEN_V6 + 100];
        write_v6(
            &mut view_mut(&mut SliceMut(&mut frame), 0).unwrap(),
            &vtep,
            42,
            100,
            1,
        );
        let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(TransportSlice::Udp(datagram)) = &sliced.transport else {
            panic!("no UDP")
        };
        assert_eq!((datagram.destination_port(), datagram.length()), (7777, 116));
        assert_eq!(&datagram.payload()[..8], [8, 0, 0, 0, 0, 0, 42, 0]);
    }

    #[test]
    fn the_vni_is_read_behind_the_outer_headers_and_nowhere_else() {
        for (source, destination, len) in [("10.1.0.1", "10.1.0.2", LEN_V4), ("fd00::1", "fd00::2", LEN_V6)] {
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            let vtep = prepare(MacAddr([1; 6]), MacAddr([2; 6]), source, destination, 4789).unwrap();
            let mut frame = vec![0; len + 100];
            let mut to = SliceMut(&mut frame);
            if len == LEN_V4 {
                write_v4(&mut view_mut(&mut to, 0).unwrap(), &vtep, 0x00ab_cdef, 100, 1);
            } else {
                write_v6(&mut view_mut(&mut to, 0).unwrap(), &vtep, 0x00ab_cdef, 100, 1);
            }
            let outer = crate::parse(&crate::Slice(&frame)).unwrap().unwrap();
            assert_eq!(vni_behind(&crate::Slice(&frame), &outer), Ok(0x00ab_cdef));
            frame.truncate(len - 1);
            assert_eq!(
                vni_behind(&crate::Slice(&frame), &outer),
                Err(DropReason::Truncated)
            );
        }
    }

    #[test]
    fn families_do_not_mix() {
        let (a, b) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        assert_eq!(prepare(MacAddr([1; 6]), MacAddr([2; 6]), a, b, 1), None);
    }
}
