//! What TCP sockets asked for, for `getpeername` alone: a direct-mapped cache by the socket's cookie.
//!
//! Socket storage would be exact, but making an entry costs some 800 ns a connection, twice what all the rest
//! does; a hash map is no better. Here remembering is a few stores into an array. Cookies are given out in
//! sequence, so the last [`ENTRIES`] sockets are all remembered; of an older one the backend's address is
//! shown, never a false one: the cookie in the entry must be the socket's own, and its peer the address that
//! it was given.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use essaim_abi::Addr;

use super::call::{Call, Peer};

/// How many sockets are remembered; a power of two.
const ENTRIES: u32 = 1 << 16;

/// What a TCP socket asked for.
#[repr(C)]
struct TcpPeer {
    /// The socket's cookie; 0 while the entry is written, or was never.
    cookie: u64,
    /// What the program asked for.
    asked: Addr,
    /// Where it was sent.
    given: Addr,
    /// Port of `asked`, network order.
    asked_port: u16,
    /// Port of `given`, network order.
    given_port: u16,
    /// Zero.
    reserved: u32,
}

#[btf_map]
static TCP_PEERS: Array<TcpPeer, { ENTRIES as usize }> = Array::new();

/// Remembers a translation.
#[inline(always)]
pub(super) fn remember<const V6: bool>(call: &Call<V6>, asked: &Peer, given: &Peer) {
    let cookie = call.socket_cookie();
    let Some(entry) = TCP_PEERS.get_ptr_mut(cookie as u32 & (ENTRIES - 1)) else {
        return;
    };
    // SAFETY: the entry is a map's value, aligned and alive until the program ends. Another CPU may write it
    // at the same time for a socket whose cookie ends alike: what matters of that is found out in `recall`.
    unsafe {
        write_volatile(&raw mut (*entry).cookie, 0);
        (*entry).asked = asked.addr;
        (*entry).given = given.addr;
        (*entry).asked_port = asked.port;
        (*entry).given_port = given.port;
        write_volatile(&raw mut (*entry).cookie, cookie);
    }
}

/// What the socket asked for when it was given `given`.
#[inline(always)]
pub(super) fn recall<const V6: bool>(call: &Call<V6>, given: &Peer) -> Option<Peer> {
    let cookie = call.socket_cookie();
    let entry = TCP_PEERS.get_ptr(cookie as u32 & (ENTRIES - 1))?;
    // SAFETY: the entry is a map's value, aligned and alive until the program ends.
    let (before, remembered, asked, after) = unsafe {
        let before = read_volatile(&raw const (*entry).cookie);
        let remembered = Peer {
            addr: (*entry).given,
            port: (*entry).given_port,
        };
        let asked = Peer {
            addr: (*entry).asked,
            port: (*entry).asked_port,
        };
        (
            before,
            remembered,
            asked,
            read_volatile(&raw const (*entry).cookie),
        )
    };
    (before == cookie && after == cookie && remembered == *given).then_some(asked)
}
