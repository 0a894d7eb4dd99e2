//! What the scenarios share.

use essaim_lab::{Cluster, ClusterBuilder, Family, PlacedTask, Running, eventually};
use serde_json::Value;
use std::time::Duration;

/// How long the managers may take to do what they were asked.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A lab of daemons in no cluster.
pub(crate) fn empty(nodes: u8) -> Cluster {
    let cluster = ClusterBuilder::new().nodes(nodes).build().unwrap();
    cluster.spawn_nodes().unwrap();
    cluster
}

/// A cluster of so many nodes, the first of them managers.
pub(crate) fn formed(nodes: u8, managers: usize) -> Cluster {
    let cluster = empty(nodes);
    cluster.form(managers).unwrap();
    cluster
}

/// A member of what the API says, as text.
pub(crate) fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// A list of what the API says.
pub(crate) fn list(cluster: &Cluster, node: &str, path: &str) -> Vec<Value> {
    let found = cluster.api(node, path).unwrap();
    found.as_array().cloned().unwrap_or_default()
}

/// A node's object, by its name in the lab.
pub(crate) fn node_of(cluster: &Cluster, manager: &str, node: &str) -> anyhow::Result<Value> {
    let nodes = cluster.api(manager, "/nodes")?;
    let nodes = nodes.as_array().cloned().unwrap_or_default();
    let found = nodes
        .into_iter()
        .find(|found| text(found, "/Description/Hostname") == node);
    found.ok_or_else(|| anyhow::anyhow!("{manager} knows no node {node}"))
}

/// Waits until a member of a node's object is this.
pub(crate) fn wait_node(cluster: &Cluster, manager: &str, node: &str, path: &str, expected: &str) {
    eventually(SOON, &format!("{path} of {node} is {expected:?}"), || {
        let found = node_of(cluster, manager, node)?;
        anyhow::ensure!(text(&found, path) == expected, "it is {:?}", text(&found, path));
        Ok(())
    })
    .unwrap();
}

/// Waits until a node says of itself that it is in this state.
pub(crate) fn wait_state(cluster: &Cluster, node: &str, expected: &str) {
    eventually(SOON, &format!("{node} is {expected}"), || {
        let info = cluster.api(node, "/info")?;
        let found = text(&info, "/Swarm/LocalNodeState");
        anyhow::ensure!(found == expected, "it is {found:?}");
        Ok(())
    })
    .unwrap();
}

/// Waits until a node says whether it is a manager.
pub(crate) fn wait_manager(cluster: &Cluster, node: &str, expected: bool) {
    eventually(SOON, &format!("{node} is a manager: {expected}"), || {
        let info = cluster.api(node, "/info")?;
        let found = info.pointer("/Swarm/ControlAvailable").and_then(Value::as_bool);
        anyhow::ensure!(found == Some(expected), "it says {found:?}");
        Ok(())
    })
    .unwrap();
}

/// Waits until the cluster can be changed at a node.
pub(crate) fn wait_writable(cluster: &Cluster, node: &str) {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    eventually(SOON, &format!("the cluster can be changed at {node}"), || {
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("probe{number}");
        cluster.operate(node, &["network", "create", "--driver", "overlay", &name])?;
        cluster.operate(node, &["network", "rm", &name]).map(drop)
    })
    .unwrap();
}

/// The arguments of a service of the lab's server, without its name and options.
pub(crate) struct Server(String);

impl Server {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self(cluster.binary("essaim-peer").display().to_string())
    }

    /// Makes a service of it with these options.
    pub(crate) fn create(&self, cluster: &Cluster, manager: &str, name: &str, options: &[&str]) {
        let mut line = vec![
            "service",
            "create",
            "--detach",
            "--name",
            name,
            "--hostname",
            "{{.Service.Name}}.{{.Task.Slot}}",
            "--stop-grace-period",
            "5s",
        ];
        line.extend(options);
        line.extend(["host", &self.0, "whoami", "--udp", "7", "--tcp-echo", "7"]);
        cluster.operate(manager, &line).unwrap();
    }
}

/// Makes a service of a program of the host.
pub(crate) fn create_service(
    cluster: &Cluster,
    manager: &str,
    name: &str,
    options: &[&str],
    program: &[&str],
) {
    let line = [
        &["service", "create", "--detach", "--name", name][..],
        options,
        &["host"],
        program,
    ]
    .concat();
    cluster.operate(manager, &line).unwrap();
}

/// Makes a service that sleeps, waits until all its tasks run, and says where.
pub(crate) fn sleepers(cluster: &Cluster, manager: &str, name: &str, count: usize) -> Vec<PlacedTask> {
    let replicas = ["--replicas", &count.to_string()];
    create_service(cluster, manager, name, &replicas, &["sleep", "100000"]);
    cluster.wait_running(manager, name, count).unwrap()
}

/// The nodes of tasks.
pub(crate) fn nodes_of(tasks: &[PlacedTask]) -> Vec<&str> {
    tasks.iter().map(|task| task.node.as_str()).collect()
}

/// A command must be refused with these words.
#[track_caller]
pub(crate) fn refused(cluster: &Cluster, node: &str, line: &[&str], words: &str) {
    let ran = cluster.try_operate(node, line).unwrap();
    assert!(!ran.status.success(), "{line:?} was not refused: {}", ran.stdout);
    assert!(
        ran.stderr.contains(words),
        "{line:?} says {:?}, expected {words:?}",
        ran.stderr
    );
}

/// A published service and a client that asks it without a pause, through a node.
pub(crate) fn under_load(cluster: &Cluster, manager: &str, through: &str) -> Running {
    Server::of(cluster).create(
        cluster,
        manager,
        "web",
        &["--replicas", "3", "--publish", "8080:80"],
    );
    cluster.wait_running(manager, "web", 3).unwrap();
    let target = format!("http://{}:8080/", cluster.address(through, Family::V4).unwrap());
    eventually(SOON, "web answers", || cluster.curl("c1", &target).map(drop)).unwrap();
    cluster.start_load("c1", &target, 4, 5, 110).unwrap()
}
