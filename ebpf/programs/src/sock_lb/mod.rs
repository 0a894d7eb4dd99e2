//! The socket programs: a service's address becomes a backend's once, when the socket is told where to talk.
//!
//! What they do depends on the network namespace of the socket, found by its cookie. In a task's namespace
//! the VIPs of its own networks and the resolver at 127.0.0.11:53 are translated; in the node's namespace the
//! VIPs of every network and this node's published ports. Every other namespace is left alone.
//!
//! UDP `connect()` of a task to a VIP is not translated: the send hooks do not see connected sockets, so
//! nothing could move such a socket off a dead backend. `endpoint_tc` balances it per packet.
//!
//! The return value of a connect or sendmsg program is 1 to go on and 0 to refuse; recvmsg and getpeername
//! programs may only return 1.

pub(crate) mod atomic;
mod call;
mod memory;
mod pick;
mod report;
mod route;
mod tcp_memory;

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use essaim_abi::{DropReason, NetnsInfo, Protocol, Service};

use call::{Call, Peer};
use pick::Choice;
use report::Assignment;
use route::{Route, Side};

use crate::maps::{DROP_COUNTERS, NETNS_BY_COOKIE};

/// The call goes on.
const PROCEED: i32 = 1;
/// The call fails with the error of `bpf_set_retval`.
const REFUSE: i32 = 0;

#[cgroup_sock_addr(connect4)]
fn connect4(ctx: SockAddrContext) -> i32 {
    let call = Call::<false>::new(ctx);
    verdict(connect(&call))
}

#[cgroup_sock_addr(connect6)]
fn connect6(ctx: SockAddrContext) -> i32 {
    let call = Call::<true>::new(ctx);
    verdict(connect(&call))
}

#[cgroup_sock_addr(sendmsg4)]
fn sendmsg4(ctx: SockAddrContext) -> i32 {
    let call = Call::<false>::new(ctx);
    verdict(sendmsg(&call))
}

#[cgroup_sock_addr(sendmsg6)]
fn sendmsg6(ctx: SockAddrContext) -> i32 {
    let call = Call::<true>::new(ctx);
    verdict(sendmsg(&call))
}

#[cgroup_sock_addr(recvmsg4)]
fn recvmsg4(ctx: SockAddrContext) -> i32 {
    show_asked(&Call::<false>::new(ctx));
    PROCEED
}

#[cgroup_sock_addr(recvmsg6)]
fn recvmsg6(ctx: SockAddrContext) -> i32 {
    show_asked(&Call::<true>::new(ctx));
    PROCEED
}

#[cgroup_sock_addr(getpeername4)]
fn getpeername4(ctx: SockAddrContext) -> i32 {
    show_asked(&Call::<false>::new(ctx));
    PROCEED
}

#[cgroup_sock_addr(getpeername6)]
fn getpeername6(ctx: SockAddrContext) -> i32 {
    show_asked(&Call::<true>::new(ctx));
    PROCEED
}

/// Turns the outcome into what the kernel wants, and counts a refusal.
#[inline(always)]
fn verdict(outcome: Result<(), DropReason>) -> i32 {
    let Err(reason) = outcome else { return PROCEED };
    if let Some(counters) = DROP_COUNTERS.get_ptr_mut(reason as u32) {
        // SAFETY: the map's value holds aligned u64 fields.
        unsafe { atomic::increment(&raw mut (*counters).packets) };
    }
    call::fail_with_refused();
    REFUSE
}

/// The namespace of the socket, and its cookie; none where the namespace is not ours.
#[inline(always)]
fn netns<const V6: bool>(call: &Call<V6>) -> Option<(u64, &'static NetnsInfo)> {
    let cookie = call.netns_cookie();
    // SAFETY: an entry that is taken out meanwhile stays readable until the program ends.
    unsafe { NETNS_BY_COOKIE.get(cookie) }.map(|info| (cookie, info))
}

/// A socket is told its peer.
#[inline(always)]
fn connect<const V6: bool>(call: &Call<V6>) -> Result<(), DropReason> {
    let Some(protocol) = call.protocol() else {
        return Ok(());
    };
    let Some((cookie, info)) = netns(call) else {
        return Ok(());
    };
    let Some(side) = Side::of(info) else { return Ok(()) };
    let asked = call.peer();
    let is_udp = matches!(protocol, Protocol::Udp);
    match Route::of(side, info, protocol, &asked) {
        Route::Group {
            index,
            service,
            port,
            published,
        } if !is_udp || published || matches!(side, Side::Node) => {
            let choice = assign(index, service, protocol, &asked, cookie)?;
            let given = Peer {
                addr: choice.addr,
                port,
            };
            // Where memory fails, getpeername shows the backend; the connection is right all the same.
            if is_udp {
                memory::remember(call, &asked, &given, index, &choice);
            } else {
                tcp_memory::remember(call, &asked, &given);
            }
            pick::count_flow(index, &choice);
            call.set_peer(&given);
            return Ok(());
        }
        Route::Resolver { port } => call.set_port(port),
        Route::Group { .. } | Route::Elsewhere => {}
    }
    if is_udp {
        memory::forget(call);
    }
    Ok(())
}

/// A datagram leaves with an address of its own.
#[inline(always)]
fn sendmsg<const V6: bool>(call: &Call<V6>) -> Result<(), DropReason> {
    let Some(Protocol::Udp) = call.protocol() else {
        return Ok(());
    };
    let Some((cookie, info)) = netns(call) else {
        return Ok(());
    };
    let Some(side) = Side::of(info) else { return Ok(()) };
    let asked = call.peer();
    match Route::of(side, info, Protocol::Udp, &asked) {
        Route::Group {
            index,
            service,
            port,
            published,
        } => {
            if let Some(state) = memory::recall(call)
                && memory::is_current(state)
            {
                let same = memory::asked(state) == asked;
                if same && state.service == index && state.given_port == port {
                    call.set_peer(&memory::given(state));
                    return Ok(());
                }
                // A socket remembers one address. What it sends to further VIPs is balanced per packet by
                // `endpoint_tc`, which also translates the answers; behind a published port there is only
                // this hook.
                if !same && !published {
                    return Ok(());
                }
            }
            let choice = assign(index, service, Protocol::Udp, &asked, cookie)?;
            let given = Peer {
                addr: choice.addr,
                port,
            };
            // Unremembered, the answer would come from a stranger: a VIP is then left to `endpoint_tc` as
            // well.
            if memory::remember(call, &asked, &given, index, &choice) || published {
                pick::count_flow(index, &choice);
                call.set_peer(&given);
            }
        }
        Route::Resolver { port } => call.set_port(port),
        Route::Elsewhere => {}
    }
    Ok(())
}

/// Picks a backend for the socket, and reports it.
#[inline(always)]
fn assign(
    index: u32,
    service: &Service,
    protocol: Protocol,
    asked: &Peer,
    cookie: u64,
) -> Result<Choice, DropReason> {
    let choice = pick::pick(index, service, &asked.addr, cookie);
    let backend = match &choice {
        Ok(choice) => Ok(choice.backend),
        Err(reason) => Err(*reason),
    };
    report::report(&Assignment {
        asked: *asked,
        protocol,
        service: index,
        vni: service.vni,
        backend,
    });
    choice
}

/// The program asks who its peer is, or whom a datagram came from: it sees the address that it asked for.
#[inline(always)]
fn show_asked<const V6: bool>(call: &Call<V6>) {
    let found = call.peer();
    if route::is_resolver(&found.addr) {
        // The resolver's sockets keep their ports, so the namespace says all there is to know.
        if let Some((_, info)) = netns(call)
            && let Some(protocol) = call.protocol()
            && let Some(port) = route::resolver_port(info, protocol)
            && port == found.port
        {
            call.set_port(route::DNS_PORT);
        }
        return;
    }
    if let Some(Protocol::Tcp) = call.protocol() {
        if let Some(asked) = tcp_memory::recall(call, &found) {
            call.set_peer(&asked);
        }
    } else if let Some(state) = memory::recall(call)
        && memory::given(state) == found
    {
        call.set_peer(&memory::asked(state));
    }
}
