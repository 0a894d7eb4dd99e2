//! One XFRM connection, for callers that wait; as [`crate::session::Session`] for links.

use crate::NetlinkError;
use crate::session::{Connection, RequestError, whole};
use netlink_packet_xfrm::XfrmMessage;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NetlinkMessage};
use rtnetlink::proto::{ConnectionHandle, new_connection};
use rtnetlink::sys::SocketAddr;
use rtnetlink::sys::protocols::NETLINK_XFRM;

pub(super) struct XfrmSession(Connection<ConnectionHandle<XfrmMessage>>);

impl XfrmSession {
    /// Connects in the calling thread's namespace.
    pub(super) fn open() -> Result<Self, NetlinkError> {
        let connect = || new_connection(NETLINK_XFRM).map(|(connection, handle, _)| (connection, handle));
        Connection::open(connect).map(Self).map_err(|source| {
            if source.raw_os_error() == Some(Errno::EPROTONOSUPPORT as i32) {
                NetlinkError::NoEsp
            } else {
                NetlinkError::Socket { source }
            }
        })
    }

    /// Whether the connection broke off: another one is needed.
    pub(super) fn is_broken(&self) -> bool {
        self.0.is_broken()
    }

    /// Asks for a list.
    pub(super) fn dump(
        &mut self,
        what: &str,
        message: &XfrmMessage,
    ) -> Result<Vec<XfrmMessage>, NetlinkError> {
        whole(what, || self.ask(NLM_F_DUMP, message.clone()))
    }

    /// Makes, changes or removes an object.
    pub(super) fn set(&mut self, message: XfrmMessage) -> Result<(), RequestError> {
        self.ask(NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, message).map(drop)
    }

    fn ask(&mut self, flags: u16, message: XfrmMessage) -> Result<(Vec<XfrmMessage>, bool), RequestError> {
        self.0
            .ask(flags, NetlinkMessage::from(message), |handle, request| {
                handle.request(request, SocketAddr::new(0, 0))
            })
    }
}
