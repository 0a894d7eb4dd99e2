//! A service that nobody stands behind is refused at once.

use anyhow::ensure;
use essaim_lab::{ClusterBuilder, Family, netns, tries};
use essaim_model::TaskState;
use essaim_netns_tests::datagram::{ask_once, socket};
use essaim_netns_tests::site::{CLIENT, ECHO, Site, UDP_ECHO};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What counts as at once: less than the first retransmission of a SYN.
const AT_ONCE: Duration = Duration::from_millis(900);

fn refused(site: &Site, target: SocketAddr) -> anyhow::Result<()> {
    // Where a question or the answer to it was lost on purpose, the next one is answered.
    let mut result = refused_at_once(site, target);
    for _ in 1..tries()? {
        result = result.or_else(|_| refused_at_once(site, target));
    }
    result
}

fn refused_at_once(site: &Site, target: SocketAddr) -> anyhow::Result<()> {
    netns::inside(&site.cluster.netns(CLIENT), || {
        let begun = Instant::now();
        let result = TcpStream::connect_timeout(&target, Duration::from_secs(5));
        let kind = result.as_ref().err().map(std::io::Error::kind);
        ensure!(
            kind == Some(ErrorKind::ConnectionRefused),
            "connect to {target}: {result:?}"
        );
        let answer =
            ask_once(&socket(0, target)?, b"anybody?").map_err(|error| error.root_cause().to_string());
        ensure!(
            answer.as_ref().is_err_and(|error| error.contains("refused")),
            "datagram to {target}: {answer:?}"
        );
        ensure!(
            begun.elapsed() < AT_ONCE,
            "refused only after {:?}",
            begun.elapsed()
        );
        Ok(())
    })
}

#[test]
fn a_service_without_a_backend_is_refused_at_once() -> anyhow::Result<()> {
    let mut site = Site::web(ClusterBuilder::new().nodes(2), &[ECHO, UDP_ECHO], &["n2"])?;
    site.set_state("web.1", TaskState::Gone)?;
    for family in Family::BOTH {
        for node in ["n1", "n2"] {
            refused(&site, site.at(node, ECHO.published, family)?)?;
        }
    }
    // Not even the memory of a task is left.
    site.catalog.remove_task("web.1")?;
    site.catalog.service_mut("web")?.history.clear();
    site.apply()?;
    for family in Family::BOTH {
        for node in ["n1", "n2"] {
            refused(&site, site.at(node, ECHO.published, family)?)?;
        }
    }
    Ok(())
}
