//! The way to the node's Docker Engine, here one that says what a test has it say.

use crate::support::{SOON, Server, TestEngine, names, service};
use serde_json::{Value, json};
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// An engine of version 1.41.
struct FakeEngine {
    path: PathBuf,
    /// The first lines of the requests, but for those for the version.
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
    _directory: TempDir,
}

/// A request's head as it came, and the connection that it came by.
struct Asked {
    head: String,
    stream: UnixStream,
}

impl Asked {
    async fn read(mut stream: UnixStream) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        Some(Self { head, stream })
    }

    fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    fn is(&self, method: &str, path: &str) -> bool {
        self.line() == format!("{method} {path} HTTP/1.1")
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Answers as a whole.
    async fn answer(&mut self, status: u16, body: &Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        self.send(&(head + &body)).await;
    }

    /// Begins an answer that comes chunk by chunk.
    async fn begin(&mut self) {
        self.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
    }

    async fn chunk(&mut self, text: &str) {
        self.send(&format!("{:x}\r\n{text}\r\n", text.len())).await;
    }
}

impl FakeEngine {
    fn start<F: Future<Output = ()> + Send + 'static>(
        says: impl Fn(Asked) -> F + Send + Sync + Clone + 'static,
    ) -> Self {
        let directory = TempDir::new().unwrap();
        Self::at(directory, says)
    }

    fn at<F: Future<Output = ()> + Send + 'static>(
        directory: TempDir,
        says: impl Fn(Asked) -> F + Send + Sync + Clone + 'static,
    ) -> Self {
        let path = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let stream = listener.accept().await.unwrap().0;
                let (says, heard) = (says.clone(), heard.clone());
                connections.spawn(async move {
                    let Some(mut request) = Asked::read(stream).await else { return };
                    if request.is("GET", "/_ping") {
                        let pong = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nBuilder-Version: 2\r\nContent-Length: 2\r\n\r\nOK";
                        return request.send(pong).await;
                    }
                    heard.lock().unwrap().push(request.line().to_owned());
                    says(request).await;
                });
            }
        });
        Self {
            path,
            asked,
            task,
            _directory: directory,
        }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

/// A manager's server with an engine.
async fn server(engine: &FakeEngine) -> Server {
    let manager = TestEngine::manager().await;
    manager.state().local.docker_socket.clone_from(&engine.path);
    Server::start(manager)
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(SOON, work).await.unwrap()
}

/// Reads until what came ends so.
async fn read_until(stream: &mut UnixStream, end: &str) -> String {
    let mut read = Vec::new();
    let all = async {
        while !read.ends_with(end.as_bytes()) {
            read.push(stream.read_u8().await.unwrap());
        }
    };
    let in_time = timeout(SOON, all).await;
    let read = String::from_utf8_lossy(&read).into_owned();
    assert!(in_time.is_ok(), "{read:?} does not end with {end:?}");
    read
}

async fn raw(server: &Server, head: &str) -> UnixStream {
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_passed_on_in_a_version_that_the_engine_speaks() {
    let engine = FakeEngine::start(|mut asked: Asked| async move {
        assert!(
            !asked.head.contains("x-hop") && asked.head.contains("x-registry-auth: e30=\r\n"),
            "{}",
            asked.head
        );
        assert!(asked.head.contains("via: 1.1 essaim\r\n"), "{}", asked.head);
        asked.answer(200, &json!([{"Id": "a"}])).await;
    });
    let server = server(&engine).await;
    for (path, there) in [
        (
            "/v1.47/containers/json?all=1&filters=%7B%7D",
            "/v1.41/containers/json?all=1&filters=%7B%7D",
        ),
        ("/v1.24/images/a%2Fb/json", "/v1.24/images/a%2Fb/json"),
        ("/volumes", "/volumes"),
    ] {
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close, x-hop\r\nx-hop: 1\r\nx-registry-auth: e30=\r\n\r\n"
        );
        let mut client = raw(&server, &head).await;
        let mut answer = String::new();
        soon(client.read_to_string(&mut answer)).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(r#"[{"Id":"a"}]"#),
            "{answer}"
        );
        assert!(answer.contains("\r\napi-version: 1.47\r\n"), "{answer}");
        assert_eq!(engine.asked(), [format!("GET {there} HTTP/1.1")]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_the_swarms_never_reaches_the_engine() {
    let engine = FakeEngine::start(|mut asked: Asked| async move { asked.answer(200, &json!({})).await });
    let inactive = TestEngine::inactive();
    inactive.state().local.docker_socket.clone_from(&engine.path);
    for server in [server(&engine).await, Server::start(inactive)] {
        let mut client = server.client().await;
        for path in [
            "/swarm",
            "/nodes",
            "/services",
            "/tasks",
            "/secrets",
            "/configs",
            "/v1.41/nodes/x",
            "/%73warm",
            "//swarm",
            "/v1.41.0/swarm",
            "/v1.41/v1.41/swarm",
            "/containers/../swarm",
            "/containers/..%2Fswarm",
            "/swarm/nonsense",
            "/networks/..%2Fswarm",
            "/v1.41/networks/..%2Fswarm/connect",
        ] {
            client.get(path).await;
            client.post(path, &json!({})).await;
        }
        assert_eq!(engine.asked(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_go_both_ways_as_they_come() {
    // What comes is sent back, framed as it came.
    let engine = FakeEngine::start(|mut asked: Asked| async move {
        asked.begin().await;
        let (mut read, mut write) = asked.stream.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    });
    let server = server(&engine).await;
    let head = "POST /v1.47/images/load HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut client = raw(&server, head).await;
    for chunk in ["5\r\nhello\r\n", "7\r\nengine!\r\n"] {
        client.write_all(chunk.as_bytes()).await.unwrap();
        read_until(&mut client, chunk).await;
    }
    // More than any limit of what is read here.
    let large = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
    let (mut read, mut write) = client.split();
    let send = async {
        for _ in 0..8 {
            write.write_all(large.as_bytes()).await.unwrap();
        }
        write.write_all(b"0\r\n\r\n").await.unwrap();
    };
    let receive = async {
        let (mut received, mut end) = (0, Vec::new());
        while !end.ends_with(b"0\r\n\r\n") {
            let mut buffer = vec![0; 1 << 16];
            let length = read.read(&mut buffer).await.unwrap();
            assert!(length > 0, "it ends after {received} bytes");
            received += length;
            end.extend_from_slice(&buffer[..length]);
            end.drain(..end.len().saturating_sub(8));
        }
        received
    };
    let ((), received) = soon(async { tokio::join!(send, receive) }).await;
    assert!(received > 8 << 20, "{received}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_slow_to_read_holds_its_client_back() {
    let (go, gone) = tokio::sync::watch::channel(false);
    let engine = FakeEngine::start(move |mut asked: Asked| {
        let mut gone = gone.clone();
        async move {
            gone.wait_for(|gone| *gone).await.unwrap();
            let mut rest = vec![0; 1 << 16];
            let mut received = 0;
            while received < 64 << 20 {
                received += asked.stream.read(&mut rest).await.unwrap();
            }
            asked.answer(200, &json!({})).await;
        }
    });
    let server = server(&engine).await;
    let length = 64 << 20;
    let head =
        format!("PUT /containers/x/archive?path=/ HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    let mut client = raw(&server, &head).await;
    let piece = vec![7; 1 << 16];
    let mut sent = 0;
    // The kernel holds some, and nobody else may hold much.
    while sent < length {
        match timeout(
            std::time::Duration::from_millis(300),
            client.write(&piece[..piece.len().min(length - sent)]),
        )
        .await
        {
            Ok(written) => sent += written.unwrap(),
            Err(_) => break,
        }
    }
    assert!(
        sent < 8 << 20,
        "{sent} bytes are taken while the engine reads none"
    );
    go.send_replace(true);
    while sent < length {
        sent += soon(client.write(&piece[..piece.len().min(length - sent)]))
            .await
            .unwrap();
    }
    let answer = read_until(&mut client, "{}").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgraded_connection_is_a_tunnel_until_both_have_ended() {
    let engine = FakeEngine::start(|mut asked: Asked| async move {
        let protocol = if asked.line().contains("/session") {
            "h2c"
        } else {
            "tcp"
        };
        assert!(asked.head.contains("connection: Upgrade\r\n"), "{}", asked.head);
        assert!(
            asked.head.contains(&format!("upgrade: {protocol}\r\n")),
            "{}",
            asked.head
        );
        // The first bytes come with the head.
        let head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\n";
        asked
            .send(&format!("{head}Upgrade: {protocol}\r\n\r\nready\n"))
            .await;
        let mut input = String::new();
        asked.stream.read_to_string(&mut input).await.unwrap();
        // The client has ended its side and still hears.
        asked.send(&format!("heard {input}")).await;
    });
    let server = server(&engine).await;
    for (path, protocol) in [("/v1.47/exec/x/start", "tcp"), ("/session", "h2c")] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: {protocol}\r\ncontent-length: 2\r\n\r\n{{}}"
        );
        let mut client = raw(&server, &head).await;
        let answer = read_until(&mut client, "\r\n\r\nready\n").await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(
            answer.contains(&format!("\r\nupgrade: {protocol}\r\n")),
            "{answer}"
        );
        assert!(
            answer.contains("\r\ncontent-type: application/vnd.docker.raw-stream\r\n"),
            "{answer}"
        );
        client.write_all(b"these ").await.unwrap();
        client.write_all(b"words").await.unwrap();
        client.shutdown().await.unwrap();
        let mut rest = String::new();
        soon(client.read_to_string(&mut rest)).await.unwrap();
        assert_eq!(rest, "heard {}these words");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_upgrade_is_an_answer_and_the_connection_stays() {
    let engine = FakeEngine::start(|mut asked: Asked| async move {
        asked
            .answer(409, &json!({"message": "container x is not running"}))
            .await;
    });
    let server = server(&engine).await;
    let head = "POST /containers/x/attach HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: tcp\r\n\r\n";
    let mut client = raw(&server, head).await;
    for _ in 0..2 {
        let answer = read_until(&mut client, r#"{"message":"container x is not running"}"#).await;
        assert!(answer.starts_with("HTTP/1.1 409 "), "{answer}");
        client.write_all(head.as_bytes()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_one_side_goes_the_other_is_closed() {
    let (told, mut ended) = mpsc::unbounded_channel();
    let engine = FakeEngine::start(move |mut asked: Asked| {
        let told = told.clone();
        async move {
            if asked.line().contains("/attach") {
                asked
                    .send("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
                    .await;
                asked.send("x").await;
            } else {
                asked.begin().await;
                asked.chunk("x").await;
            }
            if asked.line().contains("dies") {
                return;
            }
            let mut rest = Vec::new();
            let _ = asked.stream.read_to_end(&mut rest).await;
            told.send(asked.line().to_owned()).unwrap();
        }
    });
    let server = server(&engine).await;
    let upgrade = "connection: Upgrade\r\nupgrade: tcp\r\n";
    for (line, more) in [
        ("GET /containers/x/logs?follow=1", ""),
        ("POST /containers/x/attach", upgrade),
    ] {
        // The client.
        let mut client = raw(&server, &format!("{line} HTTP/1.1\r\nhost: a\r\n{more}\r\n")).await;
        read_until(&mut client, "x").await;
        drop(client);
        let told = soon(ended.recv()).await.unwrap();
        assert!(told.starts_with(line), "{told}");
        // The engine.
        let line = line.replace("/x/", "/dies/");
        let mut client = raw(&server, &format!("{line} HTTP/1.1\r\nhost: a\r\n{more}\r\n")).await;
        let mut answer = String::new();
        let _ = soon(client.read_to_string(&mut answer)).await;
        assert!(answer.contains('x'), "{answer}");
        assert!(
            !answer.ends_with("0\r\n\r\n"),
            "what was cut is no whole: {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_cuts_streams_and_tunnels() {
    let engine = FakeEngine::start(|mut asked: Asked| async move {
        if asked.line().contains("/attach") {
            asked
                .send("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nx")
                .await;
        } else {
            asked.begin().await;
            asked.chunk("x").await;
        }
        std::future::pending::<()>().await;
    });
    let server = server(&engine).await;
    let upgrade = "connection: Upgrade\r\nupgrade: tcp\r\n";
    let mut clients = Vec::new();
    for (line, more) in [
        ("GET /containers/x/logs?follow=1", ""),
        ("POST /containers/x/attach", upgrade),
    ] {
        let mut client = raw(&server, &format!("{line} HTTP/1.1\r\nhost: a\r\n{more}\r\n")).await;
        read_until(&mut client, "x").await;
        clients.push(client);
    }
    server.stop().await;
    for mut client in clients {
        let mut rest = String::new();
        let _ = soon(client.read_to_string(&mut rest)).await;
        assert!(!rest.ends_with("0\r\n\r\n"), "what was cut is no whole: {rest}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_dies_before_it_answers_is_told_of() {
    let engine = FakeEngine::start(|_| async {});
    let server = server(&engine).await;
    let mut client = server.client().await;
    client
        .post("/containers/x/start", &json!({}))
        .await
        .fails(503, "does not answer");
    let mut client = server.client().await;
    // What both say is said by one.
    assert_eq!(client.get("/info").await.ok()["Name"], "n1");
    assert_eq!(names(&client.get("/networks").await.ok()), ["ingress"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_engine_what_needs_one_says_so_and_the_swarm_works() {
    let (server, mut client) = Server::manager().await;
    let why = "this node has no Docker Engine at /nonexistent/docker.sock";
    for uri in [
        "/containers/json",
        "/v1.41/images/json",
        "/volumes",
        "/plugins",
        "/system/df",
        "/containers/x/logs",
    ] {
        client.get(uri).await.fails(501, why);
    }
    for uri in [
        "/containers/create",
        "/exec/x/start",
        "/build",
        "/images/create?fromImage=a",
        "/auth",
    ] {
        client.post(uri, &json!({})).await.fails(501, why);
    }
    // So that `docker inspect` goes on to the cluster's objects.
    for (uri, says) in [
        ("/containers/x/json", "No such container: x"),
        ("/images/a/b:1/json", "No such image: a/b:1"),
        ("/volumes/x", "get x: no such volume"),
        ("/plugins/x/json", "plugin \"x\" not found"),
        ("/networks/x", "network x not found"),
    ] {
        client.get(uri).await.fails(404, says);
    }
    client.get("/distribution/a/b:1/json").await.fails(501, why);
    client
        .post("/networks/create", &json!({"Name": "own", "Driver": "bridge"}))
        .await
        .fails(501, why);
    client
        .post("/networks/create", &json!({"Name": "back"}))
        .await
        .ok();
    client.post("/services/create", &service("web")).await.ok();
    assert_eq!(client.get("/info").await.ok()["Driver"], "essaim");
    assert_eq!(client.get("/_ping").await.headers["builder-version"], "1");
    // A socket that nobody listens at any more.
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("docker.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    server.engine.state().local.docker_socket = path;
    let why = "does not answer: Connection refused";
    client.get("/containers/json").await.fails(503, why);
    client.get("/containers/x/json").await.fails(503, why);
    client.get("/networks/x").await.fails(503, why);
    client.delete("/networks/x").await.fails(503, why);
    assert_eq!(client.get("/services/web").await.status, 200);
    assert_eq!(names(&client.get("/networks").await.ok()), ["back", "ingress"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_is_named_as_its_own_engine_is_no_loop() {
    let (server, mut client) = Server::manager().await;
    server.engine.state().local.docker_socket.clone_from(&server.path);
    client
        .get("/containers/json")
        .await
        .fails(503, "came through such an API already");
    client
        .get("/v1.47/containers/json")
        .await
        .fails(503, "came through such an API already");
    assert_eq!(names(&client.get("/networks").await.ok()), ["ingress"]);
    assert_eq!(client.get("/_ping").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn info_version_and_ping_are_of_both() {
    let engine = FakeEngine::start(|mut asked: Asked| async move {
        let said = if asked.line().contains("/info") {
            json!({"Containers": 3, "Driver": "overlay2", "Name": "box", "Swarm": {"LocalNodeState": "inactive"}})
        } else {
            json!({"Version": "20.10", "Components": [{"Name": "Engine", "Version": "20.10"}]})
        };
        asked.answer(200, &said).await;
    });
    let server = server(&engine).await;
    let mut client = server.client().await;
    let info = client.get("/v1.47/info").await.ok();
    assert_eq!(
        (&info["Containers"], &info["Driver"], &info["Name"]),
        (&json!(3), &json!("overlay2"), &json!("n1"))
    );
    assert_eq!(info["Swarm"]["LocalNodeState"], "active");
    let version = client.get("/version").await.ok();
    assert_eq!(version["Version"], "0.1.0");
    let components: Vec<_> = version["Components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| &part["Name"])
        .collect();
    assert_eq!(components, ["Engine", "Docker Engine"]);
    let ping = client.get("/_ping").await;
    assert_eq!(
        (&ping.headers["builder-version"], &ping.headers["swarm"]),
        (&"2".parse().unwrap(), &"active/manager".parse().unwrap())
    );
    assert_eq!(ping.headers["api-version"], "1.47");
    assert_eq!(
        engine.asked(),
        ["GET /v1.41/info HTTP/1.1", "GET /version HTTP/1.1"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn networks_are_the_clusters_and_the_engines() {
    let engine = FakeEngine::start(|mut asked: Asked| async move {
        let own = json!({"Name": "own", "Id": "f00", "Driver": "bridge", "Scope": "local"});
        let none = json!({"message": "network not found"});
        let line = asked.line().to_owned();
        match line.split(' ').collect::<Vec<_>>()[..2] {
            ["GET", "/networks"] => asked.answer(200, &json!([own])).await,
            ["GET", "/networks/own" | "/networks/back?scope=local"] => asked.answer(200, &own).await,
            ["DELETE", "/networks/own"] => asked.answer(204, &Value::Null).await,
            ["POST", "/networks/create"] => asked.answer(201, &json!({"Id": "f00", "Warning": ""})).await,
            ["POST", "/networks/own/connect"] => asked.answer(200, &Value::Null).await,
            ["POST", "/networks/prune"] => asked.answer(200, &json!({"NetworksDeleted": ["own"]})).await,
            _ => asked.answer(404, &none).await,
        }
    });
    let server = server(&engine).await;
    let mut client = server.client().await;
    for (asked, is_ours) in [
        (json!({"Name": "back", "Driver": "overlay"}), true),
        (
            json!({"Name": "plan", "Driver": "bridge", "ConfigOnly": true}),
            true,
        ),
        (
            json!({"Name": "wide", "Driver": "overlay", "Scope": "swarm"}),
            true,
        ),
        (json!({"Name": "own", "Driver": "bridge"}), false),
        (
            json!({"Name": "own", "Driver": "macvlan", "Scope": "local"}),
            false,
        ),
        (json!({"Name": "own"}), false),
    ] {
        let answer = client.post("/networks/create", &asked).await;
        let went = engine.asked();
        assert_eq!(went.is_empty(), is_ours, "{asked}: {went:?} {answer:?}");
        if !is_ours {
            assert_eq!(
                (answer.status, answer.json()["Id"].as_str()),
                (201, Some("f00")),
                "{asked}"
            );
        }
    }
    client
        .post("/networks/create", &json!({"Name": "back", "Driver": "bridge"}))
        .await
        .fails(409, "network with name back already exists");
    assert_eq!(
        names(&client.get("/networks").await.ok()),
        ["back", "ingress", "own", "plan", "wide"]
    );
    let back = client.get("/networks/back").await.ok();
    assert_eq!(back["Scope"], "swarm");
    let id = back["Id"].as_str().unwrap();
    assert_eq!(
        client.get(&format!("/networks/{}", &id[..8])).await.ok()["Name"],
        "back"
    );
    assert_eq!(client.get("/networks/own").await.ok()["Driver"], "bridge");
    assert_eq!(client.get("/networks/back?scope=local").await.ok()["Name"], "own");
    client
        .get("/networks/own?scope=swarm")
        .await
        .fails(404, "network own not found");
    client
        .get("/networks/nobodys")
        .await
        .fails(404, "network nobodys not found");
    engine.asked();
    client.delete("/networks/back").await.ok();
    assert_eq!(engine.asked(), Vec::<String>::new());
    assert_eq!(client.delete("/networks/own").await.status, 204);
    assert_eq!(engine.asked(), ["DELETE /networks/own HTTP/1.1"]);
    assert_eq!(
        client
            .post("/networks/own/connect", &json!({"Container": "x"}))
            .await
            .status,
        200
    );
    // Of the cluster's only those that containers can be on.
    client
        .post("/networks/plan/connect", &json!({"Container": "x"}))
        .await
        .fails(404, "network plan not found");
    let names = [("wide", "own"), ("w1d", "own")].map(|(asked, own)| (asked.to_owned(), own.to_owned()));
    server.engine.state().prepared.extend(names);
    engine.asked();
    let connected = client
        .post("/networks/wide/connect", &json!({"Container": "x"}))
        .await;
    assert_eq!(
        (connected.status, engine.asked()),
        (200, vec!["POST /networks/own/connect HTTP/1.1".to_owned()])
    );
    let pruned = client.post("/networks/prune", &json!({})).await.ok();
    let mut pruned: Vec<_> = pruned["NetworksDeleted"].as_array().unwrap().iter().collect();
    pruned.sort_by_key(|name| name.as_str());
    assert_eq!(pruned, ["own", "plan", "wide"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_goes_to_what_the_engine_has_for_the_clusters_network() {
    let engine = FakeEngine::start(|mut asked: Asked| async move {
        let length = asked.head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.parse::<usize>().unwrap())
        });
        let mut body = vec![0; length.unwrap_or_default()];
        asked.stream.read_exact(&mut body).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        asked.answer(201, &json!({"Id": "c1", "Asked": body})).await;
    });
    let server = server(&engine).await;
    server
        .engine
        .state()
        .prepared
        .insert("w1d".to_owned(), "wide".to_owned());
    let mut client = server.client().await;
    let of = |mode: &str, endpoint: &str| {
        json!({
            "Image": "w1d", "HostConfig": {"NetworkMode": mode},
            "NetworkingConfig": {"EndpointsConfig": {endpoint: {"Aliases": ["w1d"]}}},
        })
    };
    for (asked, expected) in [
        (of("w1d", "w1d"), of("wide", "wide")),
        (of("bridge", "w1d"), of("bridge", "wide")),
        (of("own", "own"), of("own", "own")),
    ] {
        let answer = client.post("/containers/create?name=a", &asked).await;
        assert_eq!((answer.status, &answer.json()["Asked"]), (201, &expected));
        let lines = engine.asked();
        assert!(
            lines.contains(&"POST /containers/create?name=a HTTP/1.1".to_owned()),
            "{lines:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_in_no_cluster_has_its_engines_networks() {
    let engine = FakeEngine::start(|mut asked: Asked| async move {
        let own = json!({"Name": "own", "Id": "f00"});
        let said = if asked.is("GET", "/networks") {
            json!([own])
        } else {
            own
        };
        asked.answer(200, &said).await;
    });
    let inactive = TestEngine::inactive();
    inactive.state().local.docker_socket.clone_from(&engine.path);
    let server = Server::start(inactive);
    let mut client = server.client().await;
    assert_eq!(names(&client.get("/networks").await.ok()), ["own"]);
    assert_eq!(client.get("/networks/own").await.ok()["Id"], "f00");
    client
        .post("/networks/create", &json!({"Name": "back", "Driver": "overlay"}))
        .await
        .fails(503, "not a swarm manager");
}

/// The next line of events that a raw client gets, which has this name.
async fn event(client: &mut UnixStream, name: &str) -> Value {
    let chunk = read_until(client, "}\n").await;
    let line = chunk.lines().last().unwrap();
    let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {chunk:?}"));
    assert_eq!(event["Actor"]["Attributes"]["name"], name, "{chunk}");
    event
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_of_both_and_go_on_when_the_engine_is_back() {
    let (say, said) = tokio::sync::broadcast::channel::<&str>(8);
    let says = say.clone();
    let behaviour = move |mut asked: Asked| {
        let mut said = says.subscribe();
        async move {
            asked.begin().await;
            loop {
                match said.recv().await.unwrap() {
                    "die" => return,
                    text => asked.chunk(text).await,
                }
            }
        }
    };
    drop(said);
    let engine = FakeEngine::start(behaviour.clone());
    let server = server(&engine).await;
    let mut client = server.client().await;
    let mut events = raw(
        &server,
        "GET /v1.47/events?filters=%7B%7D HTTP/1.1\r\nhost: a\r\n\r\n",
    )
    .await;
    read_until(&mut events, "\r\n\r\n").await;
    // The engine listens since before the head came.
    assert_eq!(engine.asked(), ["GET /v1.41/events?filters=%7B%7D HTTP/1.1"]);
    let of = |name: &str| {
        format!("{{\"Type\":\"container\",\"Actor\":{{\"Attributes\":{{\"name\":\"{name}\"}}}}}}\n")
    };
    let box_1: &'static str = of("box").leak();
    say.send(box_1).unwrap();
    assert_eq!(event(&mut events, "box").await["Type"], "container");
    // A line in two pieces is not torn by what comes between them.
    let torn: &'static str = of("torn").leak();
    say.send(&torn[..20]).unwrap();
    client.post("/services/create", &service("web")).await.ok();
    assert_eq!(event(&mut events, "web").await["Type"], "service");
    say.send(&torn[20..]).unwrap();
    event(&mut events, "torn").await;
    // The engine goes, and the next one is followed.
    say.send("die").unwrap();
    client.post("/services/create", &service("api")).await.ok();
    event(&mut events, "api").await;
    let again = async {
        loop {
            if let Some(line) = engine.asked().pop() {
                return line;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let again = soon(again).await;
    assert!(
        again.starts_with("GET /v1.41/events?filters=%7B%7D&since="),
        "{again}"
    );
    say.send(box_1).unwrap();
    event(&mut events, "box").await;
    engine.task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_up_to_a_moment_end_with_the_engines() {
    let engine = FakeEngine::start(|mut asked: Asked| async move {
        asked.begin().await;
        asked.chunk("{\"Type\":\"container\"}\n").await;
        asked.send("0\r\n\r\n").await;
    });
    let server = server(&engine).await;
    let mut client = server.client().await;
    client.post("/services/create", &service("web")).await.ok();
    let told =
        soon(client.get("/events?since=1&until=2000000000&filters=%7B%22type%22%3A%5B%22container%22%5D%7D"));
    drop(told);
    let told = soon(client.get("/events?since=1&until=2")).await;
    assert_eq!(told.body, "{\"Type\":\"container\"}\n");
}
