use crate::support::{KEY, Server, TestEngine, version};
use essaim_api::{EngineError, LocalState};
use serde_json::{Value, json};

const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect \
                        this node to swarm and try again.";
const WORKER: &str = "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. \
                      Please run this command on a manager node or promote the current node to a manager.";
const LOCKED: &str = "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"docker swarm \
                      unlock\" to unlock it.";

/// Every route that only a manager answers, with a body that would do.
fn routes_of_managers() -> Vec<(&'static str, &'static str, Value)> {
    let service = crate::support::service("web");
    let node = json!({"Role": "worker", "Availability": "active"});
    let kept = json!({"Name": "a", "Data": "QUJD"});
    vec![
        ("GET", "/swarm", Value::Null),
        ("POST", "/swarm/update?version=1", json!({})),
        ("GET", "/swarm/unlockkey", Value::Null),
        ("GET", "/nodes", Value::Null),
        ("GET", "/nodes/x", Value::Null),
        ("POST", "/nodes/x/update?version=1", node),
        ("DELETE", "/nodes/x", Value::Null),
        ("GET", "/services", Value::Null),
        ("POST", "/services/create", service.clone()),
        ("GET", "/services/x", Value::Null),
        ("POST", "/services/x/update?version=1", service),
        ("DELETE", "/services/x", Value::Null),
        ("GET", "/services/x/logs?stdout=1", Value::Null),
        ("GET", "/tasks", Value::Null),
        ("GET", "/tasks/x", Value::Null),
        ("GET", "/tasks/x/logs?stdout=1", Value::Null),
        ("GET", "/secrets", Value::Null),
        ("POST", "/secrets/create", kept.clone()),
        ("GET", "/secrets/x", Value::Null),
        ("POST", "/secrets/x/update?version=1", kept.clone()),
        ("DELETE", "/secrets/x", Value::Null),
        ("GET", "/configs", Value::Null),
        ("POST", "/configs/create", kept.clone()),
        ("GET", "/configs/x", Value::Null),
        ("POST", "/configs/x/update?version=1", kept),
        ("DELETE", "/configs/x", Value::Null),
        (
            "POST",
            "/networks/create",
            json!({"Name": "x", "Driver": "overlay"}),
        ),
        ("DELETE", "/networks/x", Value::Null),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_no_manager_says_why() {
    for (state, says) in [
        (LocalState::Inactive, NO_SWARM),
        (LocalState::Pending, NO_SWARM),
        (LocalState::Active, WORKER),
        (LocalState::Locked, LOCKED),
    ] {
        let engine = TestEngine::inactive();
        engine.state().local.state = state;
        let server = Server::start(engine);
        let mut client = server.client().await;
        for (method, uri, body) in routes_of_managers() {
            let answer = client.send(method, uri, body.to_string()).await;
            assert_eq!(answer.json(), json!({"message": says}), "{method} {uri}");
            assert_eq!(answer.status, 503, "{method} {uri}");
        }
        // What the CLI asks of any engine is answered.
        assert_eq!(client.get("/networks").await.ok(), json!([]));
        client.get("/networks/x").await.fails(404, "network x not found");
        let info = client.get("/info").await.ok();
        assert_eq!(info["Swarm"]["LocalNodeState"], json!(state.as_str()));
        assert_eq!(info["Swarm"]["ControlAvailable"], json!(false));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_made_shown_changed_and_left() {
    let server = Server::start(TestEngine::inactive());
    let mut client = server.client().await;
    client
        .post("/swarm/leave", &json!({}))
        .await
        .fails(503, "This node is not part of a swarm");
    client
        .post("/swarm/unlock", &json!({"UnlockKey": KEY}))
        .await
        .fails(503, NO_SWARM);
    for (member, value, says) in [
        ("ListenAddr", json!("not an address"), "invalid ListenAddr"),
        ("AdvertiseAddr", json!("1.2.3.4:x"), "invalid AdvertiseAddr"),
        (
            "DataPathAddr",
            json!("0.0.0.0"),
            "data path address must be a non-zero IP address",
        ),
        ("DataPathPort", json!(80), "DataPathPort is 80"),
        ("DefaultAddrPool", json!(["10.0.0.1"]), "DefaultAddrPool[0]"),
        ("SubnetSize", json!(31), "SubnetSize is 31"),
        ("Availability", json!("busy"), "invalid Availability: \"busy\""),
        ("Spec", json!({"Name": "other"}), "Name is \"other\""),
        ("Spec", json!({"Raft": 7}), "invalid JSON"),
    ] {
        client
            .post("/swarm/init", &json!({member: value}))
            .await
            .fails(400, says);
    }
    let init = json!({
        "ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": "127.0.0.1", "ForceNewCluster": false, "AutoLockManagers": true,
        "Spec": {"Labels": {}, "Orchestration": {}, "Raft": {}},
    });
    let made = client.post("/v1.47/swarm/init", &init).await;
    assert_eq!(made.status, 200);
    assert_eq!(made.json(), json!(server.engine.state().local.node_id));
    client
        .post("/swarm/init", &init)
        .await
        .fails(503, "This node is already part of a swarm.");
    let join = json!({"RemoteAddrs": ["127.0.0.1:2377"], "JoinToken": "SWMTKN-1-x"});
    client
        .post("/swarm/join", &join)
        .await
        .fails(503, "This node is already part of a swarm.");
    client
        .post("/swarm/unlock", &json!({"UnlockKey": KEY}))
        .await
        .fails(409, "swarm is not locked");

    let swarm = client.get("/swarm").await;
    assert!(!String::from_utf8_lossy(&swarm.body).contains("Private"));
    let swarm = swarm.ok();
    assert_eq!(swarm["JoinTokens"]["Worker"], json!("SWMTKN-1-worker"));
    assert_eq!(swarm["Spec"]["EncryptionConfig"]["AutoLockManagers"], json!(true));
    assert_eq!(
        swarm["Spec"]["Dispatcher"]["HeartbeatPeriod"],
        json!(5_000_000_000_u64)
    );
    assert_eq!(swarm["Spec"]["Raft"]["SnapshotInterval"], json!(10_000));
    assert_eq!(
        client.get("/swarm/unlockkey").await.ok(),
        json!({"UnlockKey": KEY})
    );

    let update = format!("/swarm/update?version={}", version(&swarm));
    let mut spec = swarm["Spec"].clone();
    spec["Orchestration"]["TaskHistoryRetentionLimit"] = json!(3);
    client
        .post(
            &format!("{update}&rotateWorkerToken=true&rotateManagerToken=false"),
            &spec,
        )
        .await
        .ok();
    assert_eq!(
        server.engine.state().calls.last().unwrap(),
        "update_swarm Rotate { worker_token: true, manager_token: false, unlock_key: false }"
    );
    client
        .post(&update, &spec)
        .await
        .fails(500, "update out of sequence");
    client
        .post("/swarm/update", &spec)
        .await
        .fails(400, "invalid swarm version ''");
    client
        .post(&update, &json!({"Name": "x"}))
        .await
        .fails(400, "Name is \"x\"");
    assert_eq!(client.get("/swarm").await.ok()["Spec"], spec);

    let last = "Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message. ";
    client.post("/swarm/leave", &json!({})).await.fails(503, last);
    client.post("/swarm/leave?force=1", &json!({})).await.ok();
    assert_eq!(server.engine.state().calls.last().unwrap(), "leave true");
    client.get("/swarm").await.fails(503, NO_SWARM);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_and_a_worker_leaves_without_force() {
    let server = Server::start(TestEngine::inactive());
    let mut client = server.client().await;
    for (body, status, says) in [
        (
            json!({"JoinToken": "SWMTKN-1-x"}),
            400,
            "at least 1 RemoteAddr is required to join",
        ),
        (json!({"RemoteAddrs": ["a:1"]}), 500, "invalid join token"),
        (
            json!({"RemoteAddrs": ["a:1"], "JoinToken": "x"}),
            500,
            "invalid join token",
        ),
        (
            json!({"RemoteAddrs": ["a:1"], "JoinToken": "SWMTKN-1-x", "Availability": "x"}),
            400,
            "invalid Availability",
        ),
    ] {
        client.post("/swarm/join", &body).await.fails(status, says);
    }
    let body = json!({"RemoteAddrs": ["a:1"], "JoinToken": "SWMTKN-1-x", "ListenAddr": "0.0.0.0:2377"});
    let joined = client.post("/swarm/join", &body).await;
    assert_eq!((joined.status, joined.body.len()), (200, 0));
    assert_eq!(client.get("/_ping").await.headers["swarm"], "active/worker");
    client.post("/swarm/leave", &json!({})).await.ok();
    assert_eq!(server.engine.state().calls.last().unwrap(), "leave false");
    assert_eq!(client.get("/_ping").await.headers["swarm"], "inactive");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_manager_takes_its_key_only() {
    let engine = TestEngine::inactive();
    engine.state().local.state = LocalState::Locked;
    let server = Server::start(engine);
    let mut client = server.client().await;
    assert_eq!(client.get("/_ping").await.headers["swarm"], "locked");
    client.post("/swarm/leave", &json!({})).await.fails(
        503,
        "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.",
    );
    client.post("/swarm/init", &json!({})).await.fails(503, LOCKED);
    client
        .post("/swarm/unlock", &json!({}))
        .await
        .fails(400, "UnlockKey is absent");
    client
        .post("/swarm/unlock", &json!({"UnlockKey": "x"}))
        .await
        .fails(401, "swarm could not be unlocked: invalid key provided");
    client
        .post("/swarm/unlock", &json!({"unlockkey": KEY}))
        .await
        .ok();
    client
        .post("/swarm/unlock", &json!({"UnlockKey": KEY}))
        .await
        .fails(409, "swarm is not locked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn info_tells_of_the_cluster_without_its_tokens() {
    let (server, mut client) = Server::manager().await;
    let info = client.get("/v1.24/info").await;
    assert!(!String::from_utf8_lossy(&info.body).contains("SWMTKN"));
    let info = info.ok();
    let own = server.engine.state().local.node_id;
    assert_eq!(
        (&info["ID"], &info["Swarm"]["NodeID"]),
        (&json!(own), &json!(own))
    );
    assert_eq!(
        (&info["Name"], &info["NCPU"], &info["MemTotal"]),
        (&json!("n1"), &json!(2), &json!(1 << 30))
    );
    assert_eq!(
        info["Swarm"]["RemoteManagers"],
        json!([{"NodeID": own, "Addr": "127.0.0.1:2377"}])
    );
    assert_eq!(
        (&info["Swarm"]["Nodes"], &info["Swarm"]["Managers"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(info["Swarm"]["Cluster"]["DataPathPort"], json!(4789));
    let ping = client.send("HEAD", "/_ping", "").await;
    assert_eq!((ping.status, ping.body.len()), (200, 0));
    assert_eq!(ping.headers["swarm"], "active/manager");
    let version = client.get("/version").await.ok();
    assert_eq!(
        (&version["ApiVersion"], &version["MinAPIVersion"]),
        (&json!("1.47"), &json!("1.24"))
    );
    assert_eq!(
        (&version["Version"], &version["Arch"]),
        (&json!("0.1.0"), &json!("amd64"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engines_refusal_reaches_the_client() {
    let error = EngineError::no_leader();
    let engine = TestEngine::inactive();
    let mut local = engine.state().local.clone();
    local.state = LocalState::Active;
    local.control_available = true;
    assert_eq!(EngineError::no_manager(&local), error);
    engine.state().local = local;
    let server = Server::start(engine);
    server
        .client()
        .await
        .get("/services")
        .await
        .fails(503, "The swarm does not have a leader.");
}
