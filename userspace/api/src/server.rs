//! Connections: one task each, kept alive, with limits on what a client may keep busy.

use crate::passthrough::{self, DockerEngine, Tunnel, attach};
use crate::reply::{Body, Reply, empty, error};
use crate::request::Request;
use crate::{Engine, EngineError, ErrorKind, route, system};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

/// Largest body of a request, in bytes: the largest object in base64 and as much again.
const MAX_BODY: usize = 4 << 20;
/// How long requests may still take once the server is to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Most connections at a time; more wait to be accepted. Far more than clients are, since each that says nothing keeps its
/// place for a minute.
const MAX_CONNECTIONS: usize = 8192;
/// Most bytes of all requests' bodies at a time; a request whose body finds no room is refused.
const MAX_BODIES: usize = 256 << 20;
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

/// What a connection has to keep to.
#[derive(Clone, Debug)]
struct Limits {
    patience: Patience,
    /// A permit for each byte of the bodies that all connections hold.
    bodies: Arc<Semaphore>,
}

/// What accepts connections.
pub trait Listen: Send {
    /// A connection.
    type Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

/// Serves the API until `stop`; then no more connections are accepted, streams end, and requests that are under way have a
/// few seconds to end.
pub async fn serve<E: Engine>(mut listener: impl Listen, engine: E, stop: impl Future<Output = ()> + Send) {
    let (stopping, stopped) = watch::channel(false);
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let bodies = Arc::new(Semaphore::new(MAX_BODIES));
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
                    let limits = Limits { patience: Patience::USUAL, bodies: bodies.clone() };
                    let (engine, stopped) = (engine.clone(), stopped.clone());
                    connections.spawn(async move {
                        connection_of(connection, engine, stopped, limits).await;
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
    limits: Limits,
) {
    let mut stop = stopped.clone();
    let head_within = limits.patience.head;
    // What the connection becomes after its last answer.
    let becomes = Arc::new(Mutex::new(None));
    let tunnel = becomes.clone();
    let service = service_fn(move |request| {
        let (engine, stopped, limits) = (engine.clone(), stopped.clone(), limits.clone());
        let becomes = becomes.clone();
        async move {
            let (reply, tunnel) = reply(&engine, request, stopped, &limits).await;
            if tunnel.is_some() {
                *becomes.lock().unwrap_or_else(PoisonError::into_inner) = tunnel;
            }
            Ok::<_, Infallible>(reply)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_within)
        .serve_connection(TokioIo::new(connection), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    // An error is the sender's end, which is a stop, too.
    let mut stops = pin!(async { drop(stop.wait_for(|stops| *stops).await) });
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stops.as_mut() => {
            connection.as_mut().graceful_shutdown();
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            return;
        }
    };
    if let Err(error) = ended {
        // Clients that go away or are too slow are no matter of the operator's.
        tracing::debug!(%error, "a connection ended early");
        return;
    }
    let tunnel: Option<Tunnel> = tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(tunnel) = tunnel {
        tokio::select! {
            () = tunnel.run() => {}
            () = stops => {}
        }
    }
}

/// Reads and answers a request; and what the connection becomes after the answer.
async fn reply<E: Engine>(
    engine: &E,
    mut request: http::Request<Incoming>,
    stopped: watch::Receiver<bool>,
    limits: &Limits,
) -> (Reply, Option<Tunnel>) {
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    let (method, path) = (head.method.clone(), head.uri.path().to_owned());
    let mut tunnel = None;
    let request = Request::head(head).and_then(|request| {
        if passthrough::came_through_us(request.headers()) {
            return Err(looped());
        }
        Ok(request)
    });
    let mut reply = match request {
        Err(refused) => refuse(body, limits, &refused).await,
        Ok(request) if attach::makes_container(&request) => match body_of(body, limits).await {
            Ok((body, _room)) => match attach::create(engine, request.with_body(body)).await {
                Ok(reply) => reply.map(|body| cut_with(body, stopped)),
                Err(why) => error(&why),
            },
            Err(refused) => refused.into(),
        },
        Ok(request) if passthrough::is_the_engines(&request.path) => {
            let docker = DockerEngine::of(engine);
            match docker.open(&request).await {
                Ok(link) => match link.pass(&request, body, upgrade).await {
                    Ok((reply, becomes)) => {
                        tunnel = becomes;
                        reply.map(|body| cut_with(body, stopped))
                    }
                    Err(why) => closing(error(&(&why).into())),
                },
                Err(why) => refuse(body, limits, &passthrough::without(&request, &why)).await,
            }
        }
        Ok(request) => match body_of(body, limits).await {
            // Its room is given back when the request is answered.
            Ok((body, _room)) => {
                let reply = route::answer(engine, &request.with_body(body)).await;
                reply.map(|body| ending_with(body, stopped))
            }
            Err(refused) => refused.into(),
        },
    };
    system::add_headers(reply.headers_mut(), &engine.local().version);
    tracing::debug!(%method, path, status = reply.status().as_u16(), "answered");
    (reply, tunnel)
}

/// Refuses a request once its body has come: who sends one may not look at the answer before.
async fn refuse(body: Incoming, limits: &Limits, why: &EngineError) -> Reply {
    match body_of(body, limits).await {
        Ok(_) => error(why),
        Err(refused) => refused.into(),
    }
}

fn looped() -> EngineError {
    EngineError::unavailable(
        "the request came through such an API already: what is named as the node's Docker Engine is an Essaim node's API",
    )
}

enum BodyError {
    Refused(EngineError),
    TooSlow,
}

impl From<BodyError> for Reply {
    fn from(why: BodyError) -> Self {
        closing(match why {
            BodyError::Refused(refused) => error(&refused),
            BodyError::TooSlow => empty(http::StatusCode::REQUEST_TIMEOUT),
        })
    }
}

async fn body_of(body: Incoming, limits: &Limits) -> Result<(Bytes, OwnedSemaphorePermit), BodyError> {
    // A declared length is refused before anything is read.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    match timeout(limits.patience.body, read(body, &limits.bodies)).await {
        Ok(read) => read,
        Err(_) => Err(BodyError::TooSlow),
    }
}

async fn read(
    mut body: Incoming,
    bodies: &Arc<Semaphore>,
) -> Result<(Bytes, OwnedSemaphorePermit), BodyError> {
    let full = |_| {
        BodyError::Refused(EngineError::unavailable(
            "the requests that are under way are too large together, try again in a while",
        ))
    };
    let mut room = bodies.clone().try_acquire_many_owned(0).map_err(full)?;
    let mut collected = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            BodyError::Refused(EngineError::invalid(format_args!(
                "the request's body cannot be read: {error}"
            )))
        })?;
        // Trailers say nothing here.
        let Ok(data) = frame.into_data() else { continue };
        if collected.len() + data.len() > MAX_BODY {
            return Err(too_large());
        }
        // Less than MAX_BODY.
        let more = u32::try_from(data.len()).unwrap_or(u32::MAX);
        room.merge(bodies.clone().try_acquire_many_owned(more).map_err(full)?);
        collected.extend_from_slice(&data);
    }
    Ok((collected.into(), room))
}

fn too_large() -> BodyError {
    BodyError::Refused(EngineError {
        kind: ErrorKind::TooLarge,
        message: format!("the request's body is too large, expected at most {MAX_BODY} bytes"),
    })
}

/// An answer after which the connection ends, since the rest of the request is not read.
fn closing(mut reply: Reply) -> Reply {
    let close = http::HeaderValue::from_static("close");
    reply.headers_mut().insert(http::header::CONNECTION, close);
    reply
}

/// A stream ends when the server stops; other bodies are there at once and stay whole.
fn ending_with(body: Body, stopped: watch::Receiver<bool>) -> Body {
    if body.size_hint().exact().is_some() {
        return body;
    }
    StreamBody::new(BodyStream::new(body).take_until(stop(stopped))).boxed_unsync()
}

/// What is passed on is cut when the server stops, so that nobody takes it for the whole.
fn cut_with(body: Body, stopped: watch::Receiver<bool>) -> Body {
    if body.size_hint().exact().is_some() {
        return body;
    }
    let pieces = unfold(Some((body, stop(stopped))), |state| async move {
        let (mut body, mut stop) = state?;
        tokio::select! {
            frame = body.frame() => Some((frame?, Some((body, stop)))),
            () = &mut stop => Some((Err(io::Error::other("the server stops")), None)),
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

fn stop(mut stopped: watch::Receiver<bool>) -> impl Future<Output = ()> + Send + Unpin {
    Box::pin(async move { drop(stopped.wait_for(|stops| *stops).await) })
}

#[cfg(test)]
mod tests;
