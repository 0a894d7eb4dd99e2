//! The socket at which the engine finds the plugin.

use crate::PluginError;
use crate::host::Host;
use crate::plugin::Plugin;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::time::sleep;

/// What the protocol's answers are called.
const TYPE: HeaderValue = HeaderValue::from_static("application/vnd.docker.plugins.v1.1+json");
/// Largest call, in bytes.
const LONGEST: usize = 1 << 20;
/// How long to wait where the system has no descriptor left for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// The plugin's socket. Its file goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens at a path, whose folder is made where it is missing. Whoever listened there before does so no more: an engine
    /// looks for a plugin by the file's name. For root only. To be called within a Tokio runtime.
    ///
    /// # Errors
    /// The system refuses.
    pub fn bind(path: impl Into<PathBuf>) -> Result<Self, PluginError> {
        let path = path.into();
        let failed = |source| PluginError::File {
            doing: "listen at",
            path: path.clone(),
            source,
        };
        let listener = listen(&path).map_err(failed)?;
        Ok(Self { listener, path })
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // It gets its mode before it gets its name.
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Answers the engine until it is dropped.
pub async fn serve<H: Host>(socket: &Socket, plugin: &Plugin<H>) -> Infallible {
    loop {
        let stream = match socket.listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection of the Docker Engine was not taken");
                sleep(PAUSE).await;
                continue;
            }
        };
        let plugin = plugin.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let plugin = plugin.clone();
                // A call whose connection breaks is done to its end: the engine will give back what it was told.
                async move {
                    let answer = tokio::spawn(async move { answer(&plugin, request).await });
                    answer.await.map_err(io::Error::other)
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of the Docker Engine broke");
            }
        });
    }
}

async fn answer<H: Host>(plugin: &Plugin<H>, request: http::Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let call = head.uri.path();
    if head.method != Method::POST {
        return reply(StatusCode::METHOD_NOT_ALLOWED, &json!({ "Err": "expected POST" }));
    }
    let body = match Limited::new(body, LONGEST).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return reply(StatusCode::BAD_REQUEST, &json!({ "Err": error.to_string() })),
    };
    match plugin.answer(call, &body).await {
        Some(Ok(said)) => {
            tracing::debug!(call, "answered the Docker Engine");
            reply(StatusCode::OK, &said)
        }
        Some(Err(why)) => {
            tracing::warn!(call, why, "refused the Docker Engine");
            reply(StatusCode::OK, &json!({ "Err": why }))
        }
        None => reply(
            StatusCode::NOT_FOUND,
            &json!({ "Err": format!("there is no call {call}") }),
        ),
    }
}

fn reply(status: StatusCode, said: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::from(said.to_string()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, TYPE);
    reply
}
