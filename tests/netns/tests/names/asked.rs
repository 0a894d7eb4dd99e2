//! Every kind of name, asked for by tasks on both nodes.

use anyhow::{Context as _, ensure};
use essaim_lab::{CatalogBuilder, Cluster, ClusterBuilder, Family};
use essaim_model::{ContainerId, HostName, PortName};
use essaim_netns_tests::Scene;
use essaim_netns_tests::names::{Answer, dig};
use essaim_netns_tests::site::HTTP;
use std::net::IpAddr;

const CONTAINER: &str = "0123456789abcdef";

fn catalog(cluster: &Cluster) -> anyhow::Result<CatalogBuilder> {
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.network("data")?.internal = true;
    let web = catalog.service("web", &["app"])?;
    let mut port = HTTP;
    port.name = Some(PortName::new("http")?);
    web.ports.push(port);
    web.networks[0].aliases.push(HostName::new("www")?);
    // Without VIPs its name stands for its tasks.
    catalog.service("db", &["data"])?.networks[0].vips.clear();
    catalog.service("user", &["app", "data"])?;
    catalog.service("lonely", &["data"])?;
    for (service, node) in [
        ("web", "n1"),
        ("web", "n2"),
        ("db", "n1"),
        ("db", "n2"),
        ("user", "n1"),
        ("lonely", "n2"),
    ] {
        catalog.task(service, node)?;
    }
    for (slot, task) in (1..).zip(["web.1", "web.2"]) {
        catalog.task_mut(task)?.slot = Some(slot);
    }
    let second = catalog.task_mut("web.2")?;
    second.hostname = Some(HostName::new("frontend")?);
    second.container = Some(ContainerId::new(CONTAINER)?);
    second.endpoints[0].aliases.push(HostName::new("blue")?);
    Ok(catalog)
}

/// The type that asks for addresses of a family.
fn kind(family: Family) -> &'static str {
    match family {
        Family::V4 => "A",
        Family::V6 => "AAAA",
    }
}

/// The name that asks who has an address.
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let digits: Vec<char> = format!("{:032x}", address.to_bits()).chars().rev().collect();
            let digits: Vec<String> = digits.into_iter().map(String::from).collect();
            format!("{}.ip6.arpa", digits.join("."))
        }
    }
}

#[test]
fn every_name_is_answered_within_its_networks() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(2).clients(0).gossip(true).build()?;
    let catalog = catalog(&cluster)?;
    let scene = Scene::start_idle(cluster, catalog)?;
    for family in Family::BOTH {
        let vip = scene.catalog.vip("web", "app", family)?;
        let task = |task: &str, network| scene.catalog.task_address(task, network, family);
        let tasks = Answer::of([task("web.1", "app")?, task("web.2", "app")?]);
        let databases = Answer::of([task("db.1", "data")?, task("db.2", "data")?]);
        let second = Answer::of([task("web.2", "app")?]);
        let asked = [
            ("web", Answer::of([vip])),
            ("WeB", Answer::of([vip])),
            ("web.app", Answer::of([vip])),
            ("www", Answer::of([vip])),
            ("www.app", Answer::of([vip])),
            ("tasks.web", tasks.clone()),
            ("tasks.web.app", tasks.clone()),
            ("tasks.www", tasks),
            ("2.web", second.clone()),
            ("2.web.app", second.clone()),
            ("web.2", second.clone()),
            ("web.2.app", second.clone()),
            ("frontend", second.clone()),
            ("blue", second.clone()),
            ("0123456789ab", second),
            ("db", databases.clone()),
            ("db.data", databases.clone()),
            ("tasks.db", databases.clone()),
            ("user.1.data", Answer::of([task("user.1", "data")?])),
            ("user.1", Answer::of([task("user.1", "app")?])),
        ];
        for more in [&[][..], &["+tcp"]] {
            for (name, expected) in &asked {
                let found = dig(&scene.cluster, "user.1", name, kind(family), more)?;
                ensure!(
                    found == *expected,
                    "{name} {more:?}: found {found:?}, expected {expected:?}"
                );
            }
        }
        // On data alone: what is on app does not exist for it.
        for (name, expected) in [
            ("web", Answer::unknown()),
            ("web.app", Answer::unknown()),
            ("tasks.web", Answer::unknown()),
            ("web.2", Answer::unknown()),
            ("user", Answer::of([scene.catalog.vip("user", "data", family)?])),
            ("user.1", Answer::of([task("user.1", "data")?])),
            ("db", databases.clone()),
        ] {
            let found = dig(&scene.cluster, "lonely.1", name, kind(family), &[])?;
            ensure!(
                found == expected,
                "{name}: found {found:?}, expected {expected:?}"
            );
        }
        for (address, expected) in [
            (vip, "web.app."),
            (task("web.2", "app")?, "web.2.app."),
            (task("user.1", "data")?, "user.1.data."),
        ] {
            let found = dig(&scene.cluster, "user.1", &reverse(address), "PTR", &[])?;
            ensure!(found == Answer::of([expected]), "PTR of {address}: {found:?}");
        }
        let hidden = dig(&scene.cluster, "lonely.1", &reverse(vip), "PTR", &[])?;
        ensure!(hidden == Answer::unknown(), "{hidden:?}");
    }
    ensure!(dig(&scene.cluster, "user.1", "web", "MX", &[])? == Answer::empty());
    for name in ["_http._tcp.web", "_80._tcp.web", "_http._tcp.web.app"] {
        let found = dig(&scene.cluster, "user.1", name, "SRV", &[])?;
        let targets: Vec<&str> = found
            .data
            .iter()
            .filter_map(|data| data.split(' ').nth(2))
            .collect();
        ensure!(
            !targets.is_empty() && targets.iter().all(|port| *port == "80"),
            "{name}: {found:?}"
        );
    }
    Ok(())
}

#[test]
fn the_c_library_finds_names_by_the_tasks_resolv_conf() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(2).clients(0).build()?;
    let catalog = catalog(&cluster)?;
    let scene = Scene::start_idle(cluster, catalog)?;
    for (family, database) in [(Family::V4, "ahostsv4"), (Family::V6, "ahostsv6")] {
        for (name, expected) in [
            ("web", scene.catalog.vip("web", "app", family)?),
            ("web.2.app", scene.catalog.task_address("web.2", "app", family)?),
        ] {
            let printed = scene.cluster.exec("user.1", &["getent", database, name])?.ok()?;
            let first = printed
                .split_whitespace()
                .next()
                .context("getent printed nothing")?;
            ensure!(first.parse() == Ok(expected), "{name}: {printed}");
        }
    }
    let unknown = scene.cluster.exec("lonely.1", &["getent", "hosts", "web"])?;
    ensure!(!unknown.status.success(), "{unknown:?}");
    Ok(())
}
