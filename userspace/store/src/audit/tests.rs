use super::*;
use crate::samples::{Lab, cluster, network, node, service, targets, task, time};
use crate::{Store, Transaction};
use serde_json::json;
use std::sync::Arc;

fn lab() -> Lab {
    let mut lab = Lab::default();
    lab.create(cluster(&[], 24)).unwrap();
    lab.create(network(1, "a", json!({}))).unwrap();
    lab.create(network(2, "b", json!({}))).unwrap();
    lab.create(node(1)).unwrap();
    let spec =
        json!({"TaskTemplate": {"Networks": targets(&[1])}, "EndpointSpec": {"Ports": [{"TargetPort": 80}]}});
    lab.create(service(1, "s", spec)).unwrap();
    let mut placed = task(1, &lab.service(1), 1);
    placed.node_id = Some(node(1).id);
    lab.create(placed).unwrap();
    lab
}

/// What an audit says once a view was tampered with.
fn after(tamper: impl FnOnce(&Lab, &mut View)) -> Vec<String> {
    let lab = lab();
    let mut view = lab.view().clone();
    tamper(&lab, &mut view);
    audit(&view).iter().map(ToString::to_string).collect()
}

#[test]
fn a_store_that_is_well_has_no_findings() {
    assert_eq!(after(|_, _| ()), Vec::<String>::new());
}

#[test]
fn tasks_that_outlived_their_service_or_node_are_found() {
    let lab = lab();
    let mut store = Store::from(lab.view().clone());
    let mut transaction = Transaction::new();
    transaction.remove(lab.service(1)).remove(lab.node(1));
    store.apply(99, &transaction, time(99)).unwrap();
    let task = lab.task(1).id;
    let [service, node] = [lab.service(1).id.to_string(), lab.node(1).id.to_string()];
    let found: Vec<_> = audit(store.view()).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            format!("task {task} is of service {service}, which does not exist"),
            format!("task {task} is on node {node}, which does not exist"),
        ]
    );
}

#[test]
fn leaks_and_double_holdings_are_found() {
    let found = after(|lab, view| {
        let by = lab.service(1).id.into();
        view.holders.insert(Holding::Vni(9999), by);
    });
    assert!(found[0].starts_with("VNI 9999 is taken for service"), "{found:?}");
    let found = after(|lab, view| {
        let lost = Holding::Vni(lab.network(1).vni().unwrap());
        view.holders.remove(&lost);
    });
    assert!(
        found[0].starts_with("VNI 4096 of network") && found[0].ends_with("is not taken"),
        "{found:?}"
    );
    let found = after(|lab, view| {
        let mut twin = lab.task(1);
        twin.id = essaim_objects::TaskId::from_bits(2);
        view.insert(&twin.into());
    });
    assert!(
        found
            .iter()
            .any(|finding| finding.contains("is held by both task")),
        "{found:?}"
    );
    let found = after(|_, view| {
        let gone = essaim_objects::NetworkId::from_bits(77);
        let subnet: IpNet = "10.77.0.0/24".parse().unwrap();
        view.subnets.insert(subnet.network(), (subnet, gone));
        view.cursors.insert(gone, crate::view::Cursors::default());
    });
    assert!(
        found
            .iter()
            .any(|finding| finding.starts_with("subnet 10.77.0.0/24 is taken for network")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|finding| finding.starts_with("the last addresses of network")),
        "{found:?}"
    );
    let found = after(|lab, view| {
        let mut wide = lab.network(2);
        wide.ipam = serde_json::from_value(json!({"Configs": [{"Subnet": "10.0.0.0/16"}]})).unwrap();
        view.networks.insert(wide.id, Arc::new(wide));
    });
    assert!(
        found
            .iter()
            .any(|finding| finding.contains("overlaps 10.0.0.0/16")),
        "{found:?}"
    );
}

#[test]
fn indexes_that_differ_are_found() {
    let found = after(|lab, view| {
        view.tasks_by_node.remove(&(lab.node(1).id, lab.task(1).id));
        view.tasks_by_state.clear();
        view.names.clear();
    });
    assert_eq!(
        found,
        [
            "index of names has 0 entries, expected 3",
            "index of tasks by node has 0 entries, expected 1",
            "index of tasks by state has 0 entries, expected 1",
        ]
    );
}

#[test]
fn what_a_service_has_and_does_not_ask_for_is_found() {
    let found = after(|lab, view| {
        let mut service = lab.service(1);
        service.spec = self::service(1, "s", json!({})).spec;
        view.services.insert(service.id, Arc::new(service));
    });
    assert!(
        found
            .iter()
            .any(|finding| finding.contains("has a virtual address on network")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|finding| finding.ends_with("has 1 ports, expected the 0 that it asks for")),
        "{found:?}"
    );
}
