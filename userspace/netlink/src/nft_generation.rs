//! The generation of a namespace's netfilter rules: it changes whenever anybody changes a rule, so that `nft` need not
//! be run to find that nobody did.

use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};
use std::io;

/// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_GETGEN` of `linux/netfilter`.
const GET_GENERATION: u16 = 10 << 8 | 16;
/// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_NEWGEN`.
const NEW_GENERATION: u16 = 10 << 8 | 15;
/// `NFTA_GEN_ID`.
const GENERATION_ID: u16 = 1;
const NLM_F_REQUEST: u16 = 1;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct nfgenmsg`.
const FAMILY_HEADER: usize = 4;

/// The generation in the calling thread's namespace.
pub(crate) fn generation() -> io::Result<u32> {
    let socket = Socket::new(NETLINK_NETFILTER)?;
    socket.send_to(&request(), &SocketAddr::new(0, 0), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    parse(&answer)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no generation in the kernel's answer"))
}

fn request() -> Vec<u8> {
    let length = u32::try_from(HEADER + FAMILY_HEADER).unwrap_or_default();
    let mut message = Vec::with_capacity(HEADER + FAMILY_HEADER);
    message.extend(length.to_ne_bytes());
    message.extend(GET_GENERATION.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence number, port and `nfgenmsg`: one question, one answer, any family.
    message.resize(HEADER + FAMILY_HEADER, 0);
    message
}

fn parse(answer: &[u8]) -> Option<u32> {
    let half = |bytes: &[u8], at: usize| {
        Some(u16::from_ne_bytes(
            bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
        ))
    };
    if half(answer, 4)? != NEW_GENERATION {
        return None;
    }
    let mut attributes = answer.get(HEADER + FAMILY_HEADER..)?;
    loop {
        let (length, kind) = (usize::from(half(attributes, 0)?), half(attributes, 2)?);
        if kind == GENERATION_ID {
            // Values of netfilter lie in network order.
            return Some(u32::from_be_bytes(attributes.get(4..8)?.try_into().ok()?));
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_is_found_behind_other_attributes() {
        let mut answer = vec![0; HEADER + FAMILY_HEADER];
        answer[4..6].copy_from_slice(&NEW_GENERATION.to_ne_bytes());
        for (length, kind, value) in [(5_u16, 3_u16, [9, 0, 0, 0]), (8, GENERATION_ID, [0, 0, 1, 2])] {
            answer.extend(length.to_ne_bytes());
            answer.extend(kind.to_ne_bytes());
            answer.extend(value);
        }
        assert_eq!(parse(&answer), Some(0x102));
        for length in 0..answer.len() {
            assert_eq!(parse(&answer[..length]), None, "{length}");
        }
        answer[4] ^= 1;
        assert_eq!(parse(&answer), None);
    }
}
