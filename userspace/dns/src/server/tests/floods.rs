//! One task does what it can; the others do not notice.

use super::{PATIENCE, Site, Task, ask, client, connect, framed, read_framed, receive, upstream};
use crate::testing::{line, query};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longest that a busy machine makes anybody wait.
const BUSY: Duration = Duration::from_secs(1);

/// Does it over and over for a second, and gives the longest that it took.
fn slowest_of(mut round: impl FnMut()) -> Duration {
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    while start.elapsed() < Duration::from_secs(1) {
        let begin = Instant::now();
        round();
        slowest = slowest.max(begin.elapsed());
    }
    slowest
}

#[test]
fn a_flood_of_one_task_leaves_the_others_served() {
    let site = Site::start();
    // As many as there can be threads: one of them shares the flooded one's.
    let others: Vec<Task> = (1..6).map(|id| site.task(id, site.info("q1w2"))).collect();
    let flooded = site.task(0, site.info("q1w2"));
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicUsize::new(0));
    let flood = {
        let (stop, sent, address) = (stop.clone(), sent.clone(), flooded.udp);
        std::thread::spawn(move || {
            let socket = client(address);
            let local = query("tasks.web", RecordType::A).to_vec().unwrap();
            while !stop.load(Ordering::Relaxed) {
                for message in [&local[..], b"\x01garbage that is long enough"] {
                    let _ = socket.send(message);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    };
    // Not one is lost.
    let slowest = slowest_of(|| {
        for task in &others {
            assert_eq!(ask(task.udp, "web"), "NoError 10.0.1.2");
        }
    });
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    assert!(sent.load(Ordering::Relaxed) > 10_000, "a flood");
    assert!(slowest < BUSY, "{slowest:?}");
}

#[test]
fn a_flood_over_tcp_leaves_the_others_served() {
    let site = Site::start();
    site.server.set_upstreams(vec![upstream().0]);
    let flooded = site.task(0, site.info("q1w2"));
    let other = site.task(1, site.info("q1w2"));
    let stop = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = (0..8)
        .map(|_| {
            let (stop, mut stream) = (stop.clone(), connect(flooded.tcp));
            std::thread::spawn(move || {
                let batch = framed(&query("tasks.web", RecordType::A)).repeat(100);
                let mut answers = vec![0; 1 << 16];
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(&batch).unwrap();
                    assert!(stream.read(&mut answers).unwrap() > 0);
                }
            })
        })
        .collect();
    let mut number = 0;
    let slowest = slowest_of(|| {
        number += 1;
        assert_eq!(ask(other.udp, "web"), "NoError 10.0.1.2");
        assert_eq!(ask(other.udp, &format!("good{number}.org")), "NoError 192.0.2.1");
        let mut stream = connect(other.tcp);
        stream.write_all(&framed(&query("web", RecordType::A))).unwrap();
        assert_eq!(line(&read_framed(&mut stream).unwrap()), "NoError 10.0.1.2");
    });
    stop.store(true, Ordering::Relaxed);
    for flood in floods {
        flood.join().unwrap();
    }
    assert!(site.server.counters().queries_tcp > 10_000, "a flood");
    assert!(slowest < BUSY, "{slowest:?}");
}

#[test]
fn questions_that_nobody_answers_take_only_their_askers_places() {
    let site = Site::start();
    site.server.set_upstreams(vec![upstream().0]);
    let crowd = site.task(1, site.info("q1w2"));
    let other = site.task(2, site.info("q1w2"));
    let socket = client(crowd.udp);
    let mut refused = 0;
    for number in 0..600 {
        socket
            .send(
                &query(&format!("silent{number}.org"), RecordType::A)
                    .to_vec()
                    .unwrap(),
            )
            .unwrap();
        // One at a time: they take a place each, or are refused.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let counters = site.server.counters();
            refused = counters.over_asker_limit;
            if counters.forwards + refused > number {
                break;
            }
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
    assert!(refused > 300, "{refused}");
    assert_eq!(
        receive(&socket).unwrap().metadata.response_code,
        ResponseCode::ServFail
    );
    assert_eq!(ask(crowd.udp, "web"), "NoError 10.0.1.2");
    assert_eq!(ask(other.udp, "good.example.org"), "NoError 192.0.2.1");
}
