//! Names of the outside: asked of the service's own servers, from the node, and only where that is allowed.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family};
use essaim_netns_tests::names::{Answer, dig};
use essaim_netns_tests::{Scene, udp};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What every name stands for, as the server outside has it.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

/// A server outside of the cluster that answers every question with one address, and counts.
struct Upstream {
    asked: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    fn start(socket: UdpSocket) -> anyhow::Result<Self> {
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let (asked, ends) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (Arc::clone(&asked), Arc::clone(&ends));
        let serve = move || {
            let mut bytes = [0; 512];
            while !end.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut bytes) else {
                    continue;
                };
                count.fetch_add(1, Ordering::Relaxed);
                // A server that is not reached is what the test is about next; a lost answer is asked for again.
                let _ = socket.send_to(&answer(&bytes[..length]), from);
            }
        };
        Ok(Self {
            asked,
            ends,
            thread: Some(thread::spawn(serve)),
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // It ended by panicking, which was shown.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The question, with one answer: header, the one question as it was asked, and a record that points back at its name.
fn answer(question: &[u8]) -> Vec<u8> {
    let name = question[12..].iter().position(|byte| *byte == 0).unwrap_or(0);
    let end = 12 + name + 5;
    let mut reply = question[..end].to_vec();
    reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    reply.extend(OUTSIDE.octets());
    reply
}

#[test]
fn names_of_the_outside_are_asked_for_once_and_never_by_internal_services() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(1).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.network("data")?.internal = true;
    let server = cluster.address("c1", Family::V4)?;
    for (service, network) in [("out", "app"), ("closed", "data")] {
        catalog.service(service, &[network])?.dns.servers.push(server);
        catalog.task(service, "n1")?;
    }
    let socket = udp(&cluster, "c1", server, 53)?;
    let scene = Scene::start_idle(cluster, catalog)?;
    let upstream = Upstream::start(socket)?;
    let ask = |task: &str, name: &str| dig(&scene.cluster, task, name, "A", &["+time=6"]);
    for more in [&[][..], &["+tcp"]] {
        let found = dig(&scene.cluster, "out.1", "www.example.org", "A", more)?;
        ensure!(found == Answer::of([OUTSIDE]), "{found:?}");
    }
    ensure!(upstream.asked() == 1, "asked {} times", upstream.asked());
    let found = ask("closed.1", "www.example.org")?;
    ensure!(found == Answer::unknown(), "{found:?}");
    // A name of the cluster is never asked for outside, whatever its type.
    let found = dig(&scene.cluster, "out.1", "out", "MX", &[])?;
    ensure!(found == Answer::empty(), "{found:?}");
    ensure!(upstream.asked() == 1, "asked {} times", upstream.asked());
    drop(upstream);
    let failed = ask("out.1", "other.example.org").context("without the server outside")?;
    ensure!(failed.status == "SERVFAIL", "{failed:?}");
    let kept = ask("out.1", "www.example.org")?;
    ensure!(kept == Answer::of([OUTSIDE]), "{kept:?}");
    Ok(())
}
