//! Talking to shims.

use crate::ShimStatus;
use crate::dirs::TaskDir;
use crate::protocol::{Reply, Request, frame};
use crate::record::ExitRecord;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Longest that a shim may take to answer; it only ever waits for others who talk to it.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Largest answer, in bytes.
const MAX_REPLY: usize = 64 << 10;

async fn connect(dir: &TaskDir) -> io::Result<UnixStream> {
    let (_directory, path) = dir.socket()?;
    UnixStream::connect(path).await
}

async fn receive(stream: &mut UnixStream) -> io::Result<Reply> {
    let length = usize::try_from(stream.read_u32_le().await?).map_err(io::Error::other)?;
    if length > MAX_REPLY {
        let text = format!("an answer of {length} bytes exceeds the limit of {MAX_REPLY}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(serde_json::from_slice(&bytes)?)
}

async fn ask(stream: &mut UnixStream, request: &Request) -> io::Result<Reply> {
    let asked = async {
        stream.write_all(&frame(request)?).await?;
        receive(stream).await
    };
    let reply = timeout(ANSWER_LIMIT, asked)
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    match reply {
        Reply::Error { message } => Err(io::Error::other(message)),
        reply => Ok(reply),
    }
}

fn unexpected(reply: &Reply) -> io::Error {
    io::Error::other(format!("the shim answers something else: {reply:?}"))
}

pub(super) async fn status(dir: &TaskDir) -> io::Result<ShimStatus> {
    match ask(&mut connect(dir).await?, &Request::Status).await? {
        Reply::Status(status) => Ok(status),
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn signal(dir: &TaskDir, signal: i32) -> io::Result<bool> {
    match ask(&mut connect(dir).await?, &Request::Signal { signal }).await? {
        Reply::Signalled { delivered } => Ok(delivered),
        other => Err(unexpected(&other)),
    }
}

/// Waits for the end of the task; fails where the shim ends without a word.
pub(super) async fn exited(dir: &TaskDir) -> io::Result<ExitRecord> {
    let mut stream = connect(dir).await?;
    match ask(&mut stream, &Request::Subscribe).await? {
        Reply::Subscribed => {}
        other => return Err(unexpected(&other)),
    }
    match receive(&mut stream).await? {
        Reply::Exited(record) => Ok(record),
        other => Err(unexpected(&other)),
    }
}
