//! What the node's own sockets get.

use crate::peers::{Servers, ask, ask_connected, tcp, udp};
use crate::rig::{Rig, ip};
use essaim_abi::{Protocol, ServiceFlags};
use std::io::ErrorKind;

const TASK4: &str = "127.1.0.1:80";
const TASK6: &str = "[fd00:99::11]:80";

/// A node that publishes 8080 to port 80 of backend 11, TCP and UDP, and has the address 192.0.2.7.
fn published() -> Rig {
    let mut rig = Rig::new();
    rig.node();
    ip("addr add fd00:99::11/128 dev lo");
    ip("addr add 192.0.2.7/32 dev lo");
    rig.local_address("192.0.2.7");
    rig.backend(11, &["127.1.0.1", "fd00:99::11"]);
    rig.service(5, ServiceFlags::INGRESS, &[11]);
    rig.publish(Protocol::Tcp, 8080, 5, 80);
    rig.publish(Protocol::Udp, 8080, 5, 80);
    rig
}

#[test]
fn published_ports_are_reached_at_every_local_address() {
    let rig = published();
    let _servers = Servers::start(&[TASK4, TASK6]);
    let asked = [
        ("127.0.0.1:8080", "127.0.0.1:8080", TASK4),
        ("127.9.9.9:8080", "127.9.9.9:8080", TASK4),
        ("192.0.2.7:8080", "192.0.2.7:8080", TASK4),
        ("0.0.0.0:8080", "0.0.0.0:8080", TASK4),
        ("[::ffff:192.0.2.7]:8080", "[::ffff:192.0.2.7]:8080", TASK4),
        ("[::1]:8080", "[::1]:8080", TASK6),
        ("[::]:8080", "[::]:8080", TASK6),
    ];
    for (to, peer, server) in asked {
        let answer = tcp(to).unwrap_or_else(|error| panic!("tcp {to}: {error}"));
        assert_eq!(
            (answer.0.as_str(), answer.1.to_string().as_str()),
            (server, peer),
            "tcp {to}"
        );
        let socket = udp(if to.starts_with('[') {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        });
        let answer = ask(&socket, to).unwrap_or_else(|error| panic!("udp {to}: {error}"));
        assert_eq!(
            (answer.0.as_str(), answer.1.to_string().as_str()),
            (server, peer),
            "udp {to}"
        );
        let socket = udp(if to.starts_with('[') {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        });
        socket.connect(to).unwrap();
        assert_eq!(
            socket.peer_addr().unwrap().to_string(),
            peer,
            "udp connected to {to}"
        );
        let answer = ask_connected(&socket).unwrap_or_else(|error| panic!("udp connected to {to}: {error}"));
        assert_eq!(
            (answer.0.as_str(), answer.1.to_string().as_str()),
            (server, peer),
            "udp connected to {to}"
        );
    }
    let count = 3 * asked.len() as u64;
    assert_eq!(rig.flows(5, 11), (count, count));
}

#[test]
fn a_published_port_of_another_address_is_left_alone() {
    let _rig = published();
    ip("addr add 192.0.2.8/32 dev lo");
    let _servers = Servers::start(&["192.0.2.8:8080"]);
    assert_eq!(tcp("192.0.2.8:8080").unwrap().0, "192.0.2.8:8080");
    assert_eq!(
        ask(&udp("0.0.0.0:0"), "192.0.2.8:8080").unwrap().0,
        "192.0.2.8:8080"
    );
}

#[test]
fn an_unpublished_port_is_left_alone() {
    let mut rig = published();
    rig.publish(Protocol::Udp, 8081, 5, 80);
    let _servers = Servers::start(&[TASK4, "127.0.0.1:8082"]);
    assert_eq!(tcp("127.0.0.1:8082").unwrap().0, "127.0.0.1:8082");
    assert_eq!(
        tcp("127.0.0.1:8081").unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    assert_eq!(ask(&udp("0.0.0.0:0"), "127.0.0.1:8081").unwrap().0, TASK4);
}

#[test]
fn a_published_port_without_a_backend_of_the_family_refuses() {
    let mut rig = published();
    rig.backend(11, &["127.1.0.1"]);
    let _servers = Servers::start(&[TASK4]);
    assert_eq!(
        tcp("[::1]:8080").unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    assert_eq!(tcp("127.0.0.1:8080").unwrap().0, TASK4);
    let socket = udp("[::]:0");
    assert_eq!(
        socket.connect("[::1]:8080").unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    assert_eq!(
        ask(&socket, "[::1]:8080").unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}

#[test]
fn vips_of_every_network_are_reached_connected_udp_included() {
    let mut rig = published();
    rig.vip("10.99.0.1", 5);
    let _servers = Servers::start(&[TASK4]);
    let (server, peer) = tcp("10.99.0.1:80").unwrap();
    assert_eq!(
        (server.as_str(), peer.to_string().as_str()),
        (TASK4, "10.99.0.1:80")
    );
    let socket = udp("0.0.0.0:0");
    socket.connect("10.99.0.1:80").unwrap();
    assert_eq!(socket.peer_addr().unwrap().to_string(), "10.99.0.1:80");
    assert_eq!(ask_connected(&socket).unwrap().0, TASK4);
    assert_eq!(ask(&udp("0.0.0.0:0"), "10.99.0.1:80").unwrap().0, TASK4);
}

#[test]
fn one_udp_socket_may_ask_several_published_ports() {
    let mut rig = published();
    rig.backend(12, &["127.1.0.2"]);
    rig.service(6, ServiceFlags::INGRESS, &[12]);
    rig.publish(Protocol::Udp, 9090, 6, 80);
    let _servers = Servers::start(&[TASK4, "127.1.0.2:80"]);
    let socket = udp("0.0.0.0:0");
    for (to, server) in [
        ("127.0.0.1:8080", TASK4),
        ("127.0.0.1:9090", "127.1.0.2:80"),
        ("127.0.0.1:8080", TASK4),
    ] {
        let answer = ask(&socket, to).unwrap();
        assert_eq!((answer.0.as_str(), answer.1.to_string().as_str()), (server, to));
    }
}

#[test]
fn the_resolver_address_means_nothing_to_the_node() {
    let _rig = published();
    assert_eq!(
        tcp("127.0.0.11:53").unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}
