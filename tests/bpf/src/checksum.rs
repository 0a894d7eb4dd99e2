//! The Internet checksum (RFC 1071) by the letter, and `CRC32c` (RFC 9260 appendix A).

use std::net::IpAddr;

/// The checksum of bytes, as a number in network order.
pub(crate) fn internet(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

/// The checksum of a transport segment with its pseudo-header; the field itself must be zero, or the result is zero
/// where it is right.
pub(crate) fn transport(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let len = u32::try_from(segment.len()).expect("a segment is short");
    let mut bytes = Vec::new();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            bytes.extend([0, protocol]);
            bytes.extend(u16::try_from(len).expect("a segment is short").to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            bytes.extend(len.to_be_bytes());
            bytes.extend([0, 0, 0, protocol]);
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("{source} and {destination} do not mix")
        }
    }
    bytes.extend(segment);
    internet(&bytes)
}

/// `CRC32c`, bit by bit.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors_hold() {
        assert_eq!(
            internet(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
