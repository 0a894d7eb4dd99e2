//! A session of docker CLI 29 with a real engine, recorded, sent to ours: the statuses are the same, and so are the members
//! of what is answered and their types.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the test"
)]

mod support;

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use support::{Client, Server, TestEngine};

const SESSION: &str = include_str!("../testdata/cli-29.jsonl");

/// Members whose own members are names of things, not of the API.
const MAPS: &[&str] = &[
    "Labels",
    "Options",
    "Containers",
    "Services",
    "Subnets",
    "IndexConfigs",
    "Runtimes",
];

/// Members of Docker's that are not answered, and why that is so.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "/networks/Status",
        "how many addresses are used is the store's to know",
    ),
    ("/info/FirewallBackend", "no firewall is a client's matter"),
    ("/info/DiscoveredDevices", "no devices are discovered"),
    ("/info/Containerd", "no containerd is used"),
    ("/info/NRI", "no containerd is used"),
    (
        "/services/UpdateStatus",
        "the orchestrator writes it, and here is none",
    ),
    ("/version/Components/Details", "other components' details"),
    ("/nodes/Description/TLSInfo", "the node says it, and here is none"),
    (
        "/nodes/Description/Engine/Plugins",
        "the node says it, and here is none",
    ),
    ("/info/KernelMemory", "gone from later versions"),
    (
        "/info/RegistryConfig/AllowNondistributable",
        "gone from later versions",
    ),
    (
        "/info/Swarm/Cluster/TLSInfo/CertIssuer",
        "the test's cluster has no more",
    ),
    ("/swarm/TLSInfo/CertIssuer", "the test's cluster has no more"),
    (
        "/services/Spec/TaskTemplate/ContainerSpec/Privileges/",
        "always null; what was posted comes back",
    ),
];

/// Members that Docker's answers did not have at that moment.
const OURS: &[(&str, &str)] = &[
    ("/nodes/Description/Engine/Labels", "the test's node has some"),
    (
        "/services/Endpoint/Spec/Mode",
        "what it was allotted for, also where that needs nothing",
    ),
];

/// The name of an object of a list, where it has one that the session gave it.
fn name_of(object: &Value) -> Option<&str> {
    object["Spec"]["Name"].as_str().or(object["Name"].as_str())
}

/// What differs in members and types, as paths below `at`.
fn differences(at: &str, recorded: &Value, ours: &Value, found: &mut BTreeSet<String>) {
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(ours)) => members(at, recorded, ours, found),
        (Value::Array(recorded), Value::Array(ours)) => {
            // Objects are listed by their identities, which are random: each goes with the one of its name.
            for (place, recorded) in recorded.iter().enumerate() {
                let name = name_of(recorded);
                let same = |ours: &&Value| name_of(ours) == name;
                let ours = if name.is_some() {
                    ours.iter().find(same)
                } else {
                    ours.get(place)
                };
                match ours {
                    Some(ours) => differences(at, recorded, ours, found),
                    // Shorter lists are their makers' matter; of named objects each must be there.
                    None if name.is_none() => {}
                    None => {
                        found.insert(format!("{at} lacks {name:?}"));
                    }
                }
            }
        }
        // Docker writes `null` for an empty list or map, or the other way round.
        (Value::Null, Value::Object(_) | Value::Array(_) | Value::Null)
        | (Value::Object(_) | Value::Array(_), Value::Null)
        | (Value::Bool(_), Value::Bool(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::String(_), Value::String(_)) => {}
        _ => {
            found.insert(format!("{at} is {ours}, recorded {recorded}"));
        }
    }
}

fn members(at: &str, recorded: &Map<String, Value>, ours: &Map<String, Value>, found: &mut BTreeSet<String>) {
    if MAPS.iter().any(|map| at.ends_with(&format!("/{map}"))) {
        return;
    }
    let is_listed =
        |list: &[(&str, &str)], path: &str| list.iter().any(|(listed, _)| path.starts_with(listed));
    for (name, recorded) in recorded {
        let path = format!("{at}/{name}");
        match ours.get(name) {
            Some(ours) => differences(&path, recorded, ours, found),
            None if is_listed(LEFT_OUT, &path) => {}
            None => {
                found.insert(format!("{path} is absent"));
            }
        }
    }
    for name in ours.keys().filter(|name| !recorded.contains_key(*name)) {
        let path = format!("{at}/{name}");
        if !is_listed(OURS, &path) {
            found.insert(format!("{path} is not recorded"));
        }
    }
}

/// The session with our identities and versions in place of those that were recorded.
struct Replay {
    client: Client,
    ours_by_recorded: BTreeMap<String, String>,
}

impl Replay {
    fn translated(&self, text: &str) -> String {
        let each = self.ours_by_recorded.iter();
        each.fold(text.to_owned(), |text, (recorded, ours)| {
            text.replace(recorded, ours)
        })
    }

    /// The query, naming the version that the object has now.
    async fn query(&mut self, path: &str, query: &str) -> String {
        let query = self.translated(query);
        let Some(object) = path.strip_suffix("/update") else {
            return query;
        };
        let now = support::version(&self.client.get(object).await.ok());
        let parts = query.split('&').map(|part| {
            if part.starts_with("version=") {
                format!("version={now}")
            } else {
                part.to_owned()
            }
        });
        parts.collect::<Vec<_>>().join("&")
    }

    fn learn(&mut self, recorded: &Value, ours: &Value) {
        for (recorded, ours) in [
            (recorded, ours),
            (&recorded["ID"], &ours["ID"]),
            (&recorded["Id"], &ours["Id"]),
        ] {
            if let (Some(recorded), Some(ours)) = (recorded.as_str(), ours.as_str()) {
                self.ours_by_recorded.insert(recorded.to_owned(), ours.to_owned());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_session_is_answered_alike() {
    let server = Server::start(TestEngine::inactive());
    let mut replay = Replay {
        client: server.client().await,
        ours_by_recorded: BTreeMap::new(),
    };
    let mut found = BTreeSet::new();
    let mut compared = 0;
    for line in SESSION.lines() {
        let step: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| step[name].as_str().unwrap().to_owned();
        let path = replay.translated(&text("path"));
        let query = replay.query(&path, &text("query")).await;
        let body = replay.translated(&text("request"));
        let uri = format!("{path}?{query}");
        let answer = replay.client.send(&text("method"), &uri, body).await;
        assert_eq!(
            u64::from(answer.status),
            step["status"],
            "{} {uri}: {answer:?}",
            text("method")
        );
        let recorded = text("response");
        let (Ok(recorded), Ok(ours)) = (
            serde_json::from_str::<Value>(&recorded),
            serde_json::from_slice::<Value>(&answer.body),
        ) else {
            let is_empty = recorded.is_empty() && answer.body.is_empty();
            assert!(is_empty, "{uri}: {:?}, recorded {recorded:?}", answer.body);
            continue;
        };
        if answer.status == 201 || path.ends_with("/init") {
            replay.learn(&recorded, &ours);
        }
        let collection = path.split('/').nth(2).unwrap_or_default();
        differences(&format!("/{collection}"), &recorded, &ours, &mut found);
        compared += 1;
    }
    assert!(compared > 50, "{compared}");
    assert!(found.is_empty(), "{found:#?}");
}
