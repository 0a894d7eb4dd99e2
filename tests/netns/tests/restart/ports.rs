//! Published ports belong to the node, whether its agent runs or not.

use anyhow::{Context as _, ensure};
use essaim_abi::Protocol;
use essaim_lab::{ClusterBuilder, eventually, netns};
use essaim_netns_tests::site::{ECHO, HTTP, SOON, Site, UDP_ECHO};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};

/// Tries to take a port of the node, of each address and protocol.
fn taken(site: &Site, node: &str) -> anyhow::Result<()> {
    netns::inside(&site.cluster.netns(node), || {
        let attempts = [
            (
                "TCP, IPv4",
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, HTTP.published)).map(drop),
            ),
            (
                "TCP, IPv6",
                TcpListener::bind((Ipv6Addr::UNSPECIFIED, HTTP.published)).map(drop),
            ),
            (
                "TCP, loopback",
                TcpListener::bind((Ipv4Addr::LOCALHOST, ECHO.published)).map(drop),
            ),
            (
                "UDP, IPv4",
                UdpSocket::bind((Ipv4Addr::UNSPECIFIED, UDP_ECHO.published)).map(drop),
            ),
            (
                "UDP, IPv6",
                UdpSocket::bind((Ipv6Addr::UNSPECIFIED, UDP_ECHO.published)).map(drop),
            ),
        ];
        for (what, result) in attempts {
            let kind = result.as_ref().err().map(std::io::Error::kind);
            ensure!(kind == Some(ErrorKind::AddrInUse), "{what}: {result:?}");
        }
        Ok(())
    })
}

#[test]
fn published_ports_are_held_even_without_an_agent_and_freed_in_the_end() -> anyhow::Result<()> {
    let mut site = Site::web(ClusterBuilder::new().nodes(1), &[HTTP, ECHO, UDP_ECHO], &["n1"])?;
    taken(&site, "n1").context("while the agent runs")?;
    site.cluster.kill_agent("n1")?;
    taken(&site, "n1").context("while no agent runs")?;
    site.cluster.spawn_agent("n1")?;
    site.cluster.wait_ready(SOON)?;
    taken(&site, "n1").context("with the next agent")?;
    site.catalog
        .service_mut("web")?
        .ports
        .retain(|port| *port == HTTP);
    site.apply()?;
    netns::inside(&site.cluster.netns("n1"), || {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, ECHO.published)).context("a port that is free again")?;
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, UDP_ECHO.published)).context("a port that is free again")?;
        Ok(())
    })
}

#[test]
fn a_port_that_another_process_has_is_told_and_taken_once_it_is_free() -> anyhow::Result<()> {
    let mut site = Site::web(ClusterBuilder::new().nodes(1), &[HTTP], &["n1"])?;
    let other = netns::inside(&site.cluster.netns("n1"), || {
        Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, ECHO.published))?)
    })?;
    ensure!(ECHO.protocol == Protocol::Tcp, "the test binds a TCP port");
    site.catalog.service_mut("web")?.ports.push(ECHO);
    site.apply()?;
    let port = ECHO.published.to_string();
    site.logged("n1", &["ERROR", &port, "has it"])?;
    let problems = |site: &Site| -> anyhow::Result<String> {
        let status = site.status("n1")?;
        Ok(status.get("problems").context("no problems told")?.to_string())
    };
    let told = problems(&site)?;
    ensure!(told.contains(&port), "{told}");
    // The other's clients are its own still, and web's other port works on.
    ensure!(
        site.cluster
            .curl(
                "c1",
                &format!(
                    "http://{}/",
                    site.at("n1", HTTP.published, essaim_lab::Family::V4)?
                )
            )?
            .contains("web.1"),
        "port {} does not answer",
        HTTP.published
    );
    drop(other);
    eventually(SOON * 2, "the port is taken once it is free", || {
        let told = problems(&site)?;
        ensure!(told == "[]", "{told}");
        Ok(())
    })?;
    let target = site.at("n1", ECHO.published, essaim_lab::Family::V4)?;
    essaim_netns_tests::held::Held::open(&site.cluster, "c1", target, 2)?.all_live()
}
