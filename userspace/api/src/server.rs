//! Connections: one task each, kept alive, with limits on what a client may keep busy.

use crate::reply::{Body, Reply, empty, error};
use crate::request::Request;
use crate::{Engine, EngineError, ErrorKind, route, system};
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, BodyStream, LengthLimitError, Limited, StreamBody};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

/// Largest body of a request, in bytes: the largest object in base64 and as much again.
const MAX_BODY: usize = 4 << 20;
/// How long requests may still take once the server is to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Most connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
/// How long to wait after a connection could not be accepted: the process may be out of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For a request's head; also how long a connection may be idle.
    head: Duration,
    /// For a request's body.
    body: Duration,
}

impl Patience {
    const USUAL: Self = Self {
        head: Duration::from_mins(1),
        body: Duration::from_mins(1),
    };
}

/// What accepts connections.
pub trait Listen: Send {
    /// A connection.
    type Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

impl Listen for UnixListener {
    type Connection = tokio::net::UnixStream;

    async fn accept(&mut self) -> io::Result<Self::Connection> {
        Ok(Self::accept(self).await?.0)
    }
}

impl Listen for TcpListener {
    type Connection = tokio::net::TcpStream;

    async fn accept(&mut self) -> io::Result<Self::Connection> {
        Ok(Self::accept(self).await?.0)
    }
}

/// Serves the API until `stop`; then no more connections are accepted, streams end, and requests that are under way have a
/// few seconds to end.
pub async fn serve<E: Engine>(mut listener: impl Listen, engine: E, stop: impl Future<Output = ()> + Send) {
    let (stopping, stopped) = watch::channel(false);
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let place = room.clone().acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        tokio::select! {
            () = &mut stop => break,
            Some(ended) = connections.join_next() => report(ended),
            (place, accepted) = accepted => match accepted {
                Ok(connection) => {
                    let (engine, stopped) = (engine.clone(), stopped.clone());
                    connections.spawn(async move {
                        connection_of(connection, engine, stopped, Patience::USUAL).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    sleep(ACCEPT_AGAIN).await;
                }
            },
        }
    }
    drop(listener);
    stopping.send_replace(true);
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if timeout(STOP_WITHIN, all_ended).await.is_err() {
        tracing::info!(
            connections = connections.len(),
            "connections are cut: their requests take too long"
        );
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task failed");
    }
}

async fn connection_of<E: Engine>(
    connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    engine: E,
    stopped: watch::Receiver<bool>,
    patience: Patience,
) {
    let mut stop = stopped.clone();
    let service = service_fn(move |request| {
        let (engine, stopped) = (engine.clone(), stopped.clone());
        async move { Ok::<_, Infallible>(reply(&engine, request, stopped, patience).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .serve_connection(TokioIo::new(connection), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        // An error is the sender's end, which is a stop, too.
        () = async { drop(stop.wait_for(|stops| *stops).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients that go away or are too slow are no matter of the operator's.
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Reads and answers a request.
async fn reply<E: Engine>(
    engine: &E,
    request: http::Request<Incoming>,
    stopped: watch::Receiver<bool>,
    patience: Patience,
) -> Reply {
    let (head, body) = request.into_parts();
    let (method, path) = (head.method.clone(), head.uri.path().to_owned());
    let mut reply = match body_of(body, patience).await {
        Ok(body) => match Request::new(head, body) {
            Ok(request) => route::answer(engine, &request).await,
            Err(refused) => error(&refused),
        },
        Err(BodyError::Refused(refused)) => closing(error(&refused)),
        Err(BodyError::TooSlow) => closing(empty(http::StatusCode::REQUEST_TIMEOUT)),
    };
    system::add_headers(reply.headers_mut(), &engine.local().version);
    tracing::debug!(%method, path, status = reply.status().as_u16(), "answered");
    reply.map(|body| ending_with(body, stopped))
}

enum BodyError {
    Refused(EngineError),
    TooSlow,
}

async fn body_of(body: Incoming, patience: Patience) -> Result<Bytes, BodyError> {
    let too_large = || {
        BodyError::Refused(EngineError {
            kind: ErrorKind::TooLarge,
            message: format!("the request's body is too large, expected at most {MAX_BODY} bytes"),
        })
    };
    // A declared length is refused before anything is read.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    match timeout(patience.body, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(BodyError::Refused(EngineError::invalid(format_args!(
            "the request's body cannot be read: {error}"
        )))),
        Err(_) => Err(BodyError::TooSlow),
    }
}

/// An answer after which the connection ends, since the rest of the request is not read.
fn closing(mut reply: Reply) -> Reply {
    let close = http::HeaderValue::from_static("close");
    reply.headers_mut().insert(http::header::CONNECTION, close);
    reply
}

/// A stream ends when the server stops; other bodies are there at once and stay whole.
fn ending_with(body: Body, mut stopped: watch::Receiver<bool>) -> Body {
    if body.size_hint().exact().is_some() {
        return body;
    }
    let stop = async move {
        let _ = stopped.wait_for(|stops| *stops).await;
    };
    StreamBody::new(BodyStream::new(body).take_until(Box::pin(stop))).boxed_unsync()
}

#[cfg(test)]
mod tests;
