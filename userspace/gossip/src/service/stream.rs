//! Exchanges over TCP: each frame behind its length in four bytes, most significant first.

use crate::Gossip;
use essaim_model::NodeName;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// How many connections of others are served at a time; more are closed.
const MAX_ACCEPTED: usize = 32;
/// How many connections this node opens at a time; what is left out, a digest asks for again.
const MAX_OPENED: usize = 8;
/// How long an exchange may take in all.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// How many frames one side of an exchange reads at most.
const MAX_READ: usize = 2;

/// A frame that was read, and where its answer goes; none ends the connection.
pub(super) struct ReceivedFrame {
    pub(super) frame: Vec<u8>,
    pub(super) answer: oneshot::Sender<Option<Vec<u8>>>,
}

/// All connections of a service.
pub(super) struct Streams {
    frames: mpsc::Sender<ReceivedFrame>,
    accepted: Arc<Semaphore>,
    opened: Arc<Semaphore>,
    failed: Arc<AtomicU64>,
}

impl Streams {
    pub(super) fn new(frames: mpsc::Sender<ReceivedFrame>) -> Self {
        Self {
            frames,
            accepted: Arc::new(Semaphore::new(MAX_ACCEPTED)),
            opened: Arc::new(Semaphore::new(MAX_OPENED)),
            failed: Arc::default(),
        }
    }

    /// How many exchanges did not end well.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Serves another node's connection.
    pub(super) fn accept(&self, connection: TcpStream) {
        let Ok(permit) = Arc::clone(&self.accepted).try_acquire_owned() else {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let (frames, failed) = (self.frames.clone(), Arc::clone(&self.failed));
        tokio::spawn(async move {
            if let Err(error) = in_time(converse(connection, &frames)).await {
                failed.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%error, "a gossip connection ended early");
            }
            drop(permit);
        });
    }

    /// Opens a connection and sends the first frame.
    pub(super) fn exchange(&self, to: SocketAddr, peer: NodeName, frame: Vec<u8>) {
        let Ok(permit) = Arc::clone(&self.opened).try_acquire_owned() else {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let (frames, failed) = (self.frames.clone(), Arc::clone(&self.failed));
        tokio::spawn(async move {
            let exchange = async {
                let mut connection = TcpStream::connect(to).await?;
                write_frame(&mut connection, &frame).await?;
                converse(connection, &frames).await
            };
            if let Err(error) = in_time(exchange).await {
                failed.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%peer, %to, %error, "failed to exchange gossip");
            }
            drop(permit);
        });
    }
}

async fn in_time(exchange: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::time::timeout(TIME_LIMIT, exchange)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Reads frames and writes the core's answers, until either side has no more to say.
async fn converse(mut connection: TcpStream, frames: &mpsc::Sender<ReceivedFrame>) -> io::Result<()> {
    for _ in 0..MAX_READ {
        let Some(frame) = read_frame(&mut connection).await? else {
            return Ok(());
        };
        let (sender, answer) = oneshot::channel();
        let received = ReceivedFrame {
            frame,
            answer: sender,
        };
        let is_running = frames.send(received).await.is_ok();
        match answer.await {
            Ok(Some(answer)) if is_running => write_frame(&mut connection, &answer).await?,
            Ok(_) | Err(_) => break,
        }
    }
    connection.shutdown().await
}

async fn write_frame(connection: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).or(Err(io::ErrorKind::InvalidInput))?;
    connection.write_all(&length.to_be_bytes()).await?;
    connection.write_all(frame).await
}

/// The next frame; `None` where the other side has closed.
async fn read_frame(connection: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match connection.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u64::from(u32::from_be_bytes(length));
    if length > Gossip::MAX_FRAME as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // It grows as bytes arrive: a length alone takes no memory.
    let mut frame = Vec::new();
    let read = connection.take(length).read_to_end(&mut frame).await?;
    if read as u64 == length {
        Ok(Some(frame))
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
