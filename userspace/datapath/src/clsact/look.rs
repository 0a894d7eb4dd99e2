//! Asking rtnetlink(7) which program a filter holds.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use std::io;
use std::os::fd::AsRawFd;

/// `RTM_NEWTFILTER`, `RTM_GETTFILTER` and `NLMSG_ERROR`.
const NEW_FILTER: u16 = 44;
const GET_FILTER: u16 = 46;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
/// What comes in, as a parent: `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`.
const INGRESS: u32 = 0xffff_fff2;
/// `ETH_P_ALL`.
const ALL: u16 = 3;
/// `TCA_OPTIONS`, and `TCA_BPF_ID` within it.
const OPTIONS: u16 = 2;
const PROGRAM: u16 = 11;
/// `struct nlmsghdr` and `struct tcmsg`.
const HEADER: usize = 16;
const LENGTH: usize = HEADER + 20;
/// More than the kernel says of a filter.
const ANSWER: usize = 8192;

/// The number of the program in the filter at this place; `None` where there is none, or no interface.
pub(super) fn program_at(ifindex: u32, priority: u16, handle: u32) -> io::Result<Option<u32>> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let fd = socket.as_raw_fd();
    sendto(
        fd,
        &request(ifindex, priority, handle),
        &NetlinkAddr::new(0, 0),
        MsgFlags::empty(),
    )?;
    let mut answer = [0; ANSWER];
    let len = recv(fd, &mut answer, MsgFlags::empty())?;
    read(answer.get(..len).unwrap_or_default())
}

fn request(ifindex: u32, priority: u16, handle: u32) -> Vec<u8> {
    let place = u32::from(priority) << 16 | u32::from(ALL.to_be());
    let mut bytes = Vec::with_capacity(LENGTH);
    bytes.extend(36_u32.to_ne_bytes());
    bytes.extend(GET_FILTER.to_ne_bytes());
    bytes.extend(REQUEST.to_ne_bytes());
    // Number of the request, the sender's port, and the family.
    for word in [1, 0, 0, ifindex, handle, INGRESS, place] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

/// Reads the answer: the filter, or an error.
fn read(answer: &[u8]) -> io::Result<Option<u32>> {
    let short = || io::Error::other("the kernel's word on a filter is cut short");
    match half(answer, 4).ok_or_else(short)? {
        NEW_FILTER => {
            let options = attribute(answer.get(LENGTH..).ok_or_else(short)?, OPTIONS);
            let program = options.and_then(|options| attribute(options, PROGRAM));
            Ok(program.and_then(|program| word(program, 0)))
        }
        ERROR => match Errno::from_raw(
            word(answer, HEADER)
                .ok_or_else(short)?
                .wrapping_neg()
                .cast_signed(),
        ) {
            // No filter; no qdisc, or one without this side; no interface.
            Errno::ENOENT | Errno::EINVAL | Errno::ENODEV => Ok(None),
            errno => Err(errno.into()),
        },
        other => Err(io::Error::other(format!(
            "the kernel answered a question for a filter with a message of type {other}"
        ))),
    }
}

/// The value of the first attribute of this kind.
fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    /// `NLA_TYPE_MASK`.
    const KIND: u16 = 0x3fff;
    loop {
        let len = usize::from(half(rest, 0)?);
        if half(rest, 2)? & KIND == wanted {
            return rest.get(4..len);
        }
        rest = rest.get(len.max(4).next_multiple_of(4)..)?;
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_broken_ones_end_in_an_error() {
        let error = |errno: i32| {
            let mut bytes = vec![0; 36];
            bytes[4..6].copy_from_slice(&ERROR.to_ne_bytes());
            bytes[HEADER..HEADER + 4].copy_from_slice(&(-errno).to_ne_bytes());
            bytes
        };
        assert_eq!(read(&error(libc::ENOENT)).unwrap(), None);
        assert_eq!(
            read(&error(libc::EPERM)).unwrap_err().raw_os_error(),
            Some(libc::EPERM)
        );
        let mut filter = vec![0; LENGTH];
        filter[4..6].copy_from_slice(&NEW_FILTER.to_ne_bytes());
        assert_eq!(read(&filter).unwrap(), None);
        // An attribute of 5 bytes, padded, then the options with the program behind another.
        let program = 77_u32.to_ne_bytes();
        let attributes: [(u16, u16, &[u8]); 4] = [
            (5, 1, b"b\0\0\0"),
            (20, OPTIONS | 0x8000, b""),
            (8, 7, &[0; 4]),
            (8, PROGRAM, &program),
        ];
        for (len, kind, value) in attributes {
            filter.extend(len.to_ne_bytes());
            filter.extend(kind.to_ne_bytes());
            filter.extend(value);
        }
        assert_eq!(read(&filter).unwrap(), Some(77));
        for end in 0..filter.len() {
            assert_ne!(read(&filter[..end]).ok().flatten(), Some(77), "{end} bytes");
        }
    }
}
