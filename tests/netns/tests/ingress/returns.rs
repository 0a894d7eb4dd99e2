//! Which way replies take.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family};
use essaim_netns_tests::datagram::{ask, socket};
use essaim_netns_tests::held::Held;
use essaim_netns_tests::site::{CLIENT, ECHO, Site, UDP_ECHO, dsr};

/// The node that clients ask has no task, and takes no VXLAN: a reply that goes through it is lost.
const EDGE: &str = "n1";

fn deaf_edge(site: &Site) -> anyhow::Result<()> {
    let rules = "add table inet deaf; add chain inet deaf in { type filter hook input priority -500; }; \
                 add rule inet deaf in udp dport 4789 counter drop";
    site.cluster.exec(EDGE, &["nft", rules])?.ok().map(drop)
}

#[test]
fn dsr_replies_leave_from_the_task_s_node() -> anyhow::Result<()> {
    let site = Site::web(
        ClusterBuilder::new().nodes(2),
        &[dsr(ECHO), dsr(UDP_ECHO)],
        &["n2"],
    )?;
    deaf_edge(&site)?;
    for family in Family::BOTH {
        let target = site.at(EDGE, ECHO.published, family)?;
        let client = site.cluster.address(CLIENT, family)?;
        let mut held = Held::open(&site.cluster, CLIENT, target, 8).with_context(|| family.to_string())?;
        ensure!(held.flows.iter().all(|flow| flow.seen.ip() == client), "{held:?}");
        held.all_live()?;
        essaim_lab::netns::inside(&site.cluster.netns(CLIENT), || {
            ask(&socket(0, target)?, b"hello").map(drop)
        })?;
        // Where the task is at the node that was asked, there is only one way.
        let target = site.at("n2", ECHO.published, family)?;
        Held::open(&site.cluster, CLIENT, target, 8)?.all_live()?;
    }
    Ok(())
}

#[test]
fn tunnelled_replies_go_back_through_the_node_that_was_asked() -> anyhow::Result<()> {
    let site = Site::web(ClusterBuilder::new().nodes(2), &[ECHO, UDP_ECHO], &["n2"])?;
    for family in Family::BOTH {
        let target = site.at(EDGE, ECHO.published, family)?;
        Held::open(&site.cluster, CLIENT, target, 8)?.all_live()?;
    }
    deaf_edge(&site)?;
    essaim_lab::netns::inside(&site.cluster.netns(CLIENT), || {
        let socket = socket(0, site.at(EDGE, UDP_ECHO.published, Family::V4)?)?;
        let answer = essaim_netns_tests::datagram::ask_once(&socket, b"hello");
        ensure!(
            answer.is_err(),
            "a reply took another way than through {EDGE}: {answer:?}"
        );
        Ok(())
    })
}
