//! One message, with descriptors, over a `SOCK_SEQPACKET` socket.

use super::protocol::{DESCRIPTORS_PER_MESSAGE, MAX_MESSAGE};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    accept4, bind, connect, getsockopt, listen, recv, recvmsg, sendmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

/// Why a message did not get through.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other side has closed the connection.
    #[error("the other side closed the connection")]
    Closed,
    /// The kernel refused.
    #[error("failed to {doing}")]
    Socket {
        /// What was tried.
        doing: &'static str,
        /// The kernel's reason.
        source: Errno,
    },
    /// The bytes are no message of this protocol.
    #[error("a message of {bytes} bytes is not understood")]
    Malformed {
        /// Its length.
        bytes: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The message does not fit.
    #[error("a message of {bytes} bytes exceeds the limit of {limit}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The largest allowed.
        limit: usize,
    },
}

impl ChannelError {
    fn socket(doing: &'static str) -> impl FnOnce(Errno) -> Self {
        move |source| Self::Socket { doing, source }
    }
}

/// A connection between holder and agent.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// Opens the socket that a holder listens on.
///
/// # Errors
/// The kernel's, as when the path is longer than 107 bytes.
pub(crate) fn listen_on(path: &Path) -> Result<OwnedFd, ChannelError> {
    let listener = seqpacket(SockFlag::SOCK_NONBLOCK)?;
    let address = UnixAddr::new(path).map_err(ChannelError::socket("name the socket"))?;
    bind(listener.as_raw_fd(), &address).map_err(ChannelError::socket("bind the socket"))?;
    let backlog = Backlog::new(16).unwrap_or(Backlog::MAXCONN);
    listen(&listener, backlog).map_err(ChannelError::socket("listen"))?;
    Ok(listener)
}

fn seqpacket(flags: SockFlag) -> Result<OwnedFd, ChannelError> {
    socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC | flags,
        None,
    )
    .map_err(ChannelError::socket("create a socket"))
}

impl Channel {
    /// Accepts a connection; only root's, and the holder's own user's.
    pub(crate) fn accept(listener: &OwnedFd) -> Result<Option<Self>, ChannelError> {
        let raw = match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            Ok(raw) => raw,
            Err(Errno::EAGAIN | Errno::ECONNABORTED | Errno::EINTR) => return Ok(None),
            Err(source) => {
                return Err(ChannelError::Socket {
                    doing: "accept a connection",
                    source,
                });
            }
        };
        let channel = Self::prepare(owned(raw))?;
        let peer = getsockopt(&channel.0, sockopt::PeerCredentials)
            .map_err(ChannelError::socket("ask who connects"))?;
        let trusted = peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw();
        Ok(trusted.then_some(channel))
    }

    /// Connects to the holder that listens on `path`.
    pub(crate) fn connect(path: &Path) -> Result<Self, ChannelError> {
        let stream = seqpacket(SockFlag::empty())?;
        let address = UnixAddr::new(path).map_err(ChannelError::socket("name the socket"))?;
        uninterrupted(|| connect(stream.as_raw_fd(), &address)).map_err(ChannelError::socket("connect"))?;
        Self::prepare(stream)
    }

    fn prepare(stream: OwnedFd) -> Result<Self, ChannelError> {
        // A forced size needs CAP_NET_ADMIN; where it is missing, small sets still fit.
        if setsockopt(&stream, sockopt::SndBufForce, &MAX_MESSAGE).is_err() {
            setsockopt(&stream, sockopt::SndBuf, &MAX_MESSAGE)
                .map_err(ChannelError::socket("size the socket"))?;
        }
        let channel = Self(stream);
        channel.set_timeout(Duration::from_secs(10))?;
        Ok(channel)
    }

    fn set_timeout(&self, timeout: Duration) -> Result<(), ChannelError> {
        let value = TimeVal::milliseconds(i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX));
        setsockopt(&self.0, sockopt::ReceiveTimeout, &value)
            .map_err(ChannelError::socket("set a time limit"))?;
        setsockopt(&self.0, sockopt::SendTimeout, &value).map_err(ChannelError::socket("set a time limit"))
    }

    /// Sends a message with these descriptors.
    pub(crate) fn send(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        let bytes =
            serde_json::to_vec(message).map_err(|source| ChannelError::Malformed { bytes: 0, source })?;
        if bytes.len() > MAX_MESSAGE {
            return Err(ChannelError::TooLong {
                bytes: bytes.len(),
                limit: MAX_MESSAGE,
            });
        }
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        let parts = [IoSlice::new(&bytes)];
        let send = || sendmsg::<()>(self.0.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None);
        uninterrupted(send)
            .map_err(|source| match source {
                Errno::EPIPE | Errno::ECONNRESET => ChannelError::Closed,
                source => ChannelError::Socket {
                    doing: "send a message",
                    source,
                },
            })
            .map(drop)
    }

    /// Waits for a message and the descriptors that came with it.
    pub(crate) fn receive<M: DeserializeOwned>(&self) -> Result<(M, Vec<OwnedFd>), ChannelError> {
        let failed = |source| match source {
            Errno::ECONNRESET => ChannelError::Closed,
            source => ChannelError::Socket {
                doing: "receive a message",
                source,
            },
        };
        // It waits here; the message is there when it is taken below.
        let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
        let length = uninterrupted(|| recv(self.0.as_raw_fd(), &mut [], peek)).map_err(failed)?;
        if length > MAX_MESSAGE {
            return Err(ChannelError::TooLong {
                bytes: length,
                limit: MAX_MESSAGE,
            });
        }
        let mut bytes = vec![0; length];
        let mut control = cmsg_space!([RawFd; DESCRIPTORS_PER_MESSAGE]);
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received =
            recvmsg::<()>(self.0.as_raw_fd(), &mut buffers, Some(&mut control), flags).map_err(failed)?;
        let mut descriptors = Vec::new();
        for message in received
            .cmsgs()
            .map_err(ChannelError::socket("read what came with a message"))?
        {
            if let ControlMessageOwned::ScmRights(raw) = message {
                descriptors.extend(raw.into_iter().map(owned));
            }
        }
        if received.bytes == 0 {
            return Err(ChannelError::Closed);
        }
        let message = serde_json::from_slice(&bytes).map_err(|source| ChannelError::Malformed {
            bytes: length,
            source,
        })?;
        Ok((message, descriptors))
    }
}

/// Calls again where a signal came between: with a time limit on the socket the kernel does not do so itself, whatever
/// the signal's handler asked for (signal(7)).
fn uninterrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Takes ownership of a descriptor that the kernel has just given to this process.
fn owned(raw: RawFd) -> OwnedFd {
    // Safe code cannot do it: `accept4` and `recvmsg` of nix return bare numbers.
    // SAFETY: `raw` was returned by the kernel a moment ago, is open, and nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holder::protocol::Request;
    use std::io::{Read, Seek, Write};

    #[test]
    fn a_call_that_a_signal_interrupts_is_made_again() {
        let mut outcomes = [Err(Errno::EINTR), Err(Errno::EINTR), Ok(7)].into_iter();
        assert_eq!(uninterrupted(|| outcomes.next().unwrap()), Ok(7));
        assert_eq!(uninterrupted(|| Err::<(), _>(Errno::EPIPE)), Err(Errno::EPIPE));
    }

    fn pair() -> (Channel, Channel) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = listen_on(&path).unwrap();
        let client = Channel::connect(&path).unwrap();
        let server = Channel::accept(&listener).unwrap().unwrap();
        (client, server)
    }

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (client, server) = pair();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"essaim").unwrap();
        client
            .send(
                &Request::Store {
                    name: "file".into(),
                    limit_ms: None,
                },
                &[file.as_fd(), file.as_fd()],
            )
            .unwrap();
        let (request, descriptors) = server.receive::<Request>().unwrap();
        assert_eq!(
            request,
            Request::Store {
                name: "file".into(),
                limit_ms: None
            }
        );
        assert_eq!(descriptors.len(), 2);
        let mut copy = std::fs::File::from(descriptors.into_iter().next().unwrap());
        copy.rewind().unwrap();
        let mut text = String::new();
        copy.read_to_string(&mut text).unwrap();
        assert_eq!(text, "essaim");
    }

    #[test]
    fn messages_keep_their_bounds() {
        let (client, server) = pair();
        client.send(&Request::Hello, &[]).unwrap();
        client.send(&Request::Exit, &[]).unwrap();
        assert_eq!(server.receive::<Request>().unwrap().0, Request::Hello);
        assert_eq!(server.receive::<Request>().unwrap().0, Request::Exit);
    }

    #[test]
    fn a_closed_connection_is_told_from_a_bad_message() {
        let (client, server) = pair();
        client.send(&"sing", &[]).unwrap();
        assert!(matches!(
            server.receive::<Request>(),
            Err(ChannelError::Malformed { bytes: 6, .. })
        ));
        drop(client);
        assert!(matches!(server.receive::<Request>(), Err(ChannelError::Closed)));
        assert!(matches!(
            server.send(&Request::Hello, &[]),
            Err(ChannelError::Closed)
        ));
    }
}
