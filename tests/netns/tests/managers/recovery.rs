//! Managers that are lost for good, and copies of their state.

use crate::stage::*;

#[test]
fn one_manager_that_is_left_makes_a_new_cluster_of_what_it_has() {
    let cluster = formed(4, 3);
    let placed = sleepers(&cluster, "n1", "idle", 4);
    cluster
        .operate("n1", &["network", "create", "--driver", "overlay", "app"])
        .unwrap();
    for node in ["n2", "n3"] {
        cluster.power_off(node).unwrap();
    }
    let address = cluster.address("n1", essaim_lab::Family::V4).unwrap().to_string();
    let line = [
        "swarm",
        "init",
        "--force-new-cluster",
        "--advertise-addr",
        &address,
    ];
    cluster.operate("n1", &line).unwrap();
    wait_writable(&cluster, "n1");
    let networks = list(&cluster, "n1", "/networks");
    assert!(
        networks.iter().any(|network| text(network, "/Name") == "app"),
        "{networks:?}"
    );
    // Its worker comes back to it by itself; the lost managers are down, and can be removed.
    wait_node(&cluster, "n1", "n4", "/Status/State", "ready");
    wait_node(&cluster, "n1", "n2", "/Status/State", "down");
    let now = cluster.wait_running("n1", "idle", 4).unwrap();
    let kept = |node: &str| {
        placed
            .iter()
            .filter(|task| task.node == node)
            .all(|task| now.contains(task))
    };
    assert!(kept("n1") && kept("n4"), "{now:?}");
    cluster.operate("n1", &["node", "rm", "--force", "n2"]).unwrap();
}

#[test]
fn a_manager_is_restored_from_a_copy_of_its_state() {
    let cluster = formed(2, 1);
    let placed = sleepers(&cluster, "n1", "idle", 2);
    cluster.stop_agent("n1").unwrap();
    let data = cluster.data_dir("n1");
    let copy = data.with_extension("copy");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(&data)
        .arg(&copy)
        .status()
        .unwrap();
    assert!(copied.success());
    cluster.spawn_node("n1").unwrap();
    wait_writable(&cluster, "n1");
    cluster
        .operate("n1", &["service", "scale", "--detach", "idle=4"])
        .unwrap();
    cluster.wait_running("n1", "idle", 4).unwrap();
    // Back to where the copy was made: what came after is not known, and is ended on the nodes.
    cluster.stop_agent("n1").unwrap();
    std::fs::remove_dir_all(data.join("node")).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(copy.join("node"))
        .arg(&data)
        .status()
        .unwrap();
    assert!(copied.success());
    cluster.spawn_node("n1").unwrap();
    wait_writable(&cluster, "n1");
    wait_node(&cluster, "n1", "n2", "/Status/State", "ready");
    assert_eq!(cluster.wait_running("n1", "idle", 2).unwrap(), placed);
}
