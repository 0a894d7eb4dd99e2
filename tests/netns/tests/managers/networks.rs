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

/// Whether this kernel has ESP with AES-GCM, asked without essaim.
fn has_esp(cluster: &essaim_lab::Cluster) -> bool {
    let name = "src 192.0.2.1 dst 192.0.2.2 proto esp spi 7";
    let key = format!("0x{}", "5a".repeat(36));
    let rest = format!("mode transport aead rfc4106(gcm(aes)) {key} 128");
    let xfrm = |verb: &str, rest: &str| {
        let line = format!("ip xfrm state {verb} {name} {rest}");
        let line: Vec<&str> = line.split_whitespace().collect();
        cluster.exec("c1", &line).unwrap().status.success()
    };
    xfrm("add", &rest) && xfrm("delete", "")
}

/// A kernel without ESP refuses an encrypted network's tasks, by that reason; with it they run (how they are encrypted is
/// seen by the suite `encrypted`).
#[test]
fn an_encrypted_network_is_refused_without_esp_and_others_work() {
    const WHY: &str = "this kernel has no ESP";
    let cluster = formed(2, 1);
    for options in [&["--opt", "encrypted", "secret"][..], &["plain"]] {
        let line = [&["network", "create", "--driver", "overlay"][..], options].concat();
        cluster.operate("n1", &line).unwrap();
    }
    let server = Server::of(&cluster);
    let global = |name: &str, network: &str| {
        server.create(&cluster, "n1", name, &["--mode", "global", "--network", network]);
    };
    global("hidden", "secret");
    global("web", "plain");
    if has_esp(&cluster) {
        cluster.wait_running("n1", "hidden", 2).unwrap();
    } else {
        for node in ["n1", "n2"] {
            let id = text(&node_of(&cluster, "n1", node).unwrap(), "/ID").to_owned();
            let filters = format!("/tasks?filters={{\"service\":[\"hidden\"],\"node\":[\"{id}\"]}}");
            eventually(SOON, &format!("{node} rejects its task of hidden"), || {
                let tasks = list(&cluster, "n1", &filters);
                let rejected = tasks
                    .iter()
                    .find(|task| text(task, "/Status/State") == "rejected");
                let rejected = rejected.ok_or_else(|| anyhow::anyhow!("its tasks are {tasks:?}"))?;
                let why = text(rejected, "/Status/Err");
                let named = why.starts_with("network secret is encrypted: ") && why.contains(WHY);
                anyhow::ensure!(named, "the reason is {why:?}");
                Ok(())
            })
            .unwrap();
            eventually(SOON, &format!("{node} says so itself"), || {
                let status = cluster.essaim(node, &["status"])?.ok()?;
                anyhow::ensure!(status.contains(WHY), "{status}");
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(cluster.running("n1", "hidden").unwrap(), []);
    }
    let placed = cluster.wait_running("n1", "web", 2).unwrap();
    for (from, to) in [(0, 1), (1, 0)] {
        let url = format!("http://{}/", placed[to].addresses[0]);
        eventually(SOON, "the other node's task answers", || {
            cluster.curl(&placed[from].name, &url).map(drop)
        })
        .unwrap();
    }
}
