//! Rows 11 to 13 and 48 to 51: nodes, their roles, and what befalls them.

use crate::stage::*;
use essaim_lab::eventually;
use std::time::{Duration, Instant};

#[test]
fn nodes_are_listed_labelled_drained_promoted_and_lost() {
    let docker = formed(1);
    // Row 11.
    let id = docker.ok("n1", "docker node inspect -f '{{.ID}}' self");
    docker.says("n1", "docker info -f '{{.Swarm.NodeID}}'", &id);
    docker.says("n1", &format!("docker node ls -q --filter id={id}"), &id);
    assert_eq!(
        docker.lines(
            "n1",
            "docker node ls --filter role=worker --format '{{.Hostname}}'"
        ),
        ["n2", "n3"]
    );
    let pretty = docker.ok("n1", "docker node inspect --pretty n2");
    for expected in [
        "Hostname:",
        "State:",
        "Availability:",
        "Operating System:",
        "CPUs:",
        "TLS Info:",
    ] {
        assert!(pretty.contains(expected), "{expected}: {pretty}");
    }
    docker.says(
        "n1",
        "docker node update --label-add disk=ssd --label-add rack=a n2",
        "n2",
    );
    docker.says(
        "n1",
        "docker node ls --filter node.label=disk=ssd --format '{{.Hostname}}'",
        "n2",
    );
    docker.sleep("fast", "--replicas 2 --constraint node.labels.disk==ssd");
    assert_eq!(nodes_of(&docker.runs("fast", 2)), ["n2", "n2"]);
    let columns = [
        "ID",
        "NAME",
        "IMAGE",
        "NODE",
        "DESIRED STATE",
        "CURRENT STATE",
        "ERROR",
        "PORTS",
    ];
    let tasks = docker.table("n1", "docker node ps n2", &columns);
    assert_eq!(tasks.len(), 2, "{tasks:?}");
    for (row, name) in tasks.iter().zip(["fast.1", "fast.2"]) {
        assert_eq!(
            [&*row[1], &*row[2], &*row[3], &*row[4]],
            [name, "host:latest", "n2", "Running"]
        );
        assert!(row[5].starts_with("Running "), "{row:?}");
    }
    assert!(docker.table("n1", "docker node ps", &columns).is_empty());
    // A label that goes takes the tasks with it.
    docker.says("n1", "docker node update --label-rm disk n2", "n2");
    docker.wait(
        "n1",
        "docker service ps fast --filter desired-state=running --format '{{.CurrentState}} {{.Error}}' --no-trunc",
        |found| found.lines().filter(|line| line.contains("no suitable node")).count() == 2,
    );
    docker.says("n1", "docker service rm fast", "fast");
    docker.refused("n1", "docker node update --label-add a=b nobody", "nobody");

    // Row 13.
    docker.sleep("idle", "--replicas 6");
    docker.runs("idle", 6);
    docker.says("n1", "docker node update --availability pause n3", "n3");
    docker.says("n1", "docker node update --availability drain n2", "n2");
    let placed = eventually(SOON, "all tasks have left n2", || {
        let placed = docker.running("n1", "idle")?;
        anyhow::ensure!(
            placed.len() == 6 && !nodes_of(&placed).contains(&"n2"),
            "{placed:?}"
        );
        Ok(placed)
    })
    .unwrap();
    let on_n3 =
        |placed: &[essaim_lab::PlacedTask]| nodes_of(placed).iter().filter(|node| **node == "n3").count();
    docker.ok("n1", "docker service scale --detach idle=8");
    assert_eq!(on_n3(&docker.runs("idle", 8)), on_n3(&placed));
    for node in ["n2", "n3"] {
        docker.says(
            "n1",
            &format!("docker node update --availability active {node}"),
            node,
        );
    }
    docker.says("n1", "docker service rm idle", "idle");

    // Row 12.
    docker.refused(
        "n1",
        "docker node demote n1",
        "attempting to demote the last manager of the swarm",
    );
    docker.says(
        "n1",
        "docker node promote n2",
        "Node n2 promoted to a manager in the swarm.",
    );
    let id = docker.ok("n1", "docker node inspect -f '{{.ID}}' n2");
    docker.says(
        "n1",
        &format!("docker node promote n2 | sed s/{id}/n2/"),
        "Node n2 is already a manager.",
    );
    docker.wait(
        "n1",
        "docker node ls --filter name=n2 --format '{{.ManagerStatus}}'",
        |found| found == "Reachable",
    );
    docker.refused(
        "n1",
        "docker node rm --force n2",
        "It must be demoted to worker before removal",
    );
    docker.says(
        "n1",
        "docker node promote n3",
        "Node n3 promoted to a manager in the swarm.",
    );
    docker.wait(
        "n1",
        "docker node ls --filter name=n3 --format '{{.ManagerStatus}}'",
        |found| found == "Reachable",
    );
    docker.wait("n3", "docker info -f '{{.Swarm.ControlAvailable}}'", |found| {
        found == "true"
    });
    docker.refused(
        "n1",
        "docker node rm n3",
        "It must be demoted to worker before removal",
    );

    // Row 48: the leader dies; tasks do not, and the others take orders.
    docker.serve("web", "--replicas 3 --publish 8080:80");
    docker.runs("web", 3);
    docker.answers("n2", 8080);
    let leader = docker.leader().unwrap();
    let other = if leader == "n1" { "n2" } else { "n1" };
    docker.kill_agent(&leader).unwrap();
    let begun = Instant::now();
    docker.wait(other, "docker service scale --detach web=4", |found| {
        found == "web scaled to 4"
    });
    let taken = begun.elapsed();
    println!("the control plane writes again {taken:.1?} after its leader died");
    assert!(taken < Duration::from_secs(15), "{taken:?}");
    // Its node goes on serving.
    docker.fetch(&leader, 8080).unwrap();
    // Row 50.
    let before = docker.wait_running(other, "web", 4).unwrap();
    docker.spawn_node(&leader).unwrap();
    docker.wait_ready(3);
    assert_eq!(docker.runs("web", 4), before, "tasks were touched");
    for node in ["n1", "n2", "n3"] {
        eventually(SOON, &format!("kernel and maps of {node} are as asked"), || {
            docker.essaim(node, &["verify"])?.ok().map(drop)
        })
        .unwrap();
    }

    // Row 12 again, back to one; row 51: what a node has can be looked at.
    docker.says("n1", "docker node demote n3", "Manager n3 demoted in the swarm.");
    docker.wait("n3", "docker info -f '{{.Swarm.ControlAvailable}}'", |found| {
        found == "false"
    });
    let status = docker.essaim("n1", &["status"]).unwrap().ok().unwrap();
    assert!(status.contains("web"), "{status}");

    // Row 49.
    docker.power_off("n3").unwrap();
    docker.wait(
        "n1",
        "docker node ls --filter name=n3 --format '{{.Status}}'",
        |found| found == "Down",
    );
    eventually(SOON, "all tasks run elsewhere", || {
        let placed = docker.running("n1", "web")?;
        anyhow::ensure!(
            placed.len() == 4 && !nodes_of(&placed).contains(&"n3"),
            "{placed:?}"
        );
        Ok(())
    })
    .unwrap();
    docker.answers("n1", 8080);
    docker.says("n1", "docker node rm n3", "n3");
    docker.refused("n1", "docker node ps n3", "n3");
    docker.refused("n1", "docker node rm nobody", "nobody");
}
