//! Datagrams from chosen ports of a client, and who answers them.

use anyhow::{Context as _, bail};
use essaim_lab::tries;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// How long an answer may take before the datagram is sent again.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often a datagram is sent: the first ones may be lost while a neighbour or a path MTU is found out. On a bad underlay that
/// many times more: of a datagram in fragments, one that overtakes the first is lost, too.
const TRIES: u32 = 6;

/// A socket in the current network namespace that talks to one peer from a chosen port, 0 for any.
///
/// # Errors
/// When the port is taken, or the peer cannot be reached.
pub fn socket(port: u16, target: SocketAddr) -> anyhow::Result<UdpSocket> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, port)).with_context(|| format!("failed to bind UDP port {port}"))?;
    socket
        .connect(target)
        .with_context(|| format!("failed to connect to {target}"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// An answer of a task's echo: "NAME PEER PAYLOAD".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The task.
    pub task: String,
    /// The client address that it saw.
    pub seen: SocketAddr,
    /// What came back.
    pub payload: Vec<u8>,
}

/// Sends a datagram, again where it is lost, and takes the answer.
///
/// # Errors
/// When none comes, or the datagram is refused.
pub fn ask(socket: &UdpSocket, payload: &[u8]) -> anyhow::Result<Answer> {
    let mut last = None;
    for _ in 0..TRIES * tries()? {
        match ask_once(socket, payload) {
            Ok(answer) => return Ok(answer),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("never asked")?)
}

/// Sends a datagram once, and takes the answer.
///
/// # Errors
/// As [`ask`].
pub fn ask_once(socket: &UdpSocket, payload: &[u8]) -> anyhow::Result<Answer> {
    match socket.send(payload) {
        // The path MTU was just learnt: the next one is cut to it.
        Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {}
        other => drop(other.context("failed to send")?),
    }
    take(socket, payload.len())
}

fn take(socket: &UdpSocket, length: usize) -> anyhow::Result<Answer> {
    let mut buffer = vec![0; length + 200];
    let received = match socket.recv(&mut buffer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => bail!("no answer within {PATIENCE:?}"),
        other => other.context("failed to receive")?,
    };
    let mut words = buffer
        .get(..received)
        .unwrap_or_default()
        .splitn(3, |byte| *byte == b' ');
    let mut text = || String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
    let (task, seen) = (text(), text());
    Ok(Answer {
        task,
        seen: seen.parse().with_context(|| format!("the echo saw {seen:?}"))?,
        payload: words.next().unwrap_or_default().to_vec(),
    })
}
