//! The thread that serves UDP: a batch from each socket in turn.

use super::batch::{LARGEST_REPLY, Slot, receive, send};
use super::forward::Forwarding;
use super::shared::{Asker, Shared};
use crate::counters::CounterBlock;
use crate::respond::{Responder, Sources, Transport, Verdict};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What the event that ends the thread is called; sockets count from 0.
const STOP: u64 = u64::MAX;
/// How many sockets are looked at between two waits.
const EVENTS: usize = 64;

/// A worker as the other threads see it.
#[derive(Debug)]
pub(crate) struct Worker {
    poll: Epoll,
    stop: EventFd,
    stopped: AtomicBool,
    askers: Mutex<HashMap<u64, Arc<Asker>>>,
    pub(crate) counters: CounterBlock,
}

impl Worker {
    pub(crate) fn new() -> nix::Result<Self> {
        let poll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let stop = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        poll.add(&stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        Ok(Self {
            poll,
            stop,
            stopped: AtomicBool::new(false),
            askers: Mutex::default(),
            counters: CounterBlock::default(),
        })
    }

    fn askers(&self) -> MutexGuard<'_, HashMap<u64, Arc<Asker>>> {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the asker's socket from now on, under a number that no other of this worker's has.
    pub(crate) fn add(&self, number: u64, asker: &Arc<Asker>) -> nix::Result<()> {
        self.askers().insert(number, asker.clone());
        let added = self
            .poll
            .add(&asker.udp, EpollEvent::new(EpollFlags::EPOLLIN, number));
        if added.is_err() {
            self.askers().remove(&number);
        }
        added
    }

    /// Serves a socket no more. It must be told to the kernel: the socket itself lives on where another descriptor
    /// of it does.
    pub(crate) fn remove(&self, number: u64) {
        if let Some(asker) = self.askers().remove(&number) {
            // It was added, and its descriptor is still open.
            let _ = self.poll.delete(&asker.udp);
        }
    }

    /// Ends the thread after its batch.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Only a counter at its end refuses, and then the thread is awake.
        let _ = self.stop.write(1);
    }

    /// The thread: waits for sockets with questions, and takes a batch from each. A socket with more is found again
    /// by the next wait, after all others had their turn.
    pub(crate) fn run(&self, shared: &Shared, forwarding: &Forwarding, seed: u64) {
        let mut responder = Responder::new(seed);
        let mut slots = Slot::batch();
        let mut events = [EpollEvent::empty(); EVENTS];
        while !self.stopped.load(Ordering::Relaxed) {
            let ready = match self.poll.wait(&mut events, EpollTimeout::NONE) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "cannot wait for questions");
                    return;
                }
            };
            for event in events.iter().take(ready) {
                let asker = self.askers().get(&event.data()).cloned();
                if let Some(asker) = asker {
                    self.serve(&asker, shared, forwarding, &mut responder, &mut slots);
                }
            }
        }
    }

    fn serve(
        &self,
        asker: &Arc<Asker>,
        shared: &Shared,
        forwarding: &Forwarding,
        responder: &mut Responder,
        slots: &mut [Slot],
    ) {
        let received = match receive(asker.udp.as_fd(), slots) {
            Ok(received) => received,
            // Nothing there after all, or the report that an earlier answer was refused, which is read by this.
            Err(error) => {
                tracing::trace!(asker = asker.id.0, %error, "no datagram");
                return;
            }
        };
        let Some(slots) = slots.get_mut(..received) else {
            return;
        };
        // Before all that answers are made of: see `kernel`.
        let kernel = shared.kernel.get();
        let kernel = kernel.and_then(|kernel| Some((kernel, kernel.generation()?)));
        let (zone, view) = (shared.zone(), asker.view());
        let servers = shared.servers_of(&view);
        let sources = Sources {
            zone: &zone,
            asker: &view.info,
            servers: servers.as_ref(),
            cache: &shared.cache,
            now: Instant::now(),
        };
        self.counters.queries_udp.add(received as u64);
        for slot in &mut *slots {
            let peer = slot.peer();
            let (message, buffer) = slot.parts();
            let transport = Transport::Udp(LARGEST_REPLY);
            slot.reply_length = match responder.respond(message, transport, &sources, buffer) {
                Verdict::Reply {
                    length,
                    rcode,
                    cached,
                } => {
                    self.counters.answered(rcode);
                    self.counters.cache_hits.add(cached.into());
                    if let Some((kernel, generation)) = kernel
                        && let Some(reply) = buffer.get(..length)
                        && kernel.offer(generation, asker.id.0, &asker.budget, message, reply)
                    {
                        self.counters.handed_to_kernel.add(1);
                    }
                    length
                }
                Verdict::Drop(reason) => {
                    self.counters.dropped(reason);
                    0
                }
                Verdict::Forward => match (peer, &servers) {
                    (Some(peer), Some(servers)) => {
                        forwarding.udp(asker, peer, servers, message, buffer, &self.counters)
                    }
                    // A question is forwarded only where there are servers, and came from somewhere.
                    _ => 0,
                },
            };
        }
        let unsent = send(asker.udp.as_fd(), slots);
        self.counters.dropped_unsent.add(unsent as u64);
    }
}
