//! `essaim status` for people.

use crate::table::Align::{Left, Right};
use crate::table::{Table, bytes};
use essaim_agent::status::{Count, MemberHealth, ServiceStatus, Status, VtepWay};
use essaim_model::TaskState;
use std::fmt::{Display, Write};

/// The whole status, to be read at 100 columns.
pub(crate) fn show(status: &Status) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = match &status.agent {
        Some(agent) => writeln!(
            text,
            "node {}   revision {}   agent running (pid {}, {}, up {})",
            status.node,
            status.revision,
            agent.pid,
            agent.version,
            duration(agent.uptime_seconds)
        ),
        None => writeln!(
            text,
            "node {}   revision {}   agent NOT running: this is what the kernel and the last catalog say",
            status.node, status.revision
        ),
    };
    if !status.problems.is_empty() {
        text.push_str("\nPROBLEMS\n");
        for problem in &status.problems {
            let _ = writeln!(text, "  ! {}", problem.replace('\n', "\n    "));
        }
    }
    section(&mut text, "networks", &networks(status));
    for service in &status.services {
        show_service(&mut text, service);
    }
    section(&mut text, "published ports", &ports(status));
    section(&mut text, "members", &members(status));
    section(&mut text, "security associations", &associations(status));
    section(&mut text, "health checks", &checks(status));
    section(&mut text, "vteps", &vteps(status));
    section(&mut text, "resolver and gossip", &counters(status));
    section(&mut text, "drops", &drops(status));
    section(
        &mut text,
        &format!("maps ({} in all)", bytes(status.memory)),
        &maps(status),
    );
    text
}

fn section(text: &mut String, title: &str, table: &Table) {
    if !table.is_empty() {
        let _ = write!(text, "\n{title}\n{}", table.render(2));
    }
}

fn members(status: &Status) -> Table {
    let mut table = Table::new(&[("node", Left), ("state", Left), ("revision applied", Right)]);
    for (node, member) in status.members.iter().flatten() {
        let state = match member.state {
            MemberHealth::Up => "up",
            MemberHealth::Suspect => "suspect",
            MemberHealth::Down => "DOWN",
            MemberHealth::Unheard => "never heard of",
        };
        let revision = member
            .revision
            .map_or_else(String::new, |revision| revision.to_string());
        table.row([node.to_string(), state.to_owned(), revision]);
    }
    table
}

fn associations(status: &Status) -> Table {
    let columns = [
        ("peer", Left),
        ("", Left),
        ("SPI", Right),
        ("key generation", Right),
        ("age", Right),
        ("packets", Right),
        ("replayed", Right),
        ("forged", Right),
        ("", Left),
    ];
    let mut table = Table::new(&columns);
    for sa in &status.ipsec {
        table.row([
            sa.peer
                .as_ref()
                .map_or_else(|| sa.vtep.to_string(), ToString::to_string),
            if sa.inbound { "from" } else { "to" }.to_owned(),
            format!("{:#010x}", sa.spi),
            sa.generation
                .map_or_else(|| "earlier run".to_owned(), |generation| generation.to_string()),
            format!("{} s", sa.age_seconds),
            sa.packets.to_string(),
            sa.replayed.to_string(),
            sa.forged.to_string(),
            if sa.in_use { "" } else { "replaced" }.to_owned(),
        ]);
    }
    table
}

fn counters(status: &Status) -> Table {
    let mut table = Table::new(&[("what", Left), ("count", Right)]);
    for (name, count) in &status.counters {
        table.row([name.clone(), count.to_string()]);
    }
    table
}

fn checks(status: &Status) -> Table {
    let columns = [
        ("task", Left),
        ("health", Left),
        ("failed in a row", Right),
        ("last problem", Left),
    ];
    let mut table = Table::new(&columns);
    for (task, check) in &status.checks {
        let problem = check.problem.as_deref().unwrap_or_default();
        let first = problem.lines().next().unwrap_or_default();
        table.row([
            task.to_string(),
            check.health.clone(),
            check.failing.to_string(),
            first.to_owned(),
        ]);
    }
    table
}

fn networks(status: &Status) -> Table {
    let columns = [
        ("network", Left),
        ("vni", Right),
        ("subnets", Left),
        ("endpoints here", Right),
        ("", Left),
    ];
    let mut table = Table::new(&columns);
    for network in &status.networks {
        table.row([
            network.name.to_string(),
            network.vni.to_string(),
            joined(&network.subnets),
            network.endpoints_here.to_string(),
            if network.internal {
                "internal".to_owned()
            } else {
                String::new()
            },
        ]);
    }
    table
}

fn show_service(text: &mut String, service: &ServiceStatus) {
    let _ = writeln!(text, "\nservice {}", service.name);
    let counters = [("packets", Right), ("bytes", Right), ("flows", Right)];
    let columns = [("through", Left), ("vips", Left), ("active", Right)];
    let mut groups = Table::new(&[columns, counters].concat());
    for group in &service.groups {
        let [packets, size, flows] = counted(&group.count);
        let vips = joined(&group.vips);
        groups.row([
            group.through.clone(),
            vips,
            group.active.to_string(),
            packets,
            size,
            flows,
        ]);
    }
    let columns = [
        ("task", Left),
        ("state", Left),
        ("node", Left),
        ("network", Left),
        ("addresses", Left),
    ];
    let mut backends = Table::new(&[columns.as_slice(), counters.as_slice()].concat());
    for backend in &service.backends {
        let [packets, size, flows] = counted(&backend.count);
        backends.row([
            backend.task.to_string(),
            state(backend.state).to_owned(),
            backend.node.to_string(),
            backend.network.to_string(),
            joined(&backend.addresses),
            packets,
            size,
            flows,
        ]);
    }
    for table in [groups, backends].iter().filter(|table| !table.is_empty()) {
        text.push_str(&table.render(2));
    }
}

const fn state(state: TaskState) -> &'static str {
    match state {
        TaskState::Starting => "starting",
        TaskState::Ready => "ready",
        TaskState::Draining => "draining",
        TaskState::Gone => "gone",
    }
}

fn ports(status: &Status) -> Table {
    let columns = [
        ("port", Left),
        ("service", Left),
        ("target", Right),
        ("mode", Left),
        ("replies", Left),
        ("state", Left),
    ];
    let mut table = Table::new(&columns);
    for port in &status.ports {
        table.row([
            port.port.to_string(),
            port.service.to_string(),
            port.target.to_string(),
            if port.host { "host" } else { "ingress" }.to_owned(),
            if port.dsr { "dsr" } else { "tunnel" }.to_owned(),
            port.hold.to_string(),
        ]);
    }
    table
}

fn vteps(status: &Status) -> Table {
    let mut table = Table::new(&[("node", Left), ("address", Left), ("way", Left)]);
    for vtep in &status.vteps {
        let way = match vtep.way {
            VtepWay::Own => "this node",
            VtepWay::Resolved => "resolved",
            VtepWay::Unresolved => "unresolved (through the kernel's VXLAN device)",
        };
        table.row([vtep.node.to_string(), vtep.address.to_string(), way.to_owned()]);
    }
    table
}

fn drops(status: &Status) -> Table {
    let mut table = Table::new(&[
        ("reason", Left),
        ("packets", Right),
        ("bytes", Right),
        ("meaning", Left),
    ]);
    for drop in &status.drops {
        table.row([
            drop.reason.clone(),
            drop.packets.to_string(),
            bytes(drop.bytes),
            drop.text.clone(),
        ]);
    }
    table
}

fn maps(status: &Status) -> Table {
    let mut table = Table::new(&[
        ("map", Left),
        ("used", Right),
        ("capacity", Right),
        ("full", Right),
        ("memory", Right),
    ]);
    for map in &status.maps {
        let percent = map
            .used
            .saturating_mul(100)
            .checked_div(map.capacity)
            .unwrap_or(0);
        table.row([
            map.map.clone(),
            map.used.to_string(),
            map.capacity.to_string(),
            format!("{percent} %"),
            bytes(map.bytes),
        ]);
    }
    table
}

fn counted(count: &Count) -> [String; 3] {
    [
        count.packets.to_string(),
        bytes(count.bytes),
        count.flows.to_string(),
    ]
}

fn joined(items: &[impl Display]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A time in its two largest units.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    if days > 0 {
        format!("{days}d {hours}h")
    } else if hours > 0 {
        format!("{hours}h {minutes}m")
    } else if minutes > 0 {
        format!("{minutes}m {}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

#[cfg(test)]
mod tests;
