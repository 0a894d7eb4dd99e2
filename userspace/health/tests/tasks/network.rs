//! TCP and HTTP probes reach what listens inside the task's namespace, and nothing else.

use crate::namespaces::Netns;
use crate::{only, pace, probe_once, task, watched};
use essaim_health::{FailureCause, Health, HealthService, Pace, Probe, ProbeResult, TaskPlace};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A server that gives every request this answer, and hands out the requests.
struct Server {
    address: SocketAddr,
    requests: mpsc::Receiver<String>,
}

impl Server {
    fn start(netns: &Netns, on: &str, answer: &'static str) -> Self {
        let listener = netns.inside(|| TcpListener::bind(on).unwrap());
        let address = listener.local_addr().unwrap();
        let (heard, requests) = mpsc::channel();
        // It ends with the test's process: nobody can reach it any more without the namespace.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap_or_default();
                let _ = heard.send(String::from_utf8_lossy(&request[..length]).into_owned());
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { address, requests }
    }
}

async fn get(netns: &Netns, server: &Server) -> ProbeResult {
    let probe = Probe::http(server.address.port(), "/health", None).unwrap();
    probe_once(probe, pace(), netns.place()).await
}

#[tokio::test]
async fn an_http_server_is_seen_only_from_within_the_namespace() {
    let netns = Netns::new();
    let server = Server::start(&netns, "127.0.0.1:0", "HTTP/1.1 200 OK\r\n\r\n");
    assert!(get(&netns, &server).await.is_ok());
    assert!(
        TcpStream::connect(server.address).is_err(),
        "it is reached from outside"
    );
    let request = server.requests.try_recv().unwrap();
    let expected = format!("GET /health HTTP/1.1\r\nHost: {}\r\n", server.address);
    assert!(request.starts_with(&expected), "{request}");
    // And what listens outside is not seen from within.
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let probe = Probe::tcp(outside.local_addr().unwrap().port()).unwrap();
    let failure = probe_once(probe, pace(), netns.place()).await.unwrap_err();
    assert!(matches!(failure.cause, FailureCause::Connect { .. }), "{failure}");
}

#[tokio::test]
async fn the_status_of_an_answer_decides() {
    let netns = Netns::new();
    for (answer, expected) in [
        ("HTTP/1.0 204 No Content\r\n\r\n", Ok(())),
        ("HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", Ok(())),
        (
            "HTTP/1.1 503 Service Unavailable\r\n\r\nno database",
            Err("HTTP status 503, expected 200 to 399"),
        ),
        (
            "SSH-2.0-OpenSSH_9.9\r\n",
            Err("no answer: the answer is not HTTP/1"),
        ),
        ("", Err("no answer: the server closed before its status")),
    ] {
        let server = Server::start(&netns, "127.0.0.1:0", answer);
        let result = get(&netns, &server).await;
        let found = result
            .as_ref()
            .map(drop)
            .map_err(|failure| failure.cause.to_string());
        assert_eq!(found, expected.map_err(str::to_owned), "{answer:?}");
        if let Err(failure) = result {
            assert_eq!(failure.output.to_string(), answer, "what was said is kept");
        }
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let netns = Netns::new();
    let silent = netns.inside(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let probe = Probe::http(silent.local_addr().unwrap().port(), "/", None).unwrap();
    let impatient = Pace {
        timeout: Duration::from_millis(100),
        ..pace()
    };
    let failure = probe_once(probe, impatient, netns.place()).await.unwrap_err();
    let after = impatient.timeout;
    assert_eq!(failure.cause, FailureCause::TimedOut { after });
}

#[tokio::test]
async fn a_task_is_probed_at_its_own_addresses_in_order() {
    let netns = Netns::new();
    let add = ["addr", "add", "fd00::3/128", "dev", "lo", "nodad"];
    let added = netns.inside(|| std::process::Command::new("ip").args(add).status().unwrap());
    assert!(added.success());
    let listener = netns.inside(|| TcpListener::bind("[fd00::3]:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    let addresses =
        |list: &[&str]| -> Vec<IpAddr> { list.iter().map(|text| text.parse().unwrap()).collect() };
    let probe = || Probe::tcp(port).unwrap();
    let place = |list| TaskPlace {
        addresses: addresses(list),
        ..netns.place()
    };
    // Nothing listens on the first one.
    let both = place(&["127.0.0.1", "fd00::3"]);
    assert!(probe_once(probe(), pace(), both).await.is_ok());
    // It is reached by its own address, not by loopback.
    assert!(probe_once(probe(), pace(), netns.place()).await.is_err());
}

#[tokio::test]
async fn a_namespace_that_is_gone_fails_the_probe() {
    let place = TaskPlace {
        netns: "essaim-health-no-such-namespace".to_owned(),
        process: None,
        addresses: Vec::new(),
    };
    for probe in [Probe::tcp(80).unwrap(), Probe::shell("true").unwrap()] {
        let failure = probe_once(probe, pace(), place.clone()).await.unwrap_err();
        assert!(matches!(failure.cause, FailureCause::NotRun { .. }), "{failure}");
        assert!(
            failure.to_string().contains("essaim-health-no-such-namespace"),
            "{failure}"
        );
    }
}

#[tokio::test]
async fn a_task_turns_unhealthy_when_it_stops_listening() {
    let netns = Netns::new();
    let listener = netns.inside(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let probe = Probe::tcp(listener.local_addr().unwrap().port()).unwrap();
    let mut service = HealthService::start();
    service.set_tasks(only(watched(probe, pace(), netns.place())));
    assert_eq!(crate::next(&mut service).await.health, Health::Starting);
    assert_eq!(crate::next(&mut service).await.health, Health::Healthy);
    drop(listener);
    let change = crate::next(&mut service).await;
    assert_eq!(change.task, task("web.1"));
    let Health::Unhealthy { failures: 2, last } = change.health else {
        panic!("{:?}", change.health);
    };
    assert!(matches!(last.cause, FailureCause::Connect { .. }), "{last}");
    service.stop().await;
}
