//! Containers of podman, with the configuration that the README gives.

use crate::stage::*;
use essaim_lab::{Cluster, Podman, eventually};
use serde_json::Value;
use std::path::Path;

/// The README's, for a node's daemon.
fn conflist(cluster: &Cluster, node: &str) -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let (_, rest) = readme
        .split_once("/etc/cni/net.d/app.conflist`:\n\n```json\n")
        .unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let mut conflist: Value = serde_json::from_str(text).unwrap();
    let socket = cluster.state_dir(node).join("cni.sock");
    conflist["plugins"][0]["socket"] = socket.display().to_string().into();
    conflist.to_string()
}

/// A container asks for a page until it gets this one.
fn fetches(podman: &Podman<'_>, url: &str, expected: &str) {
    eventually(SOON, &format!("{url} is reached"), || {
        let page = podman.container(&["--rm"], &format!("wget -q -O - {url}"))?;
        anyhow::ensure!(page.trim() == expected, "{page}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn podmans_containers_are_on_a_network_by_the_configuration_of_the_readme() {
    let cluster = formed(2, 1);
    let line = ["network", "create", "--driver", "overlay", "--attachable", "app"];
    cluster.operate("n1", &line).unwrap();
    Server::of(&cluster).create(&cluster, "n1", "web", &["--replicas", "2", "--network", "app"]);
    cluster.wait_running("n1", "web", 2).unwrap();
    let [here, there] = ["n1", "n2"].map(|node| cluster.podman(node, &conflist(&cluster, node)).unwrap());

    // A name is answered at a container's first instruction.
    for podman in [&here, &there] {
        let page = podman.container(&["--rm"], "wget -q -O - http://web/").unwrap();
        assert!(page.contains("Name: web."), "{page}");
    }
    // It is known by its own name on the other node, and reaches the world by this one.
    let serve = "mkdir -p /www && echo here > /www/index.html && exec httpd -f -h /www";
    here.container(&["--detach", "--name", "box"], serve).unwrap();
    fetches(&there, "http://box/", "here");
    let client = cluster.address("c1", essaim_lab::Family::V4).unwrap().to_string();
    let ping = ["exec", "box", "ping", "-c", "1", "-W", "3", client.as_str()];
    here.run(&ping).unwrap();
    // Started anew it is there again, removed it is gone.
    here.run(&["restart", "--time", "0", "box"]).unwrap();
    fetches(&there, "http://box/", "here");
    here.run(&["rm", "--force", "--time", "0", "box"]).unwrap();
    cluster.operate("n1", &["service", "rm", "web"]).unwrap();
    eventually(SOON, "the network is free", || {
        cluster.operate("n1", &["network", "rm", "app"]).map(drop)
    })
    .unwrap();
    for node in ["n1", "n2"] {
        cluster.essaim(node, &["verify"]).unwrap().ok().unwrap();
    }
}
