//! What is changed of services that run: their published ports and their networks.

use crate::services::edge;
use crate::stage::*;
use essaim_lab::peer::LoadReport;
use essaim_lab::{Cluster, Family, eventually};
use std::time::{Duration, Instant};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// What answers at a port of a node: the server's echo greets with its name.
fn greeted(cluster: &Cluster, node: &str, port: u16) -> anyhow::Result<String> {
    let address = cluster.address(node, Family::V4)?;
    let line = format!("echo | timeout 2 busybox nc {address} {port}");
    cluster.exec("c1", &["sh", "-c", &line])?.ok()
}

#[test]
fn ports_come_and_go_while_others_are_used() {
    let cluster = formed(3, 1);
    let load = under_load(&cluster, "n1", "n2");
    let begun = Instant::now();
    cluster
        .operate(
            "n1",
            &["service", "update", "--detach", "--publish-add", "8081:7", "web"],
        )
        .unwrap();
    for node in NODES {
        eventually(SOON, &format!("port 8081 of {node} answers"), || {
            let greeting = greeted(&cluster, node, 8081)?;
            anyhow::ensure!(greeting.starts_with("web."), "{greeting:?}");
            Ok(())
        })
        .unwrap();
    }
    println!(
        "a port that is added answers on three nodes after {:.0?}",
        begun.elapsed()
    );
    cluster
        .operate(
            "n1",
            &["service", "update", "--detach", "--publish-rm", "7", "web"],
        )
        .unwrap();
    for node in NODES {
        eventually(SOON, &format!("port 8081 of {node} is closed"), || {
            let asked = Instant::now();
            let greeting = greeted(&cluster, node, 8081);
            anyhow::ensure!(greeting.is_err(), "{greeting:?}");
            anyhow::ensure!(
                asked.elapsed() < Duration::from_secs(1),
                "it is silent, not closed"
            );
            Ok(())
        })
        .unwrap();
    }
    let report: LoadReport = load.stop().unwrap().json().unwrap();
    println!("{} requests meanwhile, {} failed", report.ok, report.failed);
    assert!(report.ok > 0, "{report:?}");
    assert_eq!(report.failed, 0, "{:?}", report.failures);
}

#[test]
fn a_port_that_is_left_to_the_managers_stays_the_services_own() {
    let cluster = formed(1, 1);
    Server::of(&cluster).create(&cluster, "n1", "web", &["--publish", "80"]);
    cluster.wait_running("n1", "web", 1).unwrap();
    let published = || {
        let service = cluster.api("n1", "/services/web").unwrap();
        let port = service.pointer("/Endpoint/Ports/0/PublishedPort");
        port.and_then(serde_json::Value::as_u64).unwrap()
    };
    let port = published();
    assert!((30_000..=32_767).contains(&port), "{port}");
    let update = ["service", "update", "--detach", "--env-add", "V=2", "web"];
    cluster.operate("n1", &update).unwrap();
    let url = format!("http://{}:{port}/", cluster.address("n1", Family::V4).unwrap());
    eventually(SOON, "the port answers", || cluster.curl("c1", &url).map(drop)).unwrap();
    assert_eq!(published(), port);
}

#[test]
fn a_service_without_networks_can_be_published_later() {
    let cluster = formed(2, 1);
    Server::of(&cluster).create(&cluster, "n1", "web", &["--replicas", "2"]);
    cluster.wait_running("n1", "web", 2).unwrap();
    let update = ["service", "update", "--detach", "--publish-add", "8080:80", "web"];
    cluster.operate("n1", &update).unwrap();
    for node in ["n1", "n2"] {
        eventually(SOON, &format!("web answers through {node}"), || {
            cluster.curl("c1", &edge(&cluster, node)).map(drop)
        })
        .unwrap();
    }
    for node in ["n1", "n2"] {
        cluster.essaim(node, &["verify"]).unwrap().ok().unwrap();
    }
}

#[test]
fn tasks_follow_their_service_from_one_network_to_another() {
    let cluster = formed(2, 1);
    for network in ["old", "new"] {
        cluster
            .operate("n1", &["network", "create", "--driver", "overlay", network])
            .unwrap();
    }
    create_service(
        &cluster,
        "n1",
        "asker",
        &["--network", "new", "--constraint", "node.hostname==n2"],
        &["sleep", "1000"],
    );
    let asker = cluster.wait_running("n1", "asker", 1).unwrap().remove(0);
    Server::of(&cluster).create(
        &cluster,
        "n1",
        "web",
        &["--replicas", "2", "--network", "old", "--update-delay", "0s"],
    );
    let before = cluster.wait_running("n1", "web", 2).unwrap();
    let vips = || {
        let service = cluster.api("n1", "/services/web").unwrap();
        let vips = service
            .pointer("/Endpoint/VirtualIPs")
            .and_then(|vips| vips.as_array());
        vips.map_or(0, Vec::len)
    };
    assert_eq!(vips(), 1);
    let rolled = |from: &[essaim_lab::PlacedTask], options: &[&str]| {
        let line = [&["service", "update", "--detach"][..], options, &["web"]].concat();
        cluster.operate("n1", &line).unwrap();
        eventually(SOON, "both tasks are new ones", || {
            let tasks = cluster.running("n1", "web")?;
            anyhow::ensure!(
                tasks.len() == 2 && tasks.iter().all(|task| !from.contains(task)),
                "{tasks:?}"
            );
            Ok(tasks)
        })
        .unwrap()
    };
    let lookup = ["getent", "hosts", "web"];
    assert!(!cluster.exec(&asker.name, &lookup).unwrap().status.success());
    let both = rolled(&before, &["--network-add", "new"]);
    assert_eq!(vips(), 2);
    eventually(SOON, "web is known and answers on the new network", || {
        cluster.exec(&asker.name, &lookup)?.ok()?;
        cluster.curl(&asker.name, "http://web/").map(drop)
    })
    .unwrap();
    let after = rolled(&both, &["--network-rm", "old"]);
    assert_eq!(vips(), 1);
    assert!(after.iter().all(|task| task.addresses.len() == 1), "{after:?}");
    eventually(SOON, "web answers still", || {
        cluster.curl(&asker.name, "http://web/").map(drop)
    })
    .unwrap();
    eventually(SOON, "nothing is left on the old network", || {
        cluster.operate("n1", &["network", "rm", "old"]).map(drop)
    })
    .unwrap();
    for node in ["n1", "n2"] {
        eventually(SOON, &format!("kernel and maps of {node} are as asked"), || {
            cluster.essaim(node, &["verify"])?.ok().map(drop)
        })
        .unwrap();
    }
}
