//! What is seen of a cluster at rest: addresses, spread, and how what is not there is refused.

use crate::Seen;
use crate::stage::{CLIENT, HTTP, MANAGER, NOBODY, SIX, Stage, UDP_ECHO};
use anyhow::Context as _;
use essaim_lab::Family;
use essaim_lab::peer::LoadReport;
use std::net::SocketAddr;

/// How many requests tell the address that is seen, and the spread.
const REQUESTS: u32 = 40;

/// What the server saw, and who served.
fn told(report: &LoadReport, own: &str, family: Family) -> Seen {
    let seen: Vec<String> = report
        .by_seen
        .iter()
        .map(|(seen, count)| format!("{seen} ({count} times)"))
        .collect();
    let spread: Vec<String> = report
        .by_name
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let mut text = format!(
        "{} of {REQUESTS} answered; server sees {}, client is {own}; spread {}",
        report.ok,
        seen.join(", "),
        spread.join(", ")
    );
    if let Some(failure) = report.failures.first() {
        text += &format!("; over {family:?}: {}", failure.error);
    }
    let all = report.failed == 0 && report.by_name.len() == 2;
    Seen::new(all && report.by_seen.keys().eq([own]), text)
}

fn tcp(stage: &Stage, node: &str, family: Family) -> anyhow::Result<Seen> {
    let report = stage.ask(CLIENT, stage.at(node, family, HTTP)?, REQUESTS)?;
    Ok(told(&report, &stage.client(family)?, family))
}

pub(crate) fn tcp_with_a_task(stage: &Stage) -> anyhow::Result<Seen> {
    tcp(stage, "n2", Family::V4)
}

pub(crate) fn tcp_without_a_task(stage: &Stage) -> anyhow::Result<Seen> {
    tcp(stage, MANAGER, Family::V4)
}

fn over_ipv6(stage: &Stage, port: u16) -> anyhow::Result<Seen> {
    // Each may be waited for in vain.
    let report = stage.ask(CLIENT, stage.at(MANAGER, Family::V6, port)?, 4)?;
    let client = stage.client(Family::V6)?;
    let failure = report
        .failures
        .first()
        .map_or("none failed", |failure| &failure.error);
    let seen: Vec<&str> = report.by_seen.keys().map(String::as_str).collect();
    let text = format!(
        "{} of 4 answered, server sees {seen:?}, client is {client}; {failure}",
        report.ok
    );
    Ok(Seen::new(report.ok == 4 && seen == [client], text))
}

/// The network has no IPv6, so that Essaim does not promise it either.
pub(crate) fn tcp_over_ipv6(stage: &Stage) -> anyhow::Result<Seen> {
    let seen = over_ipv6(stage, HTTP)?;
    Ok(Seen::new(true, seen.text))
}

pub(crate) fn tcp_over_ipv6_of_both_families(stage: &Stage) -> anyhow::Result<Seen> {
    let made = stage.docker(&[
        "network",
        "create",
        "--driver",
        "overlay",
        "--ipv6",
        "--subnet",
        "fd42:7::/64",
        "six",
    ]);
    if let Err(error) = made {
        return Ok(Seen::new(false, format!("network create is refused: {error:#}")));
    }
    let publish = format!("{SIX}:80");
    let options = [
        "--network",
        "six",
        "--publish",
        &publish,
        "--constraint",
        "node.role==worker",
    ];
    stage.serve("six", &options, "whoami")?;
    let seen = stage.runs("six", 1).and_then(|_| {
        // Without a check a task runs before it listens.
        stage.answers(SIX, 1)?;
        over_ipv6(stage, SIX)
    });
    stage.docker(&["service", "rm", "six"])?;
    seen
}

fn udp(stage: &Stage, node: &str) -> anyhow::Result<Seen> {
    let target = stage.at(node, Family::V4, UDP_ECHO)?.to_string();
    let count = REQUESTS.to_string();
    let line = [
        "udp-probe",
        "--fresh",
        "--target",
        &target,
        "--count",
        &count,
        "--timeout-ms",
        "3000",
    ];
    let report: LoadReport = stage.lab.peer(CLIENT, &line)?.json()?;
    Ok(told(&report, &stage.client(Family::V4)?, Family::V4))
}

pub(crate) fn udp_with_a_task(stage: &Stage) -> anyhow::Result<Seen> {
    udp(stage, "n2")
}

pub(crate) fn udp_without_a_task(stage: &Stage) -> anyhow::Result<Seen> {
    udp(stage, MANAGER)
}

pub(crate) fn vip(stage: &Stage) -> anyhow::Result<Seen> {
    let user = stage.runs("user", 1)?;
    let own = user[0]
        .addresses
        .first()
        .context("a container without an address")?;
    let report = stage.ask("user", SocketAddr::new(stage.vip("web")?, 80), REQUESTS)?;
    Ok(told(&report, own, Family::V4))
}

pub(crate) fn ping(stage: &Stage) -> anyhow::Result<Seen> {
    let vip = stage.vip("web")?.to_string();
    let (answered, said) = stage.in_user(&["ping", "-c", "3", "-W", "3", &vip])?;
    let line = said.lines().find(|line| line.contains("packets transmitted"));
    Ok(Seen::new(answered, line.unwrap_or(said.trim())))
}

pub(crate) fn mtu(stage: &Stage) -> anyhow::Result<Seen> {
    let vip = stage.vip("web")?.to_string();
    let script =
        format!("d=$(ip route get {vip} | sed -n 's/.* dev \\([^ ]*\\).*/\\1/p'); cat /sys/class/net/$d/mtu");
    let (_, said) = stage.in_user(&["sh", "-c", &script])?;
    Ok(Seen::new(said.trim() == "1450", said.trim()))
}

/// Datagrams that the underlay carries, but no tunnel in it, with the bit that forbids to fragment them on the way; the answers
/// are longer than the container's own MTU.
pub(crate) fn datagrams_too_large(stage: &Stage) -> anyhow::Result<Seen> {
    let target = stage.at(MANAGER, Family::V4, UDP_ECHO)?.to_string();
    let line = [
        "udp-probe",
        "--target",
        &target,
        "--count",
        "10",
        "--timeout-ms",
        "3000",
        "--size",
        "1460",
    ];
    let report: LoadReport = stage.lab.peer(CLIENT, &line)?.json()?;
    let failures: Vec<&str> = report
        .failures
        .iter()
        .map(|failure| failure.error.as_str())
        .collect();
    let text = format!("{} of 10 answered; failures: {}", report.ok, failures.join(", "));
    Ok(Seen::new(report.ok > 0, text))
}

/// How requests to where nobody is end.
fn refused(stage: &Stage, from: &str, target: SocketAddr) -> anyhow::Result<Seen> {
    let report = stage.ask(from, target, 2)?;
    let failure = report.failures.first().context("it was answered")?;
    let each = report.millis / 2;
    let text = format!(
        "{} of 2 failed: {}; {each} ms each (5000 is the client's patience)",
        report.failed, failure.error
    );
    Ok(Seen::new(report.failed == 2 && each < 4000, text))
}

pub(crate) fn port_without_tasks(stage: &Stage) -> anyhow::Result<Seen> {
    refused(stage, CLIENT, stage.at(MANAGER, Family::V4, NOBODY)?)
}

pub(crate) fn vip_without_tasks(stage: &Stage) -> anyhow::Result<Seen> {
    refused(stage, "user", SocketAddr::new(stage.vip("none")?, 80))
}
