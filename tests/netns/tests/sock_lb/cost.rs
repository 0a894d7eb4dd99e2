//! What the programs cost, printed; the bench has the numbers that count.
//!
//! The routing table refuses the backend's address right after the programs ran, so that nothing else is
//! measured.

use crate::rig::{Rig, ip};
use essaim_abi::ServiceFlags;
use socket2::{Domain, SockAddr, Socket, Type};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const BACKEND: &str = "10.98.0.1:80";
const VIP: &str = "10.99.0.1:80";
const ROUNDS: usize = 31;
const CALLS: u32 = 2000;

fn address(text: &str) -> SockAddr {
    text.parse::<SocketAddr>().unwrap().into()
}

/// The time of one `connect()` of a fresh TCP socket, in nanoseconds.
fn connect(to: &str) -> i128 {
    let to = address(to);
    let mut spent = Duration::ZERO;
    for _ in 0..CALLS {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let start = Instant::now();
        let _no_route = socket.connect(&to);
        spent += start.elapsed();
    }
    i128::try_from((spent / CALLS).as_nanos()).unwrap()
}

/// The time of one `sendto()` of one UDP socket, in nanoseconds.
fn send(to: &str) -> i128 {
    let to = address(to);
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    let start = Instant::now();
    for _ in 0..CALLS {
        let _no_route = socket.send_to(b"x", &to);
    }
    i128::try_from((start.elapsed() / CALLS).as_nanos()).unwrap()
}

fn median(mut times: Vec<i128>) -> i128 {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn what_a_call_costs_more_is_printed() {
    let mut rig = Rig::detached();
    rig.task();
    ip("route add blackhole 10.98.0.0/15");
    rig.vip("10.99.0.1", 5);
    rig.backend(11, &["10.98.0.1"]);
    rig.service(5, ServiceFlags::NONE, &[11]);
    for (name, call) in [
        ("tcp connect()", connect as fn(&str) -> i128),
        ("udp sendto()", send),
    ] {
        let (mut bare, mut elsewhere, mut translated) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let without = call(BACKEND);
            rig.attach();
            elsewhere.push(call(BACKEND) - without);
            translated.push(call(VIP) - without);
            rig.detach();
            bare.push(without);
        }
        println!(
            "{name}: {} ns; to an address that is not ours {:+} ns, to a VIP {:+} ns",
            median(bare),
            median(elsewhere),
            median(translated)
        );
    }
}
