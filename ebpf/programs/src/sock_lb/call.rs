//! The socket call that a program sees: the only code that touches the context.
//!
//! The verifier rewrites each access by its offset and size, so every one is a volatile load or store of four
//! bytes: LLVM must neither narrow, merge nor move them onto a changed pointer.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval};
use aya_ebpf::programs::SockAddrContext;
use essaim_abi::{Addr, Protocol};

/// `SOCK_STREAM`.
const STREAM: u32 = 1;
/// `SOCK_DGRAM`.
const DATAGRAM: u32 = 2;
/// `ECONNREFUSED`.
const CONNECTION_REFUSED: i32 = 111;

/// An address and a port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    /// The address.
    pub(super) addr: Addr,
    /// The port, in network order.
    pub(super) port: u16,
}

/// A socket call that names a peer, with the address structure of IPv4 or (`V6`) of IPv6.
pub(super) struct Call<const V6: bool> {
    ctx: SockAddrContext,
}

impl<const V6: bool> Call<V6> {
    /// The call that the program was started for.
    #[inline(always)]
    pub(super) fn new(ctx: SockAddrContext) -> Self {
        Self { ctx }
    }

    /// The context, for socket storage.
    #[inline(always)]
    pub(super) fn context(&self) -> &SockAddrContext {
        &self.ctx
    }

    /// TCP or UDP; none for every other kind of socket.
    #[inline(always)]
    pub(super) fn protocol(&self) -> Option<Protocol> {
        // SAFETY: the kernel passes a valid context for as long as the program runs.
        let protocol = unsafe { read_volatile(&raw const (*self.ctx.sock_addr).protocol) };
        // SAFETY: as above.
        let kind = unsafe { read_volatile(&raw const (*self.ctx.sock_addr).type_) };
        match (kind, protocol) {
            (STREAM, 6) => Some(Protocol::Tcp),
            (DATAGRAM, 17) => Some(Protocol::Udp),
            _ => None,
        }
    }

    /// The address and port in the call.
    #[inline(always)]
    pub(super) fn peer(&self) -> Peer {
        let ctx = self.ctx.sock_addr;
        let addr = if V6 {
            // SAFETY: the kernel passes a valid context for as long as the program runs.
            let words = unsafe {
                [
                    read_volatile(&raw const (*ctx).user_ip6[0]),
                    read_volatile(&raw const (*ctx).user_ip6[1]),
                    read_volatile(&raw const (*ctx).user_ip6[2]),
                    read_volatile(&raw const (*ctx).user_ip6[3]),
                ]
            };
            Addr { words }
        } else {
            // SAFETY: as above.
            Addr::v4(unsafe { read_volatile(&raw const (*ctx).user_ip4) })
        };
        // SAFETY: as above.
        let port = unsafe { read_volatile(&raw const (*ctx).user_port) };
        Peer {
            addr,
            port: port as u16,
        }
    }

    /// Changes address and port; the address is of the family (mapped or not) that the call had.
    #[inline(always)]
    pub(super) fn set_peer(&self, peer: &Peer) {
        let ctx = self.ctx.sock_addr;
        let words = peer.addr.words;
        if V6 {
            // SAFETY: the kernel passes a valid context for as long as the program runs; these fields may be
            // written.
            unsafe {
                write_volatile(&raw mut (*ctx).user_ip6[0], words[0]);
                write_volatile(&raw mut (*ctx).user_ip6[1], words[1]);
                write_volatile(&raw mut (*ctx).user_ip6[2], words[2]);
                write_volatile(&raw mut (*ctx).user_ip6[3], words[3]);
            }
        } else {
            // SAFETY: as above.
            unsafe { write_volatile(&raw mut (*ctx).user_ip4, words[3]) };
        }
        self.set_port(peer.port);
    }

    /// Changes the port, in network order.
    #[inline(always)]
    pub(super) fn set_port(&self, port: u16) {
        // SAFETY: as in `set_peer`.
        unsafe { write_volatile(&raw mut (*self.ctx.sock_addr).user_port, u32::from(port)) };
    }

    /// The cookie of the socket's network namespace.
    #[inline(always)]
    pub(super) fn netns_cookie(&self) -> u64 {
        // SAFETY: the helper takes the program's own context.
        unsafe { bpf_get_netns_cookie(self.ctx.as_ptr()) }
    }

    /// The cookie of the socket, which no other socket has or had.
    #[inline(always)]
    pub(super) fn socket_cookie(&self) -> u64 {
        // SAFETY: the helper takes the program's own context.
        unsafe { bpf_get_socket_cookie(self.ctx.as_ptr()) }
    }
}

/// Lets the call fail with `ECONNREFUSED` where the program then returns 0.
#[inline(always)]
pub(super) fn fail_with_refused() {
    // SAFETY: connect and sendmsg programs may call the helper (kernel 6.1 and later). It fails for no errno.
    unsafe { bpf_set_retval(-CONNECTION_REFUSED) };
}
