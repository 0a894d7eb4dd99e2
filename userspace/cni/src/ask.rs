//! Asking the daemon: one call over its socket.

use bytes::Bytes;
use essaim_protocol::CniRefusal;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// Whom the calls go to.
pub trait Ask {
    /// The daemon's answer to a call, within so long.
    ///
    /// # Errors
    /// [`AskError`].
    fn ask(&self, socket: &Path, call: &str, body: Vec<u8>, patience: Duration) -> Result<Vec<u8>, AskError>;
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The daemon refuses.
    #[error(transparent)]
    Refused(#[from] CniRefusal),
    /// Nobody answers.
    #[error("the daemon of this node does not answer at {}: {source}; is essaim node running?", socket.display())]
    Away {
        /// Where.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What answers is no daemon of this version.
    #[error("what answers at {} is not the daemon of this version: {found}", socket.display())]
    Other {
        /// Where.
        socket: PathBuf,
        /// What it said.
        found: String,
    },
}

/// The daemon behind its socket.
#[derive(Clone, Copy, Debug)]
pub struct Socket;

impl Ask for Socket {
    fn ask(&self, socket: &Path, call: &str, body: Vec<u8>, patience: Duration) -> Result<Vec<u8>, AskError> {
        let away = |source: io::Error| AskError::Away {
            socket: socket.to_owned(),
            source,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let answered = runtime.map_err(away)?.block_on(async {
            let late = || io::Error::new(io::ErrorKind::TimedOut, format!("nothing within {patience:?}"));
            let answer = tokio::time::timeout(patience, post(socket, call, body)).await;
            answer.unwrap_or_else(|_| Err(late()))
        });
        let (status, said) = answered.map_err(away)?;
        if status == StatusCode::OK {
            return Ok(said.into());
        }
        Err(match serde_json::from_slice::<CniRefusal>(&said) {
            Ok(refusal) => refusal.into(),
            Err(_) => AskError::Other {
                socket: socket.to_owned(),
                found: format!("{status} {}", String::from_utf8_lossy(&said)),
            },
        })
    }
}

async fn post(socket: &Path, call: &str, body: Vec<u8>) -> io::Result<(StatusCode, Bytes)> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri(call)
        .header(header::HOST, "essaim")
        .body(Full::new(Bytes::from(body)))
        .map_err(io::Error::other)?;
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = answer.status();
    let said = answer.into_body().collect().await.map_err(io::Error::other)?;
    Ok((status, said.to_bytes()))
}
