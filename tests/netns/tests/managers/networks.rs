//! Networks as the operator asks for them.

use crate::stage::*;
use essaim_lab::{Family, eventually};

#[test]
fn subnets_come_from_the_pool_or_from_the_operator_and_never_overlap() {
    let cluster = empty(1);
    let address = cluster.address("n1", Family::V4).unwrap().to_string();
    let pool = [
        "--default-addr-pool",
        "20.20.0.0/16",
        "--default-addr-pool-mask-length",
        "24",
    ];
    let line = [&["swarm", "init", "--advertise-addr", &address][..], &pool].concat();
    cluster.operate("n1", &line).unwrap();
    let create = |options: &[&str]| {
        let line = [&["network", "create", "--driver", "overlay"][..], options].concat();
        cluster.try_operate("n1", &line).unwrap()
    };
    create(&["auto"]).ok().unwrap();
    create(&[
        "--subnet",
        "10.77.0.0/24",
        "--gateway",
        "10.77.0.9",
        "--ip-range",
        "10.77.0.128/25",
        "given",
    ])
    .ok()
    .unwrap();
    let subnet = |name: &str| {
        let network = cluster.api("n1", &format!("/networks/{name}")).unwrap();
        text(&network, "/IPAM/Config/0/Subnet").to_owned()
    };
    assert_eq!(
        [subnet("ingress"), subnet("auto"), subnet("given")],
        ["20.20.0.0/24", "20.20.1.0/24", "10.77.0.0/24"]
    );
    let overlapping = create(&["--subnet", "10.77.0.128/25", "other"]);
    assert!(
        !overlapping.status.success() && overlapping.stderr.contains("overlap"),
        "{overlapping:?}"
    );
    let server = Server::of(&cluster);
    server.create(&cluster, "n1", "web", &["--network", "given"]);
    let placed = cluster.wait_running("n1", "web", 1).unwrap();
    let address: std::net::Ipv4Addr = placed[0].addresses[0].parse().unwrap();
    assert!(address.octets()[3] >= 128, "{address} is not in the range");
    refused(&cluster, "n1", &["network", "rm", "given"], "in use");
    cluster.operate("n1", &["service", "rm", "web"]).unwrap();
    eventually(SOON, "the network can be removed", || {
        cluster.operate("n1", &["network", "rm", "given"]).map(drop)
    })
    .unwrap();
}

#[test]
fn an_internal_network_has_no_way_out_and_its_tasks_meet() {
    let cluster = formed(2, 1);
    cluster
        .operate(
            "n1",
            &["network", "create", "--driver", "overlay", "--internal", "inside"],
        )
        .unwrap();
    let server = Server::of(&cluster);
    server.create(
        &cluster,
        "n1",
        "web",
        &["--mode", "global", "--network", "inside"],
    );
    let placed = cluster.wait_running("n1", "web", 2).unwrap();
    eventually(SOON, "the other task answers", || {
        cluster
            .curl(&placed[0].name, &format!("http://{}/", placed[1].addresses[0]))
            .map(drop)
    })
    .unwrap();
    let world = format!("http://{}/", essaim_lab::WORLD_V4);
    let ran = cluster
        .exec(&placed[0].name, &["curl", "-sS", "--max-time", "2", &world])
        .unwrap();
    assert!(!ran.status.success(), "{ran:?}");
}
