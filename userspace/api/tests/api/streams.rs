use crate::support::{SOON, Server, TestEngine, service};
use bytes::Bytes;
use essaim_api::{Engine, EngineError};
use essaim_objects::{Data, InitRequest, NodeId, TaskId, Timestamp};
use essaim_protocol::{LogMessage, LogSource, Stream};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::timeout;

/// The lines of a stream as they come.
struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = timeout(SOON, self.body.frame()).await.unwrap()?;
            self.rest.extend(frame.unwrap().into_data().unwrap());
        }
    }

    /// Type, action and name of the next.
    async fn told(&mut self) -> (String, String, String) {
        let event = self.next().await.unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let name = text(&event["Actor"]["Attributes"]["name"]);
        (text(&event["Type"]), text(&event["Action"]), name)
    }
}

async fn events(server: &Server, query: &str) -> Lines {
    let mut client = server.client().await;
    let request = http::Request::get(format!("/events{query}"))
        .header("host", "docker")
        .body(Full::<Bytes>::default())
        .unwrap();
    // The head comes though nothing has happened yet.
    let answer = timeout(SOON, client.sender.send_request(request))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/json");
    std::mem::forget(client);
    Lines {
        body: answer.into_body(),
        rest: Vec::new(),
    }
}

fn told(kind: &str, action: &str, name: &str) -> (String, String, String) {
    (kind.to_owned(), action.to_owned(), name.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_tell_of_every_change_from_their_beginning() {
    let (server, mut client) = Server::manager().await;
    client.post("/services/create", &service("before")).await.ok();
    let mut all = events(&server, "").await;
    let mut secrets = events(&server, "?filters=%7B%22type%22%3A%5B%22secret%22%5D%7D").await;
    client
        .post("/networks/create", &json!({"Name": "back", "Driver": "overlay"}))
        .await
        .ok();
    client
        .post("/secrets/create", &json!({"Name": "s", "Data": "QUJD"}))
        .await
        .ok();
    client
        .post("/configs/create", &json!({"Name": "c", "Data": "QUJD"}))
        .await
        .ok();
    client.post("/services/create", &service("web")).await.ok();
    client.delete("/services/web").await.ok();
    for expected in [
        told("network", "create", "back"),
        told("secret", "create", "s"),
        told("config", "create", "c"),
        told("service", "create", "web"),
        told("service", "remove", "web"),
    ] {
        assert_eq!(all.told().await, expected);
    }
    assert_eq!(secrets.told().await, told("secret", "create", "s"));
    // What was is told to who asks for it, and a stream whose end has passed ends.
    let mut past = events(
        &server,
        "?since=1&until=0s&filters=%7B%22type%22%3A%5B%22service%22%5D%7D",
    )
    .await;
    for expected in [
        told("service", "create", "before"),
        told("service", "create", "web"),
        told("service", "remove", "web"),
    ] {
        assert_eq!(past.told().await, expected);
    }
    assert_eq!(past.next().await, None);
    let mut none = events(&server, "?since=1&until=2").await;
    assert_eq!(none.next().await, None);
    // Streams end with the server, others' requests are not cut.
    server.stop().await;
    assert_eq!(all.next().await, None);
    assert_eq!(secrets.next().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_end_at_their_time_and_begin_with_a_cluster() {
    let server = Server::start(TestEngine::inactive());
    let mut past = events(&server, "?since=1&until=2").await;
    assert_eq!(past.next().await, None);
    let mut all = events(&server, "").await;
    server.engine.init(InitRequest::default()).await.unwrap();
    let mut client = server.client().await;
    // It looks for a cluster every second: what is before it does is not told.
    let mut count = 0;
    let first = loop {
        count += 1;
        client
            .post("/services/create", &service(&format!("web{count}")))
            .await
            .ok();
        tokio::select! {
            first = all.next() => break first.unwrap(),
            () = tokio::time::sleep(std::time::Duration::from_millis(100)) => assert!(count < 200),
        }
    };
    assert_eq!(first["Type"], json!("service"));
    for (query, says) in [
        ("?filters=%7B%22foo%22%3A%5B%22x%22%5D%7D", "Invalid filter 'foo'"),
        ("?since=x", "invalid time \"x\""),
        ("?since=5&until=4", "after until"),
    ] {
        client.get(&format!("/events{query}")).await.fails(400, says);
    }
}

fn message(stream: Stream, text: &str) -> LogMessage {
    LogMessage {
        source: LogSource {
            node: NodeId::from_bits(1),
            service: None,
            task: TaskId::from_bits(3),
        },
        timestamp: Timestamp::new(60, 0).unwrap(),
        stream,
        data: Data::from(text.as_bytes().to_vec()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_asked_of_the_engine_and_framed() {
    let (server, mut client) = Server::manager().await;
    let made = client.post("/services/create", &service("web")).await.ok();
    let lines = || {
        vec![
            Ok(message(Stream::Stdout, "out\n")),
            Ok(message(Stream::Stderr, "err\n")),
            Err(EngineError::unavailable("node n2 is gone")),
        ]
    };
    let framed: Vec<u8> = [(1, "out\n"), (2, "err\n"), (3, "node n2 is gone\n")]
        .into_iter()
        .flat_map(|(number, text)| {
            [
                &[number, 0, 0, 0, 0, 0, 0, u8::try_from(text.len()).unwrap()],
                text.as_bytes(),
            ]
            .concat()
        })
        .collect();
    for (version, kind) in [
        ("/v1.41", None),
        ("/v1.42", Some("application/vnd.docker.multiplexed-stream")),
    ] {
        server.engine.state().logs = lines();
        let answer = client
            .get(&format!(
                "{version}/services/web/logs?stdout=1&stderr=1&tail=5&follow=1&since=60"
            ))
            .await;
        assert_eq!(answer.body, framed);
        assert_eq!(
            answer
                .headers
                .get("content-type")
                .map(|kind| kind.to_str().unwrap()),
            kind
        );
    }
    let asked = server.engine.state().log_request.clone().unwrap();
    assert_eq!(json!(asked.selector.services), json!([made["ID"]]));
    assert_eq!(
        (asked.tail, asked.follow, asked.since),
        (Some(5), true, Some(Timestamp::new(60, 0).unwrap()))
    );
    assert_eq!(asked.streams, [Stream::Stdout, Stream::Stderr]);
    client
        .get("/services/web/logs")
        .await
        .fails(400, "you must choose at least one stream");
    client
        .get("/services/none/logs?stdout=1")
        .await
        .fails(404, "service none not found");
    client
        .get("/tasks/none/logs?stdout=1")
        .await
        .fails(404, "task none not found");
    let mut terminal = service("tty");
    terminal["TaskTemplate"]["ContainerSpec"]["TTY"] = json!(true);
    client.post("/services/create", &terminal).await.ok();
    server.engine.state().logs = lines();
    let answer = client.get("/services/tty/logs?stdout=1").await;
    assert_eq!(answer.body, "out\nerr\nnode n2 is gone\n");
    assert_eq!(
        answer.headers["content-type"],
        "application/vnd.docker.raw-stream"
    );
}
