//! Idle flows end after their service's time, and no others.

use anyhow::ensure;
use essaim_lab::{ClusterBuilder, Family, eventually, patience};
use essaim_model::Port;
use essaim_netns_tests::held::Held;
use essaim_netns_tests::site::{CLIENT, ECHO, SOON, Site, WEB};
use std::time::Duration;

/// The idle time of the service that has a short one, on a machine that opens all flows in less.
const SHORT: Duration = Duration::from_secs(2);

#[test]
fn an_idle_flow_ends_after_its_service_s_time_and_no_other() -> anyhow::Result<()> {
    let patient = Port::new(9000, 7);
    let site = Site::start(ClusterBuilder::new().nodes(2), |catalog| {
        catalog.network("app")?;
        let service = catalog.service(WEB, &["app"])?;
        service.ports.push(ECHO);
        service.timeouts.established = patience(SHORT)?;
        catalog.task(WEB, "n2")?;
        catalog.service("patient", &["app"])?.ports.push(patient);
        catalog.task("patient", "n2").map(drop)
    })?;
    let (mut short, mut long) = (Held::default(), Held::default());
    for family in Family::BOTH {
        let open = |port: Port| Held::open(&site.cluster, CLIENT, site.at("n1", port.published, family)?, 4);
        short.flows.extend(open(ECHO)?.flows);
        long.flows.extend(open(patient)?.flows);
    }
    short.all_live()?;
    long.all_live()?;
    let (all, stay) = (short.flows.len() + long.flows.len(), long.flows.len());
    ensure!(
        site.entries("n2", "FLOWS")? == all as u64,
        "not every flow is established"
    );
    eventually(
        SOON + SHORT,
        "only the flows of the patient service are left",
        || {
            let left = site.entries("n2", "FLOWS")?;
            ensure!(left == stay as u64, "{left} flows are left");
            Ok(())
        },
    )?;
    let idled = short.flows.len();
    let broken = short.use_all();
    ensure!(
        broken.len() == idled && broken.iter().all(|error| error.contains("reset")),
        "expected every idle flow to be reset: {broken:?}"
    );
    long.all_live()
}
