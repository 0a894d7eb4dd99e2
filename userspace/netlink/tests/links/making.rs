//! Links are made as the programs need them, once.

use crate::assert_settled;
use crate::lab::{Lab, Netns, desired, key, node_name, without_problems};
use essaim_netlink::attachment_link;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[test]
fn a_second_reconciliation_does_nothing() {
    let lab = Lab::new(2);
    let mut links = lab.open();
    let desired = lab.desired();
    let planned = links.verify(&desired).unwrap();
    let first = without_problems(links.reconcile(&desired).unwrap());
    assert_eq!(first.applied.len(), planned.len());
    assert_settled(&links, &desired);
    let second = without_problems(links.reconcile(&desired).unwrap());
    assert_eq!(second.applied, []);
    assert_eq!(second.facts.attachments, first.facts.attachments);
    // So does another process that finds the links.
    drop(links);
    assert_eq!(
        without_problems(lab.open().reconcile(&desired).unwrap()).applied,
        []
    );
}

#[test]
fn the_devices_are_what_the_programs_need() {
    let lab = Lab::new(1);
    let mut links = lab.open();
    without_problems(links.reconcile(&lab.desired()).unwrap());
    let near = attachment_link(&node_name(), &key(1));
    for (command, expected) in [
        ("ip -d link show essaim-vx".to_owned(), "external"),
        ("ip -d link show essaim-vx".to_owned(), "dstport 4789 nolearning"),
        (
            "ip -d link show essaim-vx".to_owned(),
            "udp6zerocsumtx udp6zerocsumrx",
        ),
        ("ip -d link show essaim-vx".to_owned(), "06:e5:5a:00:00:02"),
        ("ip -d link show essaim-vx".to_owned(), "addrgenmode none"),
        ("ip -d link show essaim-vx".to_owned(), ",UP"),
        ("ip -d link show essaim0p".to_owned(), "06:e5:5a:00:00:01"),
        ("ip -d link show essaim0p".to_owned(), "alias essaim:n1"),
        ("ip -d addr show essaim0".to_owned(), "02:42:0a:00:00:01"),
        ("ip -d addr show essaim0".to_owned(), "inet 10.0.0.1/32"),
        ("ip -d addr show essaim0".to_owned(), "inet6 fd00::1/128"),
        (
            "ip route show dev essaim0".to_owned(),
            "10.1.0.0/24 proto 229 scope link src 10.0.0.1",
        ),
        (
            "ip -6 route show dev essaim0".to_owned(),
            "fd00:1::/64 proto 229 src fd00::1",
        ),
        (format!("ip -d link show {near}"), "alias essaim:n1:web.1@app"),
        (format!("ip -d link show {near}"), "mtu 1450"),
        (format!("ip -d link show {near}"), "06:e5:5a:00:00:01"),
        (
            format!("ip route show dev {near}"),
            "10.1.0.1 proto 229 scope link src 10.0.0.1",
        ),
        (
            format!("ip -6 route show dev {near}"),
            "fd00:1::1 proto 229 src fd00::1",
        ),
        (
            format!("ip neigh show dev {near}"),
            "10.1.0.1 lladdr 02:42:0a:01:00:01 PERMANENT",
        ),
        (
            format!("ip -6 neigh show dev {near}"),
            "fd00:1::1 lladdr 02:42:0a:01:00:01 PERMANENT",
        ),
        ("sysctl net.ipv4.ip_forward".to_owned(), "= 1"),
        ("sysctl net.ipv6.conf.all.forwarding".to_owned(), "= 1"),
        ("sysctl net.ipv6.conf.up0.accept_ra".to_owned(), "= 2"),
        (format!("sysctl net.ipv4.conf.{near}.rp_filter"), "= 0"),
    ] {
        let found = lab.node.run(&command);
        assert!(
            found.contains(expected),
            "{command}: {expected:?} is not in\n{found}"
        );
    }
    assert!(!lab.node.run("ip -6 addr show essaim-vx").contains("inet6"));
    for (command, expected) in [
        ("ip addr show eth0", "mtu 1450"),
        ("ip addr show eth0", "02:42:0a:01:00:01"),
        ("ip addr show eth0", "inet 10.1.0.1/24"),
        ("ip addr show eth0", "inet6 fd00:1::1/64 scope global nodad"),
        ("ip addr show lo", "inet 127.0.0.1/8"),
        ("ip route", "default via 10.1.0.254 dev eth0 proto 229"),
        ("ip -6 route", "default via fd00:1::ffff dev eth0 proto 229"),
    ] {
        let found = lab.tasks[0].run(command);
        assert!(
            found.contains(expected),
            "{command}: {expected:?} is not in\n{found}"
        );
    }
    assert!(!lab.tasks[0].run("ip -6 addr show eth0").contains("tentative"));
}

/// The kernel takes IPv6 from a link whose MTU is below 1280, and its parameters with it.
#[test]
fn an_mtu_that_ipv6_cannot_have_leaves_ipv4() {
    let lab = Lab::new(1);
    let mut links = lab.open();
    let with_mtu = |mtu| {
        let mut desired = lab.desired();
        let service = desired.services.values_mut().next().unwrap();
        for attachment in Arc::make_mut(service).attachments.values_mut() {
            attachment.mtu = Some(mtu);
            attachment.addresses.retain(|address| address.addr().is_ipv4());
            attachment.gateways.retain(IpAddr::is_ipv4);
        }
        desired
    };
    for mtu in [1000, 1400, 1279] {
        let desired = with_mtu(mtu);
        without_problems(links.reconcile(&desired).unwrap());
        // What the kernel gives a link with its larger MTU is seen once it is there.
        without_problems(links.reconcile(&desired).unwrap());
        assert_settled(&links, &desired);
        let found = lab.tasks[0].run("ip addr show eth0");
        assert!(found.contains(&format!("mtu {mtu}")), "{found}");
        assert!(
            found.contains("inet 10.1.0.1/24") && found.contains(",UP"),
            "{found}"
        );
    }
}

#[test]
fn a_task_that_is_gone_or_moved_takes_its_links_along() {
    let lab = Lab::new(2);
    let mut links = lab.open();
    without_problems(links.reconcile(&lab.desired()).unwrap());
    let fewer = desired(lab.tasks.iter().take(1).map(Netns::path));
    let outcome = without_problems(links.reconcile(&fewer).unwrap());
    assert_eq!(outcome.facts.attachments.len(), 1);
    assert!(
        !lab.node
            .run("ip link")
            .contains(&attachment_link(&node_name(), &key(2)))
    );
    assert!(!lab.tasks[1].run("ip link").contains("eth0"));
    assert_settled(&links, &fewer);
    // The same task in another namespace.
    let moved = desired(lab.tasks.iter().skip(1).map(Netns::path));
    without_problems(links.reconcile(&moved).unwrap());
    assert!(!lab.tasks[0].run("ip link").contains("eth0"));
    assert!(lab.tasks[1].run("ip addr show eth0").contains("10.1.0.1/24"));
    assert_settled(&links, &moved);
}

#[test]
fn fifty_endpoints_are_made_and_checked_in_little_time() {
    let lab = Lab::new(50);
    let mut links = lab.open();
    let desired = lab.desired();
    let begun = Instant::now();
    let outcome = without_problems(links.reconcile(&desired).unwrap());
    let made = begun.elapsed();
    assert_eq!(outcome.facts.attachments.len(), 50);
    let idle = (0..5).map(|_| {
        let begun = Instant::now();
        assert_eq!(links.reconcile(&desired).unwrap().applied, []);
        begun.elapsed()
    });
    let idle = idle.min().unwrap();
    let begun = Instant::now();
    drop(links);
    lab.clean().unwrap();
    println!(
        "50 endpoints: made in {made:?}, checked in {idle:?}, removed in {:?}",
        begun.elapsed()
    );
    // Far above what it takes on an idle machine: other suites run beside this one.
    assert!(made < Duration::from_secs(5), "{made:?}");
    assert!(idle < Duration::from_millis(500), "{idle:?}");
}
