//! Rows 1 to 10: the cluster itself.

use crate::stage::*;
use essaim_lab::eventually;
use std::time::Instant;

const NODE_COLUMNS: [&str; 6] = [
    "ID",
    "HOSTNAME",
    "STATUS",
    "AVAILABILITY",
    "MANAGER STATUS",
    "ENGINE VERSION",
];

#[test]
fn a_cluster_is_made_joined_and_left() {
    let docker = empty();
    let outside = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this \
                   node to swarm and try again.";
    for line in [
        "docker node ls",
        "docker service ls",
        "docker secret ls",
        "docker swarm join-token worker",
        "docker network create -d overlay app",
    ] {
        docker.refused("n1", line, outside);
    }
    docker.refused("n1", "docker swarm leave", "This node is not part of a swarm");
    docker.refused("n1", "docker swarm unlock", "This node is not part of a swarm");

    // Row 1.
    let address = docker.ip("n1");
    let init = format!("docker swarm init --advertise-addr {address} --listen-addr 0.0.0.0:2377");
    let shown = docker.ok("n1", &init);
    assert!(
        shown.starts_with("Swarm initialized: current node (") && shown.contains(") is now a manager."),
        "{shown}"
    );
    assert!(
        shown.ends_with(
            "To add a manager to this swarm, run 'docker swarm join-token manager' and follow the instructions."
        ),
        "{shown}"
    );
    let line = join_line(&shown);
    assert!(
        line.starts_with("docker swarm join --token SWMTKN-1-")
            && line.ends_with(&format!(" {address}:2377")),
        "{line}"
    );
    docker.refused("n1", &init, "This node is already part of a swarm.");
    let networks = docker.table(
        "n1",
        "docker network ls",
        &["NETWORK ID", "NAME", "DRIVER", "SCOPE"],
    );
    assert_eq!(networks.len(), 1, "{networks:?}");
    assert_eq!(networks[0][1..], ["ingress", "overlay", "swarm"]);
    docker.says(
        "n1",
        "docker network inspect -f '{{(index .IPAM.Config 0).Subnet}} {{.Ingress}}' ingress",
        "10.0.0.0/24 true",
    );

    // Row 4: the line that was shown, as it is; then what must not let anybody in.
    docker.says("n2", &line, "This node joined a swarm as a worker.");
    let begun = Instant::now();
    docker.wait(
        "n1",
        "docker node ls --format '{{.Hostname}} {{.Status}}'",
        |found| found.lines().any(|line| line == "n2 Ready"),
    );
    println!("a node that has joined is ready after {:.1?}", begun.elapsed());
    docker.refused(
        "n2",
        "docker node ls",
        "Worker nodes can't be used to view or modify cluster state.",
    );
    let token = docker.ok("n1", "docker swarm join-token -q worker");
    docker.refused(
        "n3",
        &format!("docker swarm join --token nonsense {address}:2377"),
        "invalid join token",
    );
    let (head, secret) = token.rsplit_once('-').unwrap();
    let turned: String = secret.chars().rev().collect();
    docker.refused(
        "n3",
        &format!("docker swarm join --token {head}-{turned} {address}:2377"),
        "token",
    );
    let (digest, secret) = token.trim_start_matches("SWMTKN-1-").split_once('-').unwrap();
    let turned: String = digest.chars().rev().collect();
    docker.refused(
        "n3",
        &format!("docker swarm join --token SWMTKN-1-{turned}-{secret} {address}:2377"),
        "",
    );

    // Row 5.
    let rotated = docker.ok("n1", "docker swarm join-token --rotate worker");
    assert!(
        rotated.starts_with("Successfully rotated worker join token."),
        "{rotated}"
    );
    assert!(!join_line(&rotated).contains(&token), "{rotated}");
    docker.refused(
        "n3",
        &format!("docker swarm join --token {token} {address}:2377"),
        "token",
    );
    docker.refused("n3", "docker node ls", outside);
    docker.wait_says("n1", "docker node inspect -f '{{.Status.State}}' n2", "ready");
    let own = docker.ip("n3");
    docker.join(
        "n3",
        "n1",
        "manager",
        &format!(
            "--availability drain --advertise-addr {own} --listen-addr {own}:2377 --data-path-addr {own}"
        ),
    );
    docker.wait_ready(3);
    docker.ok("n1", "docker swarm join-token --rotate -q manager");
    // A manager answers from its own copy of the store, which may be behind the leader's for a moment.
    docker.wait(
        "n3",
        "docker node ls --format '{{.Hostname}} {{.Status}} {{.ManagerStatus}}'",
        |found| {
            let mut lines: Vec<&str> = found.lines().map(str::trim_end).collect();
            lines.sort_unstable();
            lines == ["n1 Ready Leader", "n2 Ready", "n3 Ready Reachable"]
        },
    );
    let nodes = docker.table("n3", "docker node ls", &NODE_COLUMNS);
    let row = |name: &str| nodes.iter().find(|row| row[1] == name).unwrap()[2..5].join(",");
    assert_eq!(row("n1"), "Ready,Active,Leader");
    assert_eq!(row("n2"), "Ready,Active,");
    assert_eq!(row("n3"), "Ready,Drain,Reachable");
    assert_eq!(nodes.iter().filter(|row| row[0].ends_with('*')).count(), 1);

    // Row 6.
    docker.says("n2", "docker swarm leave", "Node left the swarm.");
    docker.left("n2").unwrap();
    docker.wait_says("n1", "docker node inspect -f '{{.Status.State}}' n2", "down");
    docker.says("n1", "docker node rm n2", "n2");
    docker.refused("n1", "docker node inspect n2", "n2");
    docker.refused(
        "n3",
        "docker swarm leave",
        "Use `--force` to suppress this message.",
    );
    docker.ok("n1", "docker node demote n3");
    docker.wait("n3", "docker info -f '{{.Swarm.ControlAvailable}}'", |found| {
        found == "false"
    });
    docker.says("n3", "docker swarm leave", "Node left the swarm.");
    docker.refused("n1", "docker swarm leave", "Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message.");
    docker.says("n1", "docker swarm leave --force", "Node left the swarm.");
    docker.left("n1").unwrap();
    docker.refused("n1", "docker node ls", outside);
}

#[test]
fn what_init_and_update_ask_for_is_shown_and_used() {
    let docker = empty();
    let address = docker.ip("n1");
    // Rows 2, 3 and 10.
    docker.ok(
        "n1",
        &format!(
            "docker swarm init --advertise-addr {address} --default-addr-pool 20.20.0.0/16 \
             --default-addr-pool-mask-length 24 --data-path-port 7777 --data-path-addr eth0 --snapshot-interval 5000 \
             --max-snapshots 2 --dispatcher-heartbeat 2s --task-history-limit 1 --cert-expiry 48h --availability active"
        ),
    );
    docker.join("n2", "n1", "worker", "--data-path-addr eth0");
    docker.join("n3", "n1", "worker", "");
    docker.wait_ready(3);
    let info = docker.ok("n1", "docker info");
    let lines: Vec<&str> = info.lines().map(str::trim).collect();
    for expected in [
        "Swarm: active",
        "Is Manager: true",
        "Managers: 1",
        "Nodes: 3",
        "Default Address Pool: 20.20.0.0/16",
        "SubnetSize: 24",
        "Data Path Port: 7777",
        "Task History Retention Limit: 1",
        "Snapshot Interval: 5000",
        "Number of Old Snapshots to Retain: 2",
        "Heartbeat Period: 2 seconds",
        "Expiry Duration: 2 days",
        "Autolock Managers: false",
    ] {
        assert!(lines.contains(&expected), "{expected}: {info}");
    }
    docker.ok("n1", "docker network create -d overlay app");
    let subnet = |name: &str| {
        docker.ok(
            "n1",
            &format!("docker network inspect -f '{{{{(index .IPAM.Config 0).Subnet}}}}' {name}"),
        )
    };
    assert_eq!(
        [subnet("ingress"), subnet("app")],
        ["20.20.0.0/24", "20.20.1.0/24"]
    );
    docker.serve("web", "--mode global --network app");
    let tasks = docker.runs("web", 3);
    for node in ["n1", "n2", "n3"] {
        let shown = docker.exec(node, &["ip", "-d", "link", "show", "type", "vxlan"]);
        let shown = shown.unwrap().ok().unwrap();
        assert!(shown.contains("dstport 7777"), "{node}: {shown}");
    }
    eventually(SOON, "a task answers another through port 7777", || {
        docker.curl(&tasks[0].name, &format!("http://{}/", tasks[1].addresses[0]))
    })
    .unwrap();

    // Row 10: of each slot so many tasks are kept, with the one that runs.
    docker.ok(
        "n1",
        "docker service create --detach --name ends --restart-delay 1s host true",
    );
    let kept = "docker service ps ends -q --no-trunc";
    let first = docker.wait("n1", kept, |found| found.lines().count() == 1);
    docker.wait("n1", kept, |found| found.lines().count() == 1 && found != first);
    docker.says(
        "n1",
        "docker swarm update --task-history-limit 4 --dispatcher-heartbeat 3s --snapshot-interval 6000 --max-snapshots 1 \
         --cert-expiry 2h",
        "Swarm updated.",
    );
    let info = docker.ok("n1", "docker info");
    for expected in [
        "Task History Retention Limit: 4",
        "Snapshot Interval: 6000",
        "Number of Old Snapshots to Retain: 1",
        "Heartbeat Period: 3 seconds",
        "Expiry Duration: 2 hours",
    ] {
        assert!(info.contains(expected), "{expected}: {info}");
    }
    docker.wait("n1", kept, |found| found.lines().count() == 4);
    docker.ok("n1", "docker service rm ends");

    // Row 7: the tasks do not notice.
    let root = docker.ok("n1", "docker swarm ca");
    assert!(root.starts_with("-----BEGIN CERTIFICATE-----"), "{root}");
    let rotated = docker.ok("n1", "docker swarm ca --rotate --cert-expiry 3h");
    assert!(
        rotated.contains("-----BEGIN CERTIFICATE-----") && !rotated.contains(&root),
        "{rotated}"
    );
    docker.wait("n1", "docker node ls --format '{{.TLSStatus}}'", |found| {
        found.lines().all(|line| line == "Ready")
    });
    assert!(
        docker
            .ok("n1", "docker info")
            .contains("Expiry Duration: 3 hours")
    );
    docker.refused(
        "n1",
        "docker swarm update --external-ca protocol=cfssl,url=http://ca.example",
        "CAConfig.ExternalCAs[0].URL is \"http://ca.example\", expected https://HOST",
    );
    assert_eq!(docker.runs("web", 3), tasks, "tasks were touched");

    // Row 8.
    let shown = docker.ok("n1", "docker swarm update --autolock");
    assert!(
        shown.starts_with("Swarm updated.") && shown.contains("`docker swarm unlock`"),
        "{shown}"
    );
    let old = docker.ok("n1", "docker swarm unlock-key -q");
    assert!(
        old.starts_with("SWMKEY-1-") && shown.contains(&old),
        "{old}: {shown}"
    );
    let rotated = docker.ok("n1", "docker swarm unlock-key --rotate");
    assert!(
        rotated.starts_with("Successfully rotated manager unlock key."),
        "{rotated}"
    );
    let key = docker.ok("n1", "docker swarm unlock-key -q");
    assert!(rotated.contains(&key) && key != old, "{key}");
    docker.restart_node("n1").unwrap();
    docker.wait_says("n1", "docker info -f '{{.Swarm.LocalNodeState}}'", "locked");
    docker.refused(
        "n1",
        "docker service ls",
        "Swarm is encrypted and needs to be unlocked before it can be used.",
    );
    docker.refused("n1", "docker swarm leave", "Swarm is encrypted and locked.");
    docker.refused(
        "n1",
        &format!("echo {old} | docker swarm unlock"),
        "swarm could not be unlocked: invalid key provided",
    );
    docker.ok("n1", &format!("echo {key} | docker swarm unlock"));
    docker.wait("n1", "docker node ls -q", |found| found.lines().count() == 3);
    docker.refused(
        "n1",
        &format!("echo {key} | docker swarm unlock"),
        "swarm is not locked",
    );
    docker.says("n1", "docker swarm update --autolock=false", "Swarm updated.");

    // Row 9.
    docker.ok("n1", "printf hunter2 | docker secret create word -");
    let shown = docker.ok(
        "n1",
        &format!("docker swarm init --force-new-cluster --advertise-addr {address}"),
    );
    assert!(shown.starts_with("Swarm initialized: current node ("), "{shown}");
    docker.wait_ready(3);
    docker.says(
        "n1",
        "docker service ls --format '{{.Name}} {{.Mode}}'",
        "web global",
    );
    docker.says("n1", "docker secret ls --format '{{.Name}}'", "word");
    assert_eq!(
        docker.lines("n1", "docker network ls --format '{{.Name}}'"),
        ["app", "ingress"]
    );
    assert_eq!(docker.runs("web", 3), tasks, "tasks were touched");
    docker.serve("after", "--network app");
    docker.runs("after", 1);
}
