use crate::support::{Client, Server, names, service, version};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_a_name_gets_one() {
    let (_server, mut client) = Server::manager().await;
    let made = client.post("/services/create", &service("")).await.ok();
    let found = client
        .get(&format!("/services/{}", made["ID"].as_str().unwrap()))
        .await
        .ok();
    let name = found["Spec"]["Name"].as_str().unwrap();
    assert!(
        name.split('_').all(|word| !word.is_empty()) && name.contains('_'),
        "{name}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_posted_comes_back_and_defaults_only_where_they_are_asked_for() {
    let (_server, mut client) = Server::manager().await;
    let posted = json!({
        "Name": "web", "Labels": {"a": "1"}, "Unheard": {"Of": 1},
        "TaskTemplate": {"ContainerSpec": {"Image": "alpine:3.10", "Args": ["x"], "Mystery": [1]}, "ForceUpdate": 0},
        "Mode": {"replicated": {"Replicas": 2}},
        "EndpointSpec": {"Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080}]},
    });
    let made = client.post("/v1.47/services/create", &posted).await;
    assert_eq!(made.status, 201);
    let id = made.ok()["ID"].as_str().unwrap().to_owned();
    assert_eq!(made.ok()["Warnings"], Value::Null);
    let found = client.get("/services/web").await.ok();
    let mut expected = posted.clone();
    expected["TaskTemplate"]["Runtime"] = json!("container");
    expected["TaskTemplate"]["ContainerSpec"]["Isolation"] = json!("default");
    expected["EndpointSpec"]["Mode"] = json!("vip");
    expected["Mode"] = json!({"Replicated": {"Replicas": 2}});
    assert_eq!(found["Spec"], expected);
    assert_eq!(found["ID"], json!(id));
    assert!(version(&found) > 0 && found["CreatedAt"].is_string() && found["UpdatedAt"].is_string());
    assert_eq!(found["Endpoint"]["Ports"][0]["PublishedPort"], json!(8080));
    for own in [
        "SpecVersion",
        "PreviousSpec",
        "PreviousSpecVersion",
        "UpdateStatus",
        "ServiceStatus",
    ] {
        assert_eq!(found.get(own), None, "{own}");
    }
    let full = client.get(&format!("/services/{id}?insertDefaults=1")).await.ok();
    let update = json!({
        "Parallelism": 1, "FailureAction": "pause", "Monitor": 5_000_000_000_u64, "MaxFailureRatio": 0,
        "Order": "stop-first",
    });
    assert_eq!(
        (&full["Spec"]["UpdateConfig"], &full["Spec"]["RollbackConfig"]),
        (&update, &update)
    );
    assert_eq!(
        full["Spec"]["TaskTemplate"]["RestartPolicy"]["Condition"],
        json!("any")
    );
    assert_eq!(
        full["Spec"]["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"],
        json!(10_000_000_000_u64)
    );
    assert_eq!(full["Spec"]["EndpointSpec"]["Mode"], json!("vip"));
    assert_eq!(
        client.get(&format!("/services/{}", &id[..20])).await.ok()["ID"],
        json!(id)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_service_is_refused_with_the_reason() {
    let (_server, mut client) = Server::manager().await;
    client.post("/services/create", &service("web")).await.ok();
    let with = |member: &str, value: Value| {
        let mut service = crate::support::service("bad");
        let (parent, name) = member.rsplit_once('/').unwrap();
        service.pointer_mut(parent).unwrap()[name] = value;
        service
    };
    for (body, status, says) in [
        (
            service("web"),
            409,
            "rpc error: code = AlreadyExists desc = name conflicts with an existing object",
        ),
        (service("a.b"), 400, "Name is \"a.b\""),
        (
            json!({"Name": "bad"}),
            400,
            "TaskTemplate.ContainerSpec is absent",
        ),
        (json!([]), 400, "invalid JSON"),
        (Value::Null, 400, "invalid JSON"),
        (
            with("/Mode", json!({"Replicated": {"Replicas": -1}})),
            400,
            "invalid JSON",
        ),
        (
            with("/Mode", json!({"Replicated": {}, "Global": {}})),
            400,
            "Replicated and Global",
        ),
        (
            with("/TaskTemplate/Networks", json!([{"Target": "nowhere"}])),
            404,
            "network nowhere not found",
        ),
        (
            with("/TaskTemplate/Networks", json!([{"Target": "ingress"}])),
            400,
            "ingress network",
        ),
        (
            with("/TaskTemplate/Networks", json!([{"Target": "host"}])),
            400,
            "network host is a node's own",
        ),
        (
            with("/TaskTemplate/Placement", json!({"Constraints": ["x"]})),
            400,
            "TaskTemplate.Placement.Constraints[0]",
        ),
        (
            with(
                "/TaskTemplate/ContainerSpec/Secrets",
                json!([{
                    "SecretID": "0123456789abcdefghijklmno", "SecretName": "s", "File": {"Name": "s", "Mode": 292},
                }]),
            ),
            400,
            "secret not found: s",
        ),
        (
            with(
                "/TaskTemplate/ContainerSpec/Configs",
                json!([
                    {"ConfigID": "0123456789abcdefghijklmno", "ConfigName": "c", "File": {"Name": "c", "Mode": 292}},
                    {"ConfigID": "0123456789abcdefghijklmnp", "ConfigName": "d", "File": {"Name": "d", "Mode": 292}},
                ]),
            ),
            400,
            "configs not found: c, d",
        ),
        (
            with("/EndpointSpec", json!({"Ports": [{"TargetPort": 0}]})),
            400,
            "EndpointSpec.Ports[0].TargetPort",
        ),
        (
            with(
                "/EndpointSpec",
                json!({"Ports": [{"TargetPort": 80}, {"Protocol": "udp", "TargetPort": 1, "PublishedPort": 4789}]}),
            ),
            400,
            "EndpointSpec.Ports[1].PublishedPort is 4789/udp, expected another: this is the data path's port",
        ),
    ] {
        client.post("/services/create", &body).await.fails(status, says);
    }
    client
        .send("POST", "/services/create", "")
        .await
        .fails(400, "invalid JSON: EOF");
    client
        .send("POST", "/services/create", "{\"Name\": \"x\"} more")
        .await
        .fails(400, "line 1 column 15");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_of_every_node_has_one_service() {
    let (_server, mut client) = Server::manager().await;
    let published = |name: &str| {
        let mut service = service(name);
        service["EndpointSpec"] = json!({"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]});
        service
    };
    client.post("/services/create", &published("one")).await.ok();
    client
        .post("/services/create", &published("two"))
        .await
        .fails(400, "port '8080' is already in use by service 'one'");
    assert_eq!(names(&client.get("/services").await.ok()), ["one"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_is_of_what_was_read_and_a_rollback_takes_it_back() {
    let (server, mut client) = Server::manager().await;
    client.post("/services/create", &service("web")).await.ok();
    let first = client.get("/services/web").await.ok();
    let mut spec = first["Spec"].clone();
    spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!("alpine:3.11");
    let update = |object: &Value, more: &str| {
        format!(
            "/services/{}/update?version={}{more}",
            object["ID"].as_str().unwrap(),
            version(object)
        )
    };
    assert_eq!(
        client
            .post(&update(&first, "&registryAuthFrom=spec"), &spec)
            .await
            .ok(),
        json!({"Warnings": null})
    );
    client
        .post(&update(&first, ""), &spec)
        .await
        .fails(500, "rpc error: code = Unknown desc = update out of sequence");
    let second = client.get("/services/web").await.ok();
    assert_eq!(
        (&second["Spec"], &second["PreviousSpec"]),
        (&spec, &first["Spec"])
    );
    assert!(version(&second) > version(&first));
    // The CLI sends the current spec along.
    client
        .post(&update(&second, "&rollback=previous"), &spec)
        .await
        .ok();
    let third = client.get("/services/web").await.ok();
    assert_eq!((&third["Spec"], &third["PreviousSpec"]), (&first["Spec"], &spec));
    assert_eq!(third["UpdateStatus"]["State"], json!("rollback_started"));
    let stored = server.engine.store().view();
    let stored = stored.service_by_name("web").unwrap();
    assert_eq!(stored.spec_version.unwrap().index, 0);
    assert_eq!(stored.previous_spec_version.unwrap().index, version(&first));
    // An update after it is an ordinary one.
    client.post(&update(&third, "&rollback=none"), &spec).await.ok();
    let fourth = client.get("/services/web").await.ok();
    assert_eq!(fourth.get("UpdateStatus"), None);
    let mut renamed = spec.clone();
    renamed["Name"] = json!("other");
    let mut global = spec.clone();
    global["Mode"] = json!({"Global": {}});
    let mut bad = spec.clone();
    bad["TaskTemplate"]["ContainerSpec"]["Image"] = json!("");
    for (more, body, status, says) in [
        (
            "",
            &renamed,
            501,
            "code = Unimplemented desc = renaming services is not supported",
        ),
        (
            "",
            &global,
            501,
            "code = Unimplemented desc = service mode change is not allowed",
        ),
        ("", &bad, 400, "TaskTemplate.ContainerSpec.Image"),
        ("&rollback=x", &spec, 400, "unrecognized rollback option x"),
        (
            "&registryAuthFrom=x",
            &spec,
            400,
            "unsupported registryAuthFrom value: x",
        ),
    ] {
        client
            .post(&update(&fourth, more), body)
            .await
            .fails(status, says);
    }
    client
        .post("/services/web/update", &spec)
        .await
        .fails(400, "invalid service version ''");
    client
        .post("/services/none/update?version=1", &spec)
        .await
        .fails(404, "service none not found");
    client.post("/services/create", &service("new")).await.ok();
    let new = client.get("/services/new").await.ok();
    client
        .post(&update(&new, "&rollback=previous"), &new["Spec"])
        .await
        .fails(400, "does not have a previous spec");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_updates_at_once_one_succeeds() {
    let (server, mut client) = Server::manager().await;
    client.post("/services/create", &service("web")).await.ok();
    for round in 0..5 {
        let read = client.get("/services/web").await.ok();
        let update = format!("/services/web/update?version={}", version(&read));
        let (mut one, mut other) = (server.client().await, server.client().await);
        let (mut a, mut b) = (read["Spec"].clone(), read["Spec"].clone());
        a["Labels"] = json!({"by": format!("a{round}")});
        b["Labels"] = json!({"by": format!("b{round}")});
        let answers: [_; 2] = tokio::join!(one.post(&update, &a), other.post(&update, &b)).into();
        let statuses = answers.each_ref().map(|answer| answer.status);
        assert!(statuses == [200, 500] || statuses == [500, 200], "{answers:?}");
        let winner = if statuses[0] == 200 { &a } else { &b };
        assert_eq!(&client.get("/services/web").await.ok()["Spec"], winner);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_creates_of_a_name_one_succeeds() {
    let (server, mut client) = Server::manager().await;
    let creates = (0..8).map(|_| async {
        let mut client = server.client().await;
        client.post("/services/create", &service("web")).await.status
    });
    let mut statuses = futures_util::future::join_all(creates).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
    assert_eq!(names(&client.get("/services").await.ok()), ["web"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn networks_are_kept_by_identity_whichever_way_they_are_named() {
    let (_server, mut client) = Server::manager().await;
    let network = client
        .post("/networks/create", &json!({"Name": "back", "Driver": "overlay"}))
        .await
        .ok();
    let id = network["Id"].clone();
    let target = |text: &Value| json!([{"Target": text, "Aliases": ["db"]}]);
    let expected = json!([{"Target": id, "Aliases": ["db"]}]);
    for (name, place, text) in [
        ("a", "/TaskTemplate", json!("back")),
        ("b", "/TaskTemplate", id.clone()),
        ("c", "", json!("back")),
        ("d", "", json!(id.as_str().unwrap()[..12])),
    ] {
        let mut body = service(name);
        body.pointer_mut(place).unwrap()["Networks"] = target(&text);
        client.post("/services/create", &body).await.ok();
        let found = client.get(&format!("/services/{name}")).await.ok();
        assert_eq!(found["Spec"]["TaskTemplate"]["Networks"], expected, "{name}");
        let beside = (place.is_empty()).then_some(&expected);
        assert_eq!(found["Spec"].get("Networks"), beside, "{name}");
        assert_eq!(found["Endpoint"]["VirtualIPs"][0]["NetworkID"], id);
    }
    // What is beside the template goes once the template says otherwise.
    client
        .post("/networks/create", &json!({"Name": "front", "Driver": "overlay"}))
        .await
        .ok();
    let read = client.get("/services/c").await.ok();
    let mut moved = read["Spec"].clone();
    moved["TaskTemplate"]["Networks"] = json!([{"Target": "front"}]);
    let update = format!("/services/c/update?version={}", version(&read));
    client.post(&update, &moved).await.ok();
    let found = client.get("/services/c").await.ok();
    assert_eq!(found["Spec"].get("Networks"), None);
    let mut twice = service("e");
    twice["TaskTemplate"]["Networks"] = json!([{"Target": "back"}, {"Target": id}]);
    client
        .post("/services/create", &twice)
        .await
        .fails(400, "network back is given twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_update_of_a_job_is_another_run() {
    let (_server, mut client) = Server::manager().await;
    let mut job = service("job");
    job["Mode"] = json!({"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 5}});
    client.post("/services/create", &job).await.ok();
    for run in 0..3 {
        let found = client.get("/services/job").await.ok();
        let expected = if run == 0 {
            json!({})
        } else {
            json!({"Index": run})
        };
        assert_eq!(found["JobStatus"]["JobIteration"], expected);
        assert!(found["JobStatus"]["LastExecution"].is_string());
        let update = format!("/services/job/update?version={}", version(&found));
        client.post(&update, &found["Spec"]).await.ok();
    }
    let listed = client.get("/services?status=true").await.ok();
    let expected = json!({"RunningTasks": 0, "DesiredTasks": 2, "CompletedTasks": 0});
    assert_eq!(listed[0]["ServiceStatus"], expected);
    let full = client.get("/services/job?insertDefaults=true").await.ok();
    assert_eq!(full["Spec"].get("UpdateConfig"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_filtered_and_what_is_removed_is_gone() {
    let (_server, mut client) = Server::manager().await;
    let mut ids = Vec::new();
    for (name, label, mode) in [
        ("web", "x", json!({"Replicated": {"Replicas": 3}})),
        ("web2", "y", json!({"Global": {}})),
        ("api", "x", json!({"GlobalJob": {}})),
    ] {
        let mut body = service(name);
        body["Labels"] = json!({"tier": label});
        body["Mode"] = mode;
        let made = client.post("/services/create", &body).await.ok();
        ids.push(made["ID"].as_str().unwrap().to_owned());
    }
    for (filters, expected) in [
        (json!({}), vec!["api", "web", "web2"]),
        (json!({"name": ["web"]}), vec!["web", "web2"]),
        (json!({"name": {"web2": true, "api": true}}), vec!["api", "web2"]),
        (json!({"id": [ids[0]]}), vec!["web"]),
        (json!({"label": ["tier=x"]}), vec!["api", "web"]),
        (json!({"label": ["tier"], "mode": ["global"]}), vec!["web2"]),
        (json!({"mode": ["replicated", "global-job"]}), vec!["api", "web"]),
        (json!({"runtime": ["container"]}), vec!["api", "web", "web2"]),
        (json!({"runtime": ["plugin"]}), vec![]),
    ] {
        assert_eq!(
            names(&client.list("/services", &filters).await.ok()),
            expected,
            "{filters}"
        );
    }
    client
        .list("/services", &json!({"foo": ["x"]}))
        .await
        .fails(400, "Invalid filter 'foo'");
    client
        .get("/services?filters=%7B")
        .await
        .fails(400, "invalid filters");
    assert_eq!(client.get("/services/nosuch").await.status, 404);
    let removed = client.delete("/services/web").await;
    assert_eq!((removed.status, removed.body.len()), (200, 0));
    client
        .delete("/services/web")
        .await
        .fails(404, "service web not found");
    // Now the identity's beginning may name it, not the name's.
    client
        .get("/services/we")
        .await
        .fails(404, "service we not found");
    assert_eq!(names(&client.get("/services").await.ok()), ["api", "web2"]);
}

/// The credentials that a service's tasks have their image pulled with.
fn stored_auth(server: &Server, previous: bool) -> Option<String> {
    let store = server.engine.store();
    let view = store.view();
    let service = view.service_by_name("web").unwrap();
    let spec = if previous {
        service.previous_spec.as_ref().unwrap()
    } else {
        &service.spec
    };
    let container = spec.task_template.container.as_ref().unwrap();
    container.registry_auth().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_for_a_registry_are_kept_and_never_shown() {
    const AUTH: &str = "x-registry-auth";
    let (server, mut client) = Server::manager().await;
    let mut asked = service("web");
    // No member of Docker's API, whatever a client says.
    asked["TaskTemplate"]["ContainerSpec"]["PullOptions"] = json!({"RegistryAuth": "forged"});
    client.post("/services/create", &service("plain")).await.ok();
    let created = client
        .send_with(
            "POST",
            "/services/create",
            &[(AUTH, "Zmlyc3Q=")],
            asked.to_string(),
        )
        .await;
    assert_eq!(created.ok()["Warnings"], json!(null));
    assert_eq!(stored_auth(&server, false).as_deref(), Some("Zmlyc3Q="));

    let update = async |client: &mut Client, more: &str, headers: &[(&str, &str)]| {
        let now = client.get("/services/web").await.ok();
        let mut spec = now["Spec"].clone();
        let count = spec["TaskTemplate"]["ForceUpdate"].as_u64().unwrap_or_default();
        spec["TaskTemplate"]["ForceUpdate"] = json!(count + 1);
        let path = format!("/services/web/update?version={}{more}", version(&now));
        client.send_with("POST", &path, headers, spec.to_string()).await
    };
    // There is none before the first update.
    update(&mut client, "&registryAuthFrom=previous-spec", &[])
        .await
        .fails(400, "does not have a previous spec");
    update(&mut client, "&registryAuthFrom=spec", &[]).await.ok();
    assert_eq!(stored_auth(&server, false).as_deref(), Some("Zmlyc3Q="));
    update(&mut client, "", &[(AUTH, "c2Vjb25k")]).await.ok();
    assert_eq!(stored_auth(&server, false).as_deref(), Some("c2Vjb25k"));
    assert_eq!(stored_auth(&server, true).as_deref(), Some("Zmlyc3Q="));
    update(&mut client, "&registryAuthFrom=previous-spec", &[])
        .await
        .ok();
    assert_eq!(stored_auth(&server, false).as_deref(), Some("Zmlyc3Q="));
    update(&mut client, "&rollback=previous", &[]).await.ok();
    assert_eq!(stored_auth(&server, false).as_deref(), Some("c2Vjb25k"));

    for path in [
        "/services",
        "/services?status=true",
        "/services/web",
        "/services/web?insertDefaults=true",
    ] {
        let shown = client.get(path).await.ok().to_string();
        for hidden in ["PullOptions", "RegistryAuth", "forged", "Zmlyc3Q=", "c2Vjb25k"] {
            assert!(!shown.contains(hidden), "{path}: {shown}");
        }
    }
}
