//! The opening packet of a flow.

use super::TraceRequest;
use essaim_abi::{MacAddr, Protocol};
use std::net::IpAddr;

const HOPS: u8 = 64;
/// SYN, and a header of five words.
const TCP_SYN: [u8; 8] = [0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0];
/// INIT of 20 bytes (RFC 9260, section 3.3.2): tag 1, window 64 KiB, one stream each way, TSN 1.
const SCTP_INIT: [u8; 20] = [1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1];

/// The frame, checksums right.
pub(super) fn opening(request: &TraceRequest, source_mac: MacAddr, destination_mac: MacAddr) -> Vec<u8> {
    let TraceRequest {
        source,
        destination,
        protocol,
        port,
        source_port,
        from: _,
    } = request;
    let transport = transport(*protocol, *source_port, *port, *source, *destination);
    let mut frame = Vec::with_capacity(128);
    frame.extend(destination_mac.0);
    frame.extend(source_mac.0);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([0x08, 0x00]);
            let len = u16::try_from(20 + transport.len())
                .unwrap_or(u16::MAX)
                .to_be_bytes();
            let mut ip = vec![0x45, 0, len[0], len[1], 0, 1, 0x40, 0, HOPS, protocol.ip(), 0, 0];
            ip.extend(source.octets());
            ip.extend(destination.octets());
            let checksum = (!sum(&ip)).to_be_bytes();
            ip[10..12].copy_from_slice(&checksum);
            frame.extend(ip);
        }
        (source, destination) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(u16::try_from(transport.len()).unwrap_or(u16::MAX).to_be_bytes());
            frame.extend([protocol.ip(), HOPS]);
            frame.extend(octets(*source));
            frame.extend(octets(*destination));
        }
    }
    frame.extend(transport);
    frame
}

fn transport(
    protocol: Protocol,
    source_port: u16,
    port: u16,
    source: IpAddr,
    destination: IpAddr,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(source_port.to_be_bytes());
    bytes.extend(port.to_be_bytes());
    match protocol {
        Protocol::Tcp => {
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 0]);
            bytes.extend(TCP_SYN);
            let checksum = checksum(protocol, &bytes, source, destination);
            bytes[16..18].copy_from_slice(&checksum);
        }
        Protocol::Udp => {
            bytes.extend([0, 12, 0, 0]);
            bytes.extend(*b"test");
            let checksum = checksum(protocol, &bytes, source, destination);
            bytes[6..8].copy_from_slice(&checksum);
        }
        Protocol::Sctp => {
            bytes.extend([0; 8]);
            bytes.extend(SCTP_INIT);
            let checksum = crc32c(&bytes).to_le_bytes();
            bytes[8..12].copy_from_slice(&checksum);
        }
    }
    bytes
}

/// The checksum over pseudo header and segment (RFC 9293, section 3.1; RFC 8200, section 8.1).
fn checksum(protocol: Protocol, segment: &[u8], source: IpAddr, destination: IpAddr) -> [u8; 2] {
    let mut pseudo = octets(source);
    pseudo.extend(octets(destination));
    pseudo.extend(u16::try_from(segment.len()).unwrap_or(u16::MAX).to_be_bytes());
    pseudo.extend([0, protocol.ip()]);
    pseudo.extend(segment);
    match !sum(&pseudo) {
        // UDP: 0 would say that there is none.
        0 => [0xff, 0xff],
        checksum => checksum.to_be_bytes(),
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// One's complement sum of 16-bit words (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let total: u32 = bytes.chunks(2).map(word).sum();
    let folded = (total & 0xffff) + (total >> 16);
    u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}

/// CRC-32C (RFC 9260, appendix A), bit by bit: one packet a trace.
fn crc32c(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            }
        })
    });
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(source: &str, destination: &str, protocol: Protocol) -> TraceRequest {
        TraceRequest {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol,
            port: 8080,
            source_port: 40_000,
            from: None,
        }
    }

    #[test]
    fn checksums_over_what_they_cover_come_out_as_all_ones() {
        for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let request = request(source, destination, protocol);
                let frame = opening(&request, MacAddr::GATEWAY, MacAddr::BROADCAST);
                let v4 = request.source.is_ipv4();
                let transport = &frame[14 + if v4 { 20 } else { 40 }..];
                if v4 {
                    assert_eq!(sum(&frame[14..34]), 0xffff);
                }
                let mut covered = octets(request.source);
                covered.extend(octets(request.destination));
                covered.extend([0, protocol.ip(), 0, u8::try_from(transport.len()).unwrap()]);
                covered.extend(transport);
                assert_eq!(sum(&covered), 0xffff, "{request:?}");
                assert_eq!(transport[..4], [0x9c, 0x40, 0x1f, 0x90]);
            }
        }
    }

    #[test]
    fn the_crc_is_that_of_the_rfc() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let frame = opening(
            &request("10.0.0.1", "10.0.0.2", Protocol::Sctp),
            MacAddr::GATEWAY,
            MacAddr::BROADCAST,
        );
        assert_eq!((frame.len(), frame[34 + 12]), (14 + 20 + 32, 1));
    }
}
