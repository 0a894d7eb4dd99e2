//! A connection after its upgrade: bytes both ways, of which nothing is known here.

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How long a client may take to end its side once the engine has ended the other.
const LINGER: Duration = Duration::from_secs(10);
/// What is held of either direction, in bytes.
const BUFFER: usize = 16 << 10;

/// Two upgraded connections that become one.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(super) client: OnUpgrade,
    pub(super) engine: Upgraded,
}

impl Tunnel {
    /// Copies until both sides have ended or one is gone; then both are closed. A client that has sent all may still read
    /// for as long as the engine has something to say.
    pub(crate) async fn run(self) {
        match self.client.await {
            Ok(client) => join(TokioIo::new(client), TokioIo::new(self.engine)).await,
            Err(error) => tracing::debug!(%error, "a client is gone before its connection was upgraded"),
        }
    }
}

/// Why a direction ended.
enum End {
    /// Its source has sent all.
    Sent,
    /// Its source is gone.
    SourceGone(io::Error),
    /// Its destination takes no more.
    Refused(io::Error),
}

async fn join(client: impl AsyncRead + AsyncWrite, engine: impl AsyncRead + AsyncWrite) {
    let (client_out, client_in) = tokio::io::split(client);
    let (engine_out, engine_in) = tokio::io::split(engine);
    let mut up = pin!(copy(client_out, engine_in));
    let mut down = pin!(copy(engine_out, client_in));
    let ended = tokio::select! {
        ended = &mut up => match ended {
            // The engine may have said its last already, which the client is to hear.
            End::Sent | End::Refused(_) => down.await,
            End::SourceGone(_) => ended,
        },
        ended = &mut down => match ended {
            End::Sent => timeout(LINGER, up).await.unwrap_or(End::Sent),
            End::SourceGone(_) | End::Refused(_) => ended,
        },
    };
    if let End::SourceGone(error) | End::Refused(error) = ended {
        tracing::debug!(%error, "an upgraded connection ended early");
    }
}

/// Copies one direction to its end, and then ends it at its destination.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> End {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = match from.read(&mut buffer).await {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) => return End::SourceGone(error),
        };
        let piece = buffer.get(..length).unwrap_or_default();
        let written = async {
            to.write_all(piece).await?;
            to.flush().await
        };
        if let Err(error) = written.await {
            return End::Refused(error);
        }
    }
    match to.shutdown().await {
        Ok(()) => End::Sent,
        Err(error) => End::Refused(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};

    /// A client and an engine with a tunnel between them.
    fn ends() -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<()>) {
        let (client, client_end) = duplex(64);
        let (engine, engine_end) = duplex(64);
        (client, engine, tokio::spawn(join(client_end, engine_end)))
    }

    async fn soon<T>(work: impl Future<Output = T>) -> T {
        timeout(Duration::from_secs(20), work).await.unwrap()
    }

    #[tokio::test]
    async fn a_client_that_has_sent_all_still_hears_the_engine() {
        let (mut client, mut engine, joined) = ends();
        client.write_all(b"all").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = Vec::new();
        soon(engine.read_to_end(&mut heard)).await.unwrap();
        assert_eq!(heard, b"all");
        engine.write_all(b"last words").await.unwrap();
        drop(engine);
        let mut heard = Vec::new();
        soon(client.read_to_end(&mut heard)).await.unwrap();
        assert_eq!(heard, b"last words");
        soon(joined).await.unwrap();
    }

    #[tokio::test]
    async fn an_engine_that_is_gone_takes_its_client_along() {
        let (mut client, mut engine, joined) = ends();
        engine.write_all(b"last words").await.unwrap();
        drop(engine);
        // It takes nothing any more, and yet what it said comes.
        client.write_all(b"unheard").await.unwrap();
        let mut heard = Vec::new();
        soon(client.read_to_end(&mut heard)).await.unwrap();
        assert_eq!(heard, b"last words");
        soon(joined).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_ends_is_left_after_the_engines_end() {
        let (_client, engine, joined) = ends();
        drop(engine);
        let begun = tokio::time::Instant::now();
        joined.await.unwrap();
        assert_eq!(begun.elapsed(), LINGER);
    }

    #[tokio::test]
    async fn a_slow_client_holds_the_engine_back() {
        let (mut client, mut engine, _joined) = ends();
        let mut sent = 0;
        // Two pipes of 64 bytes and a buffer: much less than is tried.
        while sent < 10 * BUFFER {
            let write = timeout(Duration::from_millis(100), engine.write(&[7; 64])).await;
            let Ok(written) = write else { break };
            sent += written.unwrap();
        }
        assert!(sent <= 128 + BUFFER, "{sent} bytes are held");
        let mut heard = vec![0; sent];
        soon(client.read_exact(&mut heard)).await.unwrap();
    }
}
