use super::*;
use essaim_store::{Object, Store, Transaction, allocate};
use serde_json::{Value, json};
use std::sync::Arc;

/// A store with a cluster, its ingress network and the dual-stack network `app`.
struct Lab {
    store: Store,
    index: u64,
    touched: Touched,
}

fn object<T: serde::de::DeserializeOwned + Into<Object>>(bits: u128, mut members: Value) -> T {
    members["ID"] = NodeId::from_bits(bits).to_string().into();
    serde_json::from_value(members).unwrap()
}

fn id(bits: u128) -> String {
    NodeId::from_bits(bits).to_string()
}

impl Lab {
    fn new() -> Self {
        let mut lab = Self {
            store: Store::new(),
            index: 0,
            touched: Touched::default(),
        };
        lab.create::<objects::Cluster>(
            1,
            json!({"Spec": {"Name": "default"}, "DefaultAddrPool": ["10.0.0.0/8"], "SubnetSize": 24}),
        );
        lab.create::<objects::Network>(2, json!({"Spec": {"Name": "ingress", "Ingress": true}}));
        let configs = json!([{"Subnet": "10.9.0.0/24"}, {"Subnet": "fd00:9::/64"}]);
        lab.create::<objects::Network>(
            3,
            json!({"Spec": {"Name": "app", "IPv6Enabled": true, "IPAMOptions": {"Configs": configs}}}),
        );
        for (bits, address) in [(11, "192.0.2.11"), (12, "192.0.2.12:43210")] {
            lab.create::<objects::Node>(bits, json!({"Status": {"State": "ready", "Addr": address}}));
        }
        lab
    }

    fn create<T: serde::de::DeserializeOwned + Into<Object>>(&mut self, bits: u128, members: Value) {
        let mut transaction = Transaction::new();
        transaction.create(object::<T>(bits, members));
        self.commit(transaction);
    }

    fn commit(&mut self, mut transaction: Transaction) {
        allocate(self.store.view(), &mut transaction).unwrap();
        self.index += 1;
        let events = self
            .store
            .apply(self.index, &transaction, Timestamp::UNIX_EPOCH)
            .unwrap();
        for event in &events {
            self.touched.note(event);
        }
    }

    fn change_task(&mut self, bits: u128, change: impl Fn(&mut objects::Task)) {
        let id = objects::TaskId::from_bits(bits);
        let mut task = self.store.view().task(id).unwrap().as_ref().clone();
        change(&mut task);
        let mut transaction = Transaction::new();
        transaction.update(task);
        self.commit(transaction);
    }

    fn service(&mut self, bits: u128, name: &str, networks: &[u128], ports: &Value) {
        let networks: Vec<Value> = networks
            .iter()
            .map(|bits| json!({"Target": id(*bits), "Aliases": ["front"]}))
            .collect();
        let template = json!({"ContainerSpec": {"Image": "host"}, "Networks": networks});
        let spec = json!({"Name": name, "TaskTemplate": template, "EndpointSpec": {"Ports": ports}});
        self.create::<objects::Service>(bits, json!({"Spec": spec}));
    }

    /// A task of a service on a node, that far.
    fn task(&mut self, bits: u128, service: u128, node: u128, state: objects::TaskState) {
        let found = self
            .store
            .view()
            .service(objects::ServiceId::from_bits(service))
            .unwrap();
        let template = found.spec.task_template.clone();
        let mut task = objects::Task::new(objects::TaskId::from_bits(bits), Some(found.id), template);
        task.slot = Some(7);
        let mut transaction = Transaction::new();
        transaction.create(task);
        self.commit(transaction);
        self.change_task(bits, |task| {
            task.node_id = Some(NodeId::from_bits(node));
            task.status.state = state;
        });
    }

    fn catalog(&self) -> Catalog {
        let catalog = catalog_of(self.store.view());
        catalog.check().unwrap();
        assert_eq!(Catalog::parse(&catalog.to_toml()).unwrap(), catalog);
        catalog
    }
}

#[test]
fn the_ingress_networks_gateway_and_mtu_are_those_that_were_asked_for() {
    let mut lab = Lab::new();
    let cluster = lab.catalog().cluster;
    assert_eq!(
        (cluster.ingress_gateways, cluster.ingress_mtu),
        (vec!["10.0.0.1".parse().unwrap()], None)
    );
    let mut transaction = Transaction::new();
    // The network goes once no node has an address on it.
    for node in lab.store.view().nodes().cloned().collect::<Vec<_>>() {
        let mut node = objects::Node::clone(&node);
        node.attachments.clear();
        transaction.update(node);
    }
    transaction.remove(lab.store.view().ingress().unwrap().clone());
    lab.commit(transaction);
    let configs = json!([{"Subnet": "10.11.0.0/16", "Gateway": "10.11.0.2"}]);
    lab.create::<objects::Network>(
        5,
        json!({"Spec": {"Name": "mesh", "Ingress": true, "IPAMOptions": {"Configs": configs},
            "DriverConfiguration": {"Options": {"com.docker.network.driver.mtu": "1400"}}}}),
    );
    let cluster = lab.catalog().cluster;
    assert_eq!(
        (cluster.ingress_gateways, cluster.ingress_mtu),
        (vec!["10.11.0.2".parse().unwrap()], Some(1350))
    );
}

#[test]
fn an_mtu_is_the_underlays_less_what_vxlan_takes() {
    let mut lab = Lab::new();
    let option = |mtu: &str| json!({"Options": {"com.docker.network.driver.mtu": mtu}});
    lab.create::<objects::Network>(
        5,
        json!({"Spec": {"Name": "wide", "DriverConfiguration": option("9000")}}),
    );
    // It is never less than IPv6 needs, where that comes from another's configuration.
    let configs = json!([{"Subnet": "fd00:77::/64"}]);
    let plan = json!({"Name": "plan", "ConfigOnly": true, "IPAMOptions": {"Configs": configs}});
    lab.create::<objects::Network>(6, json!({"Spec": plan}));
    let built =
        json!({"Name": "six", "ConfigFrom": {"Network": "plan"}, "DriverConfiguration": option("626")});
    lab.create::<objects::Network>(7, json!({"Spec": built}));
    let catalog = lab.catalog();
    let mtu = |name: &str| {
        let mut networks = catalog.networks.iter();
        networks
            .find(|network| network.name.as_str() == name)
            .unwrap()
            .mtu
    };
    assert_eq!(
        [mtu("app"), mtu("wide"), mtu("six")],
        [None, Some(8950), Some(1280)]
    );
}

fn state(catalog: &Catalog) -> Vec<TaskState> {
    catalog
        .services
        .iter()
        .flat_map(|service| &service.tasks)
        .map(|task| task.state)
        .collect()
}

#[test]
fn a_running_service_stands_in_the_catalog_with_all_that_a_data_plane_needs() {
    let mut lab = Lab::new();
    lab.service(
        21,
        "web",
        &[3],
        &json!([{"PublishedPort": 8080, "TargetPort": 80}]),
    );
    lab.task(31, 21, 11, objects::TaskState::Running);
    let catalog = lab.catalog();
    assert_eq!(catalog.revision, lab.index);
    let nodes: Vec<_> = catalog
        .nodes
        .iter()
        .map(|node| (node.name.to_string(), node.address.to_string()))
        .collect();
    assert_eq!(
        nodes,
        [
            (id(11), "192.0.2.11".to_owned()),
            (id(12), "192.0.2.12".to_owned())
        ]
    );
    assert!(
        catalog
            .nodes
            .iter()
            .all(|node| node.overlay.len() == 1 && node.state == NodeState::Up)
    );
    let [app] = &catalog.networks[..] else {
        panic!("{:?}", catalog.networks)
    };
    assert_eq!(
        (app.name.as_str(), app.subnets.len(), app.gateways.len()),
        ("app", 2, 2)
    );
    let [web] = &catalog.services[..] else {
        panic!("{:?}", catalog.services)
    };
    assert_eq!(
        (web.name.as_str(), web.ports.as_slice()),
        ("web", &[Port::new(8080, 80)][..])
    );
    assert_eq!(
        (web.networks[0].vips.len(), web.networks[0].aliases[0].as_str()),
        (2, "front")
    );
    let [task] = &web.tasks[..] else {
        panic!("{:?}", web.tasks)
    };
    assert_eq!(
        (task.netns.clone(), task.slot),
        (format!("es-{}", id(31)), Some(7))
    );
    assert_eq!(
        (task.node.as_str(), task.state),
        (id(11).as_str(), TaskState::Ready)
    );
    assert_eq!(task.endpoints[0].addresses.len(), 2);
}

#[test]
fn a_task_is_there_from_its_node_to_its_end() {
    use objects::TaskState as S;
    for (observed, desired, expected) in [
        (S::Pending, S::Running, None),
        (S::Assigned, S::Running, Some(TaskState::Starting)),
        (S::Ready, S::Ready, Some(TaskState::Starting)),
        (S::Running, S::Running, Some(TaskState::Ready)),
        (S::Running, S::Complete, Some(TaskState::Ready)),
        (S::Running, S::Shutdown, Some(TaskState::Draining)),
        (S::Preparing, S::Remove, Some(TaskState::Draining)),
        (S::Shutdown, S::Shutdown, None),
        (S::Failed, S::Shutdown, None),
        (S::Orphaned, S::Shutdown, None),
    ] {
        let mut lab = Lab::new();
        lab.service(21, "web", &[3], &json!([]));
        lab.task(31, 21, 11, observed);
        lab.change_task(31, |task| task.desired_state = desired);
        assert_eq!(
            state(&lab.catalog()),
            Vec::from_iter(expected),
            "{observed} {desired}"
        );
    }
}

#[test]
fn without_networks_a_published_service_is_on_the_ingress_network() {
    for mode in ["ingress", "host"] {
        let mut lab = Lab::new();
        lab.service(
            21,
            "web",
            &[],
            &json!([{"PublishedPort": 80, "TargetPort": 80, "PublishMode": mode}]),
        );
        lab.task(31, 21, 11, objects::TaskState::Running);
        let catalog = lab.catalog();
        let endpoint = &catalog.services[0].tasks[0].endpoints[0];
        assert_eq!(endpoint.network, NetworkName::ingress(), "{mode}");
    }
}

#[test]
fn sets_that_ran_at_once_are_remembered_newest_first() {
    let mut lab = Lab::new();
    lab.service(
        21,
        "web",
        &[3],
        &json!([{"PublishedPort": 8080, "TargetPort": 80}]),
    );
    let at = |seconds| Timestamp::from_second(seconds).unwrap();
    // 31 and 32 ran, 33 took the place of 31, and never ran: 34.
    for (bits, since, until) in [
        (31, Some(1), Some(5)),
        (32, Some(2), None),
        (33, Some(4), None),
        (34, None, None),
    ] {
        let state = if until.is_some() {
            objects::TaskState::Shutdown
        } else {
            objects::TaskState::Running
        };
        lab.task(bits, 21, 11, state);
        lab.change_task(bits, |task| {
            task.running_since = since.map(at);
            task.running_until = until.map(at);
        });
    }
    let catalog = lab.catalog();
    let sets: Vec<Vec<String>> = catalog.services[0]
        .history
        .iter()
        .map(|set| set.iter().map(ToString::to_string).collect())
        .collect();
    assert_eq!(
        sets,
        [vec![id(31), id(32), id(33)], vec![id(31), id(32)], vec![id(31)]]
    );
}

#[test]
fn what_no_data_plane_can_use_is_left_out() {
    let mut lab = Lab::new();
    lab.create::<objects::Node>(13, json!({"Status": {"State": "unknown"}}));
    lab.service(21, "web", &[3], &json!([]));
    lab.task(31, 21, 13, objects::TaskState::Running);
    lab.task(32, 21, 11, objects::TaskState::Running);
    let catalog = lab.catalog();
    assert_eq!((catalog.nodes.len(), catalog.networks.len()), (2, 1));
    let [task] = &catalog.services[0].tasks[..] else {
        panic!("{:?}", catalog.services[0].tasks)
    };
    assert_eq!((task.id.to_string(), task.endpoints.len()), (id(32), 1));
}

#[test]
fn tasks_of_a_published_service_stay_while_it_moves_to_another_network() {
    let mut lab = Lab::new();
    lab.create::<objects::Network>(4, json!({"Spec": {"Name": "back"}}));
    let port = json!([{"PublishedPort": 8020, "TargetPort": 80}]);
    lab.service(20, "web", &[3], &port);
    lab.task(30, 20, 11, objects::TaskState::Running);
    let mut service = lab
        .store
        .view()
        .service(objects::ServiceId::from_bits(20))
        .unwrap()
        .as_ref()
        .clone();
    let template = &mut Arc::make_mut(&mut service.spec).task_template;
    Arc::make_mut(template).networks = serde_json::from_value(json!([{"Target": id(4)}])).unwrap();
    let mut transaction = Transaction::new();
    transaction.update(service);
    lab.commit(transaction);
    lab.task(31, 20, 12, objects::TaskState::Running);
    let catalog = lab.catalog();
    let tasks = catalog.services[0].tasks.iter().map(|task| {
        let networks = task.endpoints.iter().map(|endpoint| endpoint.network.to_string());
        (task.id.to_string(), networks.collect::<Vec<_>>())
    });
    let [before, after] = ["app", "back"].map(|name| vec![name.to_owned()]);
    assert_eq!(tasks.collect::<Vec<_>>(), [(id(30), before), (id(31), after)]);
}

#[test]
fn a_network_is_encrypted_where_its_options_say_so() {
    let mut lab = Lab::new();
    for (bits, name, options) in [
        (4, "safe", json!({"encrypted": ""})),
        (5, "sure", json!({"encrypted": "true"})),
        (6, "open", json!({"encrypted": "false"})),
    ] {
        let driver = json!({"Name": "overlay", "Options": options});
        lab.create::<objects::Network>(
            bits,
            json!({"Spec": {"Name": name, "DriverConfiguration": driver}}),
        );
    }
    let catalog = lab.catalog();
    let encrypted = catalog.networks.iter().filter(|network| network.encrypted);
    let names: Vec<_> = encrypted.map(|network| network.name.as_str()).collect();
    assert_eq!(names, ["safe", "sure"]);
}

/// Something that happens to the store, with what it happens to.
fn happens(lab: &mut Lab, what: u8, to: u128) {
    let (service, task, node) = (20 + to % 4, 100 + to % 16, 11 + to % 3);
    let view = lab.store.view().clone();
    let found = view.service(objects::ServiceId::from_bits(service)).cloned();
    let running = view.task(objects::TaskId::from_bits(task)).cloned();
    let (held, placed) = (found.is_some(), running.is_some());
    let known = view.node(NodeId::from_bits(node)).cloned();
    let mut transaction = Transaction::new();
    match what {
        0 if !held => {
            let ports = [
                json!([]),
                json!([{"PublishedPort": 8000 + service, "TargetPort": 80}]),
            ];
            let port = &ports[usize::from(to.is_multiple_of(2))];
            return lab.service(service, &format!("s{service}"), &[3], port);
        }
        1 | 2 if held && !placed && known.is_some() => {
            let states = [objects::TaskState::Pending, objects::TaskState::Running];
            return lab.task(task, service, node, states[usize::from(what - 1)]);
        }
        3 | 4 if placed => {
            let since = Timestamp::from_second(i64::try_from(lab.index).unwrap()).unwrap();
            return lab.change_task(task, |task| {
                if what == 3 {
                    task.status.state = task.status.state.max(objects::TaskState::Running);
                    task.running_since.get_or_insert(since);
                } else {
                    task.desired_state = objects::TaskState::Shutdown;
                    task.status.state = objects::TaskState::Shutdown;
                    task.running_until.get_or_insert(since);
                }
            });
        }
        5 => {
            if let Some(running) = running {
                transaction.remove(running);
            }
        }
        6 => {
            for task in view.tasks_of_service(objects::ServiceId::from_bits(service)) {
                transaction.remove(task.clone());
            }
            if let Some(found) = found {
                transaction.remove(found);
            }
        }
        7 => match known {
            None => {
                let address = format!("192.0.2.{node}");
                let status = json!({"Status": {"State": "ready", "Addr": address}});
                return lab.create::<objects::Node>(node, status);
            }
            Some(known) => {
                let mut known = known.as_ref().clone();
                known.status.state = match known.status.state {
                    objects::NodeState::Down => objects::NodeState::Ready,
                    _ => objects::NodeState::Down,
                };
                transaction.update(known);
            }
        },
        8 if view.networks().len() < 5 => {
            let bits = 40 + u128::from(lab.index);
            let spec = json!({"Spec": {"Name": format!("net{bits}")}});
            return lab.create::<objects::Network>(bits, spec);
        }
        _ => {}
    }
    if !transaction.changes.is_empty() {
        lab.commit(transaction);
    }
}

proptest::proptest! {
    #[test]
    fn the_next_catalog_is_the_same_out_of_the_one_before_and_anew(
        steps in proptest::collection::vec((0_u8..9, 0_u128..48, proptest::bool::ANY), 1..120),
    ) {
        let mut lab = Lab::new();
        let mut held = lab.catalog();
        lab.touched = Touched::default();
        for (what, to, is_shown) in steps {
            happens(&mut lab, what, to);
            if is_shown {
                let touched = std::mem::take(&mut lab.touched);
                let next = catalog_after(&held, &touched, lab.store.view());
                proptest::prop_assert_eq!(&next, &catalog_of(lab.store.view()));
                held = next;
            }
        }
    }
}

#[test]
fn of_two_nodes_at_one_address_the_living_one_counts() {
    let mut lab = Lab::new();
    lab.create::<objects::Node>(14, json!({"Status": {"State": "down", "Addr": "192.0.2.11"}}));
    let names: Vec<_> = lab
        .catalog()
        .nodes
        .iter()
        .map(|node| node.name.to_string())
        .collect();
    assert_eq!(names, [id(11), id(12)]);
}
