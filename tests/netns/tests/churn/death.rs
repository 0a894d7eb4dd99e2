//! Backends that are gone of a sudden.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family, eventually, netns};
use essaim_model::{NodeState, TaskState};
use essaim_netns_tests::datagram::{ask_once, socket};
use essaim_netns_tests::held::Held;
use essaim_netns_tests::site::{CLIENT, ECHO, SOON, Site, UDP_ECHO};
use std::time::{Duration, Instant};

/// Less than a read that nobody answers.
const NOBODY_HANGS: Duration = Duration::from_secs(5);

fn site() -> anyhow::Result<(Site, Held)> {
    let site = Site::web(ClusterBuilder::new(), &[ECHO, UDP_ECHO], &["n2", "n3", "n3"])?;
    let mut held = Held::default();
    for family in Family::BOTH {
        let target = site.at("n1", ECHO.published, family)?;
        held.flows
            .extend(Held::open(&site.cluster, CLIENT, target, 48)?.flows);
    }
    Ok((site, held))
}

fn reset(mut orphans: Held) -> anyhow::Result<()> {
    let count = orphans.flows.len();
    ensure!(count > 0, "no connection was on the backend that died");
    let begun = Instant::now();
    let broken = orphans.use_all();
    ensure!(
        broken.len() == count && broken.iter().all(|error| error.contains("reset")),
        "expected {count} resets: {broken:?}"
    );
    ensure!(begun.elapsed() < NOBODY_HANGS, "it took {:?}", begun.elapsed());
    Ok(())
}

#[test]
fn clients_of_a_dead_task_are_reset_and_others_stay() -> anyhow::Result<()> {
    let (mut site, mut held) = site()?;
    let orphans = held.split_off("web.2");
    // Its process hangs: it says no goodbye of its own.
    let pid = site.cluster.task_pid("web.2").context("web.2 runs")?;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.try_into()?),
        nix::sys::signal::Signal::SIGSTOP,
    )?;
    site.set_state("web.2", TaskState::Gone)?;
    reset(orphans)?;
    held.all_live()?;
    // Taken out as a whole, its later packets find nobody either.
    site.catalog.remove_task("web.2")?;
    site.apply()?;
    held.all_live()
}

#[test]
fn clients_of_a_dead_node_are_reset_and_others_stay() -> anyhow::Result<()> {
    let (mut site, mut held) = site()?;
    let orphans = held.split_off("web.1");
    site.cluster.unplug("n2")?;
    site.cluster.kill_agent("n2")?;
    site.catalog
        .catalog_mut()
        .nodes
        .iter_mut()
        .filter(|node| node.name.as_str() == "n2")
        .for_each(|node| node.state = NodeState::Down);
    site.cluster.write_catalog(&mut site.catalog)?;
    for node in ["n1", "n3"] {
        site.cluster.wait_node_ready(node, SOON)?;
    }
    reset(orphans)?;
    held.all_live()?;
    for family in Family::BOTH {
        let target = site.at("n1", ECHO.published, family)?;
        Held::open(&site.cluster, CLIENT, target, 16)?.all_live()?;
    }
    Ok(())
}

#[test]
fn datagrams_move_at_once_off_a_dead_task() -> anyhow::Result<()> {
    let (mut site, _held) = site()?;
    let mut clients = Vec::new();
    for family in Family::BOTH {
        let target = site.at("n1", UDP_ECHO.published, family)?;
        netns::inside(&site.cluster.netns(CLIENT), || {
            for _ in 0..12 {
                let socket = socket(0, target)?;
                let task = eventually(SOON, "first answer", || ask_once(&socket, b"hello"))?.task;
                clients.push((socket, task));
            }
            Ok(())
        })?;
    }
    let victims = clients.iter().filter(|(_, task)| task == "web.2").count();
    ensure!(victims > 0, "no client is at web.2");
    site.set_state("web.2", TaskState::Gone)?;
    for (socket, task) in &clients {
        // Not one datagram is lost: this one is not sent again.
        let now = ask_once(socket, b"hello")
            .with_context(|| format!("a client of {task}"))?
            .task;
        if task == "web.2" {
            ensure!(now != "web.2", "a dead task answered");
        } else {
            ensure!(now == *task, "moved from {task} to {now}, which both live");
        }
    }
    Ok(())
}
