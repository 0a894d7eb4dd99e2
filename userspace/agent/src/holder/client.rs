use super::channel::{Channel, ChannelError};
use super::port::HeldPort;
use super::protocol::{Charge, HolderIdentity, Label, Refusal, Reply, Request};
use nix::errno::Errno;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Why the holder did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// Nothing is known of the request's fate; connect again.
    #[error("failed to talk to the holder of held ports at {path}")]
    Channel {
        /// Its socket.
        path: PathBuf,
        /// What went wrong.
        source: ChannelError,
    },
    /// The holder could not do it; nothing was changed.
    #[error("the holder at {path} refused: {message}")]
    Refused {
        /// Its socket.
        path: PathBuf,
        /// Its reason.
        message: String,
    },
    /// The holder is of a build whose answers this one does not understand.
    #[error("the holder at {path} answered {found:?} to {asked:?}")]
    Unexpected {
        /// Its socket.
        path: PathBuf,
        /// What it was asked.
        asked: Box<Request>,
        /// What it answered.
        found: Reply,
    },
}

/// A connection to the holder of a state directory.
#[derive(Debug)]
pub struct HolderClient {
    path: PathBuf,
    channel: Channel,
    identity: HolderIdentity,
    /// For whom it answers once this connection has ended.
    charge: Option<Charge>,
}

impl HolderClient {
    /// Connects to the holder that listens on `path`; `None` where there is none.
    ///
    /// # Errors
    /// [`HolderError`] where something listens there and does not answer as a holder.
    pub fn connect(path: &Path) -> Result<Option<Self>, HolderError> {
        let channel = match Channel::connect(path) {
            Ok(channel) => channel,
            Err(ChannelError::Socket {
                source: Errno::ENOENT | Errno::ECONNREFUSED,
                ..
            }) => return Ok(None),
            Err(source) => {
                return Err(HolderError::Channel {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let identity = HolderIdentity {
            protocol: 0,
            version: String::new(),
            pid: 0,
            ports: 0,
        };
        let mut client = Self {
            path: path.to_owned(),
            channel,
            identity,
            charge: None,
        };
        match client.call(&Request::Hello) {
            Ok(Reply::Hello(identity)) => client.identity = identity,
            Ok(other) => return Err(client.unexpected(Request::Hello, other)),
            // It took the connection and is gone: it is ending, or was killed a moment ago.
            Err(HolderError::Channel {
                source: ChannelError::Closed,
                ..
            }) => return Ok(None),
            Err(error) => return Err(error),
        }
        Ok(Some(client))
    }

    /// Who it is, as it said when the connection was made.
    pub fn identity(&self) -> &HolderIdentity {
        &self.identity
    }

    /// Makes the holder hold exactly these ports; returns those that it could not have.
    ///
    /// # Errors
    /// [`HolderError`]; the set that is held is then unknown.
    pub fn hold(&mut self, ports: &BTreeSet<HeldPort>) -> Result<Vec<Refusal>, HolderError> {
        let request = Request::Hold { ports: ports.clone() };
        match self.call(&request)? {
            Reply::Held { refused } => Ok(refused),
            other => Err(self.unexpected(request, other)),
        }
    }

    /// The ports that it holds.
    ///
    /// # Errors
    /// [`HolderError`]; the holder keeps what it has.
    pub fn list(&mut self) -> Result<BTreeSet<HeldPort>, HolderError> {
        match self.call(&Request::List)? {
            Reply::Listed { ports } => Ok(ports),
            other => Err(self.unexpected(Request::List, other)),
        }
    }

    /// The names that it keeps descriptors under.
    ///
    /// # Errors
    /// [`HolderError`]; the holder keeps what it has.
    pub fn names(&mut self) -> Result<BTreeSet<String>, HolderError> {
        match self.call(&Request::Names)? {
            Reply::Named { names } => Ok(names),
            other => Err(self.unexpected(Request::Names, other)),
        }
    }

    /// Gives the holder a copy of a descriptor to keep under `name`.
    ///
    /// # Errors
    /// [`HolderError`]; whether it is kept is then unknown.
    pub fn store(&mut self, name: &str, descriptor: BorrowedFd<'_>) -> Result<(), HolderError> {
        self.store_for(name, descriptor, None)
    }

    /// As [`HolderClient::store`], to be closed so long after the end of this connection, if nobody stores it anew.
    ///
    /// # Errors
    /// As [`HolderClient::store`].
    pub fn lend(
        &mut self,
        name: &str,
        descriptor: BorrowedFd<'_>,
        limit: Duration,
    ) -> Result<(), HolderError> {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.store_for(name, descriptor, Some(limit))
    }

    fn store_for(
        &mut self,
        name: &str,
        descriptor: BorrowedFd<'_>,
        limit_ms: Option<u64>,
    ) -> Result<(), HolderError> {
        let request = Request::Store {
            name: name.to_owned(),
            limit_ms,
        };
        match self.exchange(&request, &[descriptor])?.0 {
            Reply::Done => Ok(()),
            other => Err(self.unexpected(request, other)),
        }
    }

    /// A copy of the descriptor kept under `name`; `None` where there is none.
    ///
    /// # Errors
    /// [`HolderError`]; the holder keeps what it has.
    pub fn fetch(&mut self, name: &str) -> Result<Option<OwnedFd>, HolderError> {
        let request = Request::Fetch {
            name: name.to_owned(),
        };
        match self.exchange(&request, &[])? {
            (Reply::Fetched { .. }, descriptors) => Ok(descriptors.into_iter().next()),
            (other, _) => Err(self.unexpected(request, other)),
        }
    }

    /// Makes the holder close what it keeps under `name`; naming what it does not keep succeeds.
    ///
    /// # Errors
    /// [`HolderError`]; whether it was closed is then unknown.
    pub fn forget(&mut self, name: &str) -> Result<(), HolderError> {
        let request = Request::Forget {
            name: name.to_owned(),
        };
        match self.call(&request)? {
            Reply::Done => Ok(()),
            other => Err(self.unexpected(request, other)),
        }
    }

    /// Has the holder answer gossip for a node at this socket, once this connection has ended; asks once for the same.
    ///
    /// # Errors
    /// [`HolderError`]; whether it will is then unknown.
    pub fn tend(&mut self, charge: &Charge, socket: BorrowedFd<'_>) -> Result<(), HolderError> {
        if self.charge.as_ref() == Some(charge) {
            return Ok(());
        }
        let request = Request::Tend(charge.clone());
        match self.exchange(&request, &[socket])?.0 {
            Reply::Done => self.charge = Some(charge.clone()),
            other => return Err(self.unexpected(request, other)),
        }
        Ok(())
    }

    /// Makes the holder answer for no node any more.
    ///
    /// # Errors
    /// [`HolderError`]; it may still answer.
    pub fn untend(&mut self) -> Result<(), HolderError> {
        match self.call(&Request::Untend)? {
            Reply::Done => Ok(()),
            other => Err(self.unexpected(Request::Untend, other)),
        }
    }

    /// Copies of everything that it keeps.
    pub(crate) fn hand_over(&mut self) -> Result<Vec<(Label, OwnedFd)>, HolderError> {
        let mut kept = Vec::new();
        let mut answer = self.exchange(&Request::HandOver, &[])?;
        loop {
            match answer {
                (Reply::Handed { labels, more }, descriptors) if labels.len() == descriptors.len() => {
                    kept.extend(labels.into_iter().zip(descriptors));
                    if !more {
                        return Ok(kept);
                    }
                }
                (other, _) => return Err(self.unexpected(Request::HandOver, other)),
            }
            answer = self.receive()?;
        }
    }

    /// Makes the holder close everything and end.
    ///
    /// # Errors
    /// [`HolderError`] where it may still run.
    pub fn stop(mut self) -> Result<(), HolderError> {
        match self.call(&Request::Exit)? {
            Reply::Leaving => {}
            other => return Err(self.unexpected(Request::Exit, other)),
        }
        // It closes the connection as the last thing it does: the ports are free then.
        match self.receive() {
            Err(HolderError::Channel {
                source: ChannelError::Closed,
                ..
            }) => Ok(()),
            Ok((other, _)) => Err(self.unexpected(Request::Exit, other)),
            Err(error) => Err(error),
        }
    }

    /// Waits until the holder has ended. It says nothing unasked.
    ///
    /// # Errors
    /// The runtime cannot wait for it.
    pub async fn ended(&self) -> io::Result<()> {
        // tokio's safe way is deprecated: a type may answer `as_raw_fd` as it likes.
        // SAFETY: a `BorrowedFd` answers the same number every time, and that is open for as long as it is borrowed, which
        // outlives the value.
        let watched = unsafe { AsyncFd::register_with_interest(self.as_fd(), Interest::READABLE) };
        let watched = watched.map_err(|error| error.into_parts().1)?;
        watched.readable().await.map(drop)
    }

    fn call(&mut self, request: &Request) -> Result<Reply, HolderError> {
        Ok(self.exchange(request, &[])?.0)
    }

    fn exchange(
        &mut self,
        request: &Request,
        with: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), HolderError> {
        self.channel
            .send(request, with)
            .map_err(|source| HolderError::Channel {
                path: self.path.clone(),
                source,
            })?;
        self.receive()
    }

    fn receive(&self) -> Result<(Reply, Vec<OwnedFd>), HolderError> {
        self.channel.receive().map_err(|source| HolderError::Channel {
            path: self.path.clone(),
            source,
        })
    }

    fn unexpected(&self, asked: Request, found: Reply) -> HolderError {
        let path = self.path.clone();
        match found {
            Reply::Error { message } => HolderError::Refused { path, message },
            found => HolderError::Unexpected {
                path,
                asked: Box::new(asked),
                found,
            },
        }
    }
}

impl AsFd for HolderClient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
