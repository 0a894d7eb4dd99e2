use crate::support::{Server, names, ready_node, version};
use essaim_objects::{NodeId, NodeRole, NodeState};
use essaim_store::Transaction;
use serde_json::json;

async fn with_workers() -> (Server, crate::support::Client) {
    let (server, client) = Server::manager().await;
    let mut down = ready_node(NodeId::from_bits(3), "w2", NodeRole::Worker);
    down.status.state = NodeState::Down;
    down.spec.labels = Some([("zone".to_owned(), "b".to_owned())].into());
    let mut transaction = Transaction::new();
    transaction
        .create(ready_node(NodeId::from_bits(2), "w1", NodeRole::Worker))
        .create(down);
    server.engine.change(transaction).await;
    (server, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_shown_with_what_they_are_among_the_managers() {
    let (server, mut client) = with_workers().await;
    let own = server.engine.state().local.node_id.unwrap();
    let node = client.get("/nodes/n1").await.ok();
    assert_eq!(node["ID"], json!(own));
    let expected = json!({"Leader": true, "Reachability": "reachable", "Addr": "127.0.0.1:2377"});
    assert_eq!(node["ManagerStatus"], expected);
    assert_eq!(
        node["Spec"],
        json!({"Labels": {}, "Role": "manager", "Availability": "active"})
    );
    assert_eq!(node["Status"], json!({"State": "ready", "Addr": "127.0.0.1"}));
    for own in ["CertificateRole", "Attachments"] {
        assert_eq!(node.get(own), None);
    }
    let worker = client.get("/nodes/W1").await.ok();
    assert_eq!(worker.get("ManagerStatus"), None);
    client.get("/nodes/self").await.fails(404, "node self not found");
    // Both identities begin with zeros.
    client
        .get("/nodes/000")
        .await
        .fails(400, "node 000 is ambiguous (2 matches found)");
    for (filters, expected) in [
        (json!({}), vec!["n1", "w1", "w2"]),
        (json!({"name": ["w"]}), vec!["w1", "w2"]),
        (json!({"id": [own]}), vec!["n1"]),
        (json!({"role": ["manager"]}), vec!["n1"]),
        (
            json!({"role": {"worker": true}, "node.label": {"zone=b": true}}),
            vec!["w2"],
        ),
        (json!({"label": ["disk=ssd"]}), vec!["n1", "w1", "w2"]),
        (json!({"label": ["disk=hdd"]}), vec![]),
        (json!({"membership": ["accepted"]}), vec!["n1", "w1", "w2"]),
        (json!({"membership": ["pending"]}), vec![]),
    ] {
        assert_eq!(
            names(&client.list("/nodes", &filters).await.ok()),
            expected,
            "{filters}"
        );
    }
    client
        .list("/nodes", &json!({"foo": ["x"]}))
        .await
        .fails(400, "Invalid filter 'foo'");
    client
        .list("/nodes", &json!({"role": ["boss"]}))
        .await
        .fails(400, "invalid filter 'role=boss'");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_is_checked_and_the_last_manager_stays_one() {
    let (server, mut client) = with_workers().await;
    let worker = client.get("/nodes/w1").await.ok();
    let update = format!(
        "/nodes/{}/update?version={}",
        worker["ID"].as_str().unwrap(),
        version(&worker)
    );
    for (body, says) in [
        (
            json!({"Role": "boss", "Availability": "active"}),
            "unknown NodeRole \"boss\"",
        ),
        (
            json!({"Role": "worker", "Availability": "busy"}),
            "unknown Availability \"busy\"",
        ),
        (json!({"Availability": "active"}), "invalid Role: \"\""),
        (json!({"Role": "worker"}), "invalid Availability: \"\""),
        (
            json!({"Role": "worker", "Availability": "active", "Labels": {" ": ""}}),
            "Labels is a label without a name",
        ),
    ] {
        client.post(&update, &body).await.fails(400, says);
    }
    let promoted = json!({"Name": "left", "Labels": {"a": "1"}, "Role": "manager", "Availability": "drain"});
    let done = client.post(&update, &promoted).await;
    assert_eq!((done.status, done.body.len()), (200, 0));
    client
        .post(&update, &promoted)
        .await
        .fails(500, "update out of sequence");
    assert_eq!(client.get("/nodes/left").await.ok()["Spec"], promoted);
    // It is no member of the managers yet, so this one is still the last.
    let own = client.get("/nodes/n1").await.ok();
    let update = format!("/nodes/n1/update?version={}", version(&own));
    let mut demoted = own["Spec"].clone();
    demoted["Role"] = json!("worker");
    client.post(&update, &demoted).await.fails(
        400,
        "rpc error: code = FailedPrecondition desc = attempting to demote the last manager of the swarm",
    );
    let worker = client.get("/nodes/left").await.ok();
    let update = format!("/nodes/left/update?version={}", version(&worker));
    demoted["Availability"] = json!("active");
    client.post(&update, &demoted).await.ok();
    assert!(server.engine.state().calls.is_empty());
    client
        .post("/nodes/n1/update", &demoted)
        .await
        .fails(400, "invalid node version ''");
    client
        .post("/nodes/none/update?version=1", &demoted)
        .await
        .fails(404, "node none not found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_worker_that_is_down_is_removed_without_force() {
    let (server, mut client) = with_workers().await;
    let own = server.engine.state().local.node_id.unwrap();
    client.delete("/nodes/n1?force=1").await.fails(
        400,
        &format!(
            "desc = node {own} is a cluster manager and is a member of the raft cluster. It must be demoted"
        ),
    );
    let w1 = NodeId::from_bits(2);
    client
        .delete("/nodes/w1")
        .await
        .fails(400, &format!("node {w1} is not down and can't be removed"));
    client
        .delete("/nodes/nosuch")
        .await
        .fails(404, "node nosuch not found");
    assert_eq!(client.delete("/nodes/w2").await.status, 200);
    assert_eq!(client.delete("/nodes/w1?force=1").await.status, 200);
    assert_eq!(
        server.engine.state().calls,
        ["remove_node false", "remove_node true"]
    );
    assert_eq!(names(&client.get("/nodes").await.ok()), ["n1"]);
}
