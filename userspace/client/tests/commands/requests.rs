//! What is sent, and what is made of scripted answers.

use super::daemon::{Answer, Asked, Daemon};
use super::{Exit, essaim};
use serde_json::{Value, json};

const ID: &str = "8ndmfqyjknwbf6qu2vwspt9ci";

#[expect(
    clippy::unnecessary_wraps,
    reason = "a script answers with it or with nothing"
)]
fn ok(value: &Value) -> Option<Answer> {
    Some((200, value.to_string().into_bytes()))
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "a script answers with it or with nothing"
)]
fn refused(status: u16, message: &str) -> Option<Answer> {
    Some((status, json!({"message": message}).to_string().into_bytes()))
}

fn node() -> Value {
    json!({"ID": ID, "Version": {"Index": 18}, "Spec": {"Labels": {"a": "b"}, "Role": "manager", "Availability": "active"},
        "Description": {"Hostname": "vm"}, "Status": {"State": "ready", "Addr": "10.0.0.1"},
        "ManagerStatus": {"Leader": true, "Reachability": "reachable", "Addr": "10.0.0.1:2377"}})
}

fn swarm() -> Value {
    json!({"ID": ID, "Version": {"Index": 10}, "Spec": {"Name": "default", "Labels": {}, "Orchestration": {"TaskHistoryRetentionLimit": 5},
        "Raft": {"SnapshotInterval": 10000, "KeepOldSnapshots": 0}, "Dispatcher": {"HeartbeatPeriod": 5_000_000_000_u64},
        "CAConfig": {"NodeCertExpiry": 7_776_000_000_000_000_u64}, "EncryptionConfig": {"AutoLockManagers": true}},
        "RootRotationInProgress": false, "JoinTokens": {"Worker": "SWMTKN-1-w", "Manager": "SWMTKN-1-m"}, "TLSInfo": {"TrustRoot": "PEM\n"}})
}

/// A cluster of one node, which takes everything.
fn cluster() -> Daemon {
    Daemon::start(
        |asked: &Asked| match (asked.method.as_str(), asked.path.as_str()) {
            ("POST", "/swarm/init") => ok(&json!(ID)),
            ("GET", "/swarm") => ok(&swarm()),
            ("GET", "/swarm/unlockkey") => ok(&json!({"UnlockKey": "SWMKEY-1-k"})),
            ("GET", "/info") => {
                ok(&json!({"Swarm": {"NodeID": ID, "LocalNodeState": "locked", "ControlAvailable": false}}))
            }
            ("GET", "/nodes") => ok(&json!([node()])),
            ("GET", path) if path.starts_with("/nodes/") => ok(&node()),
            ("GET", "/networks/ing") => ok(&json!({"Name": "ing", "Id": ID, "Ingress": true})),
            ("POST", "/networks/create") => Some((201, br#"{"Id":"net","Warning":"careful"}"#.to_vec())),
            ("POST", "/networks/prune") => ok(&json!({"NetworksDeleted": ["a", "b"]})),
            ("POST", "/secrets/create" | "/configs/create") => Some((201, br#"{"ID":"made"}"#.to_vec())),
            ("DELETE", "/services/gone") => refused(404, "service gone not found"),
            ("DELETE", "/nodes/vm") => refused(
                400,
                "rpc error: code = FailedPrecondition desc = node vm is not down",
            ),
            ("POST" | "DELETE", _) => Some((200, Vec::new())),
            _ => None,
        },
    )
}

/// Nulls stand for absent members.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        other => other,
    }
}

#[tokio::test]
async fn init_sends_dockers_body_and_tells_how_to_join() {
    let daemon = cluster();
    let ran = essaim(&daemon, &["swarm", "init"], "").await;
    assert_eq!(ran.end, Ok(Exit::Done));
    assert_eq!(
        ran.out,
        format!(
            "Swarm initialized: current node ({ID}) is now a manager.\n\nTo add a worker to this swarm, run the following command:\n\n    \
             essaim swarm join --token SWMTKN-1-w 10.0.0.1:2377\n\nTo add a manager to this swarm, run 'essaim swarm join-token manager' and \
             follow the instructions.\n\n"
        )
    );
    let asked = daemon.asked();
    let expected: Value = serde_json::from_str(
        r#"{"ListenAddr":"0.0.0.0:2377","AdvertiseAddr":"","DataPathAddr":"","DataPathPort":0,"ForceNewCluster":false,"Spec":{"Labels":null,
        "Orchestration":{},"Raft":{"ElectionTick":0,"HeartbeatTick":0},"Dispatcher":{},"CAConfig":{},"TaskDefaults":{},
        "EncryptionConfig":{"AutoLockManagers":false}},"AutoLockManagers":false,"Availability":"","DefaultAddrPool":[],"SubnetSize":24}"#,
    )
    .unwrap();
    assert_eq!(asked[0].json(), without_nulls(expected));
    let ran = essaim(
        &daemon,
        &[
            "swarm",
            "init",
            "--autolock",
            "--advertise-addr",
            "eth0",
            "--availability",
            "drain",
            "--default-addr-pool",
            "10.8.0.0/16,fd00::/48",
            "--task-history-limit",
            "2",
        ],
        "",
    )
    .await;
    assert!(ran.out.contains("SWMKEY-1-k"), "{}", ran.out);
    let body = daemon.asked()[0].json();
    assert_eq!(body["DefaultAddrPool"], json!(["10.8.0.0/16", "fd00::/48"]));
    assert_eq!(
        (
            &body["Availability"],
            &body["AdvertiseAddr"],
            &body["AutoLockManagers"]
        ),
        (&json!("drain"), &json!("eth0"), &json!(true))
    );
    assert_eq!(body["Spec"]["Orchestration"]["TaskHistoryRetentionLimit"], 2);
}

#[tokio::test]
async fn each_swarm_command_makes_dockers_requests() {
    let daemon = cluster();
    let cases: &[(&str, &str, &[&str], &str)] = &[
        (
            "swarm join --token T 1.2.3.4:2377",
            "",
            &["POST /swarm/join", "GET /info"],
            "This node joined a swarm as a worker.\n",
        ),
        (
            "swarm leave",
            "",
            &["POST /swarm/leave"],
            "Node left the swarm.\n",
        ),
        (
            "swarm leave -f",
            "",
            &["POST /swarm/leave?force=1"],
            "Node left the swarm.\n",
        ),
        ("swarm join-token -q manager", "", &["GET /swarm"], "SWMTKN-1-m\n"),
        (
            "swarm join-token -q --rotate worker",
            "",
            &[
                "GET /swarm",
                "POST /swarm/update?rotateManagerToken=false&rotateManagerUnlockKey=false&rotateWorkerToken=true&version=10",
                "GET /swarm",
            ],
            "SWMTKN-1-w\n",
        ),
        (
            "swarm unlock",
            "SWMKEY-1-x\n",
            &["GET /info", "POST /swarm/unlock"],
            "",
        ),
        (
            "swarm unlock-key -q --rotate",
            "",
            &[
                "GET /swarm",
                "POST /swarm/update?rotateManagerToken=false&rotateManagerUnlockKey=true&rotateWorkerToken=false&version=10",
                "GET /swarm/unlockkey",
            ],
            "SWMKEY-1-k\n",
        ),
        ("swarm ca", "", &["GET /swarm"], "PEM\n"),
        (
            "swarm update --autolock=false --max-snapshots 3",
            "",
            &[
                "GET /swarm",
                "POST /swarm/update?rotateManagerToken=false&rotateManagerUnlockKey=false&rotateWorkerToken=false&version=10",
            ],
            "Swarm updated.\n",
        ),
        (
            "swarm ca --rotate -d",
            "",
            &[
                "GET /swarm",
                "POST /swarm/update?rotateManagerToken=false&rotateManagerUnlockKey=false&rotateWorkerToken=false&version=10",
            ],
            "",
        ),
    ];
    for (line, input, requests, out) in cases {
        let words: Vec<_> = line.split(' ').collect();
        let ran = essaim(&daemon, &words, input).await;
        assert_eq!((ran.end, ran.out.as_str()), (Ok(Exit::Done), *out), "{line}");
        let asked = daemon.asked();
        assert_eq!(
            asked.iter().map(Asked::line).collect::<Vec<_>>(),
            *requests,
            "{line}"
        );
        match *line {
            "swarm unlock" => assert_eq!(asked[1].json(), json!({"UnlockKey": "SWMKEY-1-x"})),
            "swarm ca --rotate -d" => assert_eq!(asked[1].json()["CAConfig"]["ForceRotate"], 1),
            _ if line.starts_with("swarm update") => {
                let mut expected = swarm()["Spec"].clone();
                expected["EncryptionConfig"]["AutoLockManagers"] = false.into();
                expected["Raft"]["KeepOldSnapshots"] = 3.into();
                assert_eq!(asked[1].json(), expected);
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn nodes_are_changed_by_their_whole_spec() {
    let daemon = cluster();
    let cases = [
        (
            "node update --label-add c=d --label-rm a vm",
            json!({"Labels": {"c": "d"}, "Role": "manager", "Availability": "active"}),
            "vm\n",
        ),
        (
            "node update --availability drain self",
            json!({"Labels": {"a": "b"}, "Role": "manager", "Availability": "drain"}),
            "self\n",
        ),
        (
            "node demote vm",
            json!({"Labels": {"a": "b"}, "Role": "worker", "Availability": "active"}),
            "Manager vm demoted in the swarm.\n",
        ),
    ];
    for (line, body, out) in cases {
        let ran = essaim(&daemon, &line.split(' ').collect::<Vec<_>>(), "").await;
        assert_eq!((ran.end, ran.out.as_str()), (Ok(Exit::Done), out), "{line}");
        let asked = daemon.asked();
        let last = asked.last().unwrap();
        assert_eq!(
            (last.line(), last.json()),
            (format!("POST /nodes/{ID}/update?version=18"), body),
            "{line}"
        );
    }
    let ran = essaim(&daemon, &["node", "promote", "vm"], "").await;
    assert_eq!(ran.out, "Node vm is already a manager.\n");
    assert_eq!(daemon.lines(), ["GET /nodes/vm"]);
    let ran = essaim(&daemon, &["node", "update", "--label-rm", "zz", "vm"], "").await;
    assert_eq!(ran.end, Err("--label-rm: the node has no label zz".to_owned()));
    let ran = essaim(&daemon, &["node", "rm", "--force", "vm", "other"], "").await;
    let words = "essaim: rpc error: code = FailedPrecondition desc = node vm is not down\n";
    assert_eq!(
        (ran.end, ran.out.as_str(), ran.err.as_str()),
        (Ok(Exit::Failed), "other\n", words)
    );
}

#[tokio::test]
async fn networks_secrets_and_configs_are_made_as_docker_makes_them() {
    let daemon = cluster();
    let ran = essaim(
        &daemon,
        &[
            "network",
            "create",
            "-d",
            "overlay",
            "--attachable",
            "--subnet",
            "10.77.0.0/24",
            "api-net",
        ],
        "",
    )
    .await;
    assert_eq!(
        (ran.end, ran.out.as_str(), ran.err.as_str()),
        (Ok(Exit::Done), "net\n", "essaim: warning: careful\n")
    );
    let expected: Value = serde_json::from_str(
        r#"{"Driver":"overlay","Scope":"","IPAM":{"Driver":"default","Options":{},"Config":[{"Subnet":"10.77.0.0/24"}]},"Internal":false,
        "Attachable":true,"Ingress":false,"ConfigOnly":false,"Options":{},"Labels":{},"Name":"api-net"}"#,
    )
    .unwrap();
    assert_eq!(daemon.asked()[0].json(), expected);
    let ran = essaim(&daemon, &["secret", "create", "-l", "a=b", "s", "-"], "hidden").await;
    assert_eq!((ran.end, ran.out.as_str()), (Ok(Exit::Done), "made\n"));
    assert_eq!(
        daemon.asked()[0].json(),
        json!({"Name": "s", "Labels": {"a": "b"}, "Data": "aGlkZGVu"})
    );
    let ran = essaim(
        &daemon,
        &["config", "create", "--template-driver", "golang", "c", "-"],
        "conf=1\n",
    )
    .await;
    assert_eq!(ran.end, Ok(Exit::Done));
    assert_eq!(
        daemon.asked()[0].json(),
        json!({"Name": "c", "Labels": {}, "Data": "Y29uZj0xCg==", "Templating": {"Name": "golang"}})
    );
    let ran = essaim(&daemon, &["secret", "create", "s"], "").await;
    assert_eq!(
        ran.end,
        Err("FILE is missing, expected a file, - for standard input, or --driver".to_owned())
    );
    let ran = essaim(&daemon, &["config", "create", "c", "/nowhere/at/all"], "").await;
    assert!(
        ran.end
            .unwrap_err()
            .starts_with("cannot read /nowhere/at/all: No such file")
    );
    assert_eq!(daemon.lines(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_dangerous_is_asked_about() {
    let daemon = cluster();
    for (answer, requests) in [("n\n", 1), ("", 1), ("y\n", 2)] {
        let ran = essaim(&daemon, &["network", "rm", "ing"], answer).await;
        assert!(
            ran.out.starts_with("WARNING!") && ran.end == Ok(Exit::Done),
            "{ran:?}"
        );
        assert_eq!(daemon.asked().len(), requests, "{answer}");
    }
    let ran = essaim(&daemon, &["network", "prune"], "no\n").await;
    assert_eq!((ran.end, daemon.asked().len()), (Ok(Exit::Done), 0));
    let ran = essaim(&daemon, &["network", "prune", "-f", "--filter", "until=1h"], "").await;
    assert_eq!(ran.out, "Deleted Networks:\na\nb\n\n");
    assert_eq!(
        daemon.lines(),
        [r#"POST /networks/prune?filters={"until":{"1h":true}}"#]
    );
}

#[tokio::test]
async fn one_that_fails_does_not_keep_the_others() {
    let daemon = cluster();
    let ran = essaim(&daemon, &["service", "rm", "a", "gone", "b/c"], "").await;
    assert_eq!(
        (ran.end, ran.out.as_str(), ran.err.as_str()),
        (Ok(Exit::Failed), "a\nb/c\n", "essaim: service gone not found\n")
    );
    assert_eq!(
        daemon.lines(),
        [
            "DELETE /services/a",
            "DELETE /services/gone",
            "DELETE /services/b%2Fc"
        ]
    );
}

/// A service of which one more task runs each time that its tasks are read.
fn converging(mode: Value, update_status: Value) -> Daemon {
    let mut reads = 0;
    Daemon::start(
        move |asked: &Asked| match (asked.method.as_str(), asked.path.as_str()) {
            ("POST", "/services/create") => Some((201, json!({"ID": ID}).to_string().into_bytes())),
            ("POST", _) => ok(&json!({"Warnings": ["odd"]})),
            ("GET", "/nodes") => ok(&json!([node()])),
            ("GET", "/tasks") => {
                reads += 1;
                let task = |slot: u32| {
                    json!({"ID": format!("{slot:0>25}"), "Slot": slot, "NodeID": ID, "DesiredState": "running",
                    "Status": {"State": if slot <= reads { "running" } else { "preparing" }}})
                };
                ok(&json!([task(1), task(2)]))
            }
            ("GET", path) if path.starts_with("/services/") => ok(&json!({"ID": ID, "Version": {"Index": 3},
            "Spec": {"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "host"}}, "Mode": mode}, "PreviousSpec": {"Name": "web"},
            "UpdateStatus": update_status})),
            _ => None,
        },
    )
}

#[tokio::test(start_paused = true)]
async fn create_waits_until_the_service_stays_as_asked() {
    let daemon = converging(json!({"Replicated": {"Replicas": 2}}), Value::Null);
    let ran = essaim(
        &daemon,
        &[
            "service",
            "create",
            "--name",
            "web",
            "--replicas",
            "2",
            "host",
            "sleep",
            "9",
        ],
        "",
    )
    .await;
    assert_eq!(ran.end, Ok(Exit::Done));
    let waiting = [5, 4, 3, 2, 1]
        .map(|left| format!("verify: Waiting {left} seconds to verify that tasks are stable...\n"));
    let waiting = waiting.concat();
    let expected = format!(
        "{ID}\noverall progress: 1 out of 2 tasks\n1/2: running\n2/2: preparing\noverall progress: 2 out of 2 tasks\n2/2: running\n{waiting}\
         verify: Service {ID} converged\n"
    );
    assert_eq!(ran.out, expected);
    let lines = daemon.lines();
    let round = [
        format!("GET /services/{ID}"),
        format!(r#"GET /tasks?filters={{"_up-to-date":{{"true":true}},"service":{{"{ID}":true}}}}"#),
        "GET /nodes".to_owned(),
    ];
    assert_eq!(lines[1..4], round);
}

#[tokio::test(start_paused = true)]
async fn quiet_and_detached_commands_show_no_progress() {
    let daemon = converging(json!({"Replicated": {"Replicas": 2}}), Value::Null);
    let ran = essaim(&daemon, &["service", "create", "-q", "host"], "").await;
    assert_eq!((ran.end, ran.out), (Ok(Exit::Done), format!("{ID}\n")));
    let _ = daemon.asked();
    let ran = essaim(
        &daemon,
        &["service", "update", "--detach=true", "--force", "web"],
        "",
    )
    .await;
    assert_eq!(
        (ran.end, ran.out.as_str(), ran.err.as_str()),
        (Ok(Exit::Done), "web\n", "essaim: warning: odd\n")
    );
    let asked = daemon.asked();
    assert_eq!(
        asked.iter().map(Asked::line).collect::<Vec<_>>(),
        [
            "GET /services/web".to_owned(),
            format!("POST /services/{ID}/update?registryAuthFrom=spec&version=3")
        ]
    );
    assert_eq!(asked[1].json()["TaskTemplate"]["ForceUpdate"], 1);
    for words in [
        &["service", "rollback", "-d", "web"][..],
        &["service", "update", "-d", "--rollback", "web"],
    ] {
        assert_eq!(essaim(&daemon, words, "").await.out, "web\n");
        assert_eq!(
            daemon.lines()[1],
            format!("POST /services/{ID}/update?rollback=previous&version=3")
        );
    }
    let ran = essaim(&daemon, &["service", "scale", "-d", "web=7"], "").await;
    assert_eq!(ran.out, "web scaled to 7\n");
    assert_eq!(
        daemon.asked()[1].json()["Mode"],
        json!({"Replicated": {"Replicas": 7}})
    );
}

#[tokio::test(start_paused = true)]
async fn an_update_that_is_paused_is_a_failure() {
    let daemon = converging(
        json!({"Replicated": {"Replicas": 2}}),
        json!({"State": "paused", "Message": "update paused due to failure"}),
    );
    let ran = essaim(&daemon, &["service", "update", "--force", "web"], "").await;
    assert_eq!(
        ran.end,
        Err("service update paused: update paused due to failure".to_owned())
    );
    let daemon = converging(json!({"Global": {}}), Value::Null);
    let ran = essaim(&daemon, &["service", "scale", "web=2"], "").await;
    assert_eq!(
        ran.err,
        "essaim: web: scale can only be used with replicated or replicated-job mode\n"
    );
    assert_eq!(ran.end, Ok(Exit::Failed));
}

#[tokio::test]
async fn the_daemons_words_and_its_absence_are_told() {
    let sorry = "This node is not a swarm manager. Use \"essaim swarm init\" or \"essaim swarm join\" to connect this node to swarm and try again.";
    let daemon = Daemon::start(move |_| refused(503, sorry));
    let ran = essaim(&daemon, &["service", "ls"], "").await;
    assert_eq!(ran.end, Err(sorry.to_owned()));
    let nowhere = daemon.host() + ".gone";
    let ran = essaim(&daemon, &["-H", &nowhere, "service", "ls"], "").await;
    assert_eq!(
        ran.end,
        Err(format!(
            "cannot reach the daemon at {nowhere}; is it running?: No such file or directory (os error 2)"
        ))
    );
    let ran = essaim(&daemon, &["-H", "ssh://x", "service", "ls"], "").await;
    assert_eq!(
        ran.end,
        Err("--host is \"ssh://x\", expected unix:///PATH or tcp://HOST[:PORT]".to_owned())
    );
    let garbled = Daemon::start(|_| Some((200, b"<html>".to_vec())));
    let ran = essaim(&garbled, &["service", "ls"], "").await;
    assert!(
        ran.end
            .unwrap_err()
            .starts_with("the daemon's answer to GET /services cannot be read: expected value")
    );
}
