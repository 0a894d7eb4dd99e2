//! The lab without agents: what it makes, and that it goes without a trace. Needs root.

use essaim_lab::peer::LoadReport;
use essaim_lab::{Cluster, ClusterBuilder, Family, Prefix, eventually};
use nix::sys::signal::Signal;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(10);

fn build() -> anyhow::Result<Cluster> {
    ClusterBuilder::new().nodes(2).clients(1).build()
}

#[test]
fn dropped_cluster_leaves_nothing() {
    let cluster = build().unwrap();
    let prefix = cluster.prefix().clone();
    cluster.add_task("n1", "web.1").unwrap();
    let sleeper = cluster.start("web.1", &["sleep", "1000"]).unwrap();
    assert!(
        prefix.left().unwrap().len() >= 8,
        "hub, 2 nodes, client, task, and 3 folders"
    );
    drop(cluster);
    assert_eq!(prefix.left().unwrap(), Vec::<String>::new());
    let ran = sleeper.finish().unwrap();
    assert_eq!(ran.status.code(), None, "the process was killed");
}

#[test]
fn panic_leaves_nothing() {
    let cluster = build().unwrap();
    let prefix = cluster.prefix().clone();
    let result = std::thread::spawn(move || {
        let _cluster = cluster;
        panic!("as a failed test does");
    })
    .join();
    assert!(result.is_err());
    assert_eq!(prefix.left().unwrap(), Vec::<String>::new());
}

#[test]
fn machines_reach_each_other_and_the_world_in_both_families() {
    let cluster = build().unwrap();
    for (from, to) in [("c1", "n1"), ("n1", "n2"), ("n2", "c1")] {
        for family in Family::BOTH {
            let address = cluster.address(to, family).unwrap().to_string();
            cluster
                .exec(from, &["ping", "-c1", "-W2", &address])
                .unwrap()
                .ok()
                .unwrap();
        }
    }
    for world in [essaim_lab::WORLD_V4.to_string(), essaim_lab::WORLD_V6.to_string()] {
        cluster
            .exec("n1", &["ping", "-c1", "-W2", &world])
            .unwrap()
            .ok()
            .unwrap();
    }
}

#[test]
fn unplugged_machine_is_unreachable_until_it_is_plugged_in_again() {
    let cluster = build().unwrap();
    let node = cluster.address("n1", Family::V4).unwrap().to_string();
    let ping = || cluster.exec("c1", &["ping", "-c1", "-W1", &node]).unwrap().ok();
    ping().unwrap();
    cluster.unplug("n1").unwrap();
    assert!(ping().is_err());
    cluster.plug("n1").unwrap();
    eventually(DEADLINE, "node answers again", ping).unwrap();
}

#[test]
fn peers_serve_and_load_inside_the_lab() {
    let cluster = build().unwrap();
    let server = cluster
        .start_peer(
            "n1",
            &["whoami", "--name", "one", "--tcp-echo", "7", "--udp", "7"],
        )
        .unwrap();
    let client = cluster.address("c1", Family::V6).unwrap().to_string();
    let url = format!("http://[{}]/", cluster.address("n1", Family::V6).unwrap());
    let text = eventually(DEADLINE, "server answers", || cluster.curl("c1", &url)).unwrap();
    assert!(
        text.contains("Name: one") && text.contains(&format!("RemoteAddr: [{client}]:")),
        "{text}"
    );

    let report: LoadReport = cluster
        .peer("c1", &["load", "--target", &url, "--requests", "50"])
        .unwrap()
        .json()
        .unwrap();
    assert_eq!((report.ok, report.failed), (50, 0), "{report:?}");
    assert_eq!(report.by_seen.get(&client), Some(&50));

    let echo = format!("{}:7", cluster.address("n1", Family::V4).unwrap());
    let mut holder = cluster
        .start_peer(
            "c1",
            &["hold", "--target", &echo, "--flows", "20", "--seconds", "60"],
        )
        .unwrap();
    assert_eq!(holder.next_line().unwrap().trim(), r#"{"established":20}"#);
    let report: essaim_lab::peer::HoldReport = holder.stop().unwrap().json().unwrap();
    assert_eq!((report.established, report.broken), (20, 0), "{report:?}");
    assert!(
        server.stop().unwrap().status.success(),
        "SIGTERM ends a server in good order"
    );
}

#[test]
fn killed_server_is_counted_as_broken_flows() {
    let cluster = build().unwrap();
    let server = cluster
        .start_peer("n1", &["echo", "--name", "one", "--tcp-echo", "7"])
        .unwrap();
    let echo = format!("{}:7", cluster.address("n1", Family::V4).unwrap());
    eventually(DEADLINE, "echo listens", || {
        cluster
            .exec(
                "c1",
                &["busybox", "nc", "-w1", echo.split(':').next().unwrap(), "7"],
            )?
            .ok()
    })
    .unwrap();
    let mut holder = cluster
        .start_peer(
            "c1",
            &["hold", "--target", &echo, "--flows", "5", "--seconds", "60"],
        )
        .unwrap();
    holder.next_line().unwrap();
    server.signal(Signal::SIGKILL).unwrap();
    let report: essaim_lab::peer::HoldReport = holder.finish().unwrap().json().unwrap();
    assert_eq!((report.established, report.broken), (5, 5), "{report:?}");
}

#[test]
fn processes_are_in_the_control_group_of_their_node() {
    let cluster = build().unwrap();
    let own = cluster
        .exec("n1", &["cat", "/proc/self/cgroup"])
        .unwrap()
        .ok()
        .unwrap();
    let expected = format!("0::/{}/n1/", cluster.prefix());
    assert!(own.lines().any(|line| line.starts_with(&expected)), "{own}");
    cluster.add_task("n1", "web.1").unwrap();
    let task = cluster
        .exec("web.1", &["cat", "/proc/self/cgroup"])
        .unwrap()
        .ok()
        .unwrap();
    assert!(
        task.lines().any(|line| line == format!("{expected}web.1")),
        "{task}"
    );
}

#[test]
fn second_cluster_of_a_name_is_refused_and_the_first_stays() {
    let prefix = Prefix::lasting("essaimplumb").unwrap();
    let first = ClusterBuilder::new()
        .prefix(prefix.clone())
        .nodes(1)
        .clients(0)
        .build()
        .unwrap();
    let error = ClusterBuilder::new().prefix(prefix.clone()).build().unwrap_err();
    assert!(error.to_string().contains("is up already"), "{error:#}");
    assert!(!prefix.left().unwrap().is_empty());
    drop(first);
    assert_eq!(prefix.left().unwrap(), Vec::<String>::new());
}

#[test]
fn leftovers_of_a_dead_process_are_removed_and_those_of_a_live_one_stay() {
    let live = build().unwrap();
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let netns = format!("esl{}x1-n1", ended.id());
    essaim_lab::netns::create(&netns).unwrap();
    essaim_lab::remove_leftovers();
    assert!(!essaim_lab::netns::path(&netns).exists());
    assert!(essaim_lab::netns::path(&live.netns("n1")).exists());
}

#[test]
fn engine_of_a_node_runs_containers_in_its_group_and_goes_with_them() {
    let cluster = build().unwrap();
    let engine = cluster.spawn_engine("n1").unwrap();
    let said = engine.docker(&["run", "--rm", "--network", "none", "busybox", "hostname"]);
    assert_eq!(said.unwrap().trim().len(), 12, "a container's short identity");
    let line = [
        "run",
        "--detach",
        "--name",
        "box",
        "--network",
        "none",
        "busybox",
        "sleep",
        "1000",
    ];
    engine.docker(&line).unwrap();
    let pid = engine
        .docker(&["inspect", "--format", "{{.State.Pid}}", "box"])
        .unwrap();
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).unwrap();
    let expected = format!("0::/{}/n1/engine/", cluster.prefix());
    assert!(groups.lines().any(|line| line.starts_with(&expected)), "{groups}");
    let folder = engine.socket().parent().unwrap().to_owned();
    drop(engine);
    assert!(!folder.exists() && !cluster.cgroup("n1").unwrap().join("engine").exists());
    // The next one can be started, and goes with the cluster, whichever is dropped first.
    let engine = cluster.spawn_engine("n1").unwrap();
    engine.docker(&line).unwrap();
    let prefix = cluster.prefix().clone();
    drop(cluster);
    assert_eq!(prefix.left().unwrap(), Vec::<String>::new());
}
