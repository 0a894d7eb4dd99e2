//! Latency at a fixed rate, taken by one thread: on its one core no sender stands in a receiver's way, as the two threads
//! of `dnsperf` may.

use crate::sandbox::inside;
use crate::servers::{Server, question};
use anyhow::{Context as _, ensure};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// Questions a second: every server keeps up with them.
pub(crate) const RATE: u16 = 5000;
/// The time between two.
const STEP: Duration = Duration::from_micros(1_000_000 / RATE as u64);
/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Paced {
    /// In microseconds, of the questions that were answered without an error.
    pub(crate) latencies: Vec<f64>,
    /// The share of those that were not.
    pub(crate) unanswered: f64,
}

/// Asks a server for the names in turn, for a second.
pub(crate) fn ask(server: &Server, names: &[&str]) -> anyhow::Result<Paced> {
    inside(&server.netns, || {
        let socket = UdpSocket::bind((server.asker, 0)).context("failed to open a socket")?;
        socket
            .connect(server.address)
            .context("failed to connect a socket")?;
        socket.set_nonblocking(true)?;
        ask_through(&socket, names)
    })
}

fn ask_through(socket: &UdpSocket, names: &[&str]) -> anyhow::Result<Paced> {
    let messages: Vec<Vec<u8>> = names.iter().map(|name| question(name)).collect();
    ensure!(!messages.is_empty(), "there are no names");
    // By the number that the question carries; taken by the answer.
    let mut sent: Vec<Option<Instant>> = Vec::with_capacity(RATE.into());
    let mut latencies = Vec::with_capacity(RATE.into());
    let mut turn = messages.iter().cycle();
    let mut due = Instant::now();
    let mut last = due;
    let mut answers = 0;
    while answers < RATE && last.elapsed() < PATIENCE {
        let number = u16::try_from(sent.len())?;
        if number < RATE && due <= Instant::now() {
            let mut message = turn.next().cloned().unwrap_or_default();
            if let Some(id) = message.first_chunk_mut() {
                *id = number.to_be_bytes();
            }
            last = Instant::now();
            // One that is refused stays unanswered.
            let _ = socket.send(&message);
            sent.push(Some(last));
            due += STEP;
        }
        let mut answer = [0; 512];
        while let Ok(length) = socket.recv(&mut answer) {
            let now = Instant::now();
            let [high, low, _, flags, ..] = answer;
            let id = usize::from(u16::from_be_bytes([high, low]));
            let asked = sent.get_mut(id).and_then(Option::take);
            answers += u16::from(asked.is_some());
            if let Some(asked) = asked
                && length >= 12
                && flags % 16 == 0
            {
                latencies.push(now.duration_since(asked).as_secs_f64() * 1e6);
            }
        }
        let wait = if sent.len() < RATE.into() {
            due.saturating_duration_since(Instant::now())
        } else {
            Duration::from_millis(10)
        };
        let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        ppoll(&mut polled, Some(TimeSpec::from_duration(wait)), None)
            .context("failed to wait for answers")?;
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 65,535")]
    let answered = latencies.len() as f64;
    Ok(Paced {
        latencies,
        unanswered: 1.0 - answered / f64::from(RATE),
    })
}
