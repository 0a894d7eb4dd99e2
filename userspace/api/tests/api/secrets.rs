use crate::support::{Server, names, service, version};
use serde_json::{Value, json};

const DATA: &str = "czNjcjN0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_never_shown_and_a_config_is() {
    let (_server, mut client) = Server::manager().await;
    for kind in ["secrets", "configs"] {
        let body = json!({"Name": "a", "Labels": {"x": "1"}, "Data": DATA});
        let made = client.post(&format!("/{kind}/create"), &body).await;
        assert_eq!(made.status, 201);
        let id = made.ok()["ID"].as_str().unwrap().to_owned();
        let shown = client.get(&format!("/{kind}/a")).await;
        assert_eq!(shown.ok()["ID"], json!(id));
        let data = if kind == "configs" {
            json!(DATA)
        } else {
            Value::Null
        };
        assert_eq!(shown.ok()["Spec"]["Data"], data);
        assert_eq!(client.get(&format!("/{kind}")).await.ok()[0], shown.ok());
        assert_eq!(client.get(&format!("/{kind}/{id}")).await.ok(), shown.ok());
        assert_eq!(
            client.get(&format!("/{kind}/{}", &id[..8])).await.ok(),
            shown.ok()
        );
        let filters = json!({"name": {"a": true}, "label": {"x=1": true}});
        assert_eq!(
            names(&client.list(&format!("/{kind}"), &filters).await.ok()),
            ["a"]
        );
        let filters = json!({"label": ["x=2"]});
        assert_eq!(client.list(&format!("/{kind}"), &filters).await.ok(), json!([]));
        client
            .list(&format!("/{kind}"), &json!({"mode": ["x"]}))
            .await
            .fails(400, "Invalid filter 'mode'");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_labels_change() {
    let (_server, mut client) = Server::manager().await;
    for (kind, what) in [("secrets", "secret"), ("configs", "config")] {
        client
            .post(&format!("/{kind}/create"), &json!({"Name": "a", "Data": DATA}))
            .await
            .ok();
        let read = client.get(&format!("/{kind}/a")).await.ok();
        let update = format!("/{kind}/a/update?version={}", version(&read));
        for body in [
            json!({"Name": "b", "Data": DATA}),
            json!({"Name": "a", "Data": "b3RoZXI="}),
            json!({"Data": DATA}),
            json!({"Name": "a", "Templating": {"Name": "golang"}}),
        ] {
            client
                .post(&update, &body)
                .await
                .fails(400, "InvalidArgument desc = only updates to Labels are allowed");
        }
        client
            .post(&update, &json!({"Name": "a", "Labels": {"x": "1"}}))
            .await
            .ok();
        let now = client.get(&format!("/{kind}/a")).await.ok();
        assert_eq!(now["Spec"]["Labels"], json!({"x": "1"}));
        let body = json!({"Name": "a", "Data": DATA, "Labels": {}});
        client
            .post(&update, &body)
            .await
            .fails(500, "update out of sequence");
        client
            .post(&format!("/{kind}/a/update"), &body)
            .await
            .fails(400, &format!("invalid {what} version ''"));
        client
            .post(&format!("/{kind}/none/update?version=1"), &body)
            .await
            .fails(404, &format!("{what} none not found"));
    }
    assert_eq!(client.get("/configs/a").await.ok()["Spec"]["Data"], json!(DATA));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_none_is_refused() {
    let (_server, mut client) = Server::manager().await;
    for (kind, what, limit) in [
        ("secrets", "secret", 500 * 1024),
        ("configs", "config", 1000 * 1024),
    ] {
        let create = format!("/{kind}/create");
        client
            .post(&create, &json!({"Name": "a", "Data": DATA}))
            .await
            .ok();
        let large = "QUJD".repeat(limit / 3 + 1);
        for (body, status, says) in [
            (
                json!({"Name": "a", "Data": DATA}),
                409,
                format!("code = AlreadyExists desc = {what} a already exists"),
            ),
            (json!({"Name": "b", "Data": "a"}), 400, "base64".to_owned()),
            (
                json!({"Name": "b", "Data": ""}),
                400,
                "Data is 0 bytes".to_owned(),
            ),
            (json!({"Name": "b"}), 400, "Data is 0 bytes".to_owned()),
            (json!({"Name": "", "Data": DATA}), 400, "Name is \"\"".to_owned()),
            (
                json!({"Name": "b", "Data": large}),
                400,
                format!("expected 1 to {} bytes", limit - 1),
            ),
        ] {
            client.post(&create, &body).await.fails(status, &says);
        }
        let most = "QUJD".repeat((limit - 1) / 3);
        client
            .post(&create, &json!({"Name": "most", "Data": most}))
            .await
            .ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_service_uses_stays() {
    let (_server, mut client) = Server::manager().await;
    let mut web = service("web");
    for (kind, id, name) in [
        ("secrets", "SecretID", "SecretName"),
        ("configs", "ConfigID", "ConfigName"),
    ] {
        let made = client
            .post(&format!("/{kind}/create"), &json!({"Name": "a", "Data": DATA}))
            .await
            .ok();
        let list = if kind == "secrets" { "Secrets" } else { "Configs" };
        web["TaskTemplate"]["ContainerSpec"][list] =
            json!([{id: made["ID"], name: "a", "File": {"Name": "a", "UID": "0", "GID": "0", "Mode": 292}}]);
    }
    let mut misnamed = web.clone();
    misnamed["TaskTemplate"]["ContainerSpec"]["Secrets"][0]["SecretName"] = json!("b");
    client
        .post("/services/create", &misnamed)
        .await
        .fails(400, "secret not found: b");
    client.post("/services/create", &web).await.ok();
    client
        .delete("/secrets/a")
        .await
        .fails(400, "secret 'a' is in use by the following service: web");
    client
        .delete("/configs/a")
        .await
        .fails(400, "config 'a' is in use by the following service: web");
    web["Name"] = json!("api");
    client.post("/services/create", &web).await.ok();
    let refused = client.delete("/configs/a").await;
    refused.fails(400, "is in use by the following services: ");
    for service in ["web", "api"] {
        client.delete(&format!("/services/{service}")).await.ok();
    }
    for kind in ["secrets", "configs"] {
        let removed = client.delete(&format!("/{kind}/a")).await;
        assert_eq!((removed.status, removed.body.len()), (204, 0));
        assert_eq!(client.delete(&format!("/{kind}/a")).await.status, 404);
    }
}
