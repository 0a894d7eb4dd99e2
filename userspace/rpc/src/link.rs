use essaim_ca::{Peer, Timestamp};
use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::TlsStream;
use tonic::transport::server::Connected;

/// No certificate is valid for longer than a timer can wait.
const LONGEST_TIMER: Duration = Duration::from_hours(365 * 24);

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The address that the connection comes from.
    pub address: SocketAddr,
    /// The node, by its certificate; `None` for a node that joins, or renews an expired certificate.
    pub peer: Option<Peer>,
}

/// A connection whose handshake is done. It ends with the peer's certificate.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TlsStream<TcpStream>,
    caller: Caller,
    end: Option<Pin<Box<Sleep>>>,
}

impl Link {
    pub(crate) fn new(stream: impl Into<TlsStream<TcpStream>>, caller: Caller, now: Timestamp) -> Self {
        let left = caller
            .peer
            .as_ref()
            .map(|peer| peer.expires.since(now).min(LONGEST_TIMER));
        Self {
            stream: stream.into(),
            caller,
            end: left.map(|left| Box::pin(sleep_until(Instant::now() + left))),
        }
    }

    fn is_over(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let end = self.end.as_mut().map(|end| end.as_mut().poll(context));
        if end.is_some_and(|end| end.is_ready()) {
            let aborted = io::ErrorKind::ConnectionAborted;
            return Err(io::Error::new(aborted, "the peer's certificate has expired"));
        }
        Ok(())
    }
}

impl Connected for Link {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.is_over(context)?;
        Pin::new(&mut this.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
