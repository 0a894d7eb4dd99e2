//! One rtnetlink connection, for callers that wait.
//!
//! The work of this crate happens on threads that sit in one namespace or another, so each connection comes with a
//! small runtime of its own; its socket stays in the namespace that it was opened in.

use crate::NetlinkError;
use futures_util::{Stream, StreamExt};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkMessage, NetlinkPayload,
};
use rtnetlink::{Handle, new_connection_with_strict_check};
use std::io;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// How often a list that changed while it was read is read again.
const DUMP_ATTEMPTS: usize = 5;

/// A connection of any protocol, with what sends its requests.
pub(crate) struct Connection<H> {
    runtime: Runtime,
    handle: H,
    driver: JoinHandle<()>,
}

impl<H> Connection<H> {
    /// Connects in the calling thread's namespace.
    pub(crate) fn open<C>(connect: impl FnOnce() -> io::Result<(C, H)>) -> io::Result<Self>
    where
        C: Future<Output = ()> + Send + 'static,
    {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let entered = runtime.enter();
        let (connection, handle) = connect()?;
        drop(entered);
        let driver = runtime.spawn(connection);
        Ok(Self {
            runtime,
            handle,
            driver,
        })
    }

    /// Whether the connection broke off: another one is needed.
    pub(crate) fn is_broken(&self) -> bool {
        self.driver.is_finished()
    }

    /// Sends a request; what the kernel answers, and whether a list changed while it was read.
    pub(crate) fn ask<T, S, E>(
        &mut self,
        flags: u16,
        mut request: NetlinkMessage<T>,
        send: impl FnOnce(&mut H, NetlinkMessage<T>) -> Result<S, E>,
    ) -> Result<(Vec<T>, bool), RequestError>
    where
        S: Stream<Item = NetlinkMessage<T>> + Unpin,
    {
        request.header.flags = NLM_F_REQUEST | flags;
        let mut answers = send(&mut self.handle, request).map_err(|_| RequestError::Disconnected)?;
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

/// A list, read again where it changed while it was read.
pub(crate) fn whole<T>(
    what: &str,
    mut read: impl FnMut() -> Result<(Vec<T>, bool), RequestError>,
) -> Result<Vec<T>, NetlinkError> {
    let mut attempts = DUMP_ATTEMPTS;
    loop {
        let (list, interrupted) = read().map_err(|error| error.about(what))?;
        attempts -= 1;
        if !interrupted || attempts == 0 {
            return Ok(list);
        }
    }
}

/// A connection to the kernel of the namespace that it was opened in.
pub(crate) struct Session(Connection<Handle>);

/// How an object is to be made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It must not exist.
    Create,
    /// It is changed if it exists.
    Replace,
    /// It must exist.
    Change,
}

impl Session {
    /// Connects in the calling thread's namespace.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let connect =
            || new_connection_with_strict_check().map(|(connection, handle, _)| (connection, handle));
        let opened = Connection::open(connect);
        opened.map(Self).map_err(|source| NetlinkError::Socket { source })
    }

    /// Whether the connection broke off: another one is needed.
    pub(crate) fn is_broken(&self) -> bool {
        self.0.is_broken()
    }

    /// Asks for a list.
    pub(crate) fn dump(
        &mut self,
        what: &str,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        whole(what, || self.ask(NLM_F_DUMP, message.clone()))
    }

    /// Asks for one object; `None` where the kernel says that there is none.
    pub(crate) fn query(
        &mut self,
        what: &str,
        message: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, NetlinkError> {
        match self.ask(0, message) {
            Ok((list, _)) => Ok(list.into_iter().next()),
            Err(RequestError::Kernel(_)) => Ok(None),
            Err(error @ RequestError::Disconnected) => Err(error.about(what)),
        }
    }

    /// Makes or changes an object.
    pub(crate) fn set(&mut self, mode: Mode, message: RouteNetlinkMessage) -> Result<(), RequestError> {
        let flags = match mode {
            Mode::Create => NLM_F_CREATE | NLM_F_EXCL,
            Mode::Replace => NLM_F_CREATE | NLM_F_REPLACE,
            Mode::Change => 0,
        };
        self.ask(NLM_F_ACK | flags, message).map(drop)
    }

    fn ask(
        &mut self,
        flags: u16,
        message: RouteNetlinkMessage,
    ) -> Result<(Vec<RouteNetlinkMessage>, bool), RequestError> {
        self.0.ask(flags, NetlinkMessage::from(message), Handle::request)
    }
}

/// Why a request had no success.
#[derive(Debug)]
pub(crate) enum RequestError {
    /// The kernel refused it.
    Kernel(rtnetlink::packet_core::ErrorMessage),
    /// There is nobody to talk to any more.
    Disconnected,
}

impl RequestError {
    /// The kernel's error number.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel(error) => error.to_io().raw_os_error(),
            Self::Disconnected => None,
        }
    }

    /// Says what was being done.
    pub(crate) fn about(self, what: impl Into<String>) -> NetlinkError {
        let what = what.into();
        match self {
            Self::Kernel(error) => NetlinkError::Request {
                what,
                source: rtnetlink::Error::NetlinkError(error),
            },
            Self::Disconnected => NetlinkError::Disconnected { what },
        }
    }
}
