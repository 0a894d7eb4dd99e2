//! A task may run a DNS server of its own: the resolver takes no port 53 in its namespace.

use anyhow::ensure;
use essaim_lab::{ClusterBuilder, Family, eventually, netns};
use essaim_netns_tests::names::{Answer, dig};
use essaim_netns_tests::{READY, Scene};

#[test]
fn a_task_binds_port_53_on_all_addresses_and_still_resolves() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(1).clients(0).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.service("dns", &["app"])?;
    let task = catalog.task("dns", "n1")?;
    let scene = Scene::start_idle(cluster, catalog)?;
    let peer = scene.cluster.binary("essaim-peer").display().to_string();
    let server = [
        "whoami",
        "--name",
        "own",
        "--port",
        "80",
        "--udp",
        "53",
        "--tcp-echo",
        "53",
    ];
    let arguments = [&[peer.as_str()], &server[..]].concat();
    scene.cluster.start_task(&task, &arguments)?;
    eventually(READY, "the task has both sockets at port 53", || {
        for protocol in ["udp", "tcp"] {
            let table = scene
                .cluster
                .exec(&task, &["cat", &format!("/proc/net/{protocol}6")])?
                .ok()?;
            let v4 = scene
                .cluster
                .exec(&task, &["cat", &format!("/proc/net/{protocol}")])?
                .ok()?;
            ensure!(
                (table + &v4).contains(":0035 "),
                "no {protocol} socket at port 53"
            );
        }
        Ok(())
    })?;
    ensure!(netns::has_interface(&scene.cluster.netns(&task), "eth0")?);
    let vip = Answer::of([scene.catalog.vip("dns", "app", Family::V4)?]);
    for more in [&[][..], &["+tcp"]] {
        let found = dig(&scene.cluster, &task, "dns", "A", more)?;
        ensure!(found == vip, "{more:?}: {found:?}");
    }
    Ok(())
}
