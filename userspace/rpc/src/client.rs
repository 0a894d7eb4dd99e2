use crate::codec::Opaque;
use crate::{CallError, Code, KEEP_ALIVE, LARGEST_MESSAGE, chain};
use bytes::Bytes;
use essaim_ca::{Callee, LinkError};
use futures_util::TryStreamExt as _;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codec::Streaming;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// The service's name in paths.
pub(crate) const SERVICE: &str = "essaim.v1.Manager";

/// How long a connection may take to come up, handshake included. Too low and a loaded manager is never reached, too high
/// and a dead one is given up late.
const CONNECT: Duration = Duration::from_secs(5);

/// Calls one address. It connects with the first call, and anew after a connection broke; clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// A client of the manager at `address` (`ADDRESS:PORT`, a v6 address in brackets). `config` is one of `essaim-ca`'s:
    /// what it trusts is whom the client talks to.
    ///
    /// # Errors
    /// The callee cannot be named, or the address is none.
    pub fn new(address: &str, mut config: ClientConfig, callee: &Callee) -> Result<Self, LinkError> {
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let name = callee.server_name()?;
        let unusable = |_| rustls::Error::General(format!("{address:?} is no address"));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(unusable)?;
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        let address: Arc<str> = address.into();
        let channel = endpoint.connect_with_connector_lazy(service_fn(move |_| {
            let (connector, name, address) = (connector.clone(), name.clone(), address.clone());
            async move {
                let stream = TcpStream::connect(&*address).await?;
                stream.set_nodelay(true)?;
                let stream = connector.connect(name, stream).await?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        }));
        Ok(Self { channel })
    }

    /// Calls a method that answers once.
    ///
    /// # Errors
    /// The peer's, or [`Code::Unavailable`] and [`Code::DeadlineExceeded`] where there is no answer.
    pub async fn call(&self, method: &str, message: Bytes, within: Duration) -> Result<Bytes, CallError> {
        let path = path(method)?;
        let answer = async {
            let mut grpc = self.ready().await?;
            let answer = grpc.unary(Request::new(message), path, Opaque).await?;
            Ok(answer.into_inner())
        };
        match timeout(within, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(late(method, within)),
        }
    }

    /// Calls a method whose answer goes on. `within` limits the time until it begins.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn open(&self, method: &str, message: Bytes, within: Duration) -> Result<Messages, CallError> {
        let path = path(method)?;
        let answer = async {
            let mut grpc = self.ready().await?;
            let answer = grpc.server_streaming(Request::new(message), path, Opaque).await?;
            Ok(Messages(answer.into_inner()))
        };
        match timeout(within, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(late(method, within)),
        }
    }

    async fn ready(&self) -> Result<Grpc<Channel>, CallError> {
        let mut grpc = Grpc::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        let unreachable = |error| CallError::new(Code::Unavailable, chain(&error));
        grpc.ready().await.map_err(unreachable)?;
        Ok(grpc)
    }
}

/// An answer that goes on.
#[derive(Debug)]
pub struct Messages(Streaming<Bytes>);

impl Messages {
    /// The next message; `None` when the peer has said all.
    ///
    /// # Errors
    /// The peer's, or [`Code::Unavailable`] where the connection broke.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        Ok(self.0.try_next().await?)
    }
}

fn path(method: &str) -> Result<PathAndQuery, CallError> {
    let unusable = |_| {
        CallError::new(
            Code::InvalidArgument,
            format!("{method:?} is no name of a method"),
        )
    };
    PathAndQuery::try_from(format!("/{SERVICE}/{method}")).map_err(unusable)
}

fn late(method: &str, within: Duration) -> CallError {
    CallError::new(
        Code::DeadlineExceeded,
        format!("no answer to {method} within {within:?}"),
    )
}
