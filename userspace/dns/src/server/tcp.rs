//! TCP (RFC 7766): several questions on a connection, answered in the order in which the answers are there.

use super::forward::Forwarding;
use super::shared::{Asker, Shared};
use crate::respond::{Responder, Sources, Transport, Verdict, refuse};
use crate::upstream::Servers;
use crate::wire::{Query, Rcode};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long a connection may wait for its next question, or for its client to read an answer (RFC 7766, 6.2.3, says
/// a few seconds).
const IDLE: Duration = Duration::from_secs(10);
/// How many connections an asker may have. Too low: its threads wait for each other; too high: it takes the node's
/// descriptors.
const MOST_CONNECTIONS: usize = 32;
/// How long to wait where the node has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes an asker's connections until it is dropped, and theirs with it.
pub(crate) async fn serve(
    listener: TcpListener,
    asker: Arc<Asker>,
    shared: Arc<Shared>,
    forwarding: Forwarding,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok(_) if connections.len() >= MOST_CONNECTIONS => shared.counters.dropped_tcp.add(1),
            Ok((stream, _)) => {
                let connection = Connection {
                    asker: asker.clone(),
                    shared: shared.clone(),
                    forwarding: forwarding.clone(),
                };
                drop(connections.spawn(connection.run(stream)));
            }
            Err(error) => {
                tracing::debug!(asker = asker.id.0, %error, "cannot take a connection");
                sleep(PAUSE).await;
            }
        }
    }
}

/// A client's connection.
struct Connection {
    asker: Arc<Asker>,
    shared: Arc<Shared>,
    forwarding: Forwarding,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        if let Err(error) = self.questions(stream).await
            && error.kind() != io::ErrorKind::UnexpectedEof
        {
            tracing::debug!(asker = self.asker.id.0, %error, "cut a connection");
            self.shared.counters.dropped_tcp.add(1);
        }
    }

    async fn questions(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let mut reader = BufReader::with_capacity(4096, reader);
        let writer = Arc::new(Mutex::new(writer));
        let mut responder = Responder::new(getrandom::u64().map_err(io::Error::other)?);
        let mut buffer = vec![0; usize::from(u16::MAX)];
        // Dropped, and so ended, with the connection.
        let mut forwarded = JoinSet::new();
        loop {
            let Some(message) = next(&mut reader, !forwarded.is_empty()).await? else {
                // A client may close its side and wait for the answers.
                while forwarded.join_next().await.is_some() {}
                return Ok(());
            };
            while forwarded.try_join_next().is_some() {}
            let view = self.asker.view();
            let servers = self.shared.servers_of(&view);
            let zone = self.shared.zone();
            let counters = &self.shared.counters;
            counters.queries_tcp.add(1);
            let sources = Sources {
                zone: &zone,
                asker: &view.info,
                servers: servers.as_ref(),
                cache: &self.shared.cache,
                now: Instant::now(),
            };
            match responder.respond(&message, Transport::Tcp, &sources, &mut buffer) {
                Verdict::Reply {
                    length,
                    rcode,
                    cached,
                } => {
                    counters.answered(rcode);
                    counters.cache_hits.add(cached.into());
                    send(&writer, buffer.get(..length).unwrap_or_default()).await?;
                }
                // Whoever sends what is no question is out of step.
                Verdict::Drop(reason) => {
                    counters.dropped(reason);
                    return Err(io::ErrorKind::InvalidData.into());
                }
                Verdict::Forward => {
                    if let Some(servers) = &servers {
                        self.forward(message, servers, &writer, &mut forwarded).await?;
                    }
                }
            }
        }
    }

    async fn forward(
        &self,
        message: Vec<u8>,
        servers: &Arc<Servers>,
        writer: &Arc<Mutex<OwnedWriteHalf>>,
        forwarded: &mut JoinSet<()>,
    ) -> io::Result<()> {
        let Some(permit) = self.forwarding.permit(&self.asker, &self.shared.counters) else {
            let mut buffer = [0; 512];
            let query = Query::parse(&message).ok();
            let length = query.and_then(|query| refuse(&query, Transport::Tcp, Rcode::ServFail, &mut buffer));
            return send(writer, buffer.get(..length.unwrap_or(0)).unwrap_or_default()).await;
        };
        let (forwarding, servers, writer) = (self.forwarding.clone(), servers.clone(), writer.clone());
        drop(forwarded.spawn(async move {
            let reply = forwarding.answer(&message, &servers, Transport::Tcp).await;
            drop(permit);
            // The reader finds out that the connection is gone.
            let _ = send(&writer, &reply).await;
        }));
        Ok(())
    }
}

/// The next message; nothing where the client has closed its side between two. One with answers under way may be
/// silent meanwhile.
async fn next(reader: &mut BufReader<OwnedReadHalf>, waits: bool) -> io::Result<Option<Vec<u8>>> {
    let patience = if waits { 2 * IDLE } else { IDLE };
    let first = timeout(patience, reader.read_u8()).await;
    let first = match first.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))? {
        Ok(first) => first,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let rest = async {
        let length = u16::from_be_bytes([first, reader.read_u8().await?]);
        let mut message = vec![0; usize::from(length)];
        reader.read_exact(&mut message).await?;
        Ok(Some(message))
    };
    timeout(IDLE, rest)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Writes a message after its length, in one piece.
async fn send(writer: &Mutex<OwnedWriteHalf>, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend(length.to_be_bytes());
    framed.extend_from_slice(message);
    let write = async { writer.lock().await.write_all(&framed).await };
    timeout(IDLE, write)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
