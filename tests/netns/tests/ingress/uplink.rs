//! Uplinks without native XDP.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family, UPLINK, XdpPass, ip, netns};
use essaim_netns_tests::datagram::{ask, socket};
use essaim_netns_tests::held::Held;
use essaim_netns_tests::site::{APPLIED, CLIENT, ECHO, HTTP, Site, UDP_ECHO, WEB};

fn prepare() -> anyhow::Result<Site> {
    Site::prepare(ClusterBuilder::new().nodes(2), |catalog| {
        catalog.network("app")?;
        catalog
            .service(WEB, &["app"])?
            .ports
            .extend([HTTP, ECHO, UDP_ECHO]);
        catalog.task(WEB, "n1")?;
        catalog.task(WEB, "n2").map(drop)
    })
}

fn serves(mut site: Site) -> anyhow::Result<Site> {
    site.cluster.write_catalog(&mut site.catalog)?;
    site.cluster.spawn_agents()?;
    site.cluster.wait_ready(APPLIED)?;
    site.start_tasks()?;
    for family in Family::BOTH {
        let target = site.at("n1", ECHO.published, family)?;
        let client = site.cluster.address(CLIENT, family)?;
        let mut held = Held::open(&site.cluster, CLIENT, target, 24).with_context(|| family.to_string())?;
        ensure!(held.by_task().len() == 2, "{family}: only {:?}", held.by_task());
        ensure!(held.flows.iter().all(|flow| flow.seen.ip() == client), "{held:?}");
        held.all_live()?;
        netns::inside(&site.cluster.netns(CLIENT), || {
            (0..8).try_for_each(|_| ask(&socket(0, target)?, b"hello").map(drop))
        })?;
        let url = format!("http://{}/bytes/200000", site.at("n1", HTTP.published, family)?);
        for _ in 0..6 {
            ensure!(site.cluster.curl(CLIENT, &url)?.len() == 200_000, "{url}");
        }
    }
    site.verified("n1")?;
    Ok(site)
}

#[test]
fn an_uplink_without_a_driver_s_xdp_falls_back_and_serves_the_same() -> anyhow::Result<()> {
    let site = prepare()?;
    // A bridge has no native XDP: it takes the uplink's name, and its addresses.
    let node = site.cluster.netns("n1");
    let v4 = site.cluster.address("n1", Family::V4)?;
    let v6 = site.cluster.address("n1", Family::V6)?;
    let line = |text: &str| text.replace("UPLINK", UPLINK);
    ip::batch(
        &node,
        &[
            line("link set UPLINK down"),
            line("link set UPLINK name wire"),
            line("link add UPLINK type bridge mcast_snooping 0 stp_state 0 forward_delay 0"),
            line("link set wire master UPLINK"),
            "addr flush dev wire".to_owned(),
            "link set wire up".to_owned(),
            line(&format!("addr add {v4}/24 dev UPLINK")),
            line(&format!("addr add {v6}/64 dev UPLINK nodad")),
            line("link set UPLINK up"),
        ],
    )?;
    let site = serves(site)?;
    site.logged("n1", &["WARN", "generic mode"]).map(drop)
}

#[test]
fn an_uplink_that_another_s_xdp_program_has_is_served_by_tc() -> anyhow::Result<()> {
    let site = prepare()?;
    let pin = site.cluster.bpf_root("n1").with_file_name("foreign");
    netns::inside(&site.cluster.netns("n1"), || {
        XdpPass::load()?.attach(UPLINK, &pin)
    })?;
    let site = serves(site)?;
    site.logged("n1", &["WARN", "XDP cannot be attached"]).map(drop)
}
