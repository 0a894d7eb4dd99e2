//! What cannot be done is named, and stops no more than it must.

use crate::lab::{Lab, Netns, desired, key, without_problems};
use crate::{DEADLINE, address, assert_settled};
use essaim_netlink::NetlinkError;
use std::fmt::Write as _;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Instant;

#[test]
fn a_missing_namespace_stops_only_its_own_task() {
    let lab = Lab::new(1);
    let mut links = lab.open();
    let desired_with = |second: String| desired([lab.tasks[0].path(), second].into_iter());
    let outcome = links
        .reconcile(&desired_with("/run/netns/essaim-test-missing".into()))
        .unwrap();
    assert_eq!(outcome.problems.len(), 1);
    assert_eq!(outcome.problems[0].attachment(), Some(&key(2)));
    assert_eq!(outcome.facts.attachments.keys().collect::<Vec<_>>(), [&key(1)]);
    let late = Netns::new();
    let outcome = without_problems(links.reconcile(&desired_with(late.path())).unwrap());
    assert_eq!(outcome.facts.attachments.len(), 2);
    assert_settled(&links, &desired_with(late.path()));
}

#[test]
fn a_task_in_the_nodes_own_namespace_or_with_a_foreign_interface_is_refused_alone() {
    let lab = Lab::new(2);
    lab.tasks[1].run("ip link add eth0 type bridge");
    let all = desired([lab.tasks[0].path(), lab.tasks[1].path(), lab.node.path()].into_iter());
    let mut links = lab.open();
    let outcome = links.reconcile(&all).unwrap();
    let problems: Vec<String> = outcome.problems.iter().map(chain).collect();
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(
        problems
            .iter()
            .any(|problem| problem.contains("web.2@app") && problem.contains("a link of kind bridge")),
        "{problems:#?}"
    );
    assert!(
        problems
            .iter()
            .any(|problem| problem.contains("web.3@app") && problem.contains("node itself")),
        "{problems:#?}"
    );
    assert_eq!(outcome.facts.attachments.len(), 1);
    assert_settled(&links, &all);
}

fn chain(error: &essaim_netlink::LinkProblem) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

#[test]
fn what_an_operator_gets_wrong_is_named() {
    let lab = Lab::new(0);
    let desired = lab.desired();
    let error = lab
        .open_with(&["up7"])
        .unwrap()
        .reconcile(&desired)
        .unwrap_err()
        .to_string();
    assert!(error.contains("up7") && error.contains("lo, up0"), "{error}");
    let error = lab.open_with(&["up0"; 5]).unwrap_err();
    assert!(
        matches!(error, NetlinkError::TooManyUplinks { found: 5, most: 4 }),
        "{error}"
    );
    let error = lab.open_with(&["lo"]).unwrap().reconcile(&desired).unwrap_err();
    assert!(matches!(error, NetlinkError::UplinkNotEthernet { .. }), "{error}");
    let mut elsewhere = desired.clone();
    Arc::make_mut(&mut elsewhere.cluster).vtep = address("192.0.2.55");
    let error = lab.open().reconcile(&elsewhere).unwrap_err().to_string();
    assert!(
        error.contains("192.0.2.55") && error.contains("192.0.2.1"),
        "{error}"
    );
    assert_eq!(lab.node.run("ip -o link").lines().count(), 2, "nothing was made");
}

#[test]
fn a_foreign_link_of_our_name_is_left_alone() {
    let lab = Lab::new(0);
    lab.node.run("ip link add essaim-vx type bridge");
    let error = lab.open().reconcile(&lab.desired()).unwrap_err();
    assert!(matches!(&error, NetlinkError::ForeignLink { .. }), "{error}");
    assert!(error.to_string().contains("bridge"), "{error}");
    assert!(lab.node.run("ip -d link show essaim-vx").contains("bridge"));
}

#[test]
fn a_vxlan_port_in_use_is_named_and_taken_once_it_is_free() {
    let lab = Lab::new(0);
    let desired = lab.desired();
    let mut links = lab.open();
    let socket = lab.node.inside(|| UdpSocket::bind("0.0.0.0:4789").unwrap());
    let error = links.reconcile(&desired).unwrap_err();
    assert!(
        matches!(&error, NetlinkError::VxlanPortInUse { port: 4789, .. }),
        "{error}"
    );
    drop(socket);
    // A process that another test starts at this moment may hold a copy of the socket for a little longer.
    let deadline = Instant::now() + DEADLINE;
    while let Err(error) = links.reconcile(&desired) {
        assert!(Instant::now() < deadline, "{error}");
    }
    assert_settled(&links, &desired);
    let mut other_port = desired.clone();
    Arc::make_mut(&mut other_port.cluster).vxlan_port = 8472;
    lab.node.run("ip link add flannel.1 type vxlan id 1 dstport 8472");
    let error = links.reconcile(&other_port).unwrap_err().to_string();
    assert!(error.contains("8472") && error.contains("flannel.1"), "{error}");
    lab.node.run("ip link del flannel.1");
    without_problems(links.reconcile(&other_port).unwrap());
    assert!(lab.node.run("ip -d link show essaim-vx").contains("dstport 8472"));
    assert_settled(&links, &other_port);
}
