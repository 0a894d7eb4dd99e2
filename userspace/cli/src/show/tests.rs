use super::*;
use essaim_agent::PortHold;
use essaim_agent::holder::{HeldPort, PortOwner};
use essaim_agent::status::{AgentStatus, CheckStatus, DropStatus, Known, MapStatus, MemberStatus, Readings};
use essaim_model::{Catalog, Liveness, NodeName, TaskId, example, plan};
use std::collections::{BTreeMap, BTreeSet};

fn status(agent: Option<AgentStatus>, problems: Vec<String>) -> Status {
    let catalog = Catalog::parse(example()).unwrap();
    let desired = plan(&catalog, &Liveness::of(&catalog), &NodeName::new("n1").unwrap()).unwrap();
    let count = Count {
        packets: 1200,
        bytes: 1_536_000,
        flows: 12,
    };
    let port: HeldPort = "tcp/8080".parse().unwrap();
    let owner = Some(PortOwner {
        pid: 4711,
        name: "nginx".into(),
    });
    let readings = Readings {
        groups: desired
            .services
            .values()
            .flat_map(|plan| plan.groups.keys().map(|key| (key.clone(), count)))
            .collect(),
        backends: BTreeMap::new(),
        drops: vec![DropStatus {
            reason: "NotMember".into(),
            text: "No member.".into(),
            packets: 3,
            bytes: 300,
        }],
        resolved: BTreeSet::from(["192.168.50.12".parse().unwrap()]),
        maps: vec![MapStatus {
            map: "FLOWS".into(),
            used: 262_144,
            capacity: 524_288,
            bytes: 1 << 20,
        }],
        memory: 60 << 20,
    };
    let ports = BTreeMap::from([(port, PortHold::InUse { owner })]);
    let node = |name| NodeName::new(name).unwrap();
    let member = |state, revision| MemberStatus {
        state,
        epoch: 1,
        revision,
    };
    let members = BTreeMap::from([
        (node("n1"), member(MemberHealth::Up, Some(1))),
        (node("n2"), member(MemberHealth::Down, None)),
    ]);
    let check = CheckStatus {
        health: "unhealthy".into(),
        failing: 3,
        problem: Some("exit status 1: no\nanswer".into()),
    };
    let checks = BTreeMap::from([(TaskId::new("web.1").unwrap(), check)]);
    Status::new(
        &catalog,
        &desired,
        Known {
            agent,
            problems,
            ports,
            members: Some(members),
            ipsec: Vec::new(),
            checks,
            counters: BTreeMap::from([("gossip datagrams sent".into(), 12)]),
            readings: Some(&readings),
        },
    )
}

fn agent() -> AgentStatus {
    AgentStatus {
        pid: 42,
        version: "0.1.0".into(),
        uptime_seconds: 3725,
        catalog: "/etc/essaim.toml".into(),
        holder_pid: Some(43),
    }
}

#[test]
fn the_status_tells_everything_within_100_columns() {
    let text = show(&status(Some(agent()), vec!["port tcp/8080 is in use".into()]));
    for part in [
        "node n1   revision 1   agent running (pid 42, 0.1.0, up 1h 2m)",
        "  ! port tcp/8080 is in use",
        "  app      100  10.0.1.0/24 fd00:1::/64               2",
        "service web",
        "10.0.1.2 fd00:1::2",
        "  web.2  ready  n2    app      10.0.1.12 fd00:1::12        0    0 B      0",
        "tcp/8080  web          80  ingress  tunnel   in use by nginx (pid 4711)",
        "  n1    192.168.50.11  this node",
        "  n2    192.168.50.12  resolved",
        "  n3    192.168.50.13  unresolved (through the kernel's VXLAN device)",
        "  n2    DOWN",
        "  web.1  unhealthy                3  exit status 1: no",
        "gossip datagrams sent     12",
        "NotMember        3  300 B  No member.",
        "maps (60.0 MiB in all)",
        "FLOWS  262144    524288  50 %  1.0 MiB",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 100, "{widest} columns in\n{text}");
}

#[test]
fn without_an_agent_it_says_so() {
    assert!(show(&status(None, vec![])).starts_with("node n1   revision 1   agent NOT running"));
}

#[test]
fn the_status_reads_back_as_written() {
    let status = status(Some(agent()), vec![]);
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
}

#[test]
fn durations_show_two_units() {
    for (seconds, text) in [(9, "9s"), (61, "1m 1s"), (7322, "2h 2m"), (100_000, "1d 3h")] {
        assert_eq!(duration(seconds), text);
    }
}
