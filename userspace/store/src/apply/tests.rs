use super::*;
use crate::samples::{Lab, cluster, config, network, node, secret, service, service_on, targets, task, time};
use crate::{allocate, release};
use essaim_objects::{NetworkAttachment, NodeId, Service, Task, TaskId, TaskState};
use serde_json::json;

/// Two networks, a service with a port on one of them, with a task on a node.
fn lab() -> Lab {
    let mut lab = Lab::default();
    let mut transaction = Transaction::new();
    transaction.create(cluster(&["10.0.0.0/8"], 24)).create(node(1));
    transaction
        .create(network(1, "app", json!({})))
        .create(network(2, "db", json!({})));
    transaction.create(secret(1, "s")).create(config(1, "c"));
    let web = service(
        1,
        "web",
        json!({
            "TaskTemplate": {"Networks": targets(&[1]), "ContainerSpec": {
                "Secrets": [{"SecretID": secret(1, "s").id}], "Configs": [{"ConfigID": config(1, "c").id}]}},
            "EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]},
        }),
    );
    let mut first = task(1, &web, 1);
    first.node_id = Some(node(1).id);
    transaction.create(web).create(first);
    lab.commit(transaction).unwrap();
    lab
}

fn conflict(lab: &mut Lab, changes: Vec<Change>) -> String {
    lab.apply(&Transaction { changes }).unwrap_err().to_string()
}

fn created(object: impl Into<Object>) -> Vec<Change> {
    vec![Change::Create(object.into())]
}

#[test]
fn objects_carry_the_index_and_times_of_their_changes() {
    let mut lab = lab();
    let made = lab.service(1);
    assert_eq!(
        (made.version.index, made.created_at, made.updated_at),
        (1, time(1), time(1))
    );
    let mut transaction = Transaction::new();
    transaction.update(made.clone());
    let events = lab.apply(&transaction).unwrap();
    let changed = lab.service(1);
    assert_eq!(
        (changed.version.index, changed.created_at, changed.updated_at),
        (2, time(1), time(2))
    );
    assert_eq!(
        events,
        [Event::Updated {
            old: made.into(),
            new: changed.into()
        }]
    );
    let events = lab.remove(TaskId::from_bits(1)).unwrap();
    assert!(
        matches!(events.as_slice(), [Event::Removed(Object::Task(_))]),
        "{events:?}"
    );
    assert_eq!(lab.view().index(), 3);
}

#[test]
fn a_view_stays_as_it_was() {
    let mut lab = lab();
    let view = lab.view().clone();
    lab.remove(TaskId::from_bits(1)).unwrap();
    assert_eq!((view.tasks().len(), lab.view().tasks().len()), (1, 0));
    assert_eq!(view.tasks_of_service(lab.service(1).id).count(), 1);
}

#[test]
fn what_changed_since_it_was_read_is_left_alone() {
    let mut lab = lab();
    let stale = lab.service(1);
    lab.update(lab.service(1)).unwrap();
    let text = conflict(&mut lab, vec![Change::update(stale.clone())]);
    assert_eq!(
        text,
        format!(
            "update out of sequence: service {} is at version 2, expected 1; read it again",
            stale.id
        )
    );
    let text = conflict(&mut lab, vec![Change::remove(stale)]);
    assert!(text.starts_with("update out of sequence"), "{text}");
}

#[test]
fn a_transaction_is_done_as_a_whole_or_not_at_all() {
    let mut lab = lab();
    let changes = vec![
        Change::Create(network(3, "new", json!({})).into()),
        Change::Create(secret(2, "s").into()),
    ];
    let text = conflict(&mut lab, changes);
    assert!(
        text.starts_with("name conflicts with an existing object: secret s is secret "),
        "{text}"
    );
    assert!(lab.view().network_by_name("new").is_none());
}

#[test]
fn what_does_not_go_with_the_rest_is_refused() {
    let mut lab = lab();
    let (web, app) = (lab.service(1), lab.network(1));
    let text = conflict(&mut lab, created(web.clone()));
    assert_eq!(text, format!("service {} exists already", web.id));
    let text = conflict(&mut lab, vec![Change::update(service_on(9, "x", &[]))]);
    assert!(text.ends_with("not found"), "{text}");
    for (taken, kind) in [
        (Object::from(network(9, "app", json!({}))), "network app"),
        (service_on(9, "web", &[]).into(), "service web"),
        (secret(9, "s").into(), "secret s"),
        (config(9, "c").into(), "config c"),
    ] {
        let text = conflict(&mut lab, created(taken));
        assert!(
            text.starts_with(&format!("name conflicts with an existing object: {kind} is ")),
            "{text}"
        );
    }
    let text = conflict(&mut lab, created(network(9, "", json!({}))));
    assert!(text.ends_with("has no name, expected one"), "{text}");
    for (refers, to) in [
        (service_on(9, "x", &[99]), "network 0000"),
        (
            service(
                9,
                "x",
                json!({"TaskTemplate": {"ContainerSpec": {"Secrets": [{"SecretID": secret(7, "z").id}]}}}),
            ),
            "secret 0000",
        ),
        (
            service(
                9,
                "x",
                json!({"TaskTemplate": {"ContainerSpec": {"Configs": [{"ConfigID": config(7, "z").id}]}}}),
            ),
            "config 0000",
        ),
        (
            service(9, "x", json!({"TaskTemplate": {"Networks": [{"Target": "app"}]}})),
            "network \"app\" by name, expected its identity",
        ),
    ] {
        let text = conflict(&mut lab, created(refers));
        assert!(text.contains(&format!("refers to {to}")), "{text}");
    }
    let text = conflict(&mut lab, created(task(9, &service_on(9, "x", &[]), 1)));
    assert!(text.contains("refers to service"), "{text}");
    let mut placed = task(9, &web, 1);
    placed.node_id = Some(NodeId::from_bits(99));
    let text = conflict(&mut lab, created(placed));
    assert!(text.contains("refers to node"), "{text}");
    let mut second = cluster(&[], 24);
    second.id = essaim_objects::ClusterId::from_bits(2);
    let text = conflict(&mut lab, created(second));
    assert!(
        text.contains("cannot have the place of the cluster: cluster"),
        "{text}"
    );
    assert!(lab.view().network(app.id).is_some());
}

#[test]
fn nothing_in_use_is_removed() {
    let mut lab = lab();
    let web = lab.service(1).id;
    for used in [
        ObjectId::from(lab.network(1).id),
        secret(1, "s").id.into(),
        config(1, "c").id.into(),
    ] {
        let by = web.into();
        assert_eq!(lab.remove(used), Err(Conflict::InUse { object: used, by }));
    }
    lab.remove(lab.network(2).id).unwrap();
    // The task still has its address when its service goes.
    lab.store.apply(90, &removal(&lab, web.into()), time(90)).unwrap();
    let used = lab.network(1).id;
    let text = lab
        .store
        .apply(91, &removal(&lab, used.into()), time(91))
        .unwrap_err()
        .to_string();
    assert!(text.contains("is in use by task"), "{text}");
    lab.store
        .apply(92, &removal(&lab, TaskId::from_bits(1).into()), time(92))
        .unwrap();
    lab.store
        .apply(93, &removal(&lab, used.into()), time(93))
        .unwrap();
    assert_eq!(
        lab.view().holders.len(),
        1,
        "only the cluster's place: {:?}",
        lab.view().holders
    );
    assert_eq!(crate::audit(lab.view()), []);
}

fn removal(lab: &Lab, id: ObjectId) -> Transaction {
    let mut transaction = Transaction::new();
    transaction.remove(lab.view().object(id).unwrap());
    transaction
}

#[test]
fn nothing_is_held_twice() {
    let mut lab = lab();
    let web = lab.service(1);
    let address = lab.task(1).networks_attachments[0].addresses[0];
    let mut twin = task(2, &web, 2);
    twin.networks_attachments = lab.task(1).networks_attachments;
    let text = conflict(&mut lab, created(twin));
    assert!(
        text.contains(&format!("cannot have address {} on network", address.addr())),
        "{text}"
    );
    let mut twin = service_on(2, "twin", &[1]);
    twin.endpoint = web.endpoint.clone();
    let text = conflict(&mut lab, created(twin));
    assert!(
        text.contains("cannot have published port 8080/tcp: service"),
        "{text}"
    );
    let mut twin = network(3, "twin", json!({}));
    twin.driver_state = lab.network(1).driver_state;
    assert!(conflict(&mut lab, created(twin)).contains("cannot have VNI 4096: network"));
    for (subnet, other) in [
        ("10.0.0.0/24", "10.0.0.0/24"),
        ("10.0.1.128/25", "10.0.1.0/24"),
        ("10.0.0.0/16", "10.0.1.0/24"),
    ] {
        let mut twin = network(3, "twin", json!({}));
        twin.ipam = serde_json::from_value(json!({"Configs": [{"Subnet": subnet}]})).unwrap();
        let text = conflict(&mut lab, created(twin));
        assert!(
            text.contains(&format!("subnet {subnet} of network"))
                && text.contains(&format!("overlaps {other}")),
            "{text}"
        );
    }
    let mut twin = node(2);
    twin.attachments = vec![NetworkAttachment::new(lab.network(1).id, vec![address])];
    assert!(conflict(&mut lab, created(twin)).contains("cannot have address"));
}

#[test]
fn an_address_lies_in_its_network() {
    let mut lab = lab();
    for stray in ["10.0.5.1/24", "10.0.0.0/24", "10.0.0.255/24", "fd00::1/64"] {
        let mut far = task(2, &lab.service(1), 2);
        far.networks_attachments = vec![NetworkAttachment::new(
            lab.network(1).id,
            vec![stray.parse().unwrap()],
        )];
        let text = conflict(&mut lab, created(far));
        assert!(
            text.contains("which is no host's address in a subnet of network"),
            "{stray}: {text}"
        );
    }
}

#[test]
fn a_network_in_use_keeps_its_subnets_and_vni() {
    let mut lab = lab();
    let mut moved = lab.network(1);
    moved.ipam = serde_json::from_value(json!({"Configs": [{"Subnet": "10.9.0.0/24"}]})).unwrap();
    assert!(conflict(&mut lab, vec![Change::update(moved)]).contains("is in use by"));
    let mut labelled = lab.network(1);
    labelled.spec.labels = Some([("a".to_owned(), "b".to_owned())].into());
    lab.update(labelled.clone()).unwrap();
    assert_eq!(lab.network(1).spec.labels, labelled.spec.labels);
}

#[test]
fn a_tasks_observed_state_never_goes_back() {
    for (before, from) in TaskState::ALL.into_iter().enumerate() {
        for (after, to) in TaskState::ALL.into_iter().enumerate() {
            let mut lab = lab();
            let mut changed = task(2, &lab.service(1), 2);
            changed.status.state = from;
            lab.apply(&Transaction {
                changes: created(changed),
            })
            .unwrap();
            let mut changed = lab.task(2);
            changed.status.state = to;
            let applied = lab.apply(&Transaction {
                changes: vec![Change::update(changed)],
            });
            assert_eq!(applied.is_ok(), after >= before, "{from} to {to}");
        }
    }
}

#[test]
fn a_task_that_is_over_gives_its_addresses_up() {
    let mut lab = lab();
    let mut over = lab.task(1);
    let address = over.networks_attachments[0].addresses[0].addr();
    let network = lab.network(1).id;
    assert_eq!(
        lab.view().holder_of_address(network, address),
        Some(over.id.into())
    );
    over.status.state = TaskState::Failed;
    lab.update(over.clone()).unwrap();
    assert_eq!(lab.view().holder_of_address(network, address), None);
    assert_eq!(
        lab.task(1).networks_attachments,
        over.networks_attachments,
        "written as history"
    );
    let mut next = task(2, &lab.service(1), 1);
    next.networks_attachments = over.networks_attachments;
    lab.create(next).unwrap();
}

#[test]
fn limits_are_kept() {
    let mut lab = lab();
    let secrets = |count: u128| {
        (0..count)
            .map(|n| Change::Create(secret(100 + n, &format!("n{n}")).into()))
            .collect()
    };
    let too_many = Transaction {
        changes: secrets(201),
    };
    assert_eq!(lab.apply(&too_many), Err(Conflict::TooMany { found: 201 }));
    lab.apply(&Transaction {
        changes: secrets(200),
    })
    .unwrap();
    let twice = vec![
        Change::remove(secret(1, "s")),
        Change::Create(secret(1, "s").into()),
    ];
    assert!(conflict(&mut lab, twice).ends_with("is changed twice in one transaction, expected once"));
    let index = lab.view().index();
    let text = lab
        .store
        .apply(index, &Transaction::new(), time(9))
        .unwrap_err()
        .to_string();
    assert_eq!(
        text,
        format!("log index {index} comes after {index}, expected a greater one")
    );
}

#[test]
fn indexes_follow_every_change() {
    let mut lab = lab();
    let (web, app, db) = (lab.service(1).id, lab.network(1).id, lab.network(2).id);
    let on = |lab: &Lab, network| lab.view().services_on_network(network).count();
    assert_eq!((on(&lab, app), on(&lab, db)), (1, 0));
    let mut moved = lab.service(1);
    moved.spec = service_on(1, "renamed", &[2]).spec;
    lab.update(moved).unwrap();
    assert_eq!((on(&lab, app), on(&lab, db)), (0, 1));
    assert_eq!(lab.view().services_with_secret(secret(1, "s").id).count(), 0);
    assert!(lab.view().service_by_name("web").is_none());
    assert_eq!(lab.view().service_by_name("renamed").unwrap().id, web);
    let pending = |lab: &Lab| lab.view().tasks_in_state(TaskState::Pending).count();
    assert_eq!(
        (pending(&lab), lab.view().tasks_on_node(node(1).id).count()),
        (1, 1)
    );
    assert_eq!(lab.view().tasks_of_slot(web, 1).count(), 1);
    let mut running = lab.task(1);
    running.status.state = TaskState::Running;
    running.slot = Some(2);
    lab.update(running).unwrap();
    assert_eq!((pending(&lab), lab.view().tasks_of_slot(web, 1).count()), (0, 0));
    assert_eq!(lab.view().tasks_of_slot(web, 2).count(), 1);
}

#[test]
fn tasks_share_their_services_spec() {
    let mut lab = lab();
    let decoded = |bits, web: &Service| {
        let text = serde_json::to_string(&task(bits, web, 1)).unwrap();
        serde_json::from_str::<Task>(&text).unwrap()
    };
    let web = lab.service(1);
    let other = decoded(5, &web);
    assert!(!Arc::ptr_eq(&other.spec, &web.spec.task_template));
    lab.create(other).unwrap();
    let shared = &lab.service(1).spec.task_template;
    assert!(Arc::ptr_eq(&lab.task(5).spec, shared) && Arc::ptr_eq(&lab.task(1).spec, shared));
    // An update that was read from the log does not bring a copy in.
    let text = serde_json::to_string(&lab.task(5)).unwrap();
    lab.update(serde_json::from_str::<Task>(&text).unwrap()).unwrap();
    assert!(Arc::ptr_eq(&lab.task(5).spec, shared));
    let text = serde_json::to_string(&lab.service(1)).unwrap();
    lab.update(serde_json::from_str::<Service>(&text).unwrap())
        .unwrap();
    assert!(Arc::ptr_eq(&lab.service(1).spec.task_template, shared));
}

#[test]
fn names_and_ports_can_change_hands_in_one_transaction() {
    let mut lab = lab();
    let mut web = lab.service(1);
    web.spec = service_on(1, "old", &[]).spec;
    let mut transaction = Transaction::new();
    transaction.update(web);
    transaction.create(service(
        2,
        "web",
        json!({"EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]}}),
    ));
    lab.commit(transaction).unwrap();
    assert_eq!(lab.view().service_by_name("web").unwrap().id, lab.service(2).id);
    assert_eq!(lab.ports(2), [8080]);
}

#[test]
fn the_ingress_network_stays_while_ports_are_published_and_is_replaced_afterwards() {
    let mut lab = lab();
    lab.create(network(7, "ingress", json!({"Ingress": true})))
        .unwrap();
    let mut second = Transaction::new();
    second.create(network(8, "other", json!({"Ingress": true})));
    let text = allocate(lab.view(), &mut second).unwrap_err().to_string();
    assert!(
        text.contains("cannot have the place of the ingress network"),
        "{text}"
    );
    let moved = crate::overdue(lab.view());
    assert_eq!(moved.changes.len(), 1, "the node's address");
    lab.apply(&moved).unwrap();
    assert_eq!(lab.node(1).attachments.len(), 1);
    assert!(
        release(lab.view(), lab.network(7).id)
            .unwrap_err()
            .to_string()
            .contains("is in use by service")
    );
    let mut web = lab.service(1);
    web.spec = service_on(1, "web", &[1]).spec;
    lab.update(web).unwrap();
    let mut released = release(lab.view(), lab.network(7).id).unwrap();
    assert_eq!(released.len(), 1);
    let before = released[0].clone();
    allocate(lab.view(), &mut released[0]).unwrap();
    assert_eq!(released[0], before, "the node is not given an address anew");
    lab.apply(&released[0]).unwrap();
    assert!(lab.view().ingress().is_none() && lab.node(1).attachments.is_empty());
    let other = json!({"Ingress": true, "IPAMOptions": {"Configs": [{"Subnet": "10.11.0.0/16", "Gateway": "10.11.0.2"}]}});
    lab.create(network(8, "my-ingress", other)).unwrap();
    lab.apply(&crate::overdue(lab.view())).unwrap();
    assert_eq!(
        lab.node(1).attachments[0].addresses[0].to_string(),
        "10.11.0.1/16"
    );
    assert!(crate::overdue(lab.view()).changes.is_empty());
}
