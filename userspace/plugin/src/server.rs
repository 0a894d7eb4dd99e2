//! The sockets at which the engine finds the plugin, and `essaim-cni` the daemon.

use crate::PluginError;
use crate::host::Host;
use crate::plugin::Plugin;
use bytes::Bytes;
use essaim_protocol::CniRefusal;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::time::sleep;

/// Largest call, in bytes.
const LONGEST: usize = 1 << 20;
/// How long to wait where the system has no descriptor left for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket. Its file goes with it, unless another process keeps it open.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    is_kept: AtomicBool,
}

impl Socket {
    /// Listens at a path, whose folder is made where it is missing. Whoever listened there before does so no more: it is
    /// looked for by the file's name. For root only. To be called within a Tokio runtime.
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
        Ok(Self::of(listener, path))
    }

    /// Listens at a socket that another process has kept open, with whoever has connected meanwhile. Its file is at this
    /// path. To be called within a Tokio runtime.
    ///
    /// # Errors
    /// It is no socket that listens.
    pub fn adopt(path: impl Into<PathBuf>, kept: OwnedFd) -> Result<Self, PluginError> {
        let path = path.into();
        match adopted(kept) {
            Ok(listener) => Ok(Self::of(listener, path)),
            Err(source) => Err(PluginError::File {
                doing: "go on to listen at",
                path,
                source,
            }),
        }
    }

    fn of(listener: UnixListener, path: PathBuf) -> Self {
        Self {
            listener,
            path,
            is_kept: AtomicBool::new(false),
        }
    }

    /// Where its file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether another process keeps it open: its file stays then when this one ends.
    pub fn set_kept(&self, is_kept: bool) {
        self.is_kept.store(is_kept, Ordering::Relaxed);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

fn adopted(kept: OwnedFd) -> io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::from(kept);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
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
        if !self.is_kept.load(Ordering::Relaxed) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What is answered at a socket.
trait Calls: Clone + Send + Sync + 'static {
    /// Who asks, for the log.
    const ASKER: &'static str;
    /// What the answers are called.
    const TYPE: HeaderValue;
    /// Why a call is refused.
    type Refusal: Display + Send;

    /// Answers a call; `None` where there is no such call.
    fn answer(
        &self,
        call: &str,
        body: &[u8],
    ) -> impl Future<Output = Option<Result<Value, Self::Refusal>>> + Send;

    /// How a refusal is told.
    fn refusal(why: &Self::Refusal) -> Response<Full<Bytes>>;
}

struct EngineCalls<H>(Plugin<H>);

impl<H> Clone for EngineCalls<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<H: Host> Calls for EngineCalls<H> {
    const ASKER: &'static str = "the Docker Engine";
    const TYPE: HeaderValue = HeaderValue::from_static("application/vnd.docker.plugins.v1.1+json");
    type Refusal = String;

    async fn answer(&self, call: &str, body: &[u8]) -> Option<Result<Value, String>> {
        self.0.answer(call, body).await
    }

    fn refusal(why: &String) -> Response<Full<Bytes>> {
        reply::<Self>(StatusCode::OK, &json!({ "Err": why }))
    }
}

struct CniCalls<H>(Plugin<H>);

impl<H> Clone for CniCalls<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<H: Host> Calls for CniCalls<H> {
    const ASKER: &'static str = "essaim-cni";
    const TYPE: HeaderValue = HeaderValue::from_static("application/json");
    type Refusal = CniRefusal;

    async fn answer(&self, call: &str, body: &[u8]) -> Option<Result<Value, CniRefusal>> {
        self.0.cni(call, body).await
    }

    fn refusal(why: &CniRefusal) -> Response<Full<Bytes>> {
        reply::<Self>(StatusCode::CONFLICT, &json!(why))
    }
}

/// Answers the engine until it is dropped.
pub async fn serve<H: Host>(socket: &Socket, plugin: &Plugin<H>) -> Infallible {
    serve_calls(socket, EngineCalls(plugin.clone())).await
}

/// Answers `essaim-cni` until it is dropped.
pub async fn serve_cni<H: Host>(socket: &Socket, plugin: &Plugin<H>) -> Infallible {
    serve_calls(socket, CniCalls(plugin.clone())).await
}

async fn serve_calls<C: Calls>(socket: &Socket, calls: C) -> Infallible {
    let asker = C::ASKER;
    loop {
        let stream = match socket.listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, asker, "a connection was not taken");
                sleep(PAUSE).await;
                continue;
            }
        };
        let calls = calls.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let calls = calls.clone();
                // A call whose connection breaks is done to its end: who asked will give back what it was told.
                async move {
                    let answer = tokio::spawn(async move { answer(&calls, request).await });
                    answer.await.map_err(io::Error::other)
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, asker, "a connection broke");
            }
        });
    }
}

async fn answer<C: Calls>(calls: &C, request: http::Request<Incoming>) -> Response<Full<Bytes>> {
    let asker = C::ASKER;
    let (head, body) = request.into_parts();
    let call = head.uri.path();
    if head.method != Method::POST {
        return reply::<C>(StatusCode::METHOD_NOT_ALLOWED, &json!({ "Err": "expected POST" }));
    }
    let body = match Limited::new(body, LONGEST).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return reply::<C>(StatusCode::BAD_REQUEST, &json!({ "Err": error.to_string() })),
    };
    match calls.answer(call, &body).await {
        Some(Ok(said)) => {
            tracing::debug!(call, asker, "answered");
            reply::<C>(StatusCode::OK, &said)
        }
        Some(Err(why)) => {
            tracing::warn!(call, asker, %why, "refused");
            C::refusal(&why)
        }
        None => reply::<C>(
            StatusCode::NOT_FOUND,
            &json!({ "Err": format!("there is no call {call}") }),
        ),
    }
}

fn reply<C: Calls>(status: StatusCode, said: &Value) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::from(said.to_string()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, C::TYPE);
    reply
}
