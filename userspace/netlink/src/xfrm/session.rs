//! One XFRM connection, for callers that wait; as [`crate::session::Session`] for links.

use crate::NetlinkError;
use crate::session::RequestError;
use futures_util::StreamExt;
use netlink_packet_xfrm::XfrmMessage;
use nix::errno::Errno;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::proto::{ConnectionHandle, new_connection};
use rtnetlink::sys::SocketAddr;
use rtnetlink::sys::protocols::NETLINK_XFRM;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// How often a list that changed while it was read is read again.
const DUMP_ATTEMPTS: usize = 5;

pub(super) struct XfrmSession {
    runtime: Runtime,
    handle: ConnectionHandle<XfrmMessage>,
    connection: JoinHandle<()>,
}

impl XfrmSession {
    /// Connects in the calling thread's namespace.
    pub(super) fn open() -> Result<Self, NetlinkError> {
        let to_error = |source: std::io::Error| {
            if source.raw_os_error() == Some(Errno::EPROTONOSUPPORT as i32) {
                NetlinkError::NoEsp
            } else {
                NetlinkError::Socket { source }
            }
        };
        let runtime = Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(to_error)?;
        let entered = runtime.enter();
        let (connection, handle, _) = new_connection(NETLINK_XFRM).map_err(to_error)?;
        drop(entered);
        let connection = runtime.spawn(connection);
        Ok(Self {
            runtime,
            handle,
            connection,
        })
    }

    /// Whether the connection broke off: another one is needed.
    pub(super) fn is_broken(&self) -> bool {
        self.connection.is_finished()
    }

    /// Asks for a list.
    pub(super) fn dump(
        &mut self,
        what: &str,
        message: &XfrmMessage,
    ) -> Result<Vec<XfrmMessage>, NetlinkError> {
        let mut attempts = DUMP_ATTEMPTS;
        loop {
            let (list, interrupted) = self
                .ask(NLM_F_DUMP, message.clone())
                .map_err(|error| error.about(what))?;
            attempts -= 1;
            if !interrupted || attempts == 0 {
                return Ok(list);
            }
        }
    }

    /// Makes, changes or removes an object.
    pub(super) fn set(&mut self, message: XfrmMessage) -> Result<(), RequestError> {
        self.ask(NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, message).map(drop)
    }

    fn ask(&mut self, flags: u16, message: XfrmMessage) -> Result<(Vec<XfrmMessage>, bool), RequestError> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        let mut answers = self
            .handle
            .request(request, SocketAddr::new(0, 0))
            .map_err(|_| RequestError::Disconnected)?;
        let (list, interrupted) = self.runtime.block_on(async {
            let (mut list, mut interrupted) = (Vec::new(), false);
            while let Some(answer) = answers.next().await {
                interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => list.push(message),
                    NetlinkPayload::Error(error) => return Err(RequestError::Kernel(error)),
                    NetlinkPayload::Overrun(_) => return Err(RequestError::Disconnected),
                    // Ends of lists and acknowledgements end the stream; the rest says nothing.
                    _ => {}
                }
            }
            Ok((list, interrupted))
        })?;
        // A message that cannot be decoded ends the connection, which looks like the end of a list.
        if self.is_broken() {
            Err(RequestError::Disconnected)
        } else {
            Ok((list, interrupted))
        }
    }
}
