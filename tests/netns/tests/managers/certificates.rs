//! Certificates, roots and keys of a cluster that works on.

use crate::stage::*;
use anyhow::Context as _;
use essaim_lab::{Cluster, eventually};
use std::time::{Duration, SystemTime};

#[test]
fn the_root_is_replaced_again_and_again_and_no_task_is_touched() {
    let cluster = formed(3, 2);
    let placed = sleepers(&cluster, "n1", "idle", 3);
    for _ in 0..2 {
        let before = cluster.api("n1", "/swarm").unwrap();
        let before = text(&before, "/TLSInfo/TrustRoot").to_owned();
        cluster
            .operate("n1", &["swarm", "ca", "--rotate", "--detach"])
            .unwrap();
        eventually(SOON, "every node has a certificate of the new root", || {
            let swarm = cluster.api("n1", "/swarm")?;
            let rotating = swarm.get("RootRotationInProgress") == Some(&true.into());
            let root = text(&swarm, "/TLSInfo/TrustRoot");
            anyhow::ensure!(!rotating && root != before, "in progress: {rotating}");
            for node in ["n1", "n2", "n3"] {
                let found = node_of(&cluster, "n1", node)?;
                anyhow::ensure!(
                    text(&found, "/Description/TLSInfo/TrustRoot") == root,
                    "{node} has another"
                );
            }
            Ok(())
        })
        .unwrap();
    }
    assert_eq!(cluster.wait_running("n1", "idle", 3).unwrap(), placed);
    // A new node trusts the new root, and one that restarts is let in.
    cluster.restart_node("n3").unwrap();
    wait_node(&cluster, "n1", "n3", "/Status/State", "ready");
}

#[test]
fn a_locked_manager_waits_for_its_key() {
    let cluster = formed(2, 1);
    let placed = sleepers(&cluster, "n1", "idle", 2);
    cluster
        .operate("n1", &["swarm", "update", "--autolock=true"])
        .unwrap();
    let key = cluster.operate("n1", &["swarm", "unlock-key", "-q"]).unwrap();
    let key = key.trim();
    assert!(key.starts_with("SWMKEY-1-"), "{key}");
    cluster.restart_node("n1").unwrap();
    wait_state(&cluster, "n1", "locked");
    refused(&cluster, "n1", &["service", "ls"], "needs to be unlocked");
    let wrong = cluster.operate_with(
        "n1",
        &["swarm", "unlock"],
        "SWMKEY-1-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
    );
    assert!(!wrong.unwrap().status.success());
    wait_state(&cluster, "n1", "locked");
    cluster
        .operate_with("n1", &["swarm", "unlock"], &format!("{key}\n"))
        .unwrap()
        .ok()
        .unwrap();
    wait_state(&cluster, "n1", "active");
    wait_writable(&cluster, "n1");
    assert_eq!(
        cluster.wait_running("n1", "idle", 2).unwrap(),
        placed,
        "tasks were touched"
    );
    // Without autolock no key is asked for.
    cluster
        .operate("n1", &["swarm", "update", "--autolock=false"])
        .unwrap();
    cluster.restart_node("n1").unwrap();
    wait_state(&cluster, "n1", "active");
    wait_writable(&cluster, "n1");
}

/// How long the certificate that a node has is still valid.
fn certificate_ends_in(cluster: &Cluster, node: &str) -> anyhow::Result<Duration> {
    let file = cluster.data_dir(node).join("node/certificates/node.crt");
    let chain = essaim_ca::Certificate::all_from_pem(&std::fs::read_to_string(&file)?)?;
    let certificate = chain.first().context("a node without a certificate")?;
    Ok(certificate.not_after().since(SystemTime::now().into()))
}

#[test]
fn certificates_live_as_long_as_the_cluster_says_from_the_next_one_on() {
    const HOUR: Duration = Duration::from_hours(1);
    // What is asked for, less what the machine takes.
    let lives = |left: Duration, asked: Duration| left <= asked && left + SOON * 4 > asked;
    let cluster = empty(3);
    let address = cluster.address("n1", essaim_lab::Family::V4).unwrap().to_string();
    cluster
        .operate("n1", &["swarm", "init", "--advertise-addr", &address])
        .unwrap();
    cluster.join("n2", "n1", "worker").unwrap();
    cluster.wait_nodes_ready("n1", 2).unwrap();
    let placed = sleepers(&cluster, "n1", "idle", 4);
    refused(
        &cluster,
        "n1",
        &["swarm", "update", "--cert-expiry", "59m"],
        "expected 1 hour or more",
    );
    cluster
        .operate("n1", &["swarm", "update", "--cert-expiry", "1h"])
        .unwrap();
    // Those that there are stay as they are; a node that joins gets a short one.
    cluster.join("n3", "n1", "manager").unwrap();
    let left = certificate_ends_in(&cluster, "n3").unwrap();
    assert!(lives(left, HOUR), "{left:?}");
    for node in ["n1", "n2"] {
        let left = certificate_ends_in(&cluster, node).unwrap();
        assert!(lives(left, 90 * 24 * HOUR), "{node}: {left:?}");
    }
    // With another root all have to renew, whatever they had.
    let rotate = ["swarm", "ca", "--rotate", "--cert-expiry", "2h", "--quiet"];
    cluster.operate("n1", &rotate).unwrap();
    for node in ["n1", "n2", "n3"] {
        let left = certificate_ends_in(&cluster, node).unwrap();
        assert!(lives(left, 2 * HOUR), "{node}: {left:?}");
    }
    assert_eq!(
        cluster.wait_running("n1", "idle", 4).unwrap(),
        placed,
        "tasks were touched"
    );
}
