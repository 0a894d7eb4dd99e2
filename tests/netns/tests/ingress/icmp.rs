//! What is too large on the client's side: fragments, and errors of routers there.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family, eventually, ip, netns, tries};
use essaim_netns_tests::datagram::{ask, socket};
use essaim_netns_tests::held::{Flow, Held};
use essaim_netns_tests::raw::too_big;
use essaim_netns_tests::repair::next_of_peer;
use essaim_netns_tests::site::{CLIENT, ECHO, HTTP, SOON, Site, UDP_ECHO};
use std::net::IpAddr;

/// More than two fragments.
const DATAGRAM: usize = 4000;

#[test]
fn a_fragmented_datagram_passes_both_ways() -> anyhow::Result<()> {
    let site = Site::web(ClusterBuilder::new().nodes(2), &[UDP_ECHO], &["n1", "n2"])?;
    let payload: Vec<u8> = (0..251).cycle().take(DATAGRAM).collect();
    for family in Family::BOTH {
        let target = site.at("n1", UDP_ECHO.published, family)?;
        let client = site.cluster.address(CLIENT, family)?;
        let mut tasks = std::collections::BTreeSet::new();
        netns::inside(&site.cluster.netns(CLIENT), || {
            for _ in 0..16 {
                let answer = ask(&socket(0, target)?, &payload).with_context(|| family.to_string())?;
                ensure!(
                    answer.payload == payload,
                    "{family}: {} came back other",
                    answer.task
                );
                ensure!(answer.seen.ip() == client, "{} saw {}", answer.task, answer.seen);
                tasks.insert(answer.task);
            }
            Ok(())
        })?;
        ensure!(tasks.len() == 2, "{family}: only {tasks:?} answered");
    }
    Ok(())
}

/// The host behind the client, which routes for it over a link of this MTU.
const NARROW: u32 = 1300;

/// Its network on the underlay's nodes.
const BEHIND: [(&str, &str); 2] = [("192.168.77.0/24", "192.168.77"), ("fd00:77::/64", "fd00:77:")];

#[test]
fn a_narrow_link_beyond_a_router_is_told_to_the_task() -> anyhow::Result<()> {
    let site = Site::web(ClusterBuilder::new().nodes(2).clients(2), &[HTTP], &["n1", "n2"])?;
    // c2 leaves the underlay and moves behind c1.
    let [(v4, v4_host), (v6, v6_host)] = BEHIND;
    let inner = site.cluster.netns("c2");
    ip::batch(&inner, &["link del eth0".to_owned()])?;
    ip::batch(
        &site.cluster.netns(CLIENT),
        &[
            format!("link add inside mtu {NARROW} type veth peer name eth0 netns {inner}"),
            "link set inside up".to_owned(),
            format!("addr add {v4_host}.1/24 dev inside"),
            format!("addr add {v6_host}:1/64 dev inside nodad"),
        ],
    )?;
    ip::batch(
        &inner,
        &[
            "link set eth0 mtu 1500 up".to_owned(),
            format!("addr add {v4_host}.2/24 dev eth0"),
            format!("addr add {v6_host}:2/64 dev eth0 nodad"),
            format!("route add default via {v4_host}.1"),
            format!("route add default via {v6_host}:1"),
        ],
    )?;
    for forwarding in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
        site.cluster.exec(CLIENT, &["sysctl", "-qw", forwarding])?.ok()?;
    }
    for node in ["n1", "n2"] {
        let routes = [
            format!("route add {v4} via {}", site.cluster.address(CLIENT, Family::V4)?),
            format!("route add {v6} via {}", site.cluster.address(CLIENT, Family::V6)?),
        ];
        ip::batch(&site.cluster.netns(node), &routes)?;
    }
    for (family, host) in [
        (Family::V4, format!("{v4_host}.2")),
        (Family::V6, format!("{v6_host}:2")),
    ] {
        let url = format!("http://{}/bytes/300000", site.at("n1", HTTP.published, family)?);
        for _ in 0..8 {
            let body = site
                .cluster
                .curl("c2", &url)
                .with_context(|| family.to_string())?;
            ensure!(body.len() == 300_000, "{} bytes came", body.len());
        }
        for task in ["web.1", "web.2"] {
            path_mtu(&site, task, host.parse()?, NARROW)?;
        }
    }
    Ok(())
}

#[test]
fn an_error_that_quotes_eight_bytes_finds_its_task() -> anyhow::Result<()> {
    let site = Site::web(ClusterBuilder::new().nodes(2), &[ECHO], &["n1", "n2"])?;
    for family in Family::BOTH {
        let client = site.cluster.address(CLIENT, family)?;
        let target = site.at("n1", ECHO.published, family)?;
        let mut held = Held::open(&site.cluster, CLIENT, target, 16)?;
        ensure!(held.by_task().len() == 2, "only {:?}", held.by_task());
        for task in ["web.1", "web.2"] {
            let flow: &Flow = held
                .flows
                .iter()
                .find(|flow| flow.task == task)
                .context("both have flows")?;
            let sequence = next_of_peer(flow.socket())?;
            let own = flow.socket().local_addr()?;
            netns::inside(&site.cluster.netns(CLIENT), || {
                (0..tries()?).try_for_each(|_| too_big(own, target, sequence, 1290))
            })?;
            path_mtu(&site, task, client, 1290).with_context(|| family.to_string())?;
        }
        held.all_live()?;
    }
    Ok(())
}

/// Waits until a task knows this MTU towards a client.
fn path_mtu(site: &Site, task: &str, client: IpAddr, mtu: u32) -> anyhow::Result<()> {
    eventually(
        SOON,
        &format!("{task} knows that {mtu} bytes fit to {client}"),
        || {
            let route = site
                .cluster
                .exec(task, &["ip", "route", "get", &client.to_string()])?
                .ok()?;
            ensure!(route.contains(&format!("mtu {mtu}")), "{}", route.trim());
            Ok(())
        },
    )
}
