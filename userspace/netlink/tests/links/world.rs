//! The way to the world and back, which the kernel forwards.

use crate::lab::{Lab, without_problems};
use crate::{DEADLINE, address, assert_settled};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

#[test]
fn a_task_reaches_the_world_masqueraded_and_the_world_does_not_reach_the_task() {
    let lab = Lab::new(1);
    let mut links = lab.open();
    without_problems(links.reconcile(&lab.desired()).unwrap());
    let task = &lab.tasks[0];
    // What the program at the node's side would answer.
    task.run("ip neigh add 10.1.0.254 lladdr 06:e5:5a:00:00:01 nud permanent dev eth0");
    task.run("ip neigh add fd00:1::ffff lladdr 06:e5:5a:00:00:01 nud permanent dev eth0");
    for (listen, node) in [
        ("192.0.2.2:8000", "192.0.2.1"),
        ("[2001:db8::2]:8000", "2001:db8::1"),
    ] {
        let listener = lab.other.inside(|| TcpListener::bind(listen).unwrap());
        let mut client =
            task.inside(|| TcpStream::connect_timeout(&listen.parse().unwrap(), DEADLINE).unwrap());
        let (mut server, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), address(node), "not masqueraded");
        assert!(peer.port() >= 61_000, "{peer}");
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
    }
    lab.other.run("ip route add 10.1.0.0/24 via 192.0.2.1");
    let _listener = task.inside(|| TcpListener::bind("10.1.0.1:8000").unwrap());
    let outcome = lab.other.inside(|| {
        TcpStream::connect_timeout(&"10.1.0.1:8000".parse().unwrap(), Duration::from_millis(300)).map(drop)
    });
    assert!(
        outcome.is_err(),
        "a task was reached from outside, past the published ports"
    );
}

#[test]
fn dockers_chain_for_rules_of_users_gets_ours_and_keeps_its_own() {
    let lab = Lab::new(0);
    lab.node.run("nft add table ip filter");
    lab.node.run("nft add chain ip filter DOCKER-USER");
    lab.node.run("nft add rule ip filter DOCKER-USER return");
    let mut links = lab.open();
    let desired = lab.desired();
    without_problems(links.reconcile(&desired).unwrap());
    let rules = lab.node.run("nft list chain ip filter DOCKER-USER");
    assert!(rules.contains("ip saddr 10.1.0.0/24 accept"), "{rules}");
    assert!(
        rules.find("accept").unwrap() < rules.find("return").unwrap(),
        "ours come first\n{rules}"
    );
    assert_settled(&links, &desired);
    drop(links);
    lab.clean().unwrap();
    let rules = lab.node.run("nft list chain ip filter DOCKER-USER");
    assert!(rules.contains("return") && !rules.contains("essaim"), "{rules}");
}
