use crate::support::{SOON, Server, TestEngine};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_route_is_not_found() {
    let (_server, mut client) = Server::manager().await;
    for (method, uri) in [
        ("GET", "/"),
        ("GET", "/nonsense"),
        ("GET", "/v1.47"),
        ("GET", "/v1.47/"),
        ("GET", "/services/"),
        ("PUT", "/services/create"),
        ("POST", "/services"),
        ("DELETE", "/services"),
        ("GET", "/services/a/b/c"),
        ("HEAD", "/info"),
        ("GET", "/swarm/nodes"),
    ] {
        let answer = client.send(method, uri, "").await;
        assert_eq!(answer.status, 404, "{method} {uri}: {answer:?}");
        if method != "HEAD" && uri != "/services/" {
            assert_eq!(
                answer.json(),
                json!({"message": "page not found"}),
                "{method} {uri}"
            );
        }
    }
    client
        .get("/v1.99/services")
        .await
        .fails(400, "client version 1.99 is too new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_has_dockers_headers_and_the_connection_stays() {
    let (_server, mut client) = Server::manager().await;
    for uri in ["/_ping", "/nodes", "/nonsense", "/v1.99/x"] {
        let answer = client.get(uri).await;
        assert_eq!(answer.headers["api-version"], "1.47", "{uri}");
        assert_eq!(answer.headers["ostype"], "linux");
        assert_eq!(answer.headers["docker-experimental"], "false");
        assert_eq!(answer.headers["server"], "Docker/0.1.0 (linux)");
        assert_eq!(answer.headers.get("connection"), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_must_be_json_of_some_size() {
    let (server, mut client) = Server::manager().await;
    let request = http::Request::post("/secrets/create")
        .header("host", "docker")
        .header("content-type", "text/plain")
        .body("{}".into())
        .unwrap();
    let answer = client.sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 400);
    // Declared too large: refused before it is sent.
    let mut stream = tokio::net::UnixStream::connect(&server.path).await.unwrap();
    let head = "POST /secrets/create HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.contains("body is too large"),
        "{answer}"
    );
    // Not declared: read up to the limit.
    let mut stream = tokio::net::UnixStream::connect(&server.path).await.unwrap();
    let head = "POST /secrets/create HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 0x10_0000], b"\r\n"].concat();
    for _ in 0..6 {
        // The server may close before all of it is taken.
        if stream.write_all(&chunk).await.is_err() {
            break;
        }
    }
    let mut start = [0; 12];
    if timeout(SOON, stream.read_exact(&mut start))
        .await
        .unwrap()
        .is_ok()
    {
        assert_eq!(&start, b"HTTP/1.1 413");
    }
    // And nothing of it disturbs others.
    assert_eq!(client.get("/nodes").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_http_ends_the_connection_only() {
    let (server, mut client) = Server::manager().await;
    for garbage in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        &[0xff; 9000],
    ] {
        let mut stream = tokio::net::UnixStream::connect(&server.path).await.unwrap();
        let _ = stream.write_all(garbage).await;
        let mut answer = Vec::new();
        let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
            "{answer:?}"
        );
    }
    assert_eq!(client.get("/_ping").await.body, "OK");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_leaves_no_socket() {
    let server = Server::start(TestEngine::inactive());
    let mut client = server.client().await;
    assert_eq!(client.get("/_ping").await.status, 200);
    let path = server.path.clone();
    server.stop().await;
    assert!(!path.exists());
    assert!(client.sender.ready().await.is_err());
}
