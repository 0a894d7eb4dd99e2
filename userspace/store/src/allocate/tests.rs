use super::*;
use crate::samples::{Lab, cluster, network, node, service, service_on, targets, task};
use essaim_objects::Network;
use serde_json::{Value, json};

fn lab(pools: &[&str], size: u32) -> Lab {
    let mut lab = Lab::default();
    lab.create(cluster(pools, size)).unwrap();
    lab
}

fn subnets(network: &Network) -> Vec<(String, String)> {
    let subnets = network.subnets();
    subnets
        .map(|subnet| (subnet.net.to_string(), subnet.gateway.unwrap().to_string()))
        .collect()
}

fn with_subnet(config: &Value) -> Value {
    json!({"IPAMOptions": {"Configs": [config]}})
}

#[test]
fn networks_get_the_next_subnet_of_the_pools_and_the_next_vni() {
    let mut lab = lab(&["20.20.0.0/23", "30.0.0.0/24"], 24);
    for (bits, subnet) in [(1, "20.20.0.0/24"), (2, "20.20.1.0/24"), (3, "30.0.0.0/24")] {
        lab.create(network(bits, &format!("n{bits}"), json!({}))).unwrap();
        let gateway = subnet.replace(".0/24", ".1");
        assert_eq!(subnets(&lab.network(bits)), [(subnet.to_owned(), gateway)]);
        assert_eq!(lab.network(bits).vni(), Some(4095 + u32::try_from(bits).unwrap()));
    }
    let text = lab.create(network(4, "n4", json!({}))).unwrap_err().to_string();
    assert_eq!(
        text,
        "cannot allot an IPv4 subnet to network n4: 3 of 3 subnets of /24 in pool 20.20.0.0/23, 30.0.0.0/24 are used; \
         add a pool or remove networks"
    );
    lab.remove(lab.network(2).id).unwrap();
    lab.create(network(4, "n4", json!({}))).unwrap();
    assert_eq!(
        lab.network(4).vni(),
        Some(4099),
        "a VNI is not handed out again at once"
    );
    assert_eq!(subnets(&lab.network(4))[0].0, "20.20.1.0/24");
}

#[test]
fn a_given_subnet_is_honoured_and_the_pool_goes_round_it() {
    let mut lab = lab(&["10.0.0.0/8"], 24);
    let given = json!({"Subnet": "10.0.0.0/23", "Gateway": "10.0.1.7", "Range": "10.0.1.0/28", "AuxiliaryAddresses": {"a": "10.0.1.1"}});
    lab.create(network(1, "a", with_subnet(&given))).unwrap();
    assert_eq!(
        subnets(&lab.network(1)),
        [("10.0.0.0/23".to_owned(), "10.0.1.7".to_owned())]
    );
    lab.create(network(2, "b", json!({}))).unwrap();
    assert_eq!(subnets(&lab.network(2))[0].0, "10.0.2.0/24");
    let text = lab
        .create(network(3, "c", with_subnet(&json!({"Subnet": "10.0.1.0/24"}))))
        .unwrap_err()
        .to_string();
    assert_eq!(
        text,
        "cannot allot subnet 10.0.1.0/24 to network c: it overlaps 10.0.0.0/23 of network a; choose another subnet"
    );
    lab.create(service_on(1, "s", &[1])).unwrap();
    for bits in 1..=9 {
        lab.create(task(bits, &lab.service(1), bits)).unwrap();
    }
    let given: Vec<_> = (1..=9).flat_map(|bits| lab.addresses(bits)).collect();
    // Of 10.0.1.0 to .15, not the auxiliary address, not the gateway, and the last quarter is the services'.
    let expected = ["0", "2", "3", "4", "5", "6", "8", "9", "10"].map(|end| format!("10.0.1.{end}/23"));
    assert_eq!(given, expected);
}

#[test]
fn ipv6_comes_from_a_prefix_of_the_clusters_own() {
    let mut lab = lab(&[], 24);
    lab.create(network(1, "a", json!({"IPv6Enabled": true}))).unwrap();
    lab.create(network(
        2,
        "b",
        json!({"IPv6Enabled": true, "IPv4Enabled": false}),
    ))
    .unwrap();
    let [first, second] = [1, 2].map(|bits| {
        lab.network(bits)
            .subnets()
            .map(|subnet| subnet.net)
            .collect::<Vec<_>>()
    });
    assert_eq!(first[0].to_string(), "10.0.0.0/24");
    assert!(first[1].addr().to_string().starts_with("fd"), "{first:?}");
    assert_eq!((first.len(), second.len(), second[0].prefix_len()), (2, 1, 64));
    assert_ne!(first[1], second[0]);
    lab.create(service_on(1, "s", &[1, 2])).unwrap();
    lab.create(task(1, &lab.service(1), 1)).unwrap();
    assert_eq!(
        (lab.vips(1).len(), lab.addresses(1).len()),
        (3, 3),
        "one of each family"
    );
    assert!(lab.addresses(1)[1].ends_with("::2/64"), "{:?}", lab.addresses(1));
    let mut given = self::lab(&["fd12:3456::/48"], 24);
    given
        .create(network(1, "a", json!({"IPv6Enabled": true})))
        .unwrap();
    assert_eq!(
        subnets(&given.network(1))[1],
        ("fd12:3456::/64".to_owned(), "fd12:3456::1".to_owned())
    );
}

#[test]
fn a_given_vni_is_honoured_unless_another_has_it() {
    let mut lab = lab(&[], 24);
    let given = |vni: &str| json!({"DriverConfiguration": {"Options": {"com.docker.network.driver.overlay.vxlanid_list": vni, "encrypted": ""}}});
    lab.create(network(1, "a", given("4096"))).unwrap();
    assert_eq!(lab.network(1).vni(), Some(4096));
    assert!(
        lab.network(1)
            .driver_state
            .unwrap()
            .options
            .unwrap()
            .contains_key("encrypted")
    );
    let text = lab
        .create(network(2, "b", given("4096")))
        .unwrap_err()
        .to_string();
    assert_eq!(
        text,
        "cannot allot VNI 4096 to network b: network a has it; choose another"
    );
    lab.create(network(2, "b", given("16777215"))).unwrap();
    lab.create(network(3, "c", json!({}))).unwrap();
    assert_eq!(
        lab.network(3).vni(),
        Some(4097),
        "after the last comes the first that is free"
    );
}

#[test]
fn a_network_can_take_anothers_configuration() {
    let mut lab = lab(&[], 24);
    let mut shape = with_subnet(&json!({"Subnet": "10.50.0.0/16"}));
    shape["ConfigOnly"] = true.into();
    lab.create(network(1, "shape", shape)).unwrap();
    assert_eq!(
        (lab.network(1).vni(), lab.network(1).subnets().count()),
        (None, 0)
    );
    lab.create(network(2, "a", json!({"ConfigFrom": {"Network": "shape"}})))
        .unwrap();
    assert_eq!(
        subnets(&lab.network(2)),
        [("10.50.0.0/16".to_owned(), "10.50.0.1".to_owned())]
    );
    let text = lab
        .create(network(3, "b", json!({"ConfigFrom": {"Network": "none"}})))
        .unwrap_err()
        .to_string();
    assert_eq!(
        text,
        "cannot allot the configuration of network b: network none not found"
    );
    let text = lab.create(service_on(1, "s", &[1])).unwrap_err().to_string();
    assert!(
        text.ends_with("network shape only holds configuration; use one that takes it"),
        "{text}"
    );
}

#[test]
fn tasks_go_up_and_services_down_and_freed_addresses_wait_their_turn() {
    let mut lab = lab(&[], 24);
    lab.create(network(1, "a", json!({}))).unwrap();
    for bits in 1..=3 {
        lab.create(service_on(bits, &format!("s{bits}"), &[1])).unwrap();
        lab.create(task(bits, &lab.service(bits), 1)).unwrap();
    }
    assert_eq!(
        [1, 2, 3].map(|bits| lab.vips(bits).concat()),
        ["10.0.0.254/24", "10.0.0.253/24", "10.0.0.252/24"]
    );
    assert_eq!(
        [1, 2, 3].map(|bits| lab.addresses(bits).concat()),
        ["10.0.0.2/24", "10.0.0.3/24", "10.0.0.4/24"]
    );
    lab.remove(lab.task(3).id).unwrap();
    lab.remove(lab.service(3).id).unwrap();
    lab.create(service_on(4, "s4", &[1])).unwrap();
    lab.create(task(4, &lab.service(4), 1)).unwrap();
    assert_eq!(
        (lab.vips(4).concat(), lab.addresses(4).concat()),
        ("10.0.0.251/24".into(), "10.0.0.5/24".into())
    );
    // Round again, only after all others.
    for bits in 5..=300 {
        lab.create(task(bits, &lab.service(4), 1)).unwrap();
        let reused = lab.addresses(bits).concat() == "10.0.0.4/24";
        assert_eq!(reused, bits == 5 + 186, "{bits}: {:?}", lab.addresses(bits));
        lab.remove(lab.task(bits).id).unwrap();
    }
}

#[test]
fn the_tasks_of_a_job_get_addresses_at_once_and_after_they_had_to_wait() {
    let mut lab = lab(&[], 24);
    let small = with_subnet(&json!({"Subnet": "10.9.0.0/30"}));
    lab.create(network(1, "small", small)).unwrap();
    let spec = json!({"TaskTemplate": {"Networks": targets(&[1])}, "EndpointSpec": {"Mode": "dnsrr"}});
    lab.create(service(1, "job", spec)).unwrap();
    for bits in 1..=2 {
        let mut of_job = task(bits, &lab.service(1), bits);
        of_job.desired_state = TaskState::Complete;
        lab.create(of_job).unwrap();
    }
    let states = |lab: &Lab| [1, 2].map(|bits| lab.task(bits).status.state);
    assert_eq!(states(&lab), [TaskState::Pending, TaskState::New]);
    let mut over = lab.task(1);
    over.status.state = TaskState::Complete;
    lab.update(over).unwrap();
    let next = overdue(lab.view());
    lab.apply(&next).unwrap();
    assert_eq!(states(&lab), [TaskState::Complete, TaskState::Pending]);
}

#[test]
fn a_full_network_makes_tasks_wait_with_the_reason_until_one_is_free() {
    let mut lab = lab(&[], 24);
    lab.create(network(
        1,
        "small",
        with_subnet(&json!({"Subnet": "10.9.0.0/29"})),
    ))
    .unwrap();
    lab.create(service_on(1, "s", &[1])).unwrap();
    assert_eq!(lab.vips(1), ["10.9.0.6/29"]);
    for bits in 1..=4 {
        assert_eq!(
            lab.create(task(bits, &lab.service(1), 1)).unwrap(),
            Allotted::default()
        );
    }
    let waiting = lab.create(task(5, &lab.service(1), 5)).unwrap().waiting;
    let reason = "cannot allot an address on network small: 6 of 6 addresses in 10.9.0.0/29 of network small are used; \
                  use a network with a larger subnet";
    assert_eq!(
        waiting.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [reason]
    );
    let task = lab.task(5);
    assert_eq!(
        (task.status.state, task.status.err.as_deref()),
        (TaskState::New, Some(reason))
    );
    assert!(overdue(lab.view()).changes.is_empty(), "nothing changed");
    let text = lab.create(service_on(2, "t", &[1])).unwrap_err().to_string();
    assert!(
        text.starts_with("cannot allot a virtual address on network small: 6 of 6 addresses"),
        "{text}"
    );
    let mut over = lab.task(2);
    over.status.state = TaskState::Shutdown;
    lab.update(over).unwrap();
    let next = overdue(lab.view());
    assert_eq!(next.changes.len(), 1);
    lab.apply(&next).unwrap();
    let task = lab.task(5);
    assert_eq!((task.status.state, task.status.err), (TaskState::Pending, None));
    assert_eq!(lab.addresses(5), ["10.9.0.3/29"]);
}

#[test]
fn services_spill_into_the_tasks_part_only_when_theirs_is_full() {
    let mut lab = lab(&[], 24);
    lab.create(network(1, "a", with_subnet(&json!({"Subnet": "10.9.0.0/28"}))))
        .unwrap();
    // 14 hosts: .1 is the gateway's, .12 to .14 are the services'.
    for (bits, address) in [(1, 14), (2, 13), (3, 12), (4, 11), (5, 10)] {
        lab.create(service_on(bits, &format!("s{bits}"), &[1])).unwrap();
        assert_eq!(lab.vips(bits), [format!("10.9.0.{address}/28")]);
    }
    lab.remove(lab.service(2).id).unwrap();
    for (bits, address) in (1..=9).zip([2, 3, 4, 5, 6, 7, 8, 9, 13]) {
        lab.create(task(bits, &lab.service(1), 1)).unwrap();
        assert_eq!(lab.addresses(bits), [format!("10.9.0.{address}/28")]);
    }
}

#[test]
fn ports_are_chosen_once_and_kept() {
    let mut lab = lab(&[], 24);
    let ports = |ports: Value| json!({"EndpointSpec": {"Ports": ports}});
    lab.create(service(1, "a", ports(json!([{"TargetPort": 80}, {"TargetPort": 81, "Protocol": "udp"}, {"TargetPort": 82, "PublishedPort": 30001}])))).unwrap();
    assert_eq!(lab.ports(1), [30_000, 30_000, 30_001]);
    lab.create(service(
        2,
        "b",
        ports(json!([{"TargetPort": 80}, {"TargetPort": 90, "PublishMode": "host"}])),
    ))
    .unwrap();
    assert_eq!(lab.ports(2), [30_002, 0]);
    // One goes, one comes, the rest stays.
    let mut changed = lab.service(1);
    changed.spec = service(
        1,
        "a",
        ports(json!([{"TargetPort": 83}, {"TargetPort": 80}, {"TargetPort": 81, "Protocol": "udp"}])),
    )
    .spec;
    lab.update(changed).unwrap();
    assert_eq!(lab.ports(1), [30_003, 30_000, 30_000]);
    let text = lab
        .create(service(
            3,
            "c",
            ports(json!([{"TargetPort": 80, "PublishedPort": 30_002}])),
        ))
        .unwrap_err()
        .to_string();
    let id = lab.service(2).id;
    assert!(
        text.ends_with(&format!(
            "port '30002' is already in use by service 'b' (service {id}) as an ingress port"
        )),
        "{text}"
    );
    // The same port of another protocol, and in host mode, is another.
    lab.create(service(3, "c", ports(json!([{"TargetPort": 80, "PublishedPort": 30_002, "Protocol": "sctp"}, {"TargetPort": 81, "PublishedPort": 30_002, "PublishMode": "host"}])))).unwrap();
    lab.remove(id).unwrap();
    lab.create(service(
        4,
        "d",
        ports(json!([{"TargetPort": 80, "PublishedPort": 30_002}])),
    ))
    .unwrap();
    assert_eq!(lab.ports(4), [30_002]);
}

#[test]
fn all_chosen_ports_used_up_is_told() {
    let mut lab = lab(&[], 24);
    let ports: Vec<_> = (1..=2768).map(|port| json!({"TargetPort": port})).collect();
    lab.create(service(1, "a", json!({"EndpointSpec": {"Ports": ports}})))
        .unwrap();
    assert_eq!(lab.ports(1).last(), Some(&32_767));
    let text = lab
        .create(service(
            2,
            "b",
            json!({"EndpointSpec": {"Ports": [{"TargetPort": 1}]}}),
        ))
        .unwrap_err()
        .to_string();
    assert_eq!(
        text,
        "cannot allot a port of tcp for 1 to service b: all tcp ports from 30000 to 32767 are published; name a published port"
    );
}

#[test]
fn an_update_keeps_what_can_be_kept() {
    let mut lab = lab(&[], 24);
    for bits in 1..=3 {
        lab.create(network(bits, &format!("n{bits}"), json!({}))).unwrap();
    }
    lab.create(service_on(1, "s", &[1, 2])).unwrap();
    let before = lab.vips(1);
    let mut moved = lab.service(1);
    moved.spec = service_on(1, "s", &[3, 2]).spec;
    // What a client sends along is not trusted.
    moved.endpoint = None;
    lab.update(moved).unwrap();
    assert_eq!(lab.vips(1), ["10.0.2.254/24".to_owned(), before[1].clone()]);
    let mut dnsrr = lab.service(1);
    dnsrr.spec = service(
        1,
        "s",
        json!({"TaskTemplate": {"Networks": targets(&[2])}, "EndpointSpec": {"Mode": "dnsrr"}}),
    )
    .spec;
    lab.update(dnsrr).unwrap();
    assert!(lab.vips(1).is_empty());
    assert_eq!(
        lab.view().addresses_on(lab.network(2).id).count(),
        1,
        "the gateway's"
    );
    let mut back = lab.service(1);
    back.spec = service_on(1, "s", &[2]).spec;
    lab.update(back).unwrap();
    assert_eq!(lab.vips(1), ["10.0.1.253/24"], "the freed one waits its turn");
}

#[test]
fn tasks_are_on_the_ingress_network_only_where_they_are_published_and_have_none() {
    let mut lab = lab(&[], 24);
    lab.create(network(1, "ingress", json!({"Ingress": true})))
        .unwrap();
    lab.create(network(2, "a", json!({}))).unwrap();
    lab.create(node(1)).unwrap();
    assert_eq!(lab.node(1).attachments[0].addresses[0].to_string(), "10.0.0.2/24");
    let published = json!([{"TargetPort": 80}]);
    lab.create(service(1, "none", json!({}))).unwrap();
    lab.create(service(
        2,
        "published",
        json!({"EndpointSpec": {"Ports": published}}),
    ))
    .unwrap();
    lab.create(service(
        3,
        "both",
        json!({"EndpointSpec": {"Ports": published}, "TaskTemplate": {"Networks": targets(&[2])}}),
    ))
    .unwrap();
    lab.create(service(
        4,
        "host",
        json!({"EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishMode": "host"}]}}),
    ))
    .unwrap();
    for bits in 1..=4 {
        lab.create(task(bits, &lab.service(bits), 1)).unwrap();
        assert_eq!(lab.task(bits).status.state, TaskState::Pending);
    }
    assert_eq!(
        [1, 2, 3, 4].map(|bits| lab.addresses(bits).concat()),
        ["", "10.0.0.3/24", "10.0.1.2/24", "10.0.0.4/24"]
    );
    assert_eq!(lab.vips(2), Vec::<String>::new());
    // What a task has does not change under it.
    let again = lab.task(2);
    lab.update(again.clone()).unwrap();
    assert_eq!(lab.task(2).networks_attachments, again.networks_attachments);
}

#[test]
fn one_transaction_makes_a_whole_stack() {
    let mut lab = lab(&[], 24);
    let mut transaction = Transaction::new();
    let web = service_on(1, "web", &[1]);
    transaction.create(network(1, "a", json!({}))).create(web.clone());
    for bits in 1..=198 {
        transaction.create(task(bits, &web, bits));
    }
    let allotted = lab.commit(transaction).unwrap();
    assert_eq!(allotted, Allotted::default());
    let all: std::collections::BTreeSet<_> = (1..=198).flat_map(|bits| lab.addresses(bits)).collect();
    assert_eq!(all.len(), 198);
}

#[test]
fn a_stale_transaction_is_not_completed() {
    let mut lab = lab(&[], 24);
    lab.create(service(1, "s", json!({}))).unwrap();
    let stale = lab.service(1);
    lab.update(stale.clone()).unwrap();
    let mut transaction = Transaction::new();
    transaction.update(stale);
    let error = allocate(lab.view(), &mut transaction).unwrap_err();
    assert!(
        matches!(*error.why, Why::Conflict(Conflict::OutOfSequence { .. })),
        "{error}"
    );
}

#[test]
fn the_ethernet_address_is_the_data_planes() {
    assert_eq!(
        mac(&["10.0.1.5/24".parse().unwrap()]),
        MacAddr([2, 0x42, 10, 0, 1, 5])
    );
    let both = ["fd00::5/64", "10.0.1.5/24"].map(|address| address.parse().unwrap());
    assert_eq!(mac(&both), MacAddr([2, 0x42, 10, 0, 1, 5]));
    let only = mac(&["fd00::5/64".parse().unwrap()]);
    assert_eq!((only.0[0], only.0[1]), (2, 0x42));
    assert_ne!(only, mac(&["fd00::6/64".parse().unwrap()]));
}
