//! Packets put together by hand: a flood of SYNs, and ICMP errors that quote as little as is allowed.

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `IPPROTO_RAW`: the sender writes the IP header.
const RAW: i32 = 255;

/// The numbers of TCP, ICMP and ICMPv6.
const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

/// The smallest TCP header.
const TCP_LEN: u8 = 20;

/// Sends SYNs from so many made-up addresses, others for each number, to one address and port, from the current network
/// namespace.
///
/// # Errors
/// When the kernel refuses one.
pub fn syn_flood(target: SocketAddr, count: u32, number: u32) -> anyhow::Result<()> {
    let socket = Socket::new(Domain::for_address(target), Type::RAW, Some(Protocol::from(RAW)))
        .context("failed to open a raw socket")?;
    // The kernel takes the destination from the header; the port must be 0 for IPv6.
    let to = SocketAddr::new(target.ip(), 0).into();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ u64::from(number) << 32);
    for sent in 0..count {
        let random = numbers.next();
        let packet = syn(target, random);
        let result = socket.send_to(&packet, &to);
        match result {
            // The queue is full: that is what a flood does.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            other => drop(other.with_context(|| format!("SYN {sent}"))?),
        }
    }
    Ok(())
}

/// A SYN from a made-up address.
fn syn(target: SocketAddr, random: u64) -> Vec<u8> {
    let [words @ .., low] = [48, 32, 16, 0].map(|shift| low_word(random >> shift));
    let [port, high, middle] = words;
    let mut tcp = Vec::with_capacity(usize::from(TCP_LEN));
    tcp.extend((port | 0x8000).to_be_bytes());
    tcp.extend(target.port().to_be_bytes());
    tcp.extend(high.to_be_bytes());
    tcp.extend(middle.to_be_bytes());
    // No acknowledgement; five words of header, SYN, a large window; no checksum yet.
    tcp.extend([0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let (mut packet, source) = match target.ip() {
        IpAddr::V4(to) => {
            // Of the block for benchmarks, 198.18.0.0/15: nobody's.
            let source = Ipv4Addr::from(0xc612_0000 | u32::from(middle & 1) << 16 | u32::from(low));
            (v4_header(source, to, TCP, TCP_LEN.into()), IpAddr::V4(source))
        }
        IpAddr::V6(to) => {
            let source = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, high, 0, 0, middle, low);
            (v6_header(source, to, TCP, TCP_LEN.into()), IpAddr::V6(source))
        }
    };
    let sum = transport_checksum(source, target.ip(), TCP, &tcp);
    if let Some(field) = tcp.get_mut(16..18) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    packet.extend(tcp);
    packet
}

/// Sends "too big, MTU so much" about a segment from `peer` to `own`, quoting the IP header and eight bytes of TCP, to
/// `peer`. `own` is a local address of the current network namespace.
///
/// # Errors
/// When the kernel refuses it.
pub fn too_big(own: SocketAddr, peer: SocketAddr, sequence: u32, mtu: u16) -> anyhow::Result<()> {
    let mut quoted = match (peer.ip(), own.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = v4_header(from, to, TCP, 1480);
            let sum = checksum(&header);
            if let Some(field) = header.get_mut(10..12) {
                field.copy_from_slice(&sum.to_be_bytes());
            }
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => v6_header(from, to, TCP, 1460),
        (from, to) => anyhow::bail!("{from} and {to} are of different families"),
    };
    quoted.extend(peer.port().to_be_bytes());
    quoted.extend(own.port().to_be_bytes());
    quoted.extend(sequence.to_be_bytes());
    let v6 = own.is_ipv6();
    let [high, low] = mtu.to_be_bytes();
    let mut message = if v6 {
        vec![2, 0, 0, 0, 0, 0, high, low]
    } else {
        vec![3, 4, 0, 0, 0, 0, high, low]
    };
    message.extend(quoted);
    let protocol = if v6 { ICMP6 } else { ICMP };
    if !v6 {
        // For ICMPv6 the kernel fills it in.
        let sum = checksum(&message);
        if let Some(field) = message.get_mut(2..4) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
    }
    let socket = Socket::new(
        Domain::for_address(own),
        Type::RAW,
        Some(Protocol::from(i32::from(protocol))),
    )
    .context("failed to open a raw ICMP socket")?;
    socket
        .send_to(&message, &SocketAddr::new(peer.ip(), 0).into())
        .context("failed to send an ICMP error")?;
    Ok(())
}

fn v4_header(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: u16) -> Vec<u8> {
    let [high, low] = (payload + 20).to_be_bytes();
    let mut header = vec![0x45, 0, high, low, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0];
    header.extend(source.octets());
    header.extend(destination.octets());
    header
}

fn v6_header(source: Ipv6Addr, destination: Ipv6Addr, next: u8, payload: u16) -> Vec<u8> {
    let [high, low] = payload.to_be_bytes();
    let mut header = vec![0x60, 0, 0, 0, high, low, next, 64];
    header.extend(source.octets());
    header.extend(destination.octets());
    header
}

fn low_word(number: u64) -> u16 {
    let [.., high, low] = number.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// RFC 9293 section 3.1: over the pseudo-header and the segment.
fn transport_checksum(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let mut bytes = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    bytes.extend([0, protocol]);
    bytes.extend(u16::try_from(segment.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend(segment);
    checksum(&bytes)
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(!sum & 0xffff).unwrap_or_default()
}

/// Xorshift (Marsaglia 2003): the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_a_known_header() {
        // The example of RFC 1071 section 3.
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
    }

    #[test]
    fn syns_of_both_families_sum_up() {
        for target in ["172.30.0.11:80", "[fd00:30::11]:80"] {
            let target: SocketAddr = target.parse().unwrap();
            let packet = syn(target, 0x0123_4567_89ab_cdef);
            let tcp = &packet[packet.len() - 20..];
            let source = if target.is_ipv4() {
                IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(&packet[12..16]).unwrap()))
            } else {
                IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&packet[8..24]).unwrap()))
            };
            assert_eq!(transport_checksum(source, target.ip(), TCP, tcp), 0, "{target}");
        }
    }
}
