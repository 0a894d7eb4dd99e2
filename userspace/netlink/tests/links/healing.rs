//! What others break is made again, and what essaim made can be removed.

use crate::lab::{Lab, key, node_name, without_problems};
use essaim_netlink::attachment_link;

#[test]
fn what_is_broken_by_hand_is_healed() {
    let lab = Lab::new(2);
    let mut links = lab.open();
    let desired = lab.desired();
    without_problems(links.reconcile(&desired).unwrap());
    let near = attachment_link(&node_name(), &key(1));
    let (node, task) = (&lab.node, &lab.tasks[0]);
    for (netns, command) in [
        (node, format!("ip link del {near}")),
        (node, format!("ip link set {near} down")),
        (node, format!("ip link set {near} mtu 1400")),
        (node, format!("ip link set {near} address 02:00:00:00:00:01")),
        (node, format!("ip route del 10.1.0.1 dev {near}")),
        (node, format!("ip neigh del 10.1.0.1 dev {near}")),
        (node, format!("sysctl -w net.ipv4.conf.{near}.rp_filter=1")),
        (node, "ip link del essaim0".to_owned()),
        (node, "ip link del essaim-vx".to_owned()),
        (node, "ip link set essaim-vx down".to_owned()),
        (node, "ip addr flush dev essaim0".to_owned()),
        (node, "ip -6 route del fd00:1::/64 dev essaim0".to_owned()),
        (node, "sysctl -w net.ipv4.ip_forward=0".to_owned()),
        (node, "nft flush ruleset".to_owned()),
        (node, "nft flush chain inet essaim forward".to_owned()),
        (node, "nft add rule inet essaim forward drop".to_owned()),
        (task, "ip link del eth0".to_owned()),
        (task, "ip link set eth0 down".to_owned()),
        (task, "ip link set eth0 address 02:00:00:00:00:01".to_owned()),
        (task, "ip addr flush dev eth0".to_owned()),
        (task, "ip addr add 10.1.0.77/24 dev eth0".to_owned()),
        (task, "ip route del default".to_owned()),
        (task, "ip -6 route del default".to_owned()),
        (task, "ip link set lo down".to_owned()),
    ] {
        netns.run(&command);
        assert_ne!(links.verify(&desired).unwrap(), [], "{command}: not noticed");
        let outcome = without_problems(links.reconcile(&desired).unwrap());
        let ops: Vec<String> = outcome.applied.iter().map(ToString::to_string).collect();
        assert_eq!(
            links.verify(&desired).unwrap(),
            [],
            "{command}: not healed by {ops:#?}"
        );
        assert_eq!(outcome.facts.attachments.len(), 2, "{command}");
    }
}

#[test]
fn clean_leaves_nothing_of_essaim_and_everything_else() {
    let lab = Lab::new(2);
    lab.node.run("nft add table inet others");
    let before = (
        lab.node.run("ip -br link"),
        lab.node.run("ip route"),
        lab.node.run("ip -6 route"),
    );
    let mut links = lab.open();
    without_problems(links.reconcile(&lab.desired()).unwrap());
    drop(links);
    lab.clean().unwrap();
    assert_eq!(
        (
            lab.node.run("ip -br link"),
            lab.node.run("ip route"),
            lab.node.run("ip -6 route")
        ),
        before
    );
    assert_eq!(lab.node.run("nft list tables").trim(), "table inet others");
    assert!(!lab.tasks[0].run("ip link").contains("eth0"));
    lab.clean().unwrap();
}
