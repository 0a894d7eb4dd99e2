//! Datagrams, each with its number, and who answers them.

use super::args::ProbeArgs;
use super::report::{Recorder, one_line};
use anyhow::Context as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;
use tokio::net::UdpSocket;

/// Sends the datagrams one after the other, then prints the report.
pub(crate) async fn run(args: ProbeArgs) -> anyhow::Result<()> {
    let mut recorder = Recorder::new(Instant::now());
    let mut socket = open(&args).await?;
    for number in 0..args.count {
        if args.fresh && number > 0 {
            socket = open(&args).await?;
        }
        let begun = Instant::now();
        let limit = args.timeout_ms;
        let result = match tokio::time::timeout(limit, exchange(&socket, &args, number)).await {
            Ok(result) => result,
            Err(_) => Err(anyhow::anyhow!("datagram {number}: no answer within {limit:?}")),
        };
        let now = Instant::now();
        match result {
            Ok(answer) => {
                recorder.answered(Some(&answer.name), now - begun, now);
                recorder.seen_as(&answer.seen);
            }
            Err(error) => recorder.failed(one_line(&error), now),
        }
        tokio::time::sleep(args.interval_ms).await;
    }
    println!("{}", serde_json::to_string(&recorder.finish(Instant::now()))?);
    Ok(())
}

async fn open(args: &ProbeArgs) -> anyhow::Result<UdpSocket> {
    let any: IpAddr = match args.target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))
        .await
        .context("failed to open a UDP socket")?;
    if !args.unconnected {
        socket
            .connect(args.target)
            .await
            .with_context(|| format!("failed to connect to {}", args.target))?;
    }
    Ok(socket)
}

async fn exchange(socket: &UdpSocket, args: &ProbeArgs, number: u32) -> anyhow::Result<Answer> {
    let payload = payload(number, args.size);
    let sent = if args.unconnected {
        socket.send_to(&payload, args.target).await
    } else {
        socket.send(&payload).await
    };
    sent.with_context(|| format!("datagram {number}: send"))?;
    let mut buffer = vec![0; 65_535];
    loop {
        let (length, from) = socket
            .recv_from(&mut buffer)
            .await
            .with_context(|| format!("datagram {number}: receive"))?;
        let answer = Answer::parse(buffer.get(..length).unwrap_or_default());
        // What answers an earlier datagram, late, is not the answer to this one.
        if let Some(answer) = answer.filter(|answer| answer.payload.starts_with(&payload)) {
            anyhow::ensure!(
                from == args.target,
                "datagram {number}: the answer came from {from}, expected {}",
                args.target
            );
            return Ok(answer);
        }
    }
}

fn payload(number: u32, size: usize) -> Vec<u8> {
    let mut payload = format!("{number:010};").into_bytes();
    payload.resize(size.max(payload.len()), b'.');
    payload
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    name: String,
    seen: String,
    payload: Vec<u8>,
}

impl Answer {
    /// Reads "NAME PEER PAYLOAD".
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut words = bytes.splitn(3, |byte| *byte == b' ');
        let name = std::str::from_utf8(words.next()?).ok()?.to_owned();
        let peer: SocketAddr = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        Some(Self {
            name,
            seen: peer.ip().to_string(),
            payload: words.next()?.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_taken_apart() {
        let answer = Answer::parse(b"web.1 [fd00::1]:4711 0000000001; x").unwrap();
        assert_eq!((answer.name.as_str(), answer.seen.as_str()), ("web.1", "fd00::1"));
        assert_eq!(answer.payload, b"0000000001; x");
        assert_eq!(Answer::parse(b"web.1 nobody x"), None);
        assert_eq!(Answer::parse(b""), None);
    }

    #[test]
    fn payload_has_the_size_asked_for() {
        assert_eq!(payload(7, 16), b"0000000007;.....");
        assert_eq!(payload(7, 0), b"0000000007;");
    }
}
