use super::*;
use crate::{
    AddressKind, AttachmentKey, BackendKey, Endpoint, Port, PortMode, PublishedPort, Scope, ServiceKey,
    ServiceNetwork, Task, TaskState, example,
};
use essaim_abi::{MacAddr, Protocol};

use crate::MaglevTable;
use std::sync::Arc;

mod against_a_model;

fn catalog() -> Catalog {
    Catalog::parse(example()).unwrap()
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn service(name: &str) -> crate::ServiceName {
    crate::ServiceName::new(name).unwrap()
}

fn key(name: &str, scope: Scope) -> ServiceKey {
    ServiceKey {
        service: service(name),
        scope,
    }
}

fn network(name: &str) -> NetworkName {
    NetworkName::new(name).unwrap()
}

fn on(scope: &str) -> Scope {
    Scope::Network(network(scope))
}

fn backend(task: &str, on: &str) -> BackendKey {
    BackendKey {
        task: TaskId::new(task).unwrap(),
        network: network(on),
    }
}

fn attachment(task: &str, on: &str) -> AttachmentKey {
    AttachmentKey {
        task: TaskId::new(task).unwrap(),
        network: network(on),
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn planned(catalog: &Catalog, of: &str, on: &str) -> ServicePlan {
    let desired = plan(catalog, &Liveness::of(catalog), &node(on)).unwrap();
    ServicePlan::clone(&desired.services[&service(of)])
}

fn names(backends: &[BackendKey]) -> Vec<String> {
    backends.iter().map(ToString::to_string).collect()
}

#[test]
fn the_cluster_part_knows_nodes_gateways_and_subnets() {
    let catalog = catalog();
    let desired = plan(&catalog, &Liveness::of(&catalog), &node("n2")).unwrap();
    let cluster = &desired.cluster;
    assert_eq!(
        (desired.revision, cluster.node.as_str(), cluster.vtep),
        (1, "n2", address("192.168.50.12"))
    );
    assert_eq!(
        cluster.overlay,
        [
            "10.255.0.12/16".parse().unwrap(),
            "fd00:ffff::12/64".parse().unwrap()
        ]
    );
    assert_eq!(cluster.vteps.len(), 3);
    assert_eq!(cluster.subnets.len(), 4);
    let ingress = &cluster.subnets[&"10.255.0.0/16".parse().unwrap()];
    assert_eq!((ingress.vni, ingress.internal), (Vni::INGRESS, false));
    let gateway = &cluster.addresses[&address("fd00:1::1")];
    assert_eq!(
        (&gateway.kind, gateway.vni.get(), gateway.mac),
        (&AddressKind::Gateway, 100, MacAddr::GATEWAY)
    );
    let this = &cluster.addresses[&address("fd00:ffff::12")];
    assert_eq!(
        (&this.kind, this.mac.to_string().as_str()),
        (&AddressKind::ThisNode, "02:42:0a:ff:00:0c")
    );
    let other = &cluster.addresses[&address("10.255.0.13")];
    assert_eq!(other.kind, AddressKind::OtherNode(address("192.168.50.13")));
}

#[test]
fn a_service_has_a_group_for_its_vips_and_one_for_its_ports() {
    let web = planned(&catalog(), "web", "n1");
    assert_eq!(
        web.groups.keys().cloned().collect::<Vec<_>>(),
        [key("web", on("app")), key("web", Scope::Ingress)]
    );
    let vips = &web.groups[&key("web", on("app"))];
    assert_eq!((vips.vips.len(), vips.vni.get(), &vips.maglev), (2, 100, &None));
    assert_eq!(names(&vips.active), ["web.1@app", "web.2@app", "web.3@app"]);
    let ports = &web.groups[&key("web", Scope::Ingress)];
    assert_eq!((ports.vips.len(), ports.vni), (0, Vni::INGRESS));
    assert_eq!(ports.maglev.as_ref().unwrap().members.len(), 3);
    let published = PublishedPort {
        group: key("web", Scope::Ingress),
        target: 80,
        host: false,
        dsr: false,
    };
    assert_eq!(
        web.published,
        BTreeMap::from([((Protocol::Tcp, 8080), published)])
    );
    let api = planned(&catalog(), "api", "n1");
    assert_eq!((api.groups.len(), api.published.len()), (1, 0));
}

#[test]
fn affinity_asks_for_a_maglev_table() {
    let mut catalog = catalog();
    catalog.services[1].affinity = crate::Affinity::Client;
    let group = planned(&catalog, "api", "n1").groups[&key("api", on("app"))].clone();
    assert!(group.affinity && group.maglev.is_some());
}

#[test]
fn addresses_are_local_remote_or_a_vip() {
    let web = planned(&catalog(), "web", "n1");
    let kind = |text: &str| web.addresses[&address(text)].kind.clone();
    assert_eq!(kind("10.0.1.2"), AddressKind::Vip(key("web", on("app"))));
    assert_eq!(web.addresses[&address("fd00:1::2")].mac, MacAddr::GATEWAY);
    assert_eq!(
        kind("fd00:1::11"),
        AddressKind::Local(attachment("web.1", "app"), backend("web.1", "app"))
    );
    assert_eq!(
        kind("10.0.1.12"),
        AddressKind::Remote(address("192.168.50.12"), backend("web.2", "app"))
    );
    assert_eq!(
        web.addresses[&address("fd00:1::12")].mac.to_string(),
        "02:42:0a:00:01:0c"
    );
}

#[test]
fn only_this_nodes_tasks_are_attached() {
    let web = planned(&catalog(), "web", "n1");
    let [(key, plan)] = web.attachments.iter().collect::<Vec<_>>()[..] else {
        panic!("{web:#?}")
    };
    assert_eq!(*key, attachment("web.1", "app"));
    assert_eq!(
        (plan.interface.as_str(), plan.default_route, plan.netns.as_str()),
        ("eth0", true, "web.1")
    );
    assert_eq!(
        plan.addresses,
        ["10.0.1.11/24".parse().unwrap(), "fd00:1::11/64".parse().unwrap()]
    );
    assert_eq!(plan.gateways, [address("10.0.1.1"), address("fd00:1::1")]);
    assert_eq!(plan.task_networks, BTreeSet::from([Vni::new(100).unwrap()]));
    assert_eq!(
        web.backends[&backend("web.1", "app")].attachment,
        Some(attachment("web.1", "app"))
    );
    assert_eq!(web.backends[&backend("web.2", "app")].attachment, None);
}

#[test]
fn each_state_of_a_task_has_its_place() {
    for (state, active, attached) in [
        (TaskState::Starting, false, true),
        (TaskState::Ready, true, true),
        (TaskState::Draining, false, true),
        (TaskState::Gone, false, false),
    ] {
        let mut catalog = catalog();
        catalog.services[0].tasks[0].state = state;
        let web = planned(&catalog, "web", "n1");
        let group = &web.groups[&key("web", on("app"))];
        assert_eq!(
            group.active.contains(&backend("web.1", "app")),
            active,
            "{state:?}"
        );
        assert_eq!(web.attachments.len(), usize::from(attached), "{state:?}");
        assert_eq!(web.backends[&backend("web.1", "app")].state, state);
        let tombstone = web.addresses[&address("10.0.1.11")].kind == AddressKind::Tombstone;
        assert_eq!(tombstone, state == TaskState::Gone, "{state:?}");
    }
}

#[test]
fn a_draining_task_that_no_generation_names_is_an_earlier_owner() {
    let mut catalog = catalog();
    let full = planned(&catalog, "web", "n1").groups[&key("web", Scope::Ingress)]
        .maglev
        .clone()
        .unwrap();
    catalog.services[0].tasks[0].state = TaskState::Draining;
    let drained = planned(&catalog, "web", "n1").groups[&key("web", Scope::Ingress)]
        .maglev
        .clone()
        .unwrap();
    let owner = full.owners.iter().map(|owner| full.member(*owner).unwrap());
    let candidates = drained.owners.iter().zip(drained.earlier.as_ref().unwrap());
    for (owner, (now, earlier)) in owner.zip(candidates) {
        let mut candidates = [*now]
            .into_iter()
            .chain(*earlier)
            .filter_map(|number| drained.member(number));
        assert!(candidates.any(|candidate| candidate == owner));
        assert_ne!(drained.member(*now), Some(&backend("web.1", "app")));
    }
}

#[test]
fn a_task_that_died_unrecorded_breaks_no_flow_of_the_others() {
    let mut catalog = catalog();
    let full = planned(&catalog, "web", "n1").groups[&key("web", Scope::Ingress)]
        .maglev
        .clone()
        .unwrap();
    catalog.services[0].tasks[0].state = TaskState::Gone;
    let fewer = planned(&catalog, "web", "n1").groups[&key("web", Scope::Ingress)]
        .maglev
        .clone()
        .unwrap();
    for hash in (0..20_000_u32).map(|n| n.wrapping_mul(0x9e37_79b1)) {
        let before = full.candidates(hash).next().unwrap();
        assert!(
            *before == backend("web.1", "app") || fewer.candidates(hash).any(|candidate| candidate == before)
        );
    }
}

#[test]
fn what_liveness_takes_away_was_ready_as_the_catalog_says() {
    let mut catalog = catalog();
    let task = |name: &str| TaskId::new(name).unwrap();
    // Recorded before web.3 came: the set with all three is the one that nobody wrote down.
    catalog.services[0].history = vec![vec![task("web.1"), task("web.2")]];
    let table = |liveness: &Liveness| {
        let desired = plan(&catalog, liveness, &node("n1")).unwrap();
        desired.services[&service("web")].groups[&key("web", Scope::Ingress)]
            .maglev
            .clone()
            .unwrap()
    };
    let mut liveness = Liveness::of(&catalog);
    let full = table(&liveness);
    for (name, state) in [("web.1", TaskState::Draining), ("web.2", TaskState::Gone)] {
        liveness.tasks.insert(task(name), state);
        let fewer = table(&liveness);
        for hash in (0..20_000_u32).map(|n| n.wrapping_mul(0x9e37_79b1)) {
            let before = full.candidates(hash).next().unwrap();
            let is_gone = liveness.tasks[&before.task] == TaskState::Gone;
            assert!(is_gone || fewer.candidates(hash).any(|candidate| candidate == before));
        }
    }
}

/// The share of hashes whose owner of before lives but is no candidate now.
fn lost(before: &MaglevTable, now: &MaglevTable, liveness: &Liveness) -> usize {
    let hashes = (0..20_000_u32).map(|n| n.wrapping_mul(0x9e37_79b1));
    let lost = hashes.filter(|hash| {
        let owner = before.candidates(*hash).next().unwrap();
        liveness.tasks.get(&owner.task) != Some(&TaskState::Gone)
            && !now.candidates(*hash).any(|candidate| candidate == owner)
    });
    lost.count()
}

fn ingress_table(catalog: &Catalog, liveness: &Liveness) -> Arc<MaglevTable> {
    let desired = plan(catalog, liveness, &node("n1")).unwrap();
    let group = &desired.services[&service("web")].groups[&key("web", Scope::Ingress)];
    group.maglev.clone().unwrap()
}

/// Tasks come by the catalog and go by liveness, which the catalog's author does not write down: what a flow that was
/// opened just before a change needs is the set that was ready until then. It follows from what all nodes know.
#[test]
fn a_flow_outlives_changes_that_the_catalog_does_not_know_of() {
    let mut catalog = catalog();
    let task = |number: u8| TaskId::new(&format!("web.{number}")).unwrap();
    let mut liveness = Liveness::of(&catalog);
    let mut before = ingress_table(&catalog, &liveness);
    for round in 1..=8 {
        for change in ["start", "drain", "end"] {
            match change {
                "start" => {
                    catalog.record_generation(&service("web"));
                    let mut new = catalog.services[0].tasks[0].clone();
                    new.id = task(round + 3);
                    new.endpoints[0].addresses = vec![IpAddr::from([10, 0, 1, 100 + round])];
                    catalog.services[0].tasks.push(new);
                }
                "drain" => drop(liveness.tasks.insert(task(round), TaskState::Draining)),
                _ => drop(liveness.tasks.insert(task(round), TaskState::Gone)),
            }
            let now = ingress_table(&catalog, &liveness);
            assert_eq!(lost(&before, &now, &liveness), 0, "{change} in round {round}");
            before = now;
        }
    }
}

/// What was ready while tasks were away follows from nothing once they are back: the node remembers it.
#[test]
fn a_flow_outlives_the_return_of_tasks_that_were_away() {
    let catalog = catalog();
    let task = TaskId::new("web.2").unwrap();
    let mut liveness = Liveness::of(&catalog);
    liveness.remember(&catalog);
    let mut before = ingress_table(&catalog, &liveness);
    for state in [TaskState::Gone, TaskState::Ready] {
        liveness.tasks.insert(task.clone(), state);
        liveness.remember(&catalog);
        let now = ingress_table(&catalog, &liveness);
        assert_eq!(lost(&before, &now, &liveness), 0, "{state:?}");
        before = now;
    }
}

#[test]
fn recorded_generations_are_the_earlier_owners_on_every_node() {
    let mut catalog = catalog();
    catalog.record_generation(&service("web"));
    catalog.services[0].tasks[1].state = TaskState::Gone;
    catalog.record_generation(&service("web"));
    catalog.record_generation(&service("web"));
    assert_eq!(
        catalog.services[0]
            .history
            .iter()
            .map(Vec::len)
            .collect::<Vec<_>>(),
        [2, 3]
    );
    let table = |on: &str| {
        planned(&catalog, "web", on).groups[&key("web", Scope::Ingress)]
            .maglev
            .clone()
            .unwrap()
    };
    assert!(table("n1").earlier.is_some());
    assert_eq!(table("n1"), table("n2"));
    assert_eq!(table("n1"), table("n3"));
}

#[test]
fn a_host_port_is_published_where_a_task_is_and_for_its_tasks_only() {
    let mut catalog = catalog();
    catalog.services[0].ports[0].mode = PortMode::Host;
    let web = planned(&catalog, "web", "n1");
    let group = &web.groups[&key("web", Scope::HostPort)];
    assert_eq!(names(&group.active), ["web.1@app"]);
    assert_eq!(names(&group.maglev.as_ref().unwrap().members), ["web.1@app"]);
    assert!(web.published[&(Protocol::Tcp, 8080)].host);
    catalog.services[0].tasks[0].state = TaskState::Starting;
    let web = planned(&catalog, "web", "n1");
    assert!(web.groups[&key("web", Scope::HostPort)].active.is_empty());
    assert_eq!(web.published.len(), 1);
    catalog.services[0].tasks[0].state = TaskState::Gone;
    let web = planned(&catalog, "web", "n1");
    assert_eq!((web.published.len(), web.groups.len()), (0, 1));
}

/// The example with an internal network that `api` is on as well.
fn two_networks() -> Catalog {
    let mut catalog = catalog();
    let mut db = Network::new(
        network("db"),
        Vni::new(101).unwrap(),
        vec!["10.0.2.0/24".parse().unwrap()],
    );
    db.internal = true;
    catalog.networks.push(db);
    let api = &mut catalog.services[1];
    api.networks
        .insert(0, ServiceNetwork::new(network("db"), vec![address("10.0.2.2")]));
    for (task, last) in api.tasks.iter_mut().zip(21..) {
        let addresses = vec![address(&format!("10.0.2.{last}"))];
        task.endpoints.insert(0, Endpoint::new(network("db"), addresses));
    }
    catalog
}

#[test]
fn an_interface_may_have_a_name_of_its_own_and_lead_nowhere_else() {
    let mut catalog = two_networks();
    let endpoints = &mut catalog.services[1].tasks[0].endpoints;
    for (endpoint, name) in endpoints.iter_mut().zip(["net1", "net0"]) {
        endpoint.interface = Some(name.parse().unwrap());
        endpoint.default_route = false;
    }
    assert_eq!(catalog.check(), Ok(()));
    assert_eq!(Catalog::parse(&catalog.to_toml()).unwrap(), catalog);
    let interface = |on: &str| {
        let plan = planned(&catalog, "api", "n1").attachments[&attachment("api.1", on)].clone();
        (plan.interface, plan.default_route)
    };
    assert_eq!(interface("db"), ("net1".to_owned(), false));
    assert_eq!(interface("app"), ("net0".to_owned(), false));
    for endpoint in &mut catalog.services[1].tasks[0].endpoints {
        endpoint.interface = Some("net0".parse().unwrap());
    }
    let errors = catalog.check().unwrap_err().to_string();
    assert!(
        errors.contains("endpoints[1].interface") && errors.contains("net0"),
        "{errors}"
    );
}

#[test]
fn the_default_route_is_on_the_first_network_that_is_not_internal() {
    let mut catalog = two_networks();
    assert_eq!(catalog.check(), Ok(()));
    let interface = |catalog: &Catalog, on: &str| {
        let plan = planned(catalog, "api", "n1").attachments[&attachment("api.1", on)].clone();
        (plan.interface, plan.default_route, plan.task_networks.len())
    };
    assert_eq!(interface(&catalog, "app"), ("eth0".to_owned(), true, 2));
    assert_eq!(interface(&catalog, "db"), ("eth1".to_owned(), false, 2));
    catalog.services[1].default_network = Some(network("db"));
    assert_eq!(interface(&catalog, "app"), ("eth1".to_owned(), false, 2));
    assert_eq!(interface(&catalog, "db"), ("eth0".to_owned(), true, 2));
    let groups = planned(&catalog, "api", "n3").groups;
    assert_eq!(
        names(&groups[&key("api", on("db"))].active),
        ["api.1@db", "api.2@db"]
    );
}

#[test]
fn published_ports_go_to_the_default_network() {
    let mut catalog = two_networks();
    catalog.services[1].ports.push(Port::new(9000, 90));
    let group = |catalog: &Catalog| planned(catalog, "api", "n3").groups[&key("api", Scope::Ingress)].clone();
    assert_eq!(names(&group(&catalog).active), ["api.1@app", "api.2@app"]);
    catalog.services[1].default_network = Some(network("db"));
    assert_eq!(names(&group(&catalog).active), ["api.1@db", "api.2@db"]);
}

#[test]
fn published_ports_go_to_the_network_of_both_families() {
    let mut catalog = two_networks();
    catalog.networks[1].internal = false;
    catalog.services[1].ports.push(Port::new(9000, 90));
    let active = |catalog: &Catalog| {
        let group = planned(catalog, "api", "n3").groups[&key("api", Scope::Ingress)].clone();
        names(&group.active)
    };
    assert_eq!(active(&catalog), ["api.1@app", "api.2@app"]);
    for task in &mut catalog.services[1].tasks {
        task.endpoints[1].addresses.truncate(1);
    }
    // Of equals a task's first, which stays so whatever networks the service moves to.
    assert_eq!(active(&catalog), ["api.1@db", "api.2@db"]);
    catalog.services[1].networks.reverse();
    assert_eq!(active(&catalog), ["api.1@db", "api.2@db"]);
    assert_eq!(catalog.check(), Ok(()));
}

#[test]
fn published_ports_reach_tasks_of_the_networks_before_and_after() {
    let mut catalog = two_networks();
    catalog.networks[1].internal = false;
    catalog.networks[1].encrypted = true;
    catalog.services[1].ports.push(Port::new(9000, 90));
    catalog.services[1].tasks[0].endpoints.remove(0);
    catalog.services[1].tasks[1].endpoints.remove(1);
    assert_eq!(catalog.check(), Ok(()));
    let group = |on: &str| planned(&catalog, "api", on).groups[&key("api", Scope::Ingress)].clone();
    assert_eq!(names(&group("n1").active), ["api.1@app", "api.2@db"]);
    assert_eq!(group("n1"), group("n3"));
    assert!(group("n1").encrypted, "one of them is on an encrypted network");
    let plan = planned(&catalog, "api", "n1");
    assert_eq!(plan.attachments[&attachment("api.1", "app")].interface, "eth0");
}

#[test]
fn a_published_service_without_networks_is_on_ingress() {
    let mut catalog = catalog();
    let api = &mut catalog.services[1];
    api.networks.clear();
    api.ports.push(Port::new(9000, 90));
    for (task, last) in api.tasks.iter_mut().zip(21..) {
        let addresses = vec![address(&format!("10.255.7.{last}"))];
        task.endpoints = vec![Endpoint::new(NetworkName::ingress(), addresses)];
    }
    assert_eq!(catalog.check(), Ok(()));
    let api = planned(&catalog, "api", "n1");
    assert_eq!(
        names(&api.groups[&key("api", Scope::Ingress)].active),
        ["api.1@ingress", "api.2@ingress"]
    );
    let plan = &api.attachments[&attachment("api.1", "ingress")];
    assert_eq!(
        (plan.vni, plan.gateways.clone()),
        (Vni::INGRESS, vec![address("10.255.0.1")])
    );
}

#[test]
fn a_node_that_is_no_member_has_no_plan() {
    let catalog = catalog();
    let error = plan(&catalog, &Liveness::of(&catalog), &node("n9")).unwrap_err();
    assert_eq!(
        error,
        PlanError::NotAMember {
            node: node("n9"),
            revision: 1
        }
    );
}

#[test]
fn a_catalog_that_was_not_checked_is_refused() {
    let mut catalog = catalog();
    catalog.services[0].tasks[0].node = node("n9");
    let error = plan(&catalog, &Liveness::of(&catalog), &node("n1")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "task web.1 runs on node n9, which is not in the catalog"
    );
}

#[test]
fn replan_shares_what_did_not_change() {
    let before = catalog();
    let liveness = Liveness::of(&before);
    let old = plan(&before, &liveness, &node("n1")).unwrap();
    let mut now = before.clone();
    now.revision = 2;
    now.services[1].tasks[0].state = TaskState::Draining;
    let new = replan(
        &old,
        (&before, &liveness),
        (&now, &Liveness::of(&now)),
        &node("n1"),
    )
    .unwrap();
    assert_eq!(new, plan(&now, &Liveness::of(&now), &node("n1")).unwrap());
    assert!(Arc::ptr_eq(&old.cluster, &new.cluster));
    assert!(Arc::ptr_eq(
        &old.services[&service("web")],
        &new.services[&service("web")]
    ));
    assert!(!Arc::ptr_eq(
        &old.services[&service("api")],
        &new.services[&service("api")]
    ));
}

#[test]
fn replan_sees_liveness_change_under_one_catalog() {
    let catalog = catalog();
    let before = Liveness::of(&catalog);
    let old = plan(&catalog, &before, &node("n1")).unwrap();
    let mut now = before.clone();
    now.tasks.insert(TaskId::new("web.2").unwrap(), TaskState::Gone);
    let new = replan(&old, (&catalog, &before), (&catalog, &now), &node("n1")).unwrap();
    assert_eq!(new, plan(&catalog, &now, &node("n1")).unwrap());
    assert!(Arc::ptr_eq(
        &old.services[&service("api")],
        &new.services[&service("api")]
    ));
    now.nodes_down.insert(node("n3"));
    let new = replan(&old, (&catalog, &before), (&catalog, &now), &node("n1")).unwrap();
    assert_eq!(new, plan(&catalog, &now, &node("n1")).unwrap());
    assert!(Arc::ptr_eq(
        &old.services[&service("api")],
        &new.services[&service("api")]
    ));
}
