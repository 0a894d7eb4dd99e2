use crate::support::{Server, TestEngine, names, service};
use essaim_objects::{Task, TaskId, TaskState};
use essaim_store::Transaction;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_is_shown_as_docker_shows_it() {
    let (_server, mut client) = Server::manager().await;
    let body = json!({
        "Name": "back", "CheckDuplicate": true, "Driver": "overlay", "Scope": "", "Internal": true, "Attachable": true,
        "Ingress": false, "ConfigOnly": false, "ConfigFrom": null, "Options": {}, "Labels": {"a": "1"},
        "IPAM": {"Driver": "default", "Options": {}, "Config": [{"Subnet": "10.9.0.0/24"}]},
    });
    let made = client.post("/networks/create", &body).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.ok()["Warning"], json!(""));
    let id = made.ok()["Id"].clone();
    let shown = client.get("/networks/back?scope=swarm").await.ok();
    let expected = json!({
        "Name": "back", "Id": id, "Created": shown["Created"], "Scope": "swarm", "Driver": "overlay", "EnableIPv4": true,
        "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Options": null, "Config": [{"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.1"}]},
        "Internal": true, "Attachable": true, "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false,
        "Options": {"com.docker.network.driver.overlay.vxlanid_list": "4097"}, "Labels": {"a": "1"}, "Containers": {},
    });
    assert_eq!(shown, expected);
    let verbose = client.get("/networks/back?verbose=true").await.ok();
    assert_eq!(
        (&verbose["Services"], &verbose["Peers"]),
        (&json!({}), &json!([]))
    );
    client
        .get("/networks/back?scope=local")
        .await
        .fails(404, "network back not found");
    client
        .get("/networks/host?scope=swarm")
        .await
        .fails(400, "network host is a node's own, expected an overlay network");
    client
        .get("/networks/host")
        .await
        .fails(404, "network host not found");
    for (filters, expected) in [
        (json!({}), vec!["back", "ingress"]),
        (json!({"driver": ["bridge"]}), vec![]),
        (json!({"driver": ["overlay"], "label": ["a"]}), vec!["back"]),
        (json!({"name": ["ack"]}), vec!["back"]),
        (json!({"name": ["^ack"]}), vec![]),
        (json!({"id": [id.as_str().unwrap()[..9]]}), vec!["back"]),
        (json!({"scope": ["local"]}), vec![]),
        (json!({"type": ["custom"]}), vec!["back", "ingress"]),
        (json!({"type": ["builtin"]}), vec![]),
        (json!({"dangling": ["true"], "name": ["back"]}), vec!["back"]),
        (json!({"dangling": ["0"], "name": ["back"]}), vec![]),
    ] {
        assert_eq!(
            names(&client.list("/networks", &filters).await.ok()),
            expected,
            "{filters}"
        );
    }
    for (filters, says) in [
        (json!({"foo": ["x"]}), "Invalid filter 'foo'"),
        (json!({"type": ["x"]}), "invalid filter 'type=x'"),
        (json!({"dangling": ["x"]}), "invalid filter 'dangling=x'"),
    ] {
        client.list("/networks", &filters).await.fails(400, says);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_network_is_refused() {
    let (_server, mut client) = Server::manager().await;
    let back = json!({"Name": "back", "Driver": "overlay", "IPAM": {"Config": [{"Subnet": "10.9.0.0/24"}]}});
    client.post("/networks/create", &back).await.ok();
    let of = |name: &str, more: Value| {
        let mut body = json!({"Name": name, "Driver": "overlay"});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    for (body, status, says) in [
        (back.clone(), 409, "network with name back already exists"),
        (
            of("host", json!({})),
            403,
            "operation is not permitted on predefined host network",
        ),
        (
            of("x", json!({"Driver": "host"})),
            403,
            "only one instance of \"host\" network is allowed",
        ),
        (
            of("x", json!({"Driver": "bridge"})),
            501,
            "a network of driver \"bridge\" is of one node: this node has no Docker Engine",
        ),
        (
            of("x", json!({"Driver": "bridge", "Scope": "swarm"})),
            404,
            "plugin \"bridge\" not found",
        ),
        (of("x", json!({"Scope": "local"})), 400, "Scope is \"local\""),
        (of("", json!({})), 400, "Name is \"\""),
        (of("x", json!({"Ingress": true})), 409, "ingress network"),
        (
            of("x", json!({"IPAM": {"Config": [{"Subnet": "10.9.0.0/25"}]}})),
            400,
            ": it overlaps 10.9.0.0/24 of network back; choose another subnet",
        ),
        (
            of("x", json!({"IPAM": {"Config": [{"Subnet": "10.9"}]}})),
            400,
            "Subnet",
        ),
        (
            of("x", json!({"ConfigFrom": {"Network": "back"}})),
            400,
            "network back not found",
        ),
    ] {
        client.post("/networks/create", &body).await.fails(status, says);
    }
    client
        .post("/networks/back/connect", &json!({"Container": "c"}))
        .await
        .fails(501, "this node has no Docker Engine");
    client
        .post("/networks/back/disconnect", &json!({"Container": "c"}))
        .await
        .fails(501, "this node has no Docker Engine");
    client
        .delete("/networks/host")
        .await
        .fails(403, "host is a pre-defined network and cannot be removed");
    assert_eq!(names(&client.get("/networks").await.ok()), ["back", "ingress"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_holds_configuration_has_no_driver() {
    let (_server, mut client) = Server::manager().await;
    // The docker CLI names its own default.
    let plan = json!({"Name": "plan", "Driver": "bridge", "ConfigOnly": true, "IPAM": {"Config": [{"Subnet": "10.9.0.0/24"}]},
        "Options": {"com.docker.network.driver.mtu": "1400"}});
    client.post("/networks/create", &plan).await.ok();
    let macvlan = json!({"Name": "plan2", "Driver": "macvlan", "ConfigOnly": true});
    client
        .post("/networks/create", &macvlan)
        .await
        .fails(501, "a network of driver \"macvlan\" is of one node");
    let built = json!({"Name": "built", "Driver": "overlay", "ConfigFrom": {"Network": "plan"}});
    client.post("/networks/create", &built).await.ok();
    let shown = client.get("/networks/built").await.ok();
    assert_eq!(shown["IPAM"]["Config"][0]["Subnet"], json!("10.9.0.0/24"));
    assert_eq!(shown["Options"]["com.docker.network.driver.mtu"], json!("1400"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_in_use_stays() {
    let (_server, mut client) = Server::manager().await;
    let made = client
        .post("/networks/create", &json!({"Name": "back", "Driver": "overlay"}))
        .await
        .ok();
    let mut web = service("web");
    web["TaskTemplate"]["Networks"] = json!([{"Target": "back"}]);
    let web = client.post("/services/create", &web).await.ok();
    let says = format!(
        "network {} is in use by service {}",
        made["Id"].as_str().unwrap(),
        web["ID"].as_str().unwrap()
    );
    client.delete("/networks/back").await.fails(400, &says);
    assert_eq!(
        client.post("/networks/prune", &json!({})).await.ok(),
        json!({"NetworksDeleted": null})
    );
    client.delete("/services/web").await.ok();
    let removed = client.delete("/networks/back").await;
    assert_eq!((removed.status, removed.body.len()), (204, 0));
    client
        .delete("/networks/back")
        .await
        .fails(404, "network back not found");
    let mut published = service("published");
    published["EndpointSpec"] = json!({"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]});
    client.post("/services/create", &published).await.ok();
    client
        .delete("/networks/ingress")
        .await
        .fails(400, "ingress network cannot be removed because service");
    client.delete("/services/published").await.ok();
    assert_eq!(client.delete("/networks/ingress").await.status, 204);
    client.post("/services/create", &published).await.fails(
        400,
        "service needs ingress network, but no ingress network is present",
    );
    let ingress = json!({"Name": "mine", "Driver": "overlay", "Ingress": true,
        "IPAM": {"Config": [{"Subnet": "10.11.0.0/16", "Gateway": "10.11.0.2"}]}});
    client.post("/networks/create", &ingress).await.ok();
    let second = json!({"Name": "second", "Driver": "overlay", "Ingress": true});
    client
        .post("/networks/create", &second)
        .await
        .fails(409, "ingress network");
    let shown = client.get("/networks/mine").await.ok();
    assert_eq!(shown["IPAM"]["Config"][0]["Subnet"], json!("10.11.0.0/16"));
    client.post("/services/create", &published).await.ok();
    client
        .delete("/networks/mine")
        .await
        .fails(400, "ingress network cannot be removed because service");
}

/// A task on a network, whose service is gone.
async fn stopping_task(engine: &TestEngine, network: &str) -> Task {
    let spec = json!({"ContainerSpec": {"Image": "a"}, "Networks": [{"Target": network}]});
    let mut task = Task::new(
        TaskId::from_bits(5),
        None,
        std::sync::Arc::new(serde_json::from_value(spec).unwrap()),
    );
    task.desired_state = TaskState::Running;
    let mut transaction = Transaction::new();
    transaction.create(task);
    engine.change(transaction).await;
    let mut task = Task::clone(engine.store().view().task(TaskId::from_bits(5)).unwrap());
    assert!(!task.networks_attachments.is_empty());
    task.desired_state = TaskState::Shutdown;
    task.status.state = TaskState::Running;
    let mut transaction = Transaction::new();
    transaction.update(task);
    engine.change(transaction).await;
    Task::clone(engine.store().view().task(TaskId::from_bits(5)).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removal_waits_for_tasks_that_are_stopping() {
    let (server, mut client) = Server::manager().await;
    let made = client
        .post("/networks/create", &json!({"Name": "back", "Driver": "overlay"}))
        .await
        .ok();
    let mut task = stopping_task(&server.engine, made["Id"].as_str().unwrap()).await;
    let shown = client.get("/networks/back?verbose=1").await.ok();
    assert_eq!(shown["Containers"], json!({}), "it runs on no node of ours");
    let mut other = server.client().await;
    let removal = other.delete("/networks/back");
    let end = async {
        // The request may come before or after: both must do.
        task.status.state = TaskState::Shutdown;
        let mut transaction = Transaction::new();
        transaction.update(task);
        server.engine.change(transaction).await;
    };
    let (removed, ()) = tokio::join!(removal, end);
    assert_eq!(removed.status, 204, "{removed:?}");
    assert_eq!(client.get("/networks/back").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prune_removes_what_nothing_uses() {
    let (_server, mut client) = Server::manager().await;
    for (name, label) in [("a", "keep"), ("b", "drop"), ("c", "drop"), ("used", "drop")] {
        let body = json!({"Name": name, "Driver": "overlay", "Labels": {label: ""}});
        client.post("/networks/create", &body).await.ok();
    }
    let mut web = service("web");
    web["TaskTemplate"]["Networks"] = json!([{"Target": "used"}]);
    client.post("/services/create", &web).await.ok();
    let prune = |filters: Value| {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("filters", &filters.to_string())
            .finish();
        format!("/networks/prune?{query}")
    };
    client
        .post(&prune(json!({"name": ["a"]})), &json!({}))
        .await
        .fails(400, "Invalid filter 'name'");
    client
        .post(&prune(json!({"until": ["x"]})), &json!({}))
        .await
        .fails(400, "invalid time \"x\"");
    let none = client
        .post(&prune(json!({"until": ["24h"]})), &json!({}))
        .await
        .ok();
    assert_eq!(none, json!({"NetworksDeleted": null}));
    let mut removed = client
        .post(&prune(json!({"label!": ["keep"]})), &json!({}))
        .await
        .ok();
    removed["NetworksDeleted"]
        .as_array_mut()
        .unwrap()
        .sort_by_key(ToString::to_string);
    assert_eq!(removed, json!({"NetworksDeleted": ["b", "c"]}));
    assert_eq!(
        names(&client.get("/networks").await.ok()),
        ["a", "ingress", "used"]
    );
}
