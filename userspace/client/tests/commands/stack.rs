//! Stacks: what is sent for a file, in which order, and what is told.

use super::daemon::{Answer, Asked, Daemon};
use super::{Exit, Ran, essaim};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const ID: &str = "8ndmfqyjknwbf6qu2vwspt9ci";
const NAMESPACE: &str = "com.docker.stack.namespace";

const FILE: &str = "\
services:
  api:
    image: bb:1
    networks: [back]
    secrets: [s1]
    configs: [c1]
    environment: {A: 1}
  dns:
    image: bb:1
    networks: [back, out]
networks:
  back: {attachable: true}
  out: {external: true}
secrets:
  s1: {file: s1.txt}
configs:
  c1: {file: c1.txt}
";

/// A folder with a stack's files.
fn folder(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("stack.yml", text), ("s1.txt", "secret"), ("c1.txt", "conf=1\n")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn path(folder: &tempfile::TempDir) -> String {
    folder.path().join("stack.yml").display().to_string()
}

/// A manager that keeps what it is posted, and has a network `out`. What it should refuse is given by method and path.
fn manager(refused: &'static [(&'static str, &'static str)]) -> Daemon {
    let mut kept: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    kept.insert(
        "networks".to_owned(),
        vec![json!({"Name": "out", "Id": "out-id", "Scope": "swarm"})],
    );
    Daemon::start(move |asked: &Asked| answer(&mut kept, refused, asked))
}

fn name_of(object: &Value) -> &str {
    object["Spec"]["Name"]
        .as_str()
        .or(object["Name"].as_str())
        .unwrap()
}

fn id_of(object: &Value) -> &str {
    object["ID"].as_str().or(object["Id"].as_str()).unwrap()
}

fn answer(
    kept: &mut BTreeMap<String, Vec<Value>>,
    refused: &[(&str, &str)],
    asked: &Asked,
) -> Option<Answer> {
    let ok = |value: &Value| Some((200, value.to_string().into_bytes()));
    if refused
        .iter()
        .any(|(method, path)| *method == asked.method && asked.path.starts_with(path))
    {
        return Some((400, br#"{"message":"not today"}"#.to_vec()));
    }
    let parts: Vec<&str> = asked.path.trim_start_matches('/').split('/').collect();
    match (asked.method.as_str(), parts.as_slice()) {
        ("GET", ["info"]) => {
            ok(&json!({"Swarm": {"NodeID": ID, "LocalNodeState": "active", "ControlAvailable": true}}))
        }
        ("GET", ["nodes", ..]) => {
            let node = json!({"ID": ID, "Spec": {}, "Description": {"Hostname": "vm"}, "Status": {"State": "ready"}});
            ok(&if parts.len() == 1 { json!([node]) } else { node })
        }
        ("GET", [folder]) => {
            let found = kept.get(*folder).cloned().unwrap_or_default();
            ok(&found.into_iter().filter(|object| passes(object, asked)).collect())
        }
        ("GET", [folder, name]) => {
            let found = kept
                .get(*folder)?
                .iter()
                .find(|object| name_of(object) == *name || id_of(object) == *name)?;
            ok(found)
        }
        ("POST", [folder, "create"]) => {
            let all = kept.entry((*folder).to_owned()).or_default();
            let body = asked.json();
            let letter = folder.chars().next().unwrap();
            let id = format!("{letter}{:0>24}", all.len());
            let label = body["Labels"][NAMESPACE].clone();
            all.push(match *folder {
                "networks" => {
                    json!({"Name": body["Name"], "Id": id, "Scope": "swarm", "Labels": {NAMESPACE: label}})
                }
                _ => json!({"ID": id, "Version": {"Index": 3}, "Spec": body}),
            });
            let body = match *folder {
                "networks" => json!({"Id": id, "Warning": ""}),
                _ => json!({"ID": id}),
            };
            Some((201, body.to_string().into_bytes()))
        }
        ("POST", [folder, id, "update"]) => {
            let object = kept
                .get_mut(*folder)?
                .iter_mut()
                .find(|object| id_of(object) == *id)?;
            object["Spec"] = asked.json();
            object["Version"]["Index"] = json!(4);
            ok(&json!({"Warnings": null}))
        }
        ("DELETE", [folder, id]) => {
            kept.get_mut(*folder)?.retain(|object| id_of(object) != *id);
            Some((204, Vec::new()))
        }
        _ => None,
    }
}

/// Whether an object passes the filters of its label and name.
fn passes(object: &Value, asked: &Asked) -> bool {
    let filters = asked.query.iter().find(|(name, _)| name == "filters");
    let filters: BTreeMap<String, BTreeMap<String, bool>> = filters
        .map(|(_, text)| serde_json::from_str(text).unwrap())
        .unwrap_or_default();
    let labels = if object["Spec"].is_null() {
        &object["Labels"]
    } else {
        &object["Spec"]["Labels"]
    };
    let label = filters.get("label").is_none_or(|wanted| {
        wanted.keys().all(|wanted| match wanted.split_once('=') {
            Some((key, value)) => labels[key] == value,
            None => !labels[wanted].is_null(),
        })
    });
    let names: Option<BTreeSet<&str>> = filters
        .get("name")
        .map(|names| names.keys().map(String::as_str).collect());
    label && names.is_none_or(|names| names.contains(name_of(object)))
}

fn done(out: &str) -> Ran {
    Ran {
        end: Ok(Exit::Done),
        out: out.to_owned(),
        err: String::new(),
    }
}

#[tokio::test]
async fn deploy_sends_what_docker_sends_in_its_order() {
    let (daemon, folder) = (manager(&[]), folder(FILE));
    let words = ["stack", "deploy", "-c", &path(&folder), "shop"];
    let created = "Creating network shop_back\nCreating secret shop_s1\nCreating config shop_c1\nCreating service shop_api\nCreating service shop_dns\n";
    assert_eq!(essaim(&daemon, &words, "").await, done(created));
    let of_stack = r#"?filters={"label":{"com.docker.stack.namespace=shop":true}}"#;
    let asked = daemon.asked();
    let lines: Vec<_> = asked.iter().map(Asked::line).collect();
    assert_eq!(
        lines,
        [
            "GET /info",
            "GET /networks/out",
            &format!("GET /networks{of_stack}"),
            "POST /networks/create",
            "GET /secrets/shop_s1",
            "POST /secrets/create",
            "GET /configs/shop_c1",
            "POST /configs/create",
            r#"GET /secrets?filters={"name":{"shop_s1":true}}"#,
            r#"GET /configs?filters={"name":{"shop_c1":true}}"#,
            &format!("GET /services{of_stack}"),
            "POST /services/create",
            "POST /services/create",
        ]
    );
    assert_eq!(asked[5].json()["Data"], "c2VjcmV0");
    let container = &asked[11].json()["TaskTemplate"]["ContainerSpec"];
    assert_eq!(container["Secrets"][0]["SecretID"], format!("s{:0>24}", 0));
    assert_eq!(container["Configs"][0]["ConfigID"], format!("c{:0>24}", 0));
    assert_eq!(asked[12].json()["TaskTemplate"]["Networks"][0]["Target"], "out");

    let updated = format!(
        "Updating service shop_api (id: s{:0>24})\nUpdating service shop_dns (id: s{:0>24})\n",
        0, 1
    );
    assert_eq!(essaim(&daemon, &words, "").await, done(&updated));
    let lines = daemon.lines();
    let posts: Vec<_> = lines.iter().filter(|line| line.starts_with("POST")).collect();
    assert_eq!(
        posts,
        [
            &format!("POST /secrets/s{:0>24}/update?version=3", 0),
            &format!("POST /configs/c{:0>24}/update?version=3", 0),
            &format!("POST /services/s{:0>24}/update?version=3", 0),
            &format!("POST /services/s{:0>24}/update?version=3", 1),
        ]
    );
}

#[tokio::test]
async fn a_file_may_come_from_the_input_and_prune_removes_what_is_not_in_it() {
    let (daemon, folder) = (manager(&[]), folder(FILE));
    essaim(&daemon, &["stack", "deploy", "-c", &path(&folder), "shop"], "").await;
    daemon.asked();
    let ran = essaim(
        &daemon,
        &[
            "stack",
            "up",
            "--prune",
            "--resolve-image",
            "never",
            "-c",
            "-",
            "shop",
        ],
        "services: {dns: {image: 'bb:2'}}",
    )
    .await;
    let expected = format!(
        "Removing service shop_api\nCreating network shop_default\nUpdating service shop_dns (id: s{:0>24})\n",
        1
    );
    assert_eq!(ran, done(&expected));
    let lines = daemon.lines();
    assert_eq!(lines[2], format!("DELETE /services/s{:0>24}", 0));
}

#[tokio::test(start_paused = true)]
async fn deploy_waits_where_it_is_told_to() {
    let mut reads = 0;
    let daemon = Daemon::start(move |asked: &Asked| {
        let ok = |value: &Value| Some((200, value.to_string().into_bytes()));
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/info") => ok(&json!({"Swarm": {"ControlAvailable": true}})),
            ("POST", "/services/create") => {
                let id = asked.json()["Name"]
                    .as_str()
                    .map(|name| name[name.len() - 1..].repeat(25));
                Some((201, json!({"ID": id}).to_string().into_bytes()))
            }
            ("POST", _) => Some((201, br#"{"Id":"n"}"#.to_vec())),
            ("GET", "/nodes") => ok(&json!([{"ID": ID, "Status": {"State": "ready"}, "Spec": {}}])),
            ("GET", "/tasks") => {
                reads += 1;
                let state = if reads > 2 { "running" } else { "preparing" };
                ok(
                    &json!([{"ID": ID, "Slot": 1, "NodeID": ID, "DesiredState": "running", "Status": {"State": state}}]),
                )
            }
            ("GET", path) if path.starts_with("/services/") => {
                let paused = path
                    .ends_with('b')
                    .then(|| json!({"State": "paused", "Message": "it failed"}));
                ok(
                    &json!({"ID": path.trim_start_matches("/services/"), "Version": {"Index": 3}, "UpdateStatus": paused,
                    "Spec": {"Name": "s_x", "Mode": {"Replicated": {"Replicas": 1}}}}),
                )
            }
            ("GET", _) => ok(&json!([])),
            _ => None,
        }
    });
    let file = "services: {a: {image: i}, b: {image: i}}";
    let ran = essaim(
        &daemon,
        &["stack", "deploy", "--detach=false", "-c", "-", "s"],
        file,
    )
    .await;
    assert_eq!(ran.end, Ok(Exit::Failed));
    assert_eq!(ran.err, "essaim: s_b: service update paused: it failed\n");
    let begins = "Creating network s_default\nCreating service s_a\nCreating service s_b\noverall progress: 0 out of 1 tasks\n1/1: preparing\n";
    assert!(ran.out.starts_with(begins), "{}", ran.out);
    assert!(
        ran.out
            .ends_with(&format!("verify: Service {} converged\n", "a".repeat(25))),
        "{}",
        ran.out
    );
}

#[tokio::test]
async fn everything_wrong_in_a_file_is_told_and_nothing_sent() {
    let (daemon, folder) = (
        manager(&[]),
        folder("services:\n  web:\n    image: i\n    prots: []\n    tty: 1\n  db: {image: $}\n"),
    );
    let file = path(&folder);
    let ran = essaim(&daemon, &["stack", "deploy", "-c", &file, "shop"], "").await;
    let expected = format!(
        "the stack's files cannot be taken:\n\
         {file}:4:5: services.web.prots: there is no such key; is ports meant?\n\
         {file}:5:10: services.web.tty: found the number 1, expected true or false, without quotes\n\
         {file}:6:15: services.db.image: \"$\": expected a variable such as ${{NAME}} after every $, or $$ for $ itself"
    );
    assert_eq!(ran.end, Err(expected));
    let ran = essaim(
        &daemon,
        &["stack", "deploy", "-c", "-", "shop"],
        "services: {web: {image: i, networks: [gone]}}",
    )
    .await;
    assert_eq!(
        ran.end,
        Err("the stack's files cannot be taken:\nstdin:1:39: services.web.networks: there is no network \"gone\", the top-level networks has none".to_owned())
    );
    for (words, expected) in [
        (
            &["-c", "/nowhere/at/all"][..],
            "cannot read /nowhere/at/all: No such file",
        ),
        (
            &[],
            "error: the following required arguments were not provided:\n  --compose-file <FILE>",
        ),
        (
            &["-c", "-", "--resolve-image", "now"],
            "error: invalid value 'now'",
        ),
    ] {
        let words = [&["stack", "deploy"], words, &["shop"]].concat();
        let ran = essaim(&daemon, &words, "services: {web: {image: i}}").await;
        assert!(
            ran.end.as_ref().unwrap_err().starts_with(expected),
            "{words:?} {ran:?}"
        );
    }
    assert_eq!(daemon.lines(), Vec::<String>::new());
}

#[tokio::test]
async fn what_the_cluster_lacks_or_refuses_is_told() {
    let (daemon, folder) = (manager(&[]), folder(FILE));
    let ran = essaim(
        &daemon,
        &["stack", "deploy", "-c", "-", "shop"],
        "services: {web: {image: i, networks: [n1]}}\nnetworks: {n1: {external: true, name: gone}}\n",
    )
    .await;
    assert_eq!(
        ran.end,
        Err("network \"gone\" is declared as external, but could not be found. You need to create a swarm-scoped network before the stack is deployed".to_owned())
    );
    let ran = essaim(
        &daemon,
        &["stack", "deploy", "-c", "-", "shop"],
        "services: {web: {image: i, secrets: [s]}}\nsecrets: {s: {external: true}}\n",
    )
    .await;
    assert_eq!(ran.end, Err("secret not found: s".to_owned()));
    let daemon = manager(&[("POST", "/services/create")]);
    let ran = essaim(&daemon, &["stack", "deploy", "-c", &path(&folder), "shop"], "").await;
    assert_eq!(
        ran.end,
        Err("failed to create service shop_api: not today".to_owned())
    );
    let worker = Daemon::start(|_| Some((200, b"{}".to_vec())));
    let ran = essaim(&worker, &["stack", "deploy", "-c", &path(&folder), "shop"], "").await;
    assert!(
        ran.end
            .unwrap_err()
            .starts_with("this node is not a swarm manager.")
    );
    assert_eq!(worker.lines(), ["GET /info"]);
}

#[tokio::test]
async fn stacks_are_listed_and_removed_in_dockers_order_and_words() {
    let (daemon, folder) = (manager(&[]), folder(FILE));
    for name in ["shop10", "shop2"] {
        essaim(&daemon, &["stack", "deploy", "-c", &path(&folder), name], "").await;
    }
    let list = |words: &'static [&'static str]| essaim(&daemon, words, "");
    assert_eq!(
        list(&["stack", "ls"]).await,
        done("NAME      SERVICES\nshop2     2\nshop10    2\n")
    );
    assert_eq!(
        list(&["stack", "ls", "--format", "{{.Name}}={{.Services}}"]).await,
        done("shop2=2\nshop10=2\n")
    );
    let services = list(&["stack", "services", "shop2", "--format", "{{.Name}} {{.Image}}"]).await;
    assert_eq!(services, done("shop2_api bb:1\nshop2_dns bb:1\n"));
    daemon.asked();
    let removed = "Removing service shop2_api\nRemoving service shop2_dns\nRemoving secret shop2_s1\nRemoving config shop2_c1\nRemoving network shop2_back\n";
    assert_eq!(list(&["stack", "down", "shop2"]).await, done(removed));
    let folders: Vec<_> = daemon
        .lines()
        .iter()
        .map(|line| {
            line.split(['?'])
                .next()
                .unwrap()
                .split('/')
                .take(2)
                .collect::<Vec<_>>()
                .join("/")
        })
        .collect();
    assert_eq!(
        folders,
        [
            "GET /services",
            "GET /networks",
            "GET /secrets",
            "GET /configs",
            "DELETE /services",
            "DELETE /services",
            "DELETE /secrets",
            "DELETE /configs",
            "DELETE /networks",
        ]
    );
    for words in [&["stack", "rm", "shop2"][..], &["stack", "services", "shop2"]] {
        let ran = essaim(&daemon, words, "").await;
        assert_eq!(
            (ran.end, ran.out.as_str(), ran.err.as_str()),
            (Ok(Exit::Done), "", "Nothing found in stack: shop2\n")
        );
    }
    let ran = list(&["stack", "ps", "shop2"]).await;
    assert_eq!(ran.end, Err("nothing found in stack: shop2".to_owned()));
    assert!(list(&["stack", "rm", "-a"]).await.end.is_err());
}

#[tokio::test(start_paused = true)]
async fn rm_waits_for_the_tasks_where_it_is_told_to_and_goes_on_after_a_failure() {
    let mut reads = 0;
    let mut kept: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let daemon = Daemon::start(move |asked: &Asked| {
        if asked.path == "/tasks" {
            reads += 1;
            let state = if reads < 3 { "running" } else { "shutdown" };
            let task = json!([{"ID": ID, "Status": {"State": state}, "DesiredState": "remove"}]);
            return Some((200, task.to_string().into_bytes()));
        }
        answer(&mut kept, &[("DELETE", "/networks")], asked)
    });
    essaim(
        &daemon,
        &["stack", "deploy", "-c", "-", "s"],
        "services: {web: {image: i}}",
    )
    .await;
    daemon.asked();
    let ran = essaim(&daemon, &["stack", "rm", "--detach=false", "s"], "").await;
    assert_eq!(
        (ran.end, ran.out.as_str()),
        (
            Ok(Exit::Failed),
            "Removing service s_web\nRemoving network s_default\n"
        )
    );
    assert_eq!(
        ran.err,
        format!(
            "Failed to remove network n{:0>24}: not today\nessaim: failed to remove some resources from stack: s\n",
            0
        )
    );
    let lines = daemon.lines();
    let tasks: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("GET /tasks"))
        .collect();
    assert_eq!(tasks.len(), 3);
    assert_eq!(
        tasks[0],
        r#"GET /tasks?filters={"label":{"com.docker.stack.namespace=s":true}}"#
    );
    assert!(
        lines[4].starts_with("DELETE /services") && lines[5].starts_with("GET /tasks"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn config_prints_files_as_one_and_asks_no_daemon() {
    let (daemon, folder) = (
        manager(&[]),
        folder("services: {web: {image: '${X:-i}', build: ., container_name: x}}\n"),
    );
    let more = folder.path().join("more.yml");
    std::fs::write(&more, "services: {web: {tty: yes, volumes: ['.:/x']}}").unwrap();
    let files = format!("{},{}", path(&folder), more.display());
    let nowhere = daemon.host() + ".gone";
    let ran = essaim(&daemon, &["-H", &nowhere, "stack", "config", "-c", &files], "").await;
    let expected = format!(
        "services:\n  web:\n    image: i\n    tty: true\n    volumes:\n      -\n        source: {}\n        target: /x\n        type: bind\n",
        folder.path().display()
    );
    assert_eq!((ran.end, ran.out), (Ok(Exit::Done), expected));
    assert_eq!(
        ran.err,
        "Ignoring unsupported options: build\n\nIgnoring deprecated options:\n\ncontainer_name: Setting the container name is not supported.\n\n"
    );
}
