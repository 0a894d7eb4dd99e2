//! What many clients of the API, and bad ones, do to the others: nothing.

use crate::stage::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a request may take while the storm is on; the machine is shared.
const ANSWERED_WITHIN: Duration = Duration::from_mins(1);
const CLIENTS: usize = 1000;
const HALF_OPEN: usize = 1000;
const SLOW_READERS: usize = 50;
const LARGE_BODIES: usize = 16;
/// What the daemon may need for all of them, in kB.
const MOST_MEMORY_KB: u64 = 256 << 10;

fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(ANSWERED_WITHIN)).unwrap();
    stream.set_write_timeout(Some(ANSWERED_WITHIN)).unwrap();
    stream
}

/// Sends a request, and reads until the connection ends. Where the daemon does not take all of it, what it answered
/// meanwhile.
fn answer(socket: &Path, sent: &[u8]) -> String {
    let mut stream = connect(socket);
    let _ = stream.write_all(sent);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").into_bytes()
}

fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A body of 100 MB that does not say so, in chunks of 1 MiB.
fn large_body(socket: &Path) -> bool {
    let mut stream = connect(socket);
    let head = b"POST /secrets/create HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head).unwrap();
    let chunk = [&b"100000\r\n"[..], &vec![b' '; 1 << 20], b"\r\n"].concat();
    // True where the daemon does not take all of it.
    (0..100).any(|_| stream.write_all(&chunk).is_err())
}

/// A member of /proc/PID/status in kB.
fn memory_kb(pid: u32, member: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(member)).unwrap();
    line.trim_start_matches(':')
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

fn in_threads<T: Send + 'static>(
    count: usize,
    socket: &Path,
    work: impl Fn(&Path) -> T + Clone + Send + 'static,
) -> Vec<std::thread::JoinHandle<T>> {
    let start = |_| {
        let (socket, work) = (socket.to_owned(), work.clone());
        let thread = std::thread::Builder::new().stack_size(256 << 10);
        thread.spawn(move || work(&socket)).unwrap()
    };
    (0..count).map(start).collect()
}

#[test]
fn a_storm_of_clients_leaves_the_others_served() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let cluster = formed(1, 1);
    create_service(
        &cluster,
        "n1",
        "web",
        &[],
        &["/bin/sh", "-c", "while :; do echo line; sleep 1; done"],
    );
    cluster.wait_running("n1", "web", 1).unwrap();
    let socket = cluster.api_socket("n1");
    let pid = cluster.agent_pid("n1").unwrap();
    let before = memory_kb(pid, "VmRSS");

    // These hold their connections until the end.
    let half_open = [
        &b"GET /_pi"[..],
        b"POST /secrets/create HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{\"Name\"",
        b"",
    ];
    let held: Vec<UnixStream> = (0..HALF_OPEN + SLOW_READERS)
        .map(|number| {
            let mut stream = connect(&socket);
            let said = match number.checked_sub(HALF_OPEN) {
                None => half_open[number % half_open.len()].to_vec(),
                Some(reader) if reader % 2 == 0 => get("/events"),
                Some(_) => get("/services/web/logs?follow=true&stdout=true"),
            };
            stream.write_all(&said).unwrap();
            stream
        })
        .collect();
    let large = in_threads(LARGE_BODIES, &socket, large_body);
    let malformed = in_threads(50, &socket, |socket| {
        answer(socket, &post("/services/create", b"{\"Name\": [}"))
    });
    let clients = in_threads(CLIENTS, &socket, |socket| {
        let begun = Instant::now();
        for path in ["/services", "/v1.47/tasks", "/nodes"] {
            let answer = answer(socket, &get(path));
            assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer:?}");
        }
        begun.elapsed()
    });
    // What the readers of events do not take is no more than they may be behind.
    for number in 0..100 {
        let label = format!("storm={number}");
        cluster
            .operate("n1", &["node", "update", "--label-add", &label, "self"])
            .unwrap();
    }

    for thread in large {
        assert!(thread.join().unwrap(), "a body of 100 MB was taken");
    }
    for thread in malformed {
        let answer = thread.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer:?}");
    }
    let mut waited: Vec<Duration> = clients.into_iter().map(|thread| thread.join().unwrap()).collect();
    waited.sort();
    let grown = memory_kb(pid, "VmHWM").saturating_sub(before);
    println!(
        "{CLIENTS} clients with 3 requests each beside {HALF_OPEN} half-open connections: median {:.0?}, longest {:.0?}; \
        the daemon's memory: {} MiB before, {} MiB more at most",
        waited[CLIENTS / 2],
        waited[CLIENTS - 1],
        before >> 10,
        grown >> 10
    );
    assert!(grown < MOST_MEMORY_KB, "{grown} kB more than before");
    drop(held);
    assert_eq!(cluster.running("n1", "web").unwrap().len(), 1);
}
