//! One question to upstream servers: the sockets and the clock round [`accept`].

use super::way::Way;
use super::{Accepted, Sent, Servers, Stored, accept};
use crate::wire::{Edns, OWN_UDP_SIZE, encode_query};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long upstream servers are waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How long all servers together have.
    pub(crate) deadline: Duration,
    /// How long a server has before it is asked again.
    pub(crate) retry: Duration,
}

impl Patience {
    /// A second less than a C library waits for us, so that it hears of the failure; one or two lost datagrams are
    /// made good before.
    pub(crate) const USUAL: Self = Self {
        deadline: Duration::from_secs(4),
        retry: Duration::from_secs(1),
    };
}

/// How many messages that are no answer are read from a server before it is given up.
const MOST_STRAY: usize = 16;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// On the wire, in lower case.
    pub(crate) name: Box<[u8]>,
    pub(crate) kind: u16,
    pub(crate) checking_disabled: bool,
    pub(crate) dnssec_ok: bool,
}

/// Asks all servers at once; the first answer or denial counts. Nothing where none has one in time.
pub(super) async fn exchange(servers: &Servers, asked: &Asked, patience: Patience) -> Option<Stored> {
    let mut running = JoinSet::new();
    let engine = servers.engine.clone().map(Way::Engine);
    for way in servers.addresses.iter().copied().map(Way::Server).chain(engine) {
        let asked = asked.clone();
        running.spawn(async move { ask(&way, &asked, patience.retry).await });
    }
    let first = async {
        while let Some(ended) = running.join_next().await {
            match ended {
                Ok(Ok(Some(answer))) => return Some(answer),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "an upstream server cannot be asked"),
                Err(error) => tracing::error!(%error, "asking an upstream server failed"),
            }
        }
        None
    };
    // What still runs ends with the set.
    timeout(patience.deadline, first).await.ok().flatten()
}

/// Asks one server until it answers: with EDNS, then without where it does not understand; over TCP where the answer
/// is too long for UDP.
async fn ask(way: &Way, asked: &Asked, retry: Duration) -> io::Result<Option<Stored>> {
    let mut edns = Some(Edns {
        size: OWN_UDP_SIZE,
        dnssec_ok: asked.dnssec_ok,
    });
    loop {
        let (sent, message) = question(asked, edns)?;
        match over_udp(way, &sent, &message, retry).await? {
            Accepted::Answer(stored) => return Ok(Some(stored)),
            Accepted::Truncated => {
                return Ok(match over_tcp(way, &sent, &message).await? {
                    Accepted::Answer(stored) => Some(stored),
                    Accepted::Truncated | Accepted::NotUnderstood | Accepted::Failed | Accepted::NotOurs => {
                        None
                    }
                });
            }
            Accepted::NotUnderstood if edns.is_some() => edns = None,
            Accepted::NotUnderstood | Accepted::Failed | Accepted::NotOurs => return Ok(None),
        }
    }
}

/// A question with an id that nobody can guess (RFC 5452, 9.2).
fn question(asked: &Asked, edns: Option<Edns>) -> io::Result<(Sent, Vec<u8>)> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let id = u16::from_be_bytes(id);
    let message = encode_query(id, &asked.name, asked.kind, asked.checking_disabled, edns);
    let sent = Sent {
        id,
        name: asked.name.clone(),
        kind: asked.kind,
    };
    Ok((sent, message))
}

/// Asks again and again, from one random port, until something comes that is an answer, or too much that is none.
async fn over_udp(way: &Way, sent: &Sent, message: &[u8], retry: Duration) -> io::Result<Accepted> {
    let socket = way.udp().await?;
    // Servers that send more than was asked for are read as well.
    let mut buffer = vec![0; 4096];
    let mut stray = 0;
    loop {
        socket.send(message).await?;
        let wait = async {
            loop {
                let length = socket.recv(&mut buffer).await?;
                let accepted = accept(sent, buffer.get(..length).unwrap_or_default());
                if accepted != Accepted::NotOurs {
                    return Ok(accepted);
                }
                stray += 1;
                if stray > MOST_STRAY {
                    return Ok(Accepted::Failed);
                }
            }
        };
        if let Ok(done) = timeout(retry, wait).await {
            return done;
        }
    }
}

async fn over_tcp(way: &Way, sent: &Sent, message: &[u8]) -> io::Result<Accepted> {
    let mut stream = way.tcp().await?;
    stream.set_nodelay(true)?;
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    Ok(accept(sent, &buffer))
}
