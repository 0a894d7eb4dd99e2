use crate::support::{Client, Server, service};
use essaim_objects::{ServiceId, Task, TaskId, TaskState};
use essaim_store::Transaction;
use serde_json::{Value, json};

/// A service on a network, with a task that runs, and one of an older spec that is over.
async fn with_tasks() -> (Server, Client, Value) {
    let (server, mut client) = Server::manager().await;
    client
        .post("/networks/create", &json!({"Name": "back", "Driver": "overlay"}))
        .await
        .ok();
    let mut web = service("web");
    web["Labels"] = json!({"tier": "x"});
    web["TaskTemplate"]["Networks"] = json!([{"Target": "back"}]);
    client.post("/services/create", &web).await.ok();
    let shown = client.get("/services/web").await.ok();
    let id: ServiceId = shown["ID"].as_str().unwrap().parse().unwrap();
    let view = server.engine.store().view();
    let stored = view.service(id).unwrap();
    let node = server.engine.state().local.node_id;
    let mut old = Task::new(TaskId::from_bits(1), Some(id), stored.spec.task_template.clone());
    let mut changed = essaim_objects::TaskSpec::clone(&old.spec);
    changed.force_update = Some(7);
    old.spec = std::sync::Arc::new(changed);
    old.slot = Some(1);
    old.status.state = TaskState::Shutdown;
    old.desired_state = TaskState::Shutdown;
    let mut new = Task::new(TaskId::from_bits(2), Some(id), stored.spec.task_template.clone());
    new.spec_version = stored.spec_version;
    new.slot = Some(1);
    new.node_id = node;
    let mut transaction = Transaction::new();
    transaction.create(old).create(new);
    server.engine.change(transaction).await;
    let mut new = Task::clone(server.engine.store().view().task(TaskId::from_bits(2)).unwrap());
    new.status.state = TaskState::Running;
    let mut transaction = Transaction::new();
    transaction.update(new);
    server.engine.change(transaction).await;
    (server, client, shown)
}

fn ids(list: &Value) -> Vec<u32> {
    let id = |task: &Value| {
        task["ID"]
            .as_str()
            .unwrap()
            .trim_start_matches('0')
            .parse()
            .unwrap()
    };
    list.as_array().unwrap().iter().map(id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_are_listed_by_every_filter() {
    let (_server, mut client, web) = with_tasks().await;
    for (filters, expected) in [
        (json!({}), vec![1, 2]),
        (json!({"service": ["web"]}), vec![1, 2]),
        (
            json!({"service": {web["ID"].as_str().unwrap(): true}, "_up-to-date": {"true": true}}),
            vec![2],
        ),
        (json!({"_up-to-date": ["false"]}), vec![1]),
        (json!({"node": ["n1"]}), vec![2]),
        (json!({"node": ["self"]}), vec![2]),
        (json!({"desired-state": ["running"]}), vec![2]),
        (json!({"desired-state": ["shutdown", "running"]}), vec![1, 2]),
        (json!({"name": ["web.1"]}), vec![1, 2]),
        (json!({"name": ["web.2"]}), vec![]),
        (json!({"label": ["tier=x"]}), vec![1, 2]),
        (json!({"label": ["tier=y"]}), vec![]),
        (json!({"id": [TaskId::from_bits(2)]}), vec![2]),
        (json!({"runtime": ["container"]}), vec![1, 2]),
        (json!({"runtime": ["plugin"]}), vec![]),
    ] {
        assert_eq!(
            ids(&client.list("/tasks", &filters).await.ok()),
            expected,
            "{filters}"
        );
    }
    for (filters, status, says) in [
        (json!({"foo": ["x"]}), 400, "Invalid filter 'foo'"),
        (
            json!({"desired-state": ["happy"]}),
            400,
            "invalid filter 'desired-state=happy'",
        ),
        (
            json!({"_up-to-date": ["perhaps"]}),
            400,
            "invalid filter '_up-to-date=perhaps'",
        ),
        (json!({"service": ["none"]}), 404, "service none not found"),
        (json!({"node": ["none"]}), 404, "node none not found"),
    ] {
        client.list("/tasks", &filters).await.fails(status, says);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_has_its_networks_and_its_service_counts_it() {
    let (_server, mut client, web) = with_tasks().await;
    let id = TaskId::from_bits(2);
    let task = client.get(&format!("/tasks/{id}")).await.ok();
    let attachment = &task["NetworksAttachments"][0];
    assert_eq!(attachment["Network"]["Spec"]["Name"], json!("back"));
    assert_eq!(attachment["Network"]["Spec"]["Labels"], json!({}));
    assert!(attachment["Addresses"][0].as_str().unwrap().ends_with("/24"));
    assert_eq!((&task["Labels"], &task["Slot"]), (&json!({}), &json!(1)));
    assert_eq!(
        (&task["Status"]["State"], &task["DesiredState"]),
        (&json!("running"), &json!("running"))
    );
    assert_eq!(task.get("SpecVersion"), None);
    assert_eq!(client.get(&format!("/tasks/web.1.{id}")).await.ok(), task);
    client.get("/tasks/none").await.fails(404, "task none not found");
    let listed = client.get("/services?status=1").await.ok();
    let expected = json!({"RunningTasks": 1, "DesiredTasks": 1, "CompletedTasks": 0});
    assert_eq!(listed[0]["ServiceStatus"], expected);
    let network = client.get("/networks/back?verbose=1").await.ok();
    let container = &network["Containers"][id.as_str()];
    assert_eq!(container["Name"], json!(format!("web.1.{id}")));
    assert_eq!(container["IPv4Address"], attachment["Addresses"][0]);
    assert_eq!(network["Services"]["web"]["Tasks"].as_array().unwrap().len(), 1);
    assert_eq!(network["Peers"], json!([{"Name": "n1", "IP": "127.0.0.1"}]));
    // An update that leaves the template alone leaves the task up to date.
    let mut scaled = web["Spec"].clone();
    scaled["Mode"] = json!({"Replicated": {"Replicas": 2}});
    scaled["TaskTemplate"]["Placement"] = json!({"Constraints": ["node.role == manager"]});
    let update = format!("/services/web/update?version={}", web["Version"]["Index"]);
    client.post(&update, &scaled).await.ok();
    let filters = json!({"_up-to-date": ["true"]});
    assert_eq!(ids(&client.list("/tasks", &filters).await.ok()), [2]);
}
