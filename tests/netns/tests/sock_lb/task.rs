//! What a task's sockets get.

use crate::peers::{Servers, ask, ask_connected, tcp, udp};
use crate::rig::{Rig, VNI, addr, in_other_netns, ip, vnis};
use essaim_abi::{BackendState, DropReason, Hook, NetnsFlags, NetnsInfo, ServiceFlags, Verdict};
use socket2::{Domain, Socket, Type};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;

const VIP: &str = "10.99.0.1:80";
const BACKENDS: [&str; 3] = ["127.1.0.1:80", "127.1.0.2:80", "127.1.0.3:80"];

/// A task on the network of service 5, whose VIP is 10.99.0.1 and whose backends are 11 to 13.
fn three_backends(flags: ServiceFlags) -> Rig {
    let mut rig = Rig::new();
    rig.task();
    rig.vip("10.99.0.1", 5);
    for (index, address) in (11..).zip(["127.1.0.1", "127.1.0.2", "127.1.0.3"]) {
        rig.backend(index, &[address]);
    }
    rig.service(5, flags, &[11, 12, 13]);
    rig
}

fn gone(rig: &mut Rig, backends: &[u32]) {
    for backend in backends {
        rig.backend_in(*backend, &["127.1.0.9"], BackendState::Gone, 1);
    }
}

#[test]
fn tcp_connects_spread_exactly_and_the_peer_is_the_vip() {
    let rig = three_backends(ServiceFlags::NONE);
    let _servers = Servers::start(&BACKENDS);
    let mut answers = BTreeMap::<_, u32>::new();
    for _ in 0..30 {
        let (server, peer) = tcp(VIP).unwrap();
        assert_eq!(peer.to_string(), VIP);
        *answers.entry(server).or_default() += 1;
    }
    assert_eq!(answers, BACKENDS.map(|backend| (backend.to_owned(), 10)).into());
    assert_eq!(rig.flows(5, 12), (30, 10));
}

#[test]
fn connects_on_several_cpus_at_once_spread_exactly() {
    const CONNECTS: u64 = 60_000;
    let mut rig = Rig::new();
    rig.task();
    // Refused right after the program, so that the programs are most of the time that is spent.
    ip("route add blackhole 10.98.0.0/16");
    rig.vip("10.99.0.1", 5);
    for (index, address) in (11..).zip(["10.98.0.1", "10.98.0.2", "10.98.0.3"]) {
        rig.backend(index, &[address]);
    }
    rig.service(5, ServiceFlags::NONE, &[11, 12, 13]);
    let vip = VIP.parse::<SocketAddr>().unwrap().into();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                for _ in 0..CONNECTS {
                    socket.connect(&vip).unwrap_err();
                }
            });
        }
    });
    for backend in 11..=13 {
        assert_eq!(rig.flows(5, backend), (4 * CONNECTS, 4 * CONNECTS / 3));
    }
}

#[test]
fn a_service_over_ipv6_is_reached_at_its_vip() {
    let mut rig = Rig::new();
    rig.task();
    ip("addr add fd00:99::11/128 dev lo");
    rig.vip("fd00:99::1", 5);
    rig.backend(11, &["fd00:99::11"]);
    rig.service(5, ServiceFlags::NONE, &[11]);
    let _servers = Servers::start(&["[fd00:99::11]:80"]);
    let (server, peer) = tcp("[fd00:99::1]:80").unwrap();
    assert_eq!(
        (server.as_str(), peer.to_string().as_str()),
        ("[fd00:99::11]:80", "[fd00:99::1]:80")
    );
    let (server, from) = ask(&udp("[::]:0"), "[fd00:99::1]:80").unwrap();
    assert_eq!(
        (server.as_str(), from.to_string().as_str()),
        ("[fd00:99::11]:80", "[fd00:99::1]:80")
    );
}

#[test]
fn a_mapped_address_is_handled_as_ipv4() {
    let _rig = three_backends(ServiceFlags::NONE);
    let _servers = Servers::start(&BACKENDS);
    let vip = "[::ffff:10.99.0.1]:80";
    let (server, peer) = tcp(vip).unwrap();
    assert_eq!((server.as_str(), peer.to_string().as_str()), (BACKENDS[0], vip));
    let (server, from) = ask(&udp("[::]:0"), vip).unwrap();
    assert_eq!((server.as_str(), from.to_string().as_str()), (BACKENDS[1], vip));
}

#[test]
fn dead_backends_are_passed_over_and_without_a_live_one_the_call_is_refused() {
    let mut rig = three_backends(ServiceFlags::NONE);
    let _servers = Servers::start(&BACKENDS);
    gone(&mut rig, &[11, 13]);
    for _ in 0..6 {
        assert_eq!(tcp(VIP).unwrap().0, BACKENDS[1]);
    }
    gone(&mut rig, &[12]);
    assert_eq!(tcp(VIP).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(
        ask(&udp("0.0.0.0:0"), VIP).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    rig.service(5, ServiceFlags::NONE, &[]);
    assert_eq!(tcp(VIP).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(rig.refusals(DropReason::NoBackend), 3);
}

#[test]
fn a_service_without_backends_of_the_family_refuses() {
    let mut rig = three_backends(ServiceFlags::NONE);
    rig.vip("fd00:99::1", 5);
    assert_eq!(
        tcp("[fd00:99::1]:80").unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    assert_eq!(rig.refusals(DropReason::NoBackendInFamily), 1);
}

#[test]
fn affinity_keeps_every_connection_of_a_task_on_one_backend() {
    let mut rig = three_backends(ServiceFlags::AFFINITY);
    let _servers = Servers::start(&BACKENDS);
    let first = tcp(VIP).unwrap().0;
    for _ in 0..9 {
        assert_eq!(tcp(VIP).unwrap().0, first);
    }
    let index = (11..)
        .zip(BACKENDS)
        .find(|(_, backend)| *backend == first)
        .unwrap()
        .0;
    gone(&mut rig, &[index]);
    let second = tcp(VIP).unwrap().0;
    assert_ne!(second, first);
    assert_eq!(tcp(VIP).unwrap().0, second);
}

#[test]
fn an_unconnected_udp_socket_keeps_its_backend_while_it_lives() {
    let mut rig = three_backends(ServiceFlags::NONE);
    let _servers = Servers::start(&BACKENDS);
    let socket = udp("0.0.0.0:0");
    for _ in 0..4 {
        let (server, from) = ask(&socket, VIP).unwrap();
        assert_eq!((server.as_str(), from.to_string().as_str()), (BACKENDS[0], VIP));
    }
    assert_eq!(rig.flows(5, 11), (1, 1));
    rig.backend_in(11, &["127.1.0.1"], BackendState::Draining, 1);
    assert_eq!(
        ask(&socket, VIP).unwrap().0,
        BACKENDS[0],
        "a draining backend keeps its flows"
    );
    gone(&mut rig, &[11]);
    let (server, from) = ask(&socket, VIP).unwrap();
    assert_eq!((server.as_str(), from.to_string().as_str()), (BACKENDS[1], VIP));
    rig.backend_in(12, &["127.1.0.9"], BackendState::Active, 2);
    assert_eq!(
        ask(&socket, VIP).unwrap().0,
        BACKENDS[2],
        "the slot was given to another endpoint"
    );
}

#[test]
fn sockets_take_udp_backends_in_turn() {
    let _rig = three_backends(ServiceFlags::NONE);
    let _servers = Servers::start(&BACKENDS);
    let servers: Vec<_> = (0..6).map(|_| ask(&udp("0.0.0.0:0"), VIP).unwrap().0).collect();
    assert_eq!(servers, [BACKENDS, BACKENDS].concat());
}

#[test]
fn what_a_udp_socket_sends_to_a_second_vip_is_left_alone() {
    let mut rig = three_backends(ServiceFlags::NONE);
    ip("addr add 10.99.0.2/32 dev lo");
    let _servers = Servers::start(&["127.1.0.1:80", "127.1.0.2:80", "127.1.0.3:80", "10.99.0.2:80"]);
    rig.vip("10.99.0.2", 6);
    rig.service(6, ServiceFlags::NONE, &[13]);
    let socket = udp("127.0.0.1:0");
    assert_eq!(ask(&socket, VIP).unwrap().0, BACKENDS[0]);
    let (server, from) = ask(&socket, "10.99.0.2:80").unwrap();
    assert_eq!(
        (server.as_str(), from.to_string().as_str()),
        ("10.99.0.2:80", "10.99.0.2:80")
    );
    assert_eq!(ask(&socket, VIP).unwrap().0, BACKENDS[0]);
    gone(&mut rig, &[11]);
    let (server, from) = ask(&socket, "10.99.0.2:80").unwrap();
    assert_eq!(
        (server.as_str(), from.to_string().as_str()),
        (BACKENDS[2], "10.99.0.2:80"),
        "the first is dead"
    );
}

#[test]
fn udp_connect_to_a_vip_is_left_to_the_packet_path() {
    let _rig = three_backends(ServiceFlags::NONE);
    ip("addr add 10.99.0.1/32 dev lo");
    let _servers = Servers::start(&[VIP]);
    let socket = udp("127.0.0.1:0");
    socket.connect(VIP).unwrap();
    assert_eq!(ask_connected(&socket).unwrap().0, VIP);
}

#[test]
fn a_socket_that_is_connected_elsewhere_forgets_the_vip() {
    let _rig = three_backends(ServiceFlags::NONE);
    let _servers = Servers::start(&BACKENDS);
    let socket = udp("0.0.0.0:0");
    assert_eq!(ask(&socket, VIP).unwrap().0, BACKENDS[0]);
    socket.connect(BACKENDS[0]).unwrap();
    assert_eq!(socket.peer_addr().unwrap().to_string(), BACKENDS[0]);
}

#[test]
fn vips_of_foreign_networks_and_strange_namespaces_are_left_alone() {
    let mut rig = three_backends(ServiceFlags::NONE);
    ip("addr add 10.99.0.1/32 dev lo");
    let servers = Servers::start(&[VIP, BACKENDS[0], BACKENDS[1], BACKENDS[2]]);
    rig.namespace(NetnsInfo {
        flags: NetnsFlags::TASK,
        vnis: vnis(&[17, VNI + 1]),
        ..NetnsInfo::default()
    });
    assert_eq!(tcp(VIP).unwrap().0, VIP);
    assert_eq!(ask(&udp("127.0.0.1:0"), VIP).unwrap().0, VIP);
    rig.task();
    assert_eq!(tcp(VIP).unwrap().0, BACKENDS[0]);
    drop(servers);
    in_other_netns(|| {
        ip("addr add 10.99.0.1/32 dev lo");
        let _servers = Servers::start(&[VIP]);
        assert_eq!(tcp(VIP).unwrap().0, VIP);
        assert_eq!(ask(&udp("127.0.0.1:0"), VIP).unwrap().0, VIP);
    });
}

#[test]
fn whoever_watches_sees_what_was_assigned_and_what_refused() {
    let mut rig = three_backends(ServiceFlags::NONE);
    let _servers = Servers::start(&BACKENDS);
    drop(TcpStream::connect(VIP).unwrap());
    assert_eq!(rig.events(), []);
    rig.watch();
    drop(TcpStream::connect(VIP).unwrap());
    gone(&mut rig, &[11, 12, 13]);
    assert_eq!(tcp(VIP).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let events = rig.events();
    let [assigned, refused] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(
        (assigned.service, assigned.backend, assigned.vni, assigned.opened),
        (5, 12, VNI, 1)
    );
    assert_eq!(
        (assigned.flow.local, assigned.flow.local_port.swap_bytes()),
        (addr("10.99.0.1"), 80)
    );
    assert_eq!(
        (assigned.hook, assigned.verdict),
        (Hook::SockLb as u8, Verdict::Pass as u8)
    );
    assert_eq!((refused.service, refused.backend, refused.opened), (5, 0, 0));
    assert_eq!(
        (refused.verdict, refused.reason),
        (Verdict::Answered as u8, DropReason::NoBackend as u8)
    );
}

#[test]
fn the_resolver_is_reached_at_port_53() {
    const RESOLVER: &str = "127.0.0.11:53";
    const ELSEWHERE: &str = "127.0.0.11:40053";
    let mut rig = Rig::new();
    let port = 40053_u16.to_be();
    rig.namespace(NetnsInfo {
        flags: NetnsFlags::TASK,
        dns_udp_port: port,
        dns_tcp_port: port,
        ..NetnsInfo::default()
    });
    let _servers = Servers::start(&[ELSEWHERE]);
    let (server, peer) = tcp(RESOLVER).unwrap();
    assert_eq!(
        (server.as_str(), peer.to_string().as_str()),
        (ELSEWHERE, RESOLVER)
    );
    let (_, from) = ask(&udp("0.0.0.0:0"), RESOLVER).unwrap();
    assert_eq!(from.to_string(), RESOLVER);
    let (_, from) = ask(&udp("[::]:0"), "[::ffff:127.0.0.11]:53").unwrap();
    assert_eq!(from.to_string(), "[::ffff:127.0.0.11]:53");
    let connected: UdpSocket = udp("0.0.0.0:0");
    connected.connect(RESOLVER).unwrap();
    assert_eq!(connected.peer_addr().unwrap().to_string(), RESOLVER);
    let (server, from) = ask_connected(&connected).unwrap();
    assert_eq!(
        (server.as_str(), from.to_string().as_str()),
        (ELSEWHERE, RESOLVER)
    );
    // Other ports of that address are not the resolver.
    assert_eq!(
        tcp("127.0.0.11:54").unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    // While the agent has no sockets there, nothing is translated.
    rig.task();
    assert_eq!(tcp(RESOLVER).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
