//! A task's sockets in a network namespace of the test's own. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use essaim_dns::{AskerId, AskerInfo, DnsServer, RESOLVER_ADDRESS, Zone, open_sockets};
use essaim_model::{Catalog, Liveness, example};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::RcvBuf;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Runs a function in a network namespace of its own, with loopback up, and hands it a descriptor of that.
fn in_namespace<T: Send>(run: impl FnOnce(&File) -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            // A child of this thread is in its namespace.
            assert!(
                Command::new("ip")
                    .args(["link", "set", "lo", "up"])
                    .status()
                    .unwrap()
                    .success()
            );
            run(&File::open("/proc/thread-self/ns/net").unwrap())
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn a_task_is_served_inside_its_namespace_and_may_serve_port_53_itself() {
    let catalog = Catalog::parse(example()).unwrap();
    let web = &catalog.services[0];
    let server = DnsServer::start().unwrap();
    server.set_zone(Arc::new(Zone::new(&catalog, &Liveness::of(&catalog))));
    let outer = File::open("/proc/thread-self/ns/net").unwrap();
    in_namespace(|netns| {
        // From a thread in another namespace.
        let (udp, tcp) = std::thread::scope(|scope| {
            let outside = scope.spawn(|| {
                setns(&outer, CloneFlags::CLONE_NEWNET).unwrap();
                open_sockets(netns.as_fd()).unwrap()
            });
            outside.join().unwrap()
        });
        let address = udp.local_addr().unwrap();
        for address in [address, tcp.local_addr().unwrap()] {
            assert_eq!(address.ip(), RESOLVER_ADDRESS);
            assert!(address.port() > 1023);
        }
        // The kernel doubles what is asked for.
        assert_eq!(getsockopt(&udp, RcvBuf).unwrap(), 2 << 20);
        let info = AskerInfo::of(&catalog, web, &web.tasks[0]);
        server.add_asker(AskerId(1), info, udp, tcp).unwrap();
        let _own: (UdpSocket, TcpListener) = (
            UdpSocket::bind("0.0.0.0:53").unwrap(),
            TcpListener::bind("0.0.0.0:53").unwrap(),
        );
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client
            .send_to(b"\0\x01\0\0\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01", address)
            .unwrap();
        let mut answer = [0; 64];
        let (length, from) = client.recv_from(&mut answer).unwrap();
        assert_eq!(from, address);
        assert_eq!(answer[..length][length - 4..], [10, 0, 1, 2]);
    });
}

#[test]
fn a_descriptor_of_something_else_is_refused() {
    let file = File::open("/proc/self/status").unwrap();
    let error = open_sockets(file.as_fd()).unwrap_err();
    assert_eq!(error.to_string(), "failed to enter the network namespace");
}

#[test]
fn the_caller_stays_in_its_namespace() {
    let here = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let before = here();
    in_namespace(|netns| {
        let sockets: SocketAddr = open_sockets(netns.as_fd()).unwrap().0.local_addr().unwrap();
        assert_eq!(sockets.ip(), RESOLVER_ADDRESS);
    });
    assert_eq!(here(), before);
}
