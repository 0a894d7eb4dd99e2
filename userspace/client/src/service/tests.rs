//! The bodies that the docker CLI 28.2.2 sends for the same flags are in the fixtures, as differences from a base.

use super::follow::since_seconds;
use super::names::Names;
use super::*;
use clap::Parser;
use essaim_objects::Timestamp;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

#[derive(clap::Parser)]
struct Program {
    #[command(subcommand)]
    command: ServiceCommand,
}

fn here(name: &str) -> Option<String> {
    match name {
        "SETVAR" => Some("yes".to_owned()),
        "HOME" => Some("/home/u".to_owned()),
        _ => None,
    }
}

/// The identity that the fixtures' daemon gives to everything of a name.
fn identity(name: &str) -> String {
    format!("{name:0<25}")
}

fn names(references: &References) -> Names {
    let pairs = |names: &BTreeSet<String>| {
        names
            .iter()
            .map(|name| (name.clone(), identity(name)))
            .collect::<BTreeMap<_, _>>()
    };
    Names {
        networks: pairs(&references.networks),
        secrets: pairs(&references.secrets)
            .into_iter()
            .map(|(name, id)| (name, id.parse().unwrap()))
            .collect(),
        configs: pairs(&references.configs)
            .into_iter()
            .map(|(name, id)| (name, id.parse().unwrap()))
            .collect(),
    }
}

/// The members that differ; null where one is gone.
fn diff(before: &Value, after: &Value, place: &str, found: &mut Map<String, Value>) {
    let (Value::Object(a), Value::Object(b)) = (before, after) else {
        if before != after {
            found.insert(place.to_owned(), after.clone());
        }
        return;
    };
    for name in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
        let place = if place.is_empty() {
            name.clone()
        } else {
            format!("{place}.{name}")
        };
        match (a.get(name), b.get(name)) {
            (Some(a), Some(b)) => diff(a, b, &place, found),
            (_, other) => drop(found.insert(place, other.cloned().unwrap_or_default())),
        }
    }
}

fn differences(before: &Value, after: &Value) -> Value {
    let mut found = Map::new();
    diff(before, after, "", &mut found);
    Value::Object(found)
}

fn cases(text: &str) -> Vec<(Vec<String>, Value)> {
    let case = |line: &str| {
        let case: Value = serde_json::from_str(line).unwrap();
        let args = case["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|word| word.as_str().unwrap().to_owned())
            .collect();
        (args, case)
    };
    text.lines().map(case).collect()
}

fn parse(words: &[String]) -> Result<ServiceCommand, String> {
    let words = std::iter::once("essaim".to_owned()).chain(words.iter().cloned());
    Program::try_parse_from(words)
        .map(|program| program.command)
        .map_err(|error| error.to_string())
}

fn created(args: &[String]) -> Result<ServiceSpec, String> {
    let ServiceCommand::Create(args) = parse(&[&["create".to_owned()], args].concat())? else {
        return Err("not create".to_owned());
    };
    let mut from_files = Vec::new();
    for path in &args.env_file {
        assert_eq!(path, "env.txt");
        let text = "# comment\nFROMFILE=1\n\nHOME\nA=file\nNOTSET\n";
        let variables = essaim_compose::env_file(text, here).map_err(|error| error.to_string())?;
        from_files.extend(variables.iter().map(|(name, value)| format!("{name}={value}")));
    }
    args.to_spec(&names(&args.references()), &from_files, here)
        .map_err(|error| error.to_string())
}

const LEAST: &str = r#"{"Labels":{},"TaskTemplate":{"ContainerSpec":{"Image":"host","Init":false,"DNSConfig":{}},
"Resources":{"Limits":{},"Reservations":{}},"Placement":{},"ForceUpdate":0},"Mode":{"Replicated":{}},"EndpointSpec":{"Mode":"vip"}}"#;

/// What docker takes and its daemon then refuses, or ignores, is refused here.
const STRICTER_CREATE: &[&str] = &[
    "--endpoint-mode foo host",
    "--mount type=image,src=i,dst=/b,image-subpath=q host",
    "--mount type=foo,dst=/b host",
    "--restart-condition foo host",
    "--update-order foo host",
    "--update-failure-action foo host",
    "--log-opt a=b host",
    "--stop-grace-period -1s host",
    "--mount type=bind,src=/a,dst=/b,bind-recursive=disabled host",
];

#[test]
fn create_sends_what_docker_sends() {
    let least: Value = serde_json::from_str(LEAST).unwrap();
    let mut stricter = 0;
    for (args, case) in cases(include_str!("../../tests/fixtures/create.jsonl")) {
        let found = created(&args).map(|spec| differences(&least, &serde_json::to_value(spec).unwrap()));
        let line = args.join(" ");
        if STRICTER_CREATE.contains(&line.as_str()) {
            assert!(found.is_err(), "{line}: {found:?}");
            stricter += 1;
        } else if case["error"].is_string() {
            assert!(found.is_err(), "{line}: {found:?}");
        } else {
            assert_eq!(found, Ok(case["diff"].clone()), "{line}");
        }
    }
    assert_eq!(stricter, STRICTER_CREATE.len());
}

/// The cases that are other than docker's on purpose, by base and flags, with what is changed here, or null where the
/// flags are refused.
fn on_purpose(base: &str, line: &str) -> Option<Value> {
    let s1 = |target: &str| serde_json::json!({"File": {"Name": target, "UID": "0", "GID": "0", "Mode": 292}, "SecretID": identity("s1"), "SecretName": "s1"});
    let new = serde_json::json!({"Type": "bind", "Source": "/new", "Target": "/t"});
    Some(match (base, line) {
        // Docker removes what it has just added.
        ("web", "--mount-rm /t --mount-add type=bind,src=/new,dst=/t") => {
            serde_json::json!({"TaskTemplate.ContainerSpec.Mounts": [new, {"Type": "volume", "Source": "v", "Target": "/v"}]})
        }
        ("min" | "bare" | "job", "--mount-rm /t --mount-add type=bind,src=/new,dst=/t") => {
            serde_json::json!({"TaskTemplate.ContainerSpec.Mounts": [new]})
        }
        // Docker removes no port of mode host.
        ("web", "--publish-rm 53/udp") => serde_json::json!({"EndpointSpec.Ports":
            [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"}]}),
        // Docker mounts the same file twice, which its daemon refuses.
        ("web", "--secret-add s1") => serde_json::json!({}),
        ("web", "--config-add source=c2,target=c1") => {
            serde_json::json!({"TaskTemplate.ContainerSpec.Configs":
            [{"File": {"Name": "c1", "UID": "0", "GID": "0", "Mode": 292}, "ConfigID": identity("c2"), "ConfigName": "c2"}]})
        }
        ("web", "--secret-add source=s1,target=other") => {
            serde_json::json!({"TaskTemplate.ContainerSpec.Secrets": [s1("s1"), s1("other")]})
        }
        // Docker gives the same constraint twice.
        ("web", "--constraint-add node.role==manager") => {
            serde_json::json!({"TaskTemplate.Placement.Constraints": ["node.labels.x==y", "node.role==manager"]})
        }
        // Docker adds an empty member.
        ("bare", "--limit-cpu 2 --limit-memory 1g --limit-pids 7") => {
            serde_json::json!({"TaskTemplate.Resources": {"Limits": {"NanoCPUs": 2_000_000_000, "MemoryBytes": 1_073_741_824, "Pids": 7}}})
        }
        // Docker forgets the start interval.
        ("web", "--health-start-interval 1s --health-timeout 2s --health-start-period 5s") => {
            serde_json::json!({
            "TaskTemplate.ContainerSpec.Healthcheck.StartInterval": 1_000_000_000, "TaskTemplate.ContainerSpec.Healthcheck.StartPeriod": 5_000_000_000_u64,
            "TaskTemplate.ContainerSpec.Healthcheck.Timeout": 2_000_000_000})
        }
        ("min", "--health-start-interval 1s --health-timeout 2s --health-start-period 5s") => {
            serde_json::json!({
            "TaskTemplate.ContainerSpec.Healthcheck": {"StartInterval": 1_000_000_000, "StartPeriod": 5_000_000_000_u64, "Timeout": 2_000_000_000}})
        }
        // Docker ignores what the mode does not have, and options without a driver; and it changes the update of a job,
        // which its daemon refuses.
        ("web" | "min" | "bare", "--max-concurrent 3" | "--replicas 6 --max-concurrent 3")
        | (_, "--log-opt a=b")
        | ("job", "--update-parallelism 3" | "--rollback-parallelism 3") => Value::Null,
        ("job", "--max-concurrent 3") => serde_json::json!({"Mode.ReplicatedJob.MaxConcurrent": 3}),
        _ => return None,
    })
}

#[test]
fn update_sends_what_docker_sends() {
    let bases: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("../../tests/fixtures/bases.json")).unwrap();
    let mut others = Vec::new();
    for (args, case) in cases(include_str!("../../tests/fixtures/update.jsonl")) {
        let name = case["base"].as_str().unwrap();
        let base = &bases[name];
        let words = [&["update".to_owned()], args.as_slice(), &[name.to_owned()]].concat();
        let line = args.join(" ");
        let found = parse(&words).and_then(|command| {
            let ServiceCommand::Update(update) = command else {
                return Err("not update".to_owned());
            };
            update.check_rollback().map_err(|error| error.to_string())?;
            let spec: ServiceSpec = serde_json::from_value(base.clone()).unwrap();
            if update.rollback {
                return Ok(serde_json::json!({}));
            }
            let mut names = names(&update.references());
            names.networks.extend(
                update
                    .removed_networks()
                    .iter()
                    .map(|name| (name.clone(), identity(name))),
            );
            let changed = update
                .apply(&spec, &names, here)
                .map_err(|error| error.to_string())?;
            Ok(differences(base, &serde_json::to_value(changed).unwrap()))
        });
        let expected = match on_purpose(name, &line) {
            Some(expected) => expected,
            // Docker refuses it beside --no-resolve-image, with which the fixtures were made.
            None if line == "--rollback" => serde_json::json!({}),
            None => case["diff"].clone(),
        };
        let agrees = if expected.is_null() {
            found.is_err()
        } else {
            found.as_ref() == Ok(&expected)
        };
        if !agrees {
            others.push(format!("{name} {line}\n found {found:?}\n expected {expected}"));
        }
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
}

#[test]
fn refusals_name_the_flag_what_was_found_and_what_is_expected() {
    let refused = |line: &str| created(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap_err();
    let cases = [
        (
            "--limit-cpu x host",
            "invalid value 'x' for '--limit-cpu <CPUS>': expected a number of processors such as 1.5, with at most nine decimals",
        ),
        (
            "-p 80:80/icmp host",
            "invalid value '80:80/icmp' for '--publish <PORT>': expected tcp, udp or sctp as the protocol",
        ),
        (
            "--update-order up host",
            "invalid value 'up' for '--update-order <ORDER>': expected stop-first, start-first",
        ),
        (
            "--mount type=nfs,dst=/x host",
            "invalid value 'type=nfs,dst=/x' for '--mount <MOUNT>': expected type=bind or volume or tmpfs",
        ),
        (
            "--secret s --secret s host",
            "--secret: target s is given twice, expected one for each target",
        ),
        ("--mode all host", "invalid value 'all' for '--mode <MODE>'"),
    ];
    for (line, expected) in cases {
        let found = refused(line);
        assert!(found.contains(expected), "{line}: {found}");
    }
    assert!(refused("--nope host").contains("unexpected argument '--nope' found"));
}

#[test]
fn what_comes_after_the_image_is_the_tasks() {
    let words = ["--name", "a", "host", "--name", "b", "-p", "1"].map(str::to_owned);
    let spec = created(&words).unwrap();
    assert_eq!(spec.name(), "a");
    assert_eq!(
        spec.task_template
            .container
            .as_ref()
            .unwrap()
            .args
            .clone()
            .unwrap(),
        ["--name", "b", "-p", "1"]
    );
}

#[test]
fn members_that_are_not_known_survive_an_update() {
    let spec: ServiceSpec = serde_json::from_value(serde_json::json!({"Name": "x", "New": [1], "TaskTemplate": {"ContainerSpec": {"Image": "host", "Newer": {"a": null}}, "Newest": true}})).unwrap();
    let words = [
        "update",
        "--env-add",
        "A=1",
        "--mount-add",
        "type=tmpfs,dst=/t",
        "--publish-add",
        "80",
        "x",
    ]
    .map(str::to_owned);
    let Ok(ServiceCommand::Update(update)) = parse(&words) else {
        panic!("no update")
    };
    let changed = serde_json::to_value(update.apply(&spec, &Names::default(), here).unwrap()).unwrap();
    assert_eq!(changed["New"], serde_json::json!([1]));
    assert_eq!(
        changed["TaskTemplate"]["ContainerSpec"]["Newer"],
        serde_json::json!({"a": null})
    );
    assert_eq!(changed["TaskTemplate"]["Newest"], true);
}

#[test]
fn times_to_begin_logs_at_are_read() {
    let now: Timestamp = "2026-01-01T00:00:10Z".parse().unwrap();
    let cases = [
        ("5s", Some("1767225605.000000000")),
        ("2026-01-01T00:00:00Z", Some("1767225600.000000000")),
        ("2026-01-01T00:00:00.5", Some("1767225600.500000000")),
        ("2026-01-01", Some("1767225600.000000000")),
        ("1767225600", Some("1767225600")),
        ("yesterday", None),
        ("", None),
    ];
    for (text, expected) in cases {
        assert_eq!(since_seconds(text, now).ok().as_deref(), expected, "{text}");
    }
}

proptest::proptest! {
    /// Updates of variables, labels and ports one after another come to what a plain map of them comes to.
    #[test]
    fn updates_come_to_what_a_map_comes_to(steps in proptest::collection::vec(
        (proptest::collection::vec((0_u8..4, 0_u8..3), 0..3), proptest::collection::vec(0_u8..4, 0..3)), 0..6,
    )) {
        let mut spec: ServiceSpec = serde_json::from_str(LEAST).unwrap();
        let mut model: BTreeMap<u8, u8> = BTreeMap::new();
        for (added, removed) in steps {
            let mut words = vec!["update".to_owned()];
            for key in &removed {
                words.extend([format!("--env-rm=K{key}"), format!("--label-rm=K{key}"), format!("--publish-rm={}", 80 + key)]);
                model.remove(key);
            }
            let ports_before = model.clone();
            for (key, value) in &added {
                words.extend([format!("--env-add=K{key}={value}"), format!("--label-add=K{key}={value}")]);
                if !ports_before.contains_key(key) && !model.contains_key(key) {
                    words.push(format!("--publish-add=90{key}:{}", 80 + key));
                }
                model.insert(*key, *value);
            }
            words.push("web".to_owned());
            let Ok(ServiceCommand::Update(update)) = parse(&words) else { panic!("no update: {words:?}") };
            spec = update.apply(&spec, &Names::default(), |_| None).unwrap();
            let pairs: BTreeMap<String, String> = model.iter().map(|(key, value)| (format!("K{key}"), value.to_string())).collect();
            let env = spec.task_template.container.as_ref().unwrap().env.clone().unwrap_or_default();
            let env: Vec<(String, String)> = env.iter().map(|line| line.split_once('=').unwrap()).map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
            proptest::prop_assert_eq!(env.len(), pairs.len());
            proptest::prop_assert_eq!(env.into_iter().collect::<BTreeMap<_, _>>(), pairs.clone());
            proptest::prop_assert_eq!(spec.labels.clone().unwrap_or_default(), pairs);
            let ports: Vec<u8> = spec.endpoint_spec.as_ref().unwrap().ports().iter().map(|port| u8::try_from(port.target() - 80).unwrap()).collect();
            proptest::prop_assert_eq!(ports, model.keys().copied().collect::<Vec<_>>());
        }
    }
}
