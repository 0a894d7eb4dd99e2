//! The packet that an ICMP error quotes (RFC 792, RFC 4443 section 3): it may end eight bytes into its transport header.

use crate::frame::{Frame, settled};
use crate::parse::parse_quoted;
use crate::wire::icmp;
use crate::{Fragment, Packet};
use essaim_abi::DropReason;

/// Whether an ICMP type reports an error.
#[inline(always)]
pub const fn is_error(v6: bool, kind: u8) -> bool {
    if v6 {
        kind < 128
    } else {
        matches!(kind, icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER)
    }
}

/// Reads the packet quoted by the ICMP error `outer`; `None` where what it quotes has no ports to go by.
///
/// # Errors
/// [`DropReason::Truncated`] and [`DropReason::Malformed`] as for any packet.
#[inline(always)]
pub fn quoted(frame: &impl Frame, outer: &Packet) -> Result<Option<Packet>, DropReason> {
    let packet = parse_quoted(frame, settled(outer.transport as usize + icmp::LEN), outer.v6)?;
    Ok(if packet.has_ports() && packet.fragment != Fragment::Later {
        Some(packet)
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Slice, parse};

    #[test]
    fn eight_bytes_of_tcp_suffice() {
        let mut frame = vec![0; 12];
        frame.extend([8, 0]);
        frame.extend([0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0, 192, 0, 2, 9, 10, 0, 0, 1]);
        frame.extend([3, 4, 0, 0, 0, 0, 5, 0]);
        frame.extend([
            0x45, 0, 5, 220, 0, 0, 0x40, 0, 60, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        frame.extend([0x1f, 0x90, 0x30, 0x39, 0, 0, 0, 1]);
        let outer = parse(&Slice(&frame)).unwrap().unwrap();
        assert_eq!(outer.icmp_type(), Some(3));
        assert!(is_error(false, 3) && !is_error(false, 8) && is_error(true, 2) && !is_error(true, 128));
        let inner = quoted(&Slice(&frame), &outer).unwrap().unwrap();
        assert_eq!(
            (inner.source_port, inner.destination_port),
            (8080_u16.to_be(), 12345_u16.to_be())
        );
        assert_eq!(quoted(&Slice(&frame[..60]), &outer), Err(DropReason::Truncated));
    }
}
