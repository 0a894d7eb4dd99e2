//! The shell: the core on a UDP and a TCP socket, driven by tokio.

mod command;
mod handle;
mod sockets;
mod stream;

pub use handle::{GossipHandle, SayError, Stopped};
pub use sockets::{ServiceError, Sockets};

use crate::{Action, Counters, Epoch, Event, Gossip, Start, View};
use command::{AckWaiter, Command};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stream::{ReceivedFrame, Streams};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{broadcast, mpsc, watch};

/// How many commands wait at most; whoever says more waits too.
const MAX_COMMANDS: usize = 64;
/// How many events a receiver may be behind.
const MAX_EVENTS_BEHIND: usize = 4_096;
/// How many frames wait at most.
const MAX_FRAMES: usize = 16;
/// How many datagrams are read before timers and actions have their turn.
const MAX_BATCH: usize = 64;
/// How often it is looked for work where the core has none to announce.
const IDLE: Duration = Duration::from_secs(1);

/// A running gossip core. It ends when all its handles are dropped.
pub struct GossipService {
    core: Gossip,
    udp: UdpSocket,
    tcp: TcpListener,
    streams: Streams,
    commands: mpsc::Receiver<Command>,
    frames: mpsc::Receiver<ReceivedFrame>,
    waiters: Vec<AckWaiter>,
    view: watch::Sender<Arc<View>>,
    epoch: watch::Sender<Epoch>,
    counters: watch::Sender<Counters>,
    events: broadcast::Sender<Event>,
    unsent_datagrams: u64,
}

/// What woke the loop.
enum Input {
    Command(Option<Command>),
    Datagram,
    Frame(ReceivedFrame),
    Connection(io::Result<tokio::net::TcpStream>),
    Time,
}

impl GossipService {
    /// Prepares a node on these sockets; [`GossipService::run`] drives it. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// A socket could not be handed to the runtime.
    pub fn new(start: Start, sockets: Sockets) -> Result<(Self, GossipHandle), ServiceError> {
        let (udp, tcp) = sockets.register()?;
        let core = Gossip::new(start, now());
        let (command_sender, commands) = mpsc::channel(MAX_COMMANDS);
        let (frame_sender, frames) = mpsc::channel(MAX_FRAMES);
        let (view, epoch) = (watch::Sender::new(core.view()), watch::Sender::new(core.epoch()));
        let counters = watch::Sender::new(core.counters());
        let events = broadcast::Sender::new(MAX_EVENTS_BEHIND);
        let handle = GossipHandle::new(command_sender, &view, &epoch, &counters, events.downgrade());
        let service = Self {
            core,
            udp,
            tcp,
            streams: Streams::new(frame_sender),
            commands,
            frames,
            waiters: Vec::new(),
            view,
            epoch,
            counters,
            events,
            unsent_datagrams: 0,
        };
        Ok((service, handle))
    }

    /// Runs until every handle is dropped.
    pub async fn run(mut self) {
        let mut buffer = vec![0; Gossip::MAX_RECEIVED_DATAGRAM];
        loop {
            self.carry_out();
            self.publish();
            match self.input().await {
                Input::Command(Some(command)) => self.obey(command),
                Input::Command(None) => return,
                Input::Datagram => self.receive(&mut buffer),
                Input::Frame(received) => self.answer(received),
                Input::Connection(Ok(connection)) => self.streams.accept(connection),
                Input::Connection(Err(error)) => {
                    // Out of descriptors, most likely: some are free again after a while.
                    tracing::warn!(%error, "failed to accept a gossip connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Input::Time => {}
            }
            let now = now();
            if self.core.poll_timeout().is_some_and(|due| due <= now) {
                self.core.handle_timeout(now);
            }
        }
    }

    async fn input(&mut self) -> Input {
        let waiting = self.waiters.iter().map(|waiter| waiter.deadline);
        let due = waiting.chain(self.core.poll_timeout()).min();
        let due = due.unwrap_or_else(|| now() + IDLE);
        tokio::select! {
            command = self.commands.recv() => Input::Command(command),
            // An error, such as an earlier datagram's ICMP answer, is taken off by the read.
            _ = self.udp.readable() => Input::Datagram,
            Some(received) = self.frames.recv() => Input::Frame(received),
            accepted = self.tcp.accept() => Input::Connection(accepted.map(|(connection, _)| connection)),
            () = tokio::time::sleep_until(due.into()) => Input::Time,
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        for _ in 0..MAX_BATCH {
            match self.udp.try_recv(buffer) {
                Ok(length) => {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    if let Err(reason) = self.core.handle_datagram(datagram, now()) {
                        tracing::trace!(reason = reason.label(), "dropped a datagram");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => tracing::debug!(%error, "failed to receive a datagram"),
            }
        }
    }

    fn answer(&mut self, received: ReceivedFrame) {
        let answer = self.core.handle_frame(&received.frame, now());
        if let Err(reason) = answer {
            tracing::debug!(reason = reason.label(), "dropped a frame");
        }
        // Where nobody waits any more, the connection has ended.
        let _ = received.answer.send(answer.ok().flatten());
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.core.poll_action() {
            match action {
                // What the system does not take now is lost, as on the way.
                Action::Send { to, datagram } => {
                    if let Err(error) = self.udp.try_send_to(&datagram, to) {
                        self.unsent_datagrams += 1;
                        tracing::debug!(%to, %error, "failed to send a datagram");
                    }
                }
                Action::Exchange { to, peer, frame } => self.streams.exchange(to, peer, frame),
            }
        }
    }

    /// Shows what has changed, and answers those who wait for acknowledgements.
    fn publish(&mut self) {
        while let Some(event) = self.core.poll_event() {
            // Where nobody listens, nobody misses it.
            let _ = self.events.send(event);
        }
        let view = self.core.view();
        self.view.send_if_modified(|shown| {
            let is_newer = view.version != shown.version;
            if is_newer {
                *shown = view;
            }
            is_newer
        });
        let epoch = self.core.epoch();
        self.epoch
            .send_if_modified(|shown| std::mem::replace(shown, epoch) != epoch);
        let mut counters = self.core.counters();
        counters.unsent_datagrams = self.unsent_datagrams;
        counters.failed_exchanges = self.streams.failed();
        self.counters.send_replace(counters);
        self.answer_waiters();
    }

    fn answer_waiters(&mut self) {
        let now = now();
        for waiter in self.waiters.extract_if(.., |waiter| {
            waiter.pending = self.core.pending_acks(&waiter.task);
            waiter.pending.is_empty() || waiter.deadline <= now || waiter.answer.is_closed()
        }) {
            // Whoever asked may have given up.
            let _ = waiter.answer.send(waiter.pending);
        }
    }
}

/// The clock, which only the shell reads.
#[expect(clippy::disallowed_methods, reason = "the shell is where time comes from")]
fn now() -> Instant {
    Instant::now()
}
