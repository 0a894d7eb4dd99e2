//! Who belongs to the cluster, and in which role.

use crate::stage::*;
use essaim_lab::{Family, eventually};

#[test]
fn one_command_makes_a_cluster_and_nodes_join_it_within_seconds() {
    let cluster = empty(3);
    cluster.form(1).unwrap();
    let swarm = cluster.api("n1", "/swarm").unwrap();
    for role in ["Worker", "Manager"] {
        assert!(
            text(&swarm, &format!("/JoinTokens/{role}")).starts_with("SWMTKN-1-"),
            "{swarm}"
        );
    }
    let networks = list(&cluster, "n1", "/networks");
    let ingress = networks
        .iter()
        .find(|network| text(network, "/Name") == "ingress")
        .unwrap();
    assert_eq!(text(ingress, "/IPAM/Config/0/Subnet"), "10.0.0.0/24");
    assert_eq!(sleepers(&cluster, "n1", "idle", 3).len(), 3);
    refused(
        &cluster,
        "n2",
        &["service", "ls"],
        "This node is not a swarm manager",
    );
    refused(&cluster, "n1", &["swarm", "init"], "already part of a swarm");
}

#[test]
fn who_has_no_valid_token_does_not_join() {
    let cluster = formed(2, 1);
    let outsider = cluster;
    outsider.operate("n2", &["swarm", "leave"]).unwrap();
    wait_state(&outsider, "n2", "inactive");
    let remote = format!("{}:2377", outsider.address("n1", Family::V4).unwrap());
    let join = |token: &str, words: &str| {
        refused(
            &outsider,
            "n2",
            &["swarm", "join", "--token", token, &remote],
            words,
        );
        wait_state(&outsider, "n2", "inactive");
    };
    join("nonsense", "invalid join token");
    let token = outsider
        .operate("n1", &["swarm", "join-token", "-q", "worker"])
        .unwrap();
    let token = token.trim();
    // The secret is wrong; then the digest of the root.
    let (head, secret) = token.rsplit_once('-').unwrap();
    let turned: String = secret.chars().rev().collect();
    join(&format!("{head}-{turned}"), "");
    let (version, rest) = token.split_at("SWMTKN-1-".len());
    let (digest, secret) = rest.split_once('-').unwrap();
    let turned: String = digest.chars().rev().collect();
    join(&format!("{version}{turned}-{secret}"), "");
    // An old token is refused once it was replaced; the new one lets in.
    outsider
        .operate("n1", &["swarm", "join-token", "--rotate", "-q", "worker"])
        .unwrap();
    join(token, "");
    outsider.join("n2", "n1", "worker").unwrap();
    wait_state(&outsider, "n2", "active");
}

#[test]
fn managers_come_and_go_and_the_quorum_stays() {
    let cluster = formed(3, 1);
    for node in ["n2", "n3"] {
        cluster.operate("n1", &["node", "promote", node]).unwrap();
        wait_manager(&cluster, node, true);
        wait_node(&cluster, "n1", node, "/ManagerStatus/Reachability", "reachable");
    }
    sleepers(&cluster, "n3", "idle", 3);
    // The leader steps down for another.
    let leader = cluster.leader().unwrap();
    let other = if leader == "n1" { "n2" } else { "n1" };
    cluster.operate(other, &["node", "demote", &leader]).unwrap();
    wait_manager(&cluster, &leader, false);
    eventually(SOON, "another manager leads", || {
        anyhow::ensure!(cluster.leader()? != leader);
        Ok(())
    })
    .unwrap();
    wait_node(&cluster, other, &leader, "/Spec/Role", "worker");
    // Down to one.
    let last = cluster.leader().unwrap();
    let second = ["n1", "n2", "n3"]
        .into_iter()
        .find(|node| *node != leader && *node != last)
        .unwrap();
    cluster.operate(&last, &["node", "demote", second]).unwrap();
    wait_manager(&cluster, second, false);
    refused(
        &cluster,
        &last,
        &["node", "demote", &last],
        "attempting to demote the last manager of the swarm",
    );
    refused(&cluster, &last, &["swarm", "leave"], "Use `--force`");
    // And up again; no task was touched by any of it.
    cluster.operate(&last, &["node", "promote", second]).unwrap();
    wait_manager(&cluster, second, true);
    assert_eq!(cluster.wait_running(&last, "idle", 3).unwrap().len(), 3);
    let restarted = list(&cluster, &last, "/tasks?filters={\"service\":[\"idle\"]}");
    assert_eq!(restarted.len(), 3, "tasks were replaced: {restarted:?}");
}

#[test]
fn a_demotion_that_would_lose_the_quorum_is_refused() {
    let cluster = formed(3, 3);
    let leader = cluster.leader().unwrap();
    let others: Vec<&str> = ["n1", "n2", "n3"]
        .into_iter()
        .filter(|node| *node != leader)
        .collect();
    cluster.stop_agent(others[0]).unwrap();
    wait_node(
        &cluster,
        &leader,
        others[0],
        "/ManagerStatus/Reachability",
        "unreachable",
    );
    refused(
        &cluster,
        &leader,
        &["node", "demote", others[1]],
        "loss of quorum",
    );
    // The one that is down may go: it helps nobody.
    cluster.operate(&leader, &["node", "demote", others[0]]).unwrap();
    wait_node(&cluster, &leader, others[0], "/Spec/Role", "worker");
    cluster.spawn_node(others[0]).unwrap();
    wait_manager(&cluster, others[0], false);
    wait_node(&cluster, &leader, others[0], "/Status/State", "ready");
}

#[test]
fn a_node_that_leaves_is_down_its_tasks_move_and_it_can_be_removed() {
    let cluster = formed(3, 1);
    let placed = sleepers(&cluster, "n1", "idle", 3);
    assert!(nodes_of(&placed).contains(&"n3"), "{placed:?}");
    refused(
        &cluster,
        "n1",
        &["node", "rm", "n3"],
        "is not down and can't be removed",
    );
    cluster.operate("n3", &["swarm", "leave"]).unwrap();
    cluster.left("n3").unwrap();
    wait_node(&cluster, "n1", "n3", "/Status/State", "down");
    let moved = cluster.wait_running("n1", "idle", 3).unwrap();
    assert!(!nodes_of(&moved).contains(&"n3"), "{moved:?}");
    cluster.operate("n1", &["node", "rm", "n3"]).unwrap();
    assert!(node_of(&cluster, "n1", "n3").is_err());
    // It may come back as another.
    cluster.join("n3", "n1", "worker").unwrap();
    wait_node(&cluster, "n1", "n3", "/Status/State", "ready");
}

#[test]
fn a_removed_node_is_shut_out_and_comes_back_only_with_a_token() {
    let cluster = formed(2, 1);
    cluster.operate("n1", &["node", "rm", "--force", "n2"]).unwrap();
    eventually(SOON, "n2 knows that it is out", || {
        let info = cluster.api("n2", "/info")?;
        let state = text(&info, "/Swarm/LocalNodeState").to_owned();
        anyhow::ensure!(state != "active", "it is {state}");
        Ok(())
    })
    .unwrap();
    cluster.restart_node("n2").unwrap();
    assert!(node_of(&cluster, "n1", "n2").is_err());
    let left = cluster.try_operate("n2", &["swarm", "leave", "--force"]).unwrap();
    assert!(
        left.status.success() || left.stderr.contains("not part of a swarm"),
        "{left:?}"
    );
    cluster.join("n2", "n1", "worker").unwrap();
    wait_node(&cluster, "n1", "n2", "/Status/State", "ready");
}

#[test]
fn a_drained_node_gives_up_its_tasks_and_a_paused_one_gets_none() {
    let cluster = formed(3, 1);
    sleepers(&cluster, "n1", "idle", 6);
    cluster
        .operate("n1", &["node", "update", "--availability", "drain", "n2"])
        .unwrap();
    cluster
        .operate("n1", &["node", "update", "--availability", "pause", "n3"])
        .unwrap();
    eventually(SOON, "n2 has no task", || {
        let placed = cluster.running("n1", "idle")?;
        anyhow::ensure!(
            placed.len() == 6 && !nodes_of(&placed).contains(&"n2"),
            "{placed:?}"
        );
        Ok(())
    })
    .unwrap();
    let before = cluster.running("n1", "idle").unwrap();
    let on = |placed: &[essaim_lab::PlacedTask], node: &str| {
        nodes_of(placed).into_iter().filter(|at| *at == node).count()
    };
    cluster
        .operate("n1", &["service", "scale", "--detach", "idle=9"])
        .unwrap();
    let after = cluster.wait_running("n1", "idle", 9).unwrap();
    assert_eq!(on(&after, "n3"), on(&before, "n3"));
    assert_eq!((on(&after, "n2"), on(&after, "n1")), (0, on(&before, "n1") + 3));
}
