//! Through which node, and at which port.

use anyhow::{Context as _, ensure};
use essaim_abi::Protocol;
use essaim_lab::{ClusterBuilder, Family, netns};
use essaim_model::{Port, PortMode};
use essaim_netns_tests::datagram::{ask, socket};
use essaim_netns_tests::held::Held;
use essaim_netns_tests::site::{CLIENT, ECHO, HTTP, Site, UDP_ECHO, WEB};
use socket2::{Domain, Socket, Type};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};

/// Connections through each node.
const CONNECTIONS: usize = 24;

/// The nodes of most tests: the third has no task.
const NODES: [&str; 3] = ["n1", "n2", "n3"];

#[test]
fn every_node_answers_with_any_task_and_tasks_see_the_client() -> anyhow::Result<()> {
    let site = Site::web(ClusterBuilder::new(), &[HTTP, ECHO, UDP_ECHO], &["n1", "n2"])?;
    for family in Family::BOTH {
        let client = site.cluster.address(CLIENT, family)?;
        for node in NODES {
            let target = site.at(node, ECHO.published, family)?;
            let mut held = Held::open(&site.cluster, CLIENT, target, CONNECTIONS)
                .with_context(|| format!("through {node}, {family}"))?;
            ensure!(
                held.by_task().len() == 2,
                "{node}, {family}: only {:?}",
                held.by_task()
            );
            for flow in &held.flows {
                ensure!(flow.seen.ip() == client, "{} saw {}", flow.task, flow.seen);
                let own = flow.socket().local_addr()?;
                ensure!(flow.seen.port() == own.port(), "{} saw {}", flow.task, flow.seen);
            }
            held.all_live()
                .with_context(|| format!("through {node}, {family}"))?;
        }
    }
    Ok(())
}

#[test]
fn several_ports_of_a_service_reach_their_targets() -> anyhow::Result<()> {
    let more = Port::new(9090, 80);
    let site = Site::web(
        ClusterBuilder::new().nodes(2),
        &[HTTP, more, ECHO, UDP_ECHO],
        &["n1", "n2"],
    )?;
    for family in Family::BOTH {
        for node in ["n1", "n2"] {
            for port in [HTTP, more] {
                let url = format!("http://{}/", site.at(node, port.published, family)?);
                ensure!(site.cluster.curl(CLIENT, &url)?.contains("Name: web."), "{url}");
            }
            let target = site.at(node, ECHO.published, family)?;
            Held::open(&site.cluster, CLIENT, target, 4)?.all_live()?;
            let client = site.cluster.address(CLIENT, family)?;
            let mut tasks = BTreeSet::new();
            netns::inside(&site.cluster.netns(CLIENT), || {
                for _ in 0..CONNECTIONS {
                    let answer = ask(&socket(0, target)?, b"hello")?;
                    ensure!(answer.payload == b"hello", "came back {:?}", answer.payload);
                    ensure!(answer.seen.ip() == client, "{} saw {}", answer.task, answer.seen);
                    tasks.insert(answer.task);
                }
                Ok(())
            })
            .with_context(|| format!("datagrams through {node}, {family}"))?;
            ensure!(
                tasks.len() == 2,
                "{node}, {family}: only {tasks:?} answered datagrams"
            );
        }
    }
    Ok(())
}

#[test]
fn host_mode_answers_only_where_a_task_is_and_with_that_task() -> anyhow::Result<()> {
    let host = |port: Port| Port {
        mode: PortMode::Host,
        ..port
    };
    let site = Site::web(
        ClusterBuilder::new(),
        &[host(ECHO), host(UDP_ECHO)],
        &["n1", "n2"],
    )?;
    for family in Family::BOTH {
        let client = site.cluster.address(CLIENT, family)?;
        for (node, task) in [("n1", "web.1"), ("n2", "web.2")] {
            let target = site.at(node, ECHO.published, family)?;
            let mut held = Held::open(&site.cluster, CLIENT, target, CONNECTIONS)?;
            ensure!(
                held.by_task().keys().eq([task]),
                "{node} answered with {:?}",
                held.by_task()
            );
            ensure!(held.flows.iter().all(|flow| flow.seen.ip() == client), "{held:?}");
            held.all_live()?;
            let answer = netns::inside(&site.cluster.netns(CLIENT), || ask(&socket(0, target)?, b"hello"))?;
            ensure!(
                (answer.task.as_str(), answer.seen.ip()) == (task, client),
                "{answer:?}"
            );
        }
        let target = site.at("n3", ECHO.published, family)?;
        ensure!(
            Held::open(&site.cluster, CLIENT, target, 1).is_err(),
            "n3 runs no task, and answers"
        );
    }
    Ok(())
}

#[test]
fn a_service_without_networks_is_published_too() -> anyhow::Result<()> {
    let site = Site::start(ClusterBuilder::new().nodes(2), |catalog| {
        catalog.service(WEB, &[])?.ports.extend([ECHO, UDP_ECHO]);
        catalog.task(WEB, "n2").map(drop)
    })?;
    for family in Family::BOTH {
        for node in ["n1", "n2"] {
            let target = site.at(node, ECHO.published, family)?;
            Held::open(&site.cluster, CLIENT, target, 4)
                .with_context(|| format!("through {node}, {family}"))?
                .all_live()?;
        }
    }
    Ok(())
}

/// Where the kernel lacks SCTP, the node says so; with it the port is the node's, as others are.
#[test]
fn sctp_is_held_or_refused_with_a_word_where_the_kernel_lacks_it_and_other_ports_work() -> anyhow::Result<()>
{
    let sctp = Port {
        protocol: Protocol::Sctp,
        ..Port::new(9999, 9999)
    };
    let site = Site::web(ClusterBuilder::new().nodes(1), &[ECHO, sctp], &["n1"])?;
    let taken = netns::inside(&site.cluster.netns("n1"), || {
        let protocol = socket2::Protocol::from(i32::from(Protocol::Sctp.ip()));
        let Ok(socket) = Socket::new(Domain::IPV4, Type::STREAM, Some(protocol)) else {
            return Ok(None);
        };
        let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, sctp.published));
        Ok(Some(socket.bind(&all.into()).map_err(|error| error.kind())))
    })?;
    match taken {
        Some(taken) => ensure!(
            taken == Err(ErrorKind::AddrInUse),
            "binding SCTP port 9999: {taken:?}"
        ),
        None => drop(site.logged("n1", &["9999", "sctp"])?),
    }
    let target = site.at("n1", ECHO.published, Family::V4)?;
    Held::open(&site.cluster, CLIENT, target, 4)?.all_live()
}
