use super::channel::{Channel, ChannelError, listen_on};
use super::client::{HolderClient, HolderError};
use super::owner::owners;
use super::port::{HeldPort, PortDiff};
use super::presence::Presence;
use super::protocol::{
    Charge, DESCRIPTORS_PER_MESSAGE, GOSSIP_SOCKET, HOLDER_PROTOCOL, HolderIdentity, Label, Refusal, Reply,
    Request,
};
use super::sockets::hold;
use super::tending::Tending;
use crate::descriptors::raise_descriptor_limit;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Connections served at once; there is one agent, and at most a newer holder and a `clean` beside it.
const MAX_CONNECTIONS: usize = 16;

/// Why a holder could not start or go on; its sockets are closed with it.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The control socket could not be opened.
    #[error("failed to listen on {path}")]
    Listen {
        /// Its place.
        path: PathBuf,
        /// Why.
        source: ChannelError,
    },
    /// The control socket could not be put in its place.
    #[error("failed to put the socket of the holder at {path}")]
    Place {
        /// Its place.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The holder that runs already did not hand over; it goes on.
    #[error("failed to take over from the running holder")]
    TakeOver(#[source] HolderError),
    /// Waiting for connections failed.
    #[error("failed to wait for connections")]
    Wait(#[source] Errno),
}

/// Holds ports and descriptors as told over the socket at `path`, until told to end. Takes over from a holder that
/// serves `path` already. Calls `ready` once it serves.
///
/// # Errors
/// [`HoldError`] where it could not start; a holder that ran before goes on then.
pub fn serve_holder(path: &Path, ready: impl FnOnce()) -> Result<(), HoldError> {
    raise_descriptor_limit();
    let mut kept = Kept::default();
    let predecessor = HolderClient::connect(path).map_err(HoldError::TakeOver)?;
    let predecessor = match predecessor {
        Some(mut running) => {
            for (label, descriptor) in running.hand_over().map_err(HoldError::TakeOver)? {
                kept.adopt(label, descriptor);
            }
            Some(running)
        }
        None => None,
    };
    let listener = Listener::open(path)?;
    if let Some(running) = predecessor {
        // Everything is here in copy: should it not answer any more, nothing is lost.
        if let Err(error) = running.stop() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the holder that ran before did not end"
            );
        }
    }
    ready();
    serve(&listener, &mut kept)
}

fn serve(listener: &Listener, kept: &mut Kept) -> Result<(), HoldError> {
    let mut connections: Vec<Channel> = Vec::new();
    loop {
        kept.end_absences();
        let ready = wait(listener, &connections, kept.gossip(), kept.awaited())?;
        if ready.gossip {
            kept.tending.iter_mut().for_each(Tending::answer);
        }
        let mut open = Vec::with_capacity(connections.len());
        for (channel, state) in connections.into_iter().zip(ready.connections) {
            let next = match state {
                Readiness::Quiet => Next::Serve,
                Readiness::Readable => kept.answer(&channel),
                Readiness::Broken => Next::Close,
            };
            match next {
                Next::Serve => open.push(channel),
                Next::Close => kept.closed(&channel),
                Next::Exit => {
                    listener.remove();
                    // The connection is the last to close: whoever asked may rely on the ports being free.
                    *kept = Kept::default();
                    return Ok(());
                }
            }
        }
        connections = open;
        if ready.listener {
            match Channel::accept(&listener.socket) {
                Ok(Some(channel)) if connections.len() < MAX_CONNECTIONS => connections.push(channel),
                Ok(_) => {}
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "a connection failed"),
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Readiness {
    Quiet,
    Readable,
    Broken,
}

/// Who has something.
struct Ready {
    listener: bool,
    connections: Vec<Readiness>,
    gossip: bool,
}

/// Waits until the listener, a connection or the gossip that is answered has something, or it is so late.
fn wait(
    listener: &Listener,
    connections: &[Channel],
    gossip: Option<BorrowedFd<'_>>,
    until: Option<Instant>,
) -> Result<Ready, HoldError> {
    let channels = connections.iter().map(AsFd::as_fd);
    let descriptors = std::iter::once(listener.socket.as_fd())
        .chain(channels)
        .chain(gossip);
    let mut polled: Vec<PollFd<'_>> = descriptors.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    let limit = until.map_or(PollTimeout::NONE, |until| {
        // A millisecond more: a wait that is rounded down would end before its time again and again.
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    });
    loop {
        match poll(&mut polled, limit) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(HoldError::Wait(error)),
        }
    }
    let readiness = |fd: &PollFd<'_>| {
        let flags = fd.revents().unwrap_or(PollFlags::empty());
        if flags.contains(PollFlags::POLLIN) {
            Readiness::Readable
        } else if flags.intersects(PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL) {
            Readiness::Broken
        } else {
            Readiness::Quiet
        }
    };
    let mut states = polled.iter().map(readiness);
    let listener = states.next() == Some(Readiness::Readable);
    let connections: Vec<Readiness> = states.by_ref().take(connections.len()).collect();
    // An error of the socket is taken off by a read.
    let gossip = states.next().is_some_and(|state| state != Readiness::Quiet);
    Ok(Ready {
        listener,
        connections,
        gossip,
    })
}

/// The control socket, in its place.
struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// Of the socket's file: another holder may have put its own there meanwhile.
    inode: u64,
}

impl Listener {
    /// Binds beside `path` and renames: whoever connects finds the old holder or the new one, never none.
    fn open(path: &Path) -> Result<Self, HoldError> {
        let beside = path.with_extension(format!("{}", std::process::id()));
        let place = |source| HoldError::Place {
            path: path.to_owned(),
            source,
        };
        let socket = listen_on(&beside).map_err(|source| HoldError::Listen {
            path: beside.clone(),
            source,
        })?;
        let inode = fs::metadata(&beside).map_err(place)?.ino();
        fs::rename(&beside, path).map_err(place)?;
        Ok(Self {
            socket,
            path: path.to_owned(),
            inode,
        })
    }

    fn remove(&self) {
        if fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the socket");
        }
    }
}

/// What a connection is to expect after an answer.
enum Next {
    Serve,
    Close,
    Exit,
}

/// A descriptor that was stored.
struct Named {
    descriptor: OwnedFd,
    /// Of who stored it, where that matters.
    lender: Option<Presence>,
}

impl Named {
    fn is_over(&self, now: Instant) -> bool {
        self.lender.as_ref().is_some_and(|lender| lender.is_over(now))
    }
}

/// What the holder keeps open.
#[derive(Default)]
struct Kept {
    ports: BTreeMap<HeldPort, OwnedFd>,
    named: BTreeMap<String, Named>,
    tending: Option<Tending>,
}

impl Kept {
    fn adopt(&mut self, label: Label, descriptor: OwnedFd) {
        match label {
            Label::Port(port) => drop(self.ports.insert(port, descriptor)),
            // Who stored it for a limited time sees this holder's predecessor end, and stores it here anew.
            Label::Named(name) => self.insert(name, descriptor, None),
        }
    }

    fn answer(&mut self, channel: &Channel) -> Next {
        let (request, descriptors) = match channel.receive::<Request>() {
            Ok(received) => received,
            Err(error @ ChannelError::Malformed { .. }) => {
                let message = format!("{error}; this holder speaks protocol {HOLDER_PROTOCOL}");
                return Self::sent(&channel.send(&Reply::Error { message }, &[]));
            }
            Err(ChannelError::Closed | ChannelError::Socket { .. } | ChannelError::TooLong { .. }) => {
                return Next::Close;
            }
        };
        let sent = match request {
            Request::Hello => channel.send(&Reply::Hello(self.identity()), &[]),
            Request::Hold { ports } => {
                let refused = self.hold(&ports);
                channel.send(&Reply::Held { refused }, &[])
            }
            Request::List => channel.send(
                &Reply::Listed {
                    ports: self.ports.keys().copied().collect(),
                },
                &[],
            ),
            Request::Names => channel.send(
                &Reply::Named {
                    names: self.named.keys().cloned().collect(),
                },
                &[],
            ),
            Request::Store { name, limit_ms } => {
                let connection = channel.as_fd().as_raw_fd();
                let lender = limit_ms.map(|limit| Presence::new(connection, Duration::from_millis(limit)));
                channel.send(&self.store(name, descriptors, lender), &[])
            }
            Request::Fetch { name } => {
                let kept = self.named.get(&name).map(|named| named.descriptor.as_fd());
                let descriptor: Vec<BorrowedFd<'_>> = kept.into_iter().collect();
                channel.send(
                    &Reply::Fetched {
                        found: !descriptor.is_empty(),
                    },
                    &descriptor,
                )
            }
            Request::Forget { name } => {
                self.named.remove(&name);
                channel.send(&Reply::Done, &[])
            }
            Request::Tend(charge) => channel.send(&self.tend(charge, descriptors, channel), &[]),
            Request::Untend => {
                self.tending = None;
                channel.send(&Reply::Done, &[])
            }
            Request::HandOver => self.hand_over(channel),
            Request::Exit => {
                // It leaves all the same where the one who asked has gone.
                return channel
                    .send(&Reply::Leaving, &[])
                    .map_or(Next::Exit, |()| Next::Exit);
            }
        };
        Self::sent(&sent)
    }

    fn sent(sent: &Result<(), ChannelError>) -> Next {
        if sent.is_ok() { Next::Serve } else { Next::Close }
    }

    fn identity(&self) -> HolderIdentity {
        HolderIdentity {
            protocol: HOLDER_PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            ports: self.ports.len(),
        }
    }

    /// Releases first: a port may have been freed for its neighbour in the same set.
    fn hold(&mut self, desired: &BTreeSet<HeldPort>) -> Vec<Refusal> {
        let held = self.ports.keys().copied().collect();
        let diff = PortDiff::between(&held, desired);
        for port in &diff.release {
            self.ports.remove(port);
        }
        let mut refused = Vec::new();
        for port in diff.take {
            match hold(port) {
                Ok(socket) => drop(self.ports.insert(port, socket)),
                Err(error) => refused.push((port, error.raw_os_error().unwrap_or(0))),
            }
        }
        let in_use = refused
            .iter()
            .filter(|(_, errno)| *errno == Errno::EADDRINUSE as i32)
            .map(|(port, _)| *port);
        let mut owners = owners(&in_use.collect());
        let named = refused.into_iter().map(|(port, errno)| Refusal {
            port,
            errno,
            owner: owners.remove(&port),
        });
        named.collect()
    }

    fn insert(&mut self, name: String, descriptor: OwnedFd, lender: Option<Presence>) {
        self.named.insert(name, Named { descriptor, lender });
    }

    fn store(&mut self, name: String, descriptors: Vec<OwnedFd>, lender: Option<Presence>) -> Reply {
        let found = descriptors.len();
        let mut descriptors = descriptors.into_iter();
        match (descriptors.next(), descriptors.next()) {
            (Some(descriptor), None) => {
                self.insert(name, descriptor, lender);
                Reply::Done
            }
            _ => Reply::Error {
                message: format!("{found} descriptors came with store {name:?}, expected 1"),
            },
        }
    }

    fn tend(&mut self, charge: Charge, descriptors: Vec<OwnedFd>, channel: &Channel) -> Reply {
        let stored = self.store(GOSSIP_SOCKET.to_owned(), descriptors, None);
        let socket = self.named.get(GOSSIP_SOCKET).filter(|_| stored == Reply::Done);
        let Some(socket) = socket else { return stored };
        match Tending::new(charge, socket.descriptor.as_fd(), channel.as_fd().as_raw_fd()) {
            Ok(tending) => self.tending = Some(tending),
            Err(message) => return Reply::Error { message },
        }
        stored
    }

    /// A connection ends: from now on its agent is answered for, and what it lent is kept for a time.
    fn closed(&mut self, channel: &Channel) {
        let (connection, now) = (channel.as_fd().as_raw_fd(), Instant::now());
        let lenders = self.named.values_mut().filter_map(|named| named.lender.as_mut());
        lenders.for_each(|lender| lender.ended(connection, now));
        self.tending
            .iter_mut()
            .for_each(|tending| tending.ended(connection, now));
    }

    /// The socket of gossip, where it is to be answered.
    fn gossip(&self) -> Option<BorrowedFd<'_>> {
        Some(self.tending.as_ref()?.awaited()?.0)
    }

    /// When the first of those that are away has been waited for long enough.
    fn awaited(&self) -> Option<Instant> {
        let tending = self.tending.as_ref().and_then(Tending::awaited);
        let lenders = self.named.values().filter_map(|named| named.lender.as_ref());
        let lenders = lenders.filter_map(Presence::awaited);
        lenders.chain(tending.map(|(_, until)| until)).min()
    }

    /// Does nothing more for those that have not come back.
    fn end_absences(&mut self) {
        let now = Instant::now();
        let tending = self.tending.as_ref().and_then(Tending::awaited);
        if tending.is_some_and(|(_, until)| until <= now) {
            tracing::warn!("the agent has not come back: its node is answered for no longer");
            self.tending = None;
        }
        let lent = self.named.extract_if(.., |_, named| named.is_over(now));
        lent.for_each(|(name, _)| tracing::warn!("who lent {name:?} has not come back: it is closed"));
    }

    fn hand_over(&self, channel: &Channel) -> Result<(), ChannelError> {
        let ports = self
            .ports
            .iter()
            .map(|(port, socket)| (Label::Port(*port), socket.as_fd()));
        let named = self
            .named
            .iter()
            .map(|(name, named)| (Label::Named(name.clone()), named.descriptor.as_fd()));
        let all: Vec<(Label, BorrowedFd<'_>)> = ports.chain(named).collect();
        let mut batches = all.chunks(DESCRIPTORS_PER_MESSAGE).peekable();
        if batches.peek().is_none() {
            return channel.send(
                &Reply::Handed {
                    labels: Vec::new(),
                    more: false,
                },
                &[],
            );
        }
        while let Some(batch) = batches.next() {
            let (labels, descriptors): (Vec<Label>, Vec<BorrowedFd<'_>>) = batch.iter().cloned().unzip();
            channel.send(
                &Reply::Handed {
                    labels,
                    more: batches.peek().is_some(),
                },
                &descriptors,
            )?;
        }
        Ok(())
    }
}
