//! Whether a frame is sound: every length and every checksum that it carries, VXLAN and what is inside included.

use crate::checksum;
use std::net::IpAddr;

/// What is wrong with a frame.
///
/// # Errors
/// What, and where.
pub fn sound(frame: &[u8]) -> Result<(), String> {
    let kind = frame.get(12..14).ok_or("no Ethernet header")?;
    match kind {
        [0x08, 0x00] => ip(&frame[14..], false),
        [0x86, 0xdd] => ip(&frame[14..], true),
        _ => Ok(()),
    }
}

fn word(bytes: &[u8], at: usize) -> Result<usize, String> {
    let word = bytes.get(at..at + 2).ok_or(format!("no word at {at}"))?;
    Ok(usize::from(u16::from_be_bytes([word[0], word[1]])))
}

fn v6(bytes: &[u8]) -> IpAddr {
    IpAddr::from(<[u8; 16]>::try_from(bytes).expect("sixteen bytes"))
}

fn v4(bytes: &[u8]) -> IpAddr {
    IpAddr::from(<[u8; 4]>::try_from(bytes).expect("four bytes"))
}

fn ip(packet: &[u8], is_v6: bool) -> Result<(), String> {
    if is_v6 {
        let header = packet.get(..40).ok_or("short IPv6 header")?;
        let len = word(header, 4)?;
        if packet.len() != 40 + len {
            return Err(format!(
                "IPv6 payload length {len}, found {} bytes",
                packet.len() - 40
            ));
        }
        let (mut next, mut at) = (header[6], 40);
        loop {
            match next {
                44 => {
                    if word(packet, at + 2)? & 0xfff9 != 0 {
                        return Ok(());
                    }
                    next = packet[at];
                    at += 8;
                }
                60 => {
                    next = packet[at];
                    at += 8 + usize::from(packet[at + 1]) * 8;
                }
                _ => return transport(v6(&header[8..24]), v6(&header[24..40]), next, &packet[at..]),
            }
        }
    }
    let first = *packet.first().ok_or("no IPv4 header")?;
    let header_len = usize::from(first & 15) * 4;
    let header = packet.get(..header_len).ok_or("short IPv4 header")?;
    if checksum::internet(header) != 0 {
        return Err(format!("IPv4 header checksum {:04x}", word(header, 10)?));
    }
    let len = word(header, 2)?;
    if packet.len() != len {
        return Err(format!("IPv4 total length {len}, found {} bytes", packet.len()));
    }
    if word(header, 6)? & 0x3fff != 0 {
        return Ok(());
    }
    transport(
        v4(&header[12..16]),
        v4(&header[16..20]),
        header[9],
        &packet[header_len..],
    )
}

fn transport(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> Result<(), String> {
    let sums = |segment: &[u8]| checksum::transport(source, destination, protocol, segment) == 0;
    match protocol {
        6 => {
            if segment.len() < 20 {
                return Err("short TCP header".to_owned());
            }
            if sums(segment) {
                Ok(())
            } else {
                Err(format!("TCP checksum {:04x}", word(segment, 16)?))
            }
        }
        17 => {
            let (port, len, sum) = (word(segment, 2)?, word(segment, 4)?, word(segment, 6)?);
            if len != segment.len() {
                return Err(format!("UDP length {len}, found {} bytes", segment.len()));
            }
            if sum == 0 && port == 4789 {
                if segment.get(8..12) != Some(&[8, 0, 0, 0]) {
                    return Err("VXLAN flags".to_owned());
                }
                return sound(&segment[16..]).map_err(|error| format!("inner: {error}"));
            }
            if sum == 0 && source.is_ipv4() || sums(segment) {
                Ok(())
            } else {
                Err(format!("UDP checksum {sum:04x}"))
            }
        }
        132 => {
            let mut bytes = segment.to_vec();
            bytes.get_mut(8..12).ok_or("short SCTP header")?.fill(0);
            let crc = checksum::crc32c(&bytes).to_le_bytes();
            if segment[8..12] == crc {
                Ok(())
            } else {
                Err("SCTP CRC32c".to_owned())
            }
        }
        1 => {
            if checksum::internet(segment) == 0 {
                Ok(())
            } else {
                Err(format!("ICMP checksum {:04x}", word(segment, 2)?))
            }
        }
        58 => {
            if sums(segment) {
                Ok(())
            } else {
                Err(format!("ICMPv6 checksum {:04x}", word(segment, 2)?))
            }
        }
        _ => Ok(()),
    }
}
