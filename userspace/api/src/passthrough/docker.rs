//! The engine behind its socket. Nothing of it is kept between two requests: it may come and go.

use super::{Tunnel, head, way};
use crate::reply::{Body, Reply, collected, no_body};
use crate::request::{Minor, Request};
use crate::{Engine, EngineError};
use bytes::Bytes;
use http::uri::InvalidUri;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long an engine may take for what this node says together with it.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take to say how it builds: every client asks first thing, and an engine that hangs holds nobody up.
const PING_WITHIN: Duration = Duration::from_millis(500);
/// Largest of these answers, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// Why the engine did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unreached {
    /// There is none.
    Absent {
        /// Where it would be.
        socket: PathBuf,
    },
    /// There should be one.
    Refuses {
        /// Where it is.
        socket: PathBuf,
        /// What went wrong.
        why: String,
    },
}

impl From<&Unreached> for EngineError {
    fn from(why: &Unreached) -> Self {
        match why {
            Unreached::Absent { socket } => Self::not_implemented(format_args!(
                "this node has no Docker Engine at {}, which containers, images and volumes need; what is of the \
                 swarm works without it",
                socket.display()
            )),
            Unreached::Refuses { socket, why } => Self::unavailable(format_args!(
                "this node's Docker Engine at {} does not answer: {why}; what is of the swarm works without it",
                socket.display()
            )),
        }
    }
}

/// This node's Docker Engine.
#[derive(Clone, Debug)]
pub(crate) struct DockerEngine {
    socket: PathBuf,
}

impl DockerEngine {
    pub(crate) fn of(engine: &impl Engine) -> Self {
        Self {
            socket: engine.local().docker_socket,
        }
    }

    /// A connection for a request, whose version it can be asked in.
    ///
    /// # Errors
    /// [`Unreached`].
    pub(crate) async fn open(&self, request: &Request) -> Result<Link<'_>, Unreached> {
        let version = if request.names_version {
            self.version().await?
        } else {
            request.version
        };
        let connection = self.connect().await?;
        Ok(Link {
            docker: self,
            connection,
            version,
        })
    }

    /// Passes a request on whose body has been read.
    ///
    /// # Errors
    /// [`Unreached`].
    pub(crate) async fn relay(&self, request: &Request) -> Result<Reply, Unreached> {
        let link = self.open(request).await?;
        let answer = link.send(request, collected(request.body())).await?;
        Ok(passed(answer))
    }

    /// What the engine says to a request that both have a say in; nothing where it is absent or has nothing to say but an
    /// error.
    pub(crate) async fn says(&self, request: &Request) -> Option<Value> {
        let said = self.within(async {
            let link = self.open(request).await?;
            let answer = link.send(request, collected(request.body())).await?;
            let said = self.read(answer).await?;
            serde_json::from_slice(&said).map_err(|error| self.refuses(error))
        });
        said.await.map_err(|why| left_out(&why)).ok()
    }

    /// A stream that is asked for, once its head is there.
    ///
    /// # Errors
    /// [`Unreached`], also where the engine has nothing to say but an error.
    pub(crate) async fn follow(&self, request: &Request) -> Result<Incoming, Unreached> {
        let begun = self.within(async {
            let link = self.open(request).await?;
            let answer = link.send(request, no_body()).await?;
            if answer.status().is_success() {
                return Ok(answer.into_body());
            }
            self.read(answer).await?;
            Err(self.refuses("it has no stream"))
        });
        begun.await
    }

    /// The headers of the engine's `/_ping`, for a client that asks the same of this node.
    ///
    /// # Errors
    /// [`Unreached`].
    pub(crate) async fn ping(&self) -> Result<HeaderMap, Unreached> {
        let late = |_| Err(self.refuses(format_args!("it took more than {PING_WITHIN:?}")));
        timeout(PING_WITHIN, self.pinged()).await.unwrap_or_else(late)
    }

    async fn pinged(&self) -> Result<HeaderMap, Unreached> {
        let ping = self.within(async {
            let mut request = http::Request::new(no_body());
            *request.uri_mut() = Uri::from_static("/_ping");
            *request.headers_mut() = head::to_the_engine(HeaderMap::new());
            let mut connection = self.connect().await?;
            let answer = connection.send_request(request).await;
            let answer = answer.map_err(|error| self.refuses(error))?;
            let headers = answer.headers().clone();
            self.read(answer).await?;
            Ok(headers)
        });
        ping.await
    }

    /// The version that the engine speaks.
    async fn version(&self) -> Result<Minor, Unreached> {
        let headers = self.pinged().await?;
        let named = headers.get("api-version").and_then(|named| named.to_str().ok());
        let minor = named.and_then(|named| named.strip_prefix("1.")?.parse().ok());
        let minor = minor.map(Minor);
        minor.ok_or_else(|| self.refuses(format_args!("its version is {named:?}, expected 1.MINOR")))
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Unreached> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                let socket = self.socket.clone();
                return Unreached::Absent { socket };
            }
            self.refuses(error)
        })?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| self.refuses(error))?;
        // It ends with the answer, or when nobody waits for the answer any more.
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to the Docker Engine ended early");
            }
        });
        Ok(sender)
    }

    /// The body of an answer.
    ///
    /// # Errors
    /// [`Unreached`], with what it says where it is an error.
    async fn read(&self, answer: Response<Incoming>) -> Result<Bytes, Unreached> {
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| self.refuses(error))?.to_bytes();
        if head.status.is_success() {
            return Ok(body);
        }
        let said = String::from_utf8_lossy(&body);
        Err(self.refuses(format_args!("{}: {}", head.status, said.trim())))
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, Unreached>>) -> Result<T, Unreached> {
        let late = |_| Err(self.refuses(format_args!("it took more than {ANSWER_WITHIN:?}")));
        timeout(ANSWER_WITHIN, work).await.unwrap_or_else(late)
    }

    fn refuses(&self, why: impl Display) -> Unreached {
        Unreached::Refuses {
            socket: self.socket.clone(),
            why: why.to_string(),
        }
    }
}

/// What both should have said is said by this node alone.
pub(crate) fn left_out(why: &Unreached) {
    if let Unreached::Refuses { .. } = why {
        let why = EngineError::from(why);
        tracing::debug!(%why, "the Docker Engine's part of an answer is left out");
    }
}

/// A connection to the engine.
#[derive(Debug)]
pub(crate) struct Link<'a> {
    docker: &'a DockerEngine,
    connection: SendRequest<Body>,
    /// Of the engine.
    version: Minor,
}

impl Link<'_> {
    /// Passes a request on as its body comes, and hands the answer out as it comes; and what the client's connection is to
    /// become once it has the answer, where the engine has changed the protocol.
    ///
    /// # Errors
    /// [`Unreached`].
    pub(crate) async fn pass(
        self,
        request: &Request,
        body: Incoming,
        client: OnUpgrade,
    ) -> Result<(Reply, Option<Tunnel>), Unreached> {
        let docker = self.docker;
        let body = body.map_err(io::Error::other).boxed_unsync();
        let mut answer = self.send(request, body).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok((passed(answer), None));
        }
        let protocol = head::upgrade(request.headers())
            .ok_or_else(|| docker.refuses("it changes the protocol unasked"))?;
        let engine = hyper::upgrade::on(&mut answer).await;
        let engine = engine.map_err(|error| docker.refuses(error))?;
        let mut reply = passed(answer);
        let headers = reply.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, protocol);
        Ok((reply, Some(Tunnel { client, engine })))
    }

    async fn send(mut self, request: &Request, body: Body) -> Result<Response<Incoming>, Unreached> {
        let mut sent = http::Request::new(body);
        *sent.method_mut() = request.method.clone();
        let target = way::target(request, self.version).parse();
        *sent.uri_mut() = target.map_err(|error: InvalidUri| self.docker.refuses(error))?;
        *sent.headers_mut() = head::to_the_engine(request.headers().clone());
        let answer = self.connection.send_request(sent).await;
        answer.map_err(|error| self.docker.refuses(error))
    }
}

/// The engine's answer as the client gets it.
fn passed(answer: Response<Incoming>) -> Reply {
    let mut reply = answer.map(|body| body.map_err(io::Error::other).boxed_unsync());
    head::strip(reply.headers_mut());
    reply
}
