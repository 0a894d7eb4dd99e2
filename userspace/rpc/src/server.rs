use crate::codec::Opaque;
use crate::link::Link;
use crate::methods::{Handler, Many, Methods, One};
use crate::{CallError, Caller, Code, KEEP_ALIVE, LARGEST_MESSAGE};
use bytes::Bytes;
use essaim_ca::{Admit, LinkError, LiveIdentity, Timestamp, peer_of, refusal_of, server_config};
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt as _};
use rustls::time_provider::TimeProvider;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Request, Response, Status};

/// How long a handshake may take. Too low and a loaded machine gets no link, too high and peers that say nothing hold
/// their place for as long.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How many handshakes may go on at a time; more connections wait in the kernel's queue.
const HANDSHAKES: usize = 256;
/// How many calls of one connection may go on at a time.
const CALLS: u32 = 256;

/// Why the port is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The identity cannot be used.
    #[error("the managers' port cannot be served")]
    Link(#[from] LinkError),
    /// The library gave up.
    #[error("serving the managers' port has failed")]
    Transport(#[from] tonic::transport::Error),
}

/// The server of the managers' port.
pub struct Server {
    acceptor: TlsAcceptor,
    time: Arc<dyn TimeProvider>,
    methods: Methods,
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Server")
            .field("methods", &self.methods)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server with this node's identity. Nodes without a certificate are let in as far as the methods let them.
    ///
    /// # Errors
    /// [`ServerError::Link`].
    pub fn new(
        identity: &Arc<LiveIdentity>,
        methods: Methods,
        time: Arc<dyn TimeProvider>,
    ) -> Result<Self, ServerError> {
        let mut config = server_config(identity, Admit::MembersAndJoining, time.clone())?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            time,
            methods,
        })
    }

    /// Serves until `stop` is there; calls that are under way are answered first.
    ///
    /// # Errors
    /// [`ServerError::Transport`].
    pub async fn run(self, listener: TcpListener, stop: impl Future<Output = ()>) -> Result<(), ServerError> {
        let (links, incoming) = mpsc::channel(1);
        let _accept = Ends(tokio::spawn(accept(listener, self.acceptor, self.time, links)).abort_handle());
        let incoming = futures_util::stream::unfold(incoming, |mut incoming| async {
            let link: Link = incoming.recv().await?;
            Some((Ok::<_, io::Error>(link), incoming))
        });
        let served = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .max_concurrent_streams(Some(CALLS))
            .serve_with_incoming_shutdown(Calls(Arc::new(self.methods)), incoming, stop)
            .await;
        Ok(served?)
    }
}

/// A task that ends with this value, and the socket that it holds with it.
struct Ends(AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Takes connections and shakes hands, each beside the others.
async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    time: Arc<dyn TimeProvider>,
    links: mpsc::Sender<Link>,
) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: others are closed meanwhile.
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (acceptor, time, links) = (acceptor.clone(), time.clone(), links.clone());
        tokio::spawn(async move {
            let _place = place;
            if let Some(link) = shake_hands(stream, address, &acceptor, &*time).await {
                // The server is gone: so is the link.
                let _ = links.send(link).await;
            }
        });
    }
}

async fn shake_hands(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: &TlsAcceptor,
    time: &dyn TimeProvider,
) -> Option<Link> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%address, %error, "the connection is gone");
        return None;
    }
    let refused = |why: &dyn std::fmt::Display| tracing::warn!(%address, %why, "connection refused");
    let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let tls = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match tls.and_then(refusal_of) {
                Some(refusal) => refused(refusal),
                None => refused(&error),
            }
            return None;
        }
        Err(_) => {
            refused(&format!("no handshake within {HANDSHAKE:?}"));
            return None;
        }
    };
    let peer = match peer_of(stream.get_ref().1) {
        Ok(peer) => peer,
        Err(refusal) => {
            refused(&refusal);
            return None;
        }
    };
    let now = time
        .current_time()
        .map_or(Timestamp::from_unix(u64::MAX), Timestamp::from);
    Some(Link::new(stream, Caller { address, peer }, now))
}

/// What is called on the links.
#[derive(Clone, Debug)]
struct Calls(Arc<Methods>);

impl NamedService for Calls {
    const NAME: &'static str = crate::client::SERVICE;
}

impl tower::Service<http::Request<tonic::body::Body>> for Calls {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let handler = self.handler(&request);
        Box::pin(async move {
            let mut grpc = Grpc::new(Opaque)
                .max_decoding_message_size(LARGEST_MESSAGE)
                .max_encoding_message_size(LARGEST_MESSAGE);
            Ok(match handler {
                Ok((Handler::One(call), caller)) => grpc.unary(Once(call, caller), request).await,
                Ok((Handler::Many(call), caller)) => {
                    grpc.server_streaming(Streamed(call, caller), request).await
                }
                Err(error) => Status::from(error).into_http(),
            })
        })
    }
}

impl Calls {
    fn handler(&self, request: &http::Request<tonic::body::Body>) -> Result<(Handler, Caller), CallError> {
        let Some(caller) = request.extensions().get::<Caller>() else {
            return Err(CallError::new(
                Code::Internal,
                "the connection does not say who calls",
            ));
        };
        let path = request.uri().path();
        let name = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        let name = name.filter(|(service, _)| *service == crate::client::SERVICE);
        let handler = self.0.find(name.map_or(path, |(_, method)| method), caller)?;
        Ok((handler, caller.clone()))
    }
}

struct Once(One, Caller);

impl UnaryService<Bytes> for Once {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let answer = (self.0)(self.1.clone(), request.into_inner());
        Box::pin(async { Ok(Response::new(answer.await?)) })
    }
}

struct Streamed(Many, Caller);

impl ServerStreamingService<Bytes> for Streamed {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let answer = (self.0)(self.1.clone(), request.into_inner());
        Box::pin(async {
            let replies = answer.await?.map(|reply| reply.map_err(Status::from));
            Ok(Response::new(replies.boxed()))
        })
    }
}
