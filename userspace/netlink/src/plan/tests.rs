#[path = "kernel.rs"]
mod kernel;

use super::*;
use crate::fixture::{attachment, desired, net, node};
use crate::observed::{LinkKind, VxlanSettings};
use essaim_abi::MacAddr;
use kernel::Kernel;
use proptest::prelude::*;
use std::sync::Arc;

fn settled(desired: &DesiredState) -> Kernel {
    let mut kernel = Kernel::of(desired);
    let plan = plan_links(desired, &kernel.observed);
    assert!(plan.problems.is_empty(), "{:?}", plan.problems);
    kernel.take_all(&plan.ops);
    kernel
}

fn lines(plan: &LinkPlan) -> Vec<String> {
    plan.ops.iter().map(ToString::to_string).collect()
}

#[test]
fn the_plan_for_a_new_node_is_this() {
    let desired = desired([attachment(1)]);
    let plan = plan_links(&desired, &Kernel::of(&desired).observed);
    let es = attachment_link(&node(), &crate::fixture::key("web.1"));
    let expected = format!(
        "set net/ipv6/conf/up0/accept_ra to 2
set net/ipv4/ip_forward to 1
set net/ipv6/conf/all/forwarding to 1
set net/ipv4/conf/all/rp_filter to 0
create VXLAN device essaim-vx at UDP port 4789
set net/ipv4/conf/essaim-vx/rp_filter to 0
set net/ipv6/conf/essaim-vx/disable_ipv6 to 0
set link essaim-vx: alias essaim:n1 without link-local address up
create veth essaim0 with essaim0p
set net/ipv4/conf/essaim0p/rp_filter to 0
set net/ipv6/conf/essaim0p/disable_ipv6 to 0
set link essaim0p: alias essaim:n1 without link-local address up
set net/ipv4/conf/essaim0/rp_filter to 0
set net/ipv6/conf/essaim0/disable_ipv6 to 0
set link essaim0: alias essaim:n1 without link-local address up
add address 10.0.0.1/32 to essaim0
add address fd00::1/128 to essaim0
create veth {es} with eth0 in netns web.1 (endpoint web.1@app)
set net/ipv4/conf/{es}/rp_filter to 0 (endpoint web.1@app)
set net/ipv6/conf/{es}/disable_ipv6 to 0 (endpoint web.1@app)
set link {es}: alias essaim:n1:web.1@app without link-local address up (endpoint web.1@app)
add neighbour 10.1.0.1 02:42:0a:01:00:01 dev {es} (endpoint web.1@app)
add neighbour fd00:1::1 02:42:0a:01:00:01 dev {es} (endpoint web.1@app)
set link lo: up (inside the task of web.1@app)
set net/ipv6/conf/lo/disable_ipv6 to 0 (inside the task of web.1@app)
set net/ipv6/conf/eth0/disable_ipv6 to 0 (inside the task of web.1@app)
set net/ipv6/conf/eth0/accept_dad to 0 (inside the task of web.1@app)
set net/ipv6/conf/eth0/accept_ra to 0 (inside the task of web.1@app)
set link eth0: up (inside the task of web.1@app)
add address 10.1.0.1/24 to eth0 (inside the task of web.1@app)
add address fd00:1::1/64 to eth0 (inside the task of web.1@app)
add route 0.0.0.0/0 dev eth0 via 10.1.0.254 (inside the task of web.1@app)
add route ::/0 dev eth0 via fd00:1::ffff (inside the task of web.1@app)
add route 10.0.0.0/24 dev essaim0 src 10.0.0.1
add route 10.1.0.0/24 dev essaim0 src 10.0.0.1
add route 10.1.0.1/32 dev {es} src 10.0.0.1 (endpoint web.1@app)
add route 10.2.0.0/24 dev essaim0 src 10.0.0.1
add route fd00::/64 dev essaim0 src fd00::1
add route fd00:1::/64 dev essaim0 src fd00::1
add route fd00:1::1/128 dev {es} src fd00::1 (endpoint web.1@app)
replace firewall table inet essaim"
    );
    assert_eq!(lines(&plan).join("\n"), expected);
}

#[test]
fn a_settled_node_needs_nothing() {
    let desired = desired((1..5).map(attachment));
    assert_eq!(lines(&plan_links(&desired, &settled(&desired).observed)), [""; 0]);
}

#[test]
fn a_new_vxlan_port_makes_another_device() {
    let before = desired([]);
    let mut kernel = settled(&before);
    let mut after = before;
    Arc::make_mut(&mut after.cluster).vxlan_port = 8472;
    let plan = plan_links(&after, &kernel.observed);
    assert_eq!(
        lines(&plan)[..2],
        [
            "delete link essaim-vx",
            "create VXLAN device essaim-vx at UDP port 8472"
        ]
        .map(str::to_owned)
    );
    kernel.take_all(&plan.ops);
    assert_eq!(lines(&plan_links(&after, &kernel.observed)), [""; 0]);
}

#[test]
fn an_address_that_changed_is_changed_everywhere_without_a_new_link() {
    let before = desired([attachment(1)]);
    let mut kernel = settled(&before);
    let (key, mut plan) = attachment(1);
    plan.addresses = vec![net("10.1.0.9/24")];
    plan.mac = MacAddr([2, 0x42, 10, 1, 0, 9]);
    let after = desired([(key, plan)]);
    let steps = plan_links(&after, &kernel.observed);
    assert!(
        !lines(&steps).iter().any(|line| line.starts_with("create")),
        "{:#?}",
        lines(&steps)
    );
    kernel.take_all(&steps.ops);
    assert_eq!(lines(&plan_links(&after, &kernel.observed)), [""; 0]);
}

#[test]
fn a_task_that_ended_loses_its_endpoint() {
    let mut kernel = settled(&desired([attachment(1), attachment(2)]));
    let (key, mut plan) = attachment(1);
    plan.state = TaskState::Gone;
    let after = desired([(key.clone(), plan), attachment(2)]);
    kernel.observed.tasks.remove(&key);
    let steps = plan_links(&after, &kernel.observed);
    assert_eq!(
        lines(&steps),
        [format!("delete link {}", attachment_link(&node(), &key))]
    );
    kernel.take_all(&steps.ops);
    assert_eq!(lines(&plan_links(&after, &kernel.observed)), [""; 0]);
}

#[test]
fn an_endpoint_whose_namespace_is_missing_is_left_as_it_is() {
    let desired = desired([attachment(1), attachment(2)]);
    let mut kernel = settled(&desired);
    kernel.observed.tasks.remove(&attachment(1).0);
    assert_eq!(lines(&plan_links(&desired, &kernel.observed)), [""; 0]);
    // Where it was never made, nothing leads to it.
    let mut fresh = Kernel::of(&desired);
    fresh.observed.tasks.remove(&attachment(1).0);
    fresh.take_all(&plan_links(&desired, &fresh.observed).ops);
    assert!(
        !fresh
            .observed
            .node
            .routes
            .iter()
            .any(|route| route.destination == net("10.1.0.1/32"))
    );
    assert_eq!(lines(&plan_links(&desired, &fresh.observed)), [""; 0]);
}

#[test]
fn the_name_of_an_endpoint_may_pass_to_another_one_in_the_same_namespace() {
    let mut kernel = settled(&desired([attachment(1)]));
    let (mut key, plan) = attachment(1);
    let old = kernel.observed.tasks.remove(&key).unwrap();
    key.network = essaim_model::NetworkName::new("other").unwrap();
    kernel.observed.tasks.insert(key.clone(), old);
    let steps = plan_links(&desired([(key.clone(), plan)]), &kernel.observed);
    assert!(steps.problems.is_empty(), "{:?}", steps.problems);
    assert!(
        lines(&steps)[0].starts_with("delete link es"),
        "{:#?}",
        lines(&steps)
    );
    assert!(lines(&steps).contains(&format!(
        "create veth {} with eth0 in netns web.1 (endpoint web.1@other)",
        attachment_link(&node(), &key)
    )));
}

#[test]
fn the_mtu_is_derived_from_the_underlay() {
    let cluster = crate::fixture::cluster();
    let uplink = |mtu| Uplink {
        mtu,
        ..crate::fixture::uplink()
    };
    assert_eq!(overlay_mtu(&cluster, &[uplink(1500)], false), 1450);
    assert_eq!(overlay_mtu(&cluster, &[uplink(9000), uplink(1400)], false), 1350);
    assert_eq!(overlay_mtu(&cluster, &[uplink(1500)], true), 1413);
    let over_ipv6 = ClusterPlan {
        vtep: "2001:db8::1".parse().unwrap(),
        ..cluster
    };
    assert_eq!(overlay_mtu(&over_ipv6, &[uplink(1500)], false), 1430);
}

#[test]
fn an_mtu_that_ipv6_cannot_have_asks_nothing_of_ipv6() {
    let (key, mut plan) = attachment(1);
    plan.mtu = Some(1000);
    plan.addresses.retain(|address| address.addr().is_ipv4());
    let desired = desired([(key.clone(), plan)]);
    let kernel = settled(&desired);
    assert_eq!(lines(&plan_links(&desired, &kernel.observed)), [""; 0]);
    let asked = |sysctl: &crate::sysctl::Sysctl| sysctl.is_ipv6();
    assert!(!kernel.observed.tasks[&key].sysctls.keys().any(asked));
}

#[test]
fn what_is_not_ours_is_refused_by_name() {
    let desired = desired([]);
    let mut kernel = settled(&desired);
    check(&desired, &kernel.observed).unwrap();
    let vxlan = kernel.observed.node.links.get_mut(VXLAN_LINK).unwrap();
    vxlan.alias = Some("essaim:n2".to_owned());
    let error = check(&desired, &kernel.observed).unwrap_err().to_string();
    assert!(
        error.contains("essaim:n2") && error.contains("essaim:n1"),
        "{error}"
    );
}

#[test]
fn another_vxlan_device_at_our_port_is_named() {
    let desired = desired([]);
    let mut kernel = settled(&desired);
    let mut other = kernel.observed.node.links[VXLAN_LINK].clone();
    other.kind = LinkKind::Vxlan(VxlanSettings {
        collect_metadata: false,
        ..VxlanSettings::at_port(4789)
    });
    kernel.observed.node.links.insert("flannel.1".to_owned(), other);
    let error = check(&desired, &kernel.observed).unwrap_err().to_string();
    assert!(error.contains("4789") && error.contains("flannel.1"), "{error}");
}

/// Something that somebody did to a settled node.
#[derive(Clone, Debug)]
enum Damage {
    DeleteLink(usize),
    TurnOff(usize),
    LoseAddresses(usize),
    StrangeAddress(usize),
    LoseAlias(usize),
    LoseRoute(usize),
    LoseNeighbour(usize),
    LoseRules,
    StrangeTaskAddress,
    TaskInterfaceDown,
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = 0_usize..16;
    prop_oneof![
        at.clone().prop_map(Damage::DeleteLink),
        at.clone().prop_map(Damage::TurnOff),
        at.clone().prop_map(Damage::LoseAddresses),
        at.clone().prop_map(Damage::StrangeAddress),
        at.clone().prop_map(Damage::LoseAlias),
        at.clone().prop_map(Damage::LoseRoute),
        at.prop_map(Damage::LoseNeighbour),
        Just(Damage::LoseRules),
        Just(Damage::StrangeTaskAddress),
        Just(Damage::TaskInterfaceDown),
    ]
}

fn inflict(kernel: &mut Kernel, damage: &Damage) {
    let own: Vec<String> = kernel
        .observed
        .node
        .links
        .iter()
        .filter(|(_, link)| link.group == LINK_GROUP)
        .map(|(name, _)| name.clone())
        .collect();
    let name = |at: &usize| own.get(*at).cloned();
    let Kernel { observed, .. } = kernel;
    match damage {
        Damage::DeleteLink(at) => {
            if let Some(name) = name(at) {
                kernel.delete(&name);
            }
        }
        Damage::TurnOff(at) => {
            if let Some(name) = name(at) {
                observed.node.links.get_mut(&name).unwrap().up = false;
                observed.node.routes.retain(|route| route.link != name);
            }
        }
        Damage::LoseAddresses(at) => {
            if let Some(name) = name(at) {
                observed.node.links.get_mut(&name).unwrap().addresses.clear();
            }
        }
        Damage::StrangeAddress(at) => {
            if let Some(name) = name(at) {
                observed
                    .node
                    .links
                    .get_mut(&name)
                    .unwrap()
                    .addresses
                    .insert(net("203.0.113.1/24"));
            }
        }
        Damage::LoseAlias(at) => {
            if let Some(name) = name(at) {
                observed.node.links.get_mut(&name).unwrap().alias = None;
            }
        }
        Damage::LoseRoute(at) => {
            if let Some(route) = observed.node.routes.iter().nth(*at).cloned() {
                observed.node.routes.remove(&route);
            }
        }
        Damage::LoseNeighbour(at) => {
            if let Some(key) = observed.neighbours.keys().nth(*at).copied() {
                observed.neighbours.remove(&key);
            }
        }
        Damage::LoseRules => observed.firewall.as_mut().unwrap().table.clear(),
        Damage::StrangeTaskAddress => {
            for link in observed
                .tasks
                .values_mut()
                .filter_map(|task| task.links.get_mut("eth0"))
            {
                link.addresses.insert(net("203.0.113.1/24"));
            }
        }
        Damage::TaskInterfaceDown => {
            for task in observed.tasks.values_mut() {
                if let Some(link) = task.links.get_mut("eth0") {
                    link.up = false;
                    task.routes.clear();
                }
            }
        }
    }
}

proptest! {
    /// Whatever was done to a node, and wherever the reconciler was stopped: it converges, and then rests.
    #[test]
    fn every_state_converges(
        before in proptest::collection::btree_set(1_u8..6, 0..5),
        after in proptest::collection::btree_set(1_u8..6, 0..5),
        damages in proptest::collection::vec(damage(), 0..4),
        stop in 0_usize..80,
    ) {
        let everything = desired((1..6).map(attachment));
        let mut kernel = Kernel::of(&everything);
        let first = desired(before.into_iter().map(attachment));
        let ops = plan_links(&first, &kernel.observed).ops;
        kernel.take_all(&ops[..stop.min(ops.len())]);
        for damage in &damages {
            inflict(&mut kernel, damage);
        }
        let second = desired(after.into_iter().map(attachment));
        let plan = plan_links(&second, &kernel.observed);
        prop_assert!(plan.problems.is_empty(), "{:?}", plan.problems);
        kernel.take_all(&plan.ops);
        prop_assert_eq!(lines(&plan_links(&second, &kernel.observed)), Vec::<String>::new());
    }
}
