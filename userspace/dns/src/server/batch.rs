//! Datagrams by the dozen: `recvmmsg` and `sendmmsg`, so that a busy socket costs two system calls for a batch and
//! not two for a question. The standard library has neither; this is the one module with unsafe code.
#![expect(unsafe_code, reason = "recvmmsg and sendmmsg")]

use crate::wire::OWN_UDP_SIZE;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

/// How many datagrams are taken from a socket before the next one has its turn. Fewer: more system calls under load;
/// more: a task that floods its socket keeps the others waiting for longer (some 5 microseconds for each).
pub(crate) const BATCH: usize = 32;
/// The largest answer that is sent over UDP, in bytes: to clients that say they take it. Loopback does not fragment.
pub(crate) const LARGEST_REPLY: u16 = 4096;

/// A datagram and the answer to it.
#[derive(Debug)]
pub(crate) struct Slot {
    request: [u8; OWN_UDP_SIZE as usize],
    length: usize,
    peer: Peer,
    /// Where the answer is written.
    pub(crate) reply: [u8; LARGEST_REPLY as usize],
    /// The answer's length; 0: none is sent.
    pub(crate) reply_length: usize,
}

impl Slot {
    /// A batch of empty slots.
    pub(crate) fn batch() -> Box<[Self]> {
        let slot = || Self {
            request: [0; OWN_UDP_SIZE as usize],
            length: 0,
            peer: Peer::EMPTY,
            reply: [0; LARGEST_REPLY as usize],
            reply_length: 0,
        };
        (0..BATCH).map(|_| slot()).collect()
    }

    /// The datagram, and the buffer for the answer. A datagram longer than we say we take has lost its end, which
    /// its reader will miss.
    pub(crate) fn parts(&mut self) -> (&[u8], &mut [u8]) {
        (
            self.request.get(..self.length).unwrap_or_default(),
            &mut self.reply,
        )
    }

    /// Who sent it.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer.address()
    }
}

/// A socket address as the kernel writes it, large enough for IPv6.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
struct Peer {
    bytes: [u8; size_of::<libc::sockaddr_in6>()],
    length: libc::socklen_t,
}

impl Peer {
    const EMPTY: Self = Self {
        bytes: [0; size_of::<libc::sockaddr_in6>()],
        length: 0,
    };

    fn address(&self) -> Option<SocketAddr> {
        let (family, rest) = self.bytes.split_first_chunk()?;
        let (port, rest) = rest.split_first_chunk()?;
        let port = u16::from_be_bytes(*port);
        match i32::from(u16::from_ne_bytes(*family)) {
            libc::AF_INET => {
                let address: [u8; 4] = *rest.first_chunk()?;
                Some((IpAddr::V4(Ipv4Addr::from(address)), port).into())
            }
            libc::AF_INET6 => {
                let (_flow, rest) = rest.split_first_chunk::<4>()?;
                let (address, rest) = rest.split_first_chunk::<16>()?;
                let scope = u32::from_ne_bytes(*rest.first_chunk()?);
                Some(SocketAddrV6::new(Ipv6Addr::from(*address), port, 0, scope).into())
            }
            _ => None,
        }
    }
}

/// Takes what is there, without waiting, and gives the number of slots that were filled.
///
/// # Errors
/// The kernel's: [`io::ErrorKind::WouldBlock`] where nothing is there.
pub(crate) fn receive(socket: BorrowedFd<'_>, slots: &mut [Slot]) -> io::Result<usize> {
    // SAFETY: both are plain structures of the kernel for which all zeroes mean "nothing".
    let mut vectors: [libc::iovec; BATCH] = unsafe { zeroed() };
    // SAFETY: as above.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    let mut count = 0;
    for ((slot, vector), header) in slots.iter_mut().zip(&mut vectors).zip(&mut headers) {
        vector.iov_base = slot.request.as_mut_ptr().cast();
        vector.iov_len = slot.request.len();
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = slot.peer.bytes.as_mut_ptr().cast();
        header.msg_hdr.msg_namelen = u32_of(slot.peer.bytes.len());
        count += 1;
    }
    // SAFETY: the first `count` headers each point to one vector, a name buffer of the given length and no control
    // data; each vector points to a buffer of the given length. Vectors and buffers are borrowed until the call
    // returns, nothing else refers to them, and the kernel keeps no pointer. No timeout is given.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
        )
    };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    for (slot, header) in slots.iter_mut().zip(&headers).take(received) {
        slot.length = header.msg_len as usize;
        slot.peer.length = header.msg_hdr.msg_namelen;
        slot.reply_length = 0;
    }
    Ok(received)
}

/// Sends the answers that there are, without waiting, and gives the number of those that the kernel did not take.
pub(crate) fn send(socket: BorrowedFd<'_>, slots: &mut [Slot]) -> usize {
    // SAFETY: both are plain structures of the kernel for which all zeroes mean "nothing".
    let mut vectors: [libc::iovec; BATCH] = unsafe { zeroed() };
    // SAFETY: as above.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    let mut count = 0;
    let answered = slots.iter_mut().filter(|slot| slot.reply_length > 0);
    for ((slot, vector), header) in answered.zip(&mut vectors).zip(&mut headers) {
        vector.iov_base = slot.reply.as_mut_ptr().cast();
        vector.iov_len = slot.reply_length.min(slot.reply.len());
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = slot.peer.bytes.as_mut_ptr().cast();
        header.msg_hdr.msg_namelen = slot.peer.length.min(u32_of(slot.peer.bytes.len()));
        count += 1;
    }
    let mut unsent = 0;
    let mut rest = headers.get_mut(..count).unwrap_or_default();
    while !rest.is_empty() {
        // SAFETY: every header of `rest` was filled above and points to one vector, a name of the given length and
        // no control data; each vector points to as many bytes of a buffer. All are borrowed until the call returns,
        // and the kernel keeps no pointer.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                rest.as_mut_ptr(),
                u32_of(rest.len()),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        let done = match usize::try_from(sent) {
            Ok(sent) if sent > 0 => sent,
            _ if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => {
                return unsent + rest.len();
            }
            // The first of them cannot be sent, to a client that has gone for instance; the others may.
            _ => {
                unsent += 1;
                1
            }
        };
        rest = rest.get_mut(done..).unwrap_or_default();
    }
    unsent
}

/// Lengths of some bytes or kilobytes.
#[expect(
    clippy::cast_possible_truncation,
    reason = "lengths of buffers in this module"
)]
const fn u32_of(length: usize) -> u32 {
    length as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::Duration;

    #[test]
    fn a_batch_comes_and_goes_with_its_senders() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let server = UdpSocket::bind(address).unwrap();
            let clients = [(); 3].map(|()| UdpSocket::bind(address).unwrap());
            for (number, client) in (1_u8..).zip(&clients) {
                client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                client
                    .send_to(&[number; 5], server.local_addr().unwrap())
                    .unwrap();
            }
            let mut slots = Slot::batch();
            assert_eq!(receive(server.as_fd(), &mut slots).unwrap(), 3);
            for (slot, client) in slots.iter_mut().zip(&clients) {
                assert_eq!(slot.peer(), Some(client.local_addr().unwrap()));
                let (request, reply) = slot.parts();
                let length = request.len();
                reply[..length].copy_from_slice(request);
                reply[length] = 9;
                slot.reply_length = length + 1;
            }
            // One is not answered.
            slots[1].reply_length = 0;
            assert_eq!(send(server.as_fd(), &mut slots[..3]), 0);
            for (number, client) in [(1, &clients[0]), (3, &clients[2])] {
                let mut buffer = [0; 16];
                let length = client.recv(&mut buffer).unwrap();
                assert_eq!(buffer[..length], [number, number, number, number, number, 9]);
            }
            clients[1].set_nonblocking(true).unwrap();
            assert!(clients[1].recv(&mut [0; 16]).is_err());
            let nothing = receive(server.as_fd(), &mut slots).unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn an_answer_that_cannot_be_sent_does_not_hold_up_the_others() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for _ in 0..2 {
            client.send_to(b"x", server.local_addr().unwrap()).unwrap();
        }
        let mut slots = Slot::batch();
        assert_eq!(receive(server.as_fd(), &mut slots).unwrap(), 2);
        slots[0].peer.length = 3;
        slots[0].reply_length = 1;
        slots[1].reply_length = 1;
        assert_eq!(send(server.as_fd(), &mut slots[..2]), 1);
        assert_eq!(client.recv(&mut [0; 4]).unwrap(), 1);
    }
}
