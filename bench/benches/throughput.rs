//! Bulk TCP side by side, on one lab: the overlay against the same namespaces routed without one, against the bare nodes,
//! and within a node against a Linux bridge. Every way crosses the same uplinks, with the same XDP program on them and
//! the same offloads; rounds alternate, so that a slow moment of the machine meets all of them.

use anyhow::Context as _;
use essaim_lab::{Cluster, ClusterBuilder, Family, eventually, run_here};
use std::env;
use std::time::Duration;

/// Seconds of one transfer.
const SECONDS: &str = "2";

/// A way for bytes to go.
struct Way {
    name: &'static str,
    /// Where the client runs, and what it connects to.
    from: &'static str,
    to: String,
    samples: Vec<f64>,
}

fn main() -> anyhow::Result<()> {
    // `cargo test` runs benches too, to see that they start.
    if env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let rounds = if env::var_os("BENCH_QUICK").is_some() {
        1
    } else {
        7
    };
    let cluster = ClusterBuilder::new().nodes(2).clients(0).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.service("bulk", &["app"])?;
    let mut tasks = Vec::new();
    for node in ["n1", "n2", "n1"] {
        let task = catalog.task("bulk", node)?;
        cluster.add_task(node, &task)?;
        tasks.push(task);
    }
    cluster.write_catalog(&mut catalog)?;
    cluster.spawn_agents()?;
    cluster.wait_ready(Duration::from_secs(30))?;
    routed(&cluster)?;
    bridged(&cluster)?;
    let server = ["iperf3", "-s"];
    for task in &tasks {
        cluster.start_task(task, &server)?;
    }
    let _servers = ["n2", "rt2", "br2"].map(|at| cluster.start(at, &server));
    let address = |task: &String| {
        catalog
            .task_address(task, "app", Family::V4)
            .map(|address| address.to_string())
    };
    let mut ways = [
        ("overlay between nodes", "bulk.1", address(&tasks[1])?),
        ("routed between nodes", "rt1", "10.77.2.2".to_owned()),
        ("bare nodes", "n1", cluster.address("n2", Family::V4)?.to_string()),
        ("overlay within a node", "bulk.1", address(&tasks[2])?),
        ("bridge within a node", "br1", "10.78.0.2".to_owned()),
    ]
    .map(|(name, from, to)| Way {
        name,
        from,
        to,
        samples: Vec::new(),
    });
    for way in &ways {
        let listens = format!("{} is served", way.name);
        eventually(Duration::from_secs(10), &listens, || {
            cluster
                .exec(way.from, &["iperf3", "-n", "1", "-c", &way.to])?
                .ok()
        })?;
    }
    for _ in 0..rounds {
        for way in &mut ways {
            let gbits = transfer(&cluster, way.from, &way.to).with_context(|| way.name.to_owned())?;
            way.samples.push(gbits);
        }
    }
    report(&mut ways);
    Ok(())
}

/// Two namespaces, each on a node by a veth, routed over the uplinks; not tracked, as the overlay's packets are not.
fn routed(cluster: &Cluster) -> anyhow::Result<()> {
    for (node, other, own, far) in [("n1", "n2", 1, 2), ("n2", "n1", 2, 1)] {
        let name = format!("rt{own}");
        let netns = cluster.add_task(node, &name)?;
        let node_netns = cluster.netns(node);
        let via = cluster.address(other, Family::V4)?;
        for line in [
            format!("ip -n {node_netns} link add rt type veth peer name eth0 netns {netns}"),
            format!("ip -n {node_netns} addr add 10.77.{own}.1/24 dev rt"),
            format!("ip -n {node_netns} link set rt up"),
            format!("ip -n {node_netns} route add 10.77.{far}.0/24 via {via}"),
            format!("ip -n {netns} addr add 10.77.{own}.2/24 dev eth0"),
            format!("ip -n {netns} link set eth0 up"),
            format!("ip -n {netns} link set lo up"),
            format!("ip -n {netns} route add default via 10.77.{own}.1"),
            format!("ip netns exec {node_netns} nft add table ip bench"),
            format!(
                "ip netns exec {node_netns} nft add chain ip bench raw {{ type filter hook prerouting priority raw; }}"
            ),
            format!("ip netns exec {node_netns} nft add rule ip bench raw ip saddr 10.77.0.0/16 notrack"),
        ] {
            run_here(&line.split(' ').collect::<Vec<_>>())?;
        }
    }
    Ok(())
}

/// Two namespaces on a bridge of a node.
fn bridged(cluster: &Cluster) -> anyhow::Result<()> {
    let node_netns = cluster.netns("n1");
    let run = |line: String| run_here(&line.split(' ').collect::<Vec<_>>());
    run(format!("ip -n {node_netns} link add name bench type bridge"))?;
    run(format!("ip -n {node_netns} link set bench up"))?;
    for own in [1, 2] {
        let netns = cluster.add_task("n1", &format!("br{own}"))?;
        run(format!(
            "ip -n {node_netns} link add br{own} type veth peer name eth0 netns {netns}"
        ))?;
        run(format!("ip -n {node_netns} link set br{own} up master bench"))?;
        run(format!("ip -n {netns} addr add 10.78.0.{own}/24 dev eth0"))?;
        run(format!("ip -n {netns} link set eth0 up"))?;
        run(format!("ip -n {netns} link set lo up"))?;
    }
    Ok(())
}

/// One transfer's rate in Gbit/s.
fn transfer(cluster: &Cluster, from: &str, to: &str) -> anyhow::Result<f64> {
    let printed = cluster
        .exec(from, &["iperf3", "-J", "-t", SECONDS, "-c", to])?
        .ok()?;
    let found: serde_json::Value = serde_json::from_str(&printed).context("iperf3 printed no JSON")?;
    let bits = found
        .pointer("/end/sum_received/bits_per_second")
        .and_then(serde_json::Value::as_f64);
    Ok(bits.context("iperf3 told no rate")? / 1e9)
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

fn report(ways: &mut [Way; 5]) {
    let mut medians = [0.0; 5];
    for (way, found) in ways.iter_mut().zip(&mut medians) {
        *found = median(&mut way.samples);
        let (low, high) = (way.samples.first(), way.samples.last());
        println!(
            "{:24} {:6.2} Gbit/s  ({:.2} to {:.2})",
            way.name,
            *found,
            low.copied().unwrap_or_default(),
            high.copied().unwrap_or_default()
        );
    }
    let [overlay, routed, bare, within, bridge] = medians;
    for (name, found, least) in [
        ("overlay / routed", overlay / routed, 0.85),
        ("overlay / bare nodes", overlay / bare, 0.65),
        ("within a node / bridge", within / bridge, 1.0),
    ] {
        let verdict = if found >= least { "PASS" } else { "MISS" };
        println!("{verdict}  {name:24} {found:5.2}  (at least {least:.2})");
    }
}
