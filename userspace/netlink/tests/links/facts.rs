//! What the data plane is told is what the kernel says.

use crate::lab::{Lab, Netns, key, node_name, without_problems};
use crate::{DEADLINE, address};
use essaim_abi::MacAddr;
use essaim_model::NodeName;
use essaim_netlink::{HostOptions, LinkReconciler, NetnsRef, attachment_link, netns_cookie};
use std::sync::Arc;
use std::time::Instant;

#[test]
fn the_facts_are_those_of_the_kernel() {
    let lab = Lab::new(1);
    lab.node.run("ip addr add 198.51.100.7/32 dev lo");
    let mut links = lab.open();
    let facts = without_problems(links.reconcile(&lab.desired()).unwrap()).facts;
    let index_by_ip = |link: &str| -> u32 {
        lab.node
            .run(&format!("ip -o link show {link}"))
            .split(':')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    assert_eq!(facts.vxlan_ifindex, index_by_ip("essaim-vx"));
    assert_eq!(facts.node_ifindex, index_by_ip("essaim0p"));
    assert_eq!(facts.uplinks.len(), 1);
    assert_eq!(
        (facts.uplinks[0].ifindex, facts.uplinks[0].mtu),
        (index_by_ip("up0"), 1500)
    );
    assert_eq!(
        facts.local_addresses,
        ["192.0.2.1", "198.51.100.7", "2001:db8::1"]
            .map(address)
            .into_iter()
            .collect()
    );
    let cookie = |netns: &Netns| netns_cookie(&NetnsRef::open(&netns.path()).unwrap()).unwrap();
    assert_eq!(facts.node_netns_cookie, cookie(&lab.node));
    let attachment = &facts.attachments[&key(1)];
    assert_eq!(attachment.netns_cookie, cookie(&lab.tasks[0]));
    assert_eq!(
        (attachment.ifindex, attachment.mtu),
        (index_by_ip(&attachment_link(&node_name(), &key(1))), 1450)
    );
}

#[test]
fn a_next_hop_is_probed_until_it_is_known_and_its_loss_is_noticed() {
    let lab = Lab::new(0);
    let mut links = lab.open();
    let desired = lab.desired();
    let vtep = address("192.0.2.2");
    let mut changes = links.changes();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut wait = |links: &mut LinkReconciler, is_known: bool| {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let facts = links.reconcile(&desired).unwrap().facts;
            if facts.next_hops.contains_key(&vtep) == is_known {
                return facts;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "next hop to be known: {is_known}; neighbours: {}",
                lab.node.run("ip neigh")
            );
            // Only a change makes another look worth it: the wake-ups must suffice.
            let woken = runtime.block_on(async { tokio::time::timeout(left, changes.changed()).await });
            assert!(woken.is_ok(), "no wake-up came");
        }
    };
    let facts = wait(&mut links, true);
    let hop = &facts.next_hops[&vtep];
    let other = lab.other.run("cat /proc/net/arp");
    assert!(other.contains(&facts.uplinks[0].mac.to_string()), "{other}");
    assert_eq!(
        (hop.ifindex, hop.source, hop.mtu),
        (facts.uplinks[0].ifindex, address("192.0.2.1"), 1500)
    );
    assert_eq!(hop.source_mac, facts.uplinks[0].mac);
    assert!(
        lab.other
            .run("ip link show up0")
            .contains(&hop.destination_mac.to_string())
    );
    assert!(
        !facts.next_hops.contains_key(&address("192.0.2.99")),
        "nobody has that address"
    );
    // The other machine gets another Ethernet address, and says so.
    lab.node
        .run("ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:99 nud permanent dev up0");
    let deadline = Instant::now() + DEADLINE;
    while links.reconcile(&desired).unwrap().facts.next_hops[&vtep].destination_mac
        != MacAddr([2, 0, 0, 0, 0, 0x99])
    {
        assert!(Instant::now() < deadline, "the new address was not noticed");
    }
    lab.node.run("ip link set up0 down");
    wait(&mut links, false);
}

#[test]
fn over_ipv6_the_next_hop_is_found_as_well_and_less_fits() {
    let lab = Lab::new(1);
    let mut links = lab.open();
    let mut desired = lab.desired();
    let cluster = Arc::make_mut(&mut desired.cluster);
    cluster.vtep = address("2001:db8::1");
    cluster.vteps = [("2001:db8::1", "n1"), ("2001:db8::2", "n2")]
        .into_iter()
        .map(|(vtep, node)| (address(vtep), NodeName::new(node).unwrap()))
        .collect();
    let deadline = Instant::now() + DEADLINE;
    let facts = loop {
        let facts = without_problems(links.reconcile(&desired).unwrap()).facts;
        if !facts.next_hops.is_empty() {
            break facts;
        }
        assert!(Instant::now() < deadline, "{}", lab.node.run("ip -6 neigh"));
    };
    let hop = &facts.next_hops[&address("2001:db8::2")];
    assert!(
        lab.other
            .run("ip link show up0")
            .contains(&hop.destination_mac.to_string())
    );
    assert_eq!(
        (hop.source, facts.attachments[&key(1)].mtu),
        (address("2001:db8::1"), 1430)
    );
}

#[test]
fn asynchronous_callers_are_served_too() {
    let lab = Lab::new(1);
    let desired = lab.desired();
    lab.node.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let options = HostOptions {
                node: node_name(),
                uplinks: vec!["up0".to_owned()],
            };
            let mut links = LinkReconciler::open(options).unwrap();
            let mut changes = links.changes();
            without_problems(links.reconcile(&desired).unwrap());
            assert!(tokio::time::timeout(DEADLINE, changes.changed()).await.unwrap());
            drop(links);
            while changes.changed().await {}
            LinkReconciler::clean(&node_name()).unwrap();
        });
    });
}
