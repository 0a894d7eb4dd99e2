//! The shell: sockets and threads.
//!
//! Threads that wait for nothing else serve UDP, each its share of the tasks ([`worker`]); a runtime on a thread of
//! its own serves TCP and waits for upstream servers. So a slow upstream server, or a task that opens connections and
//! leaves them, is never in the way of a question that can be answered at once.

mod batch;
mod forward;
mod shared;
mod sockets;
mod tcp;
#[cfg(test)]
mod tests;
mod worker;

pub(crate) use shared::Shared;
pub use sockets::{OpenError, open_sockets};

use crate::counters::Counters;
use crate::kernel::{Kernel, KernelAnswers, RENEWAL};
use crate::{AskerId, AskerInfo, Zone};
use forward::Forwarding;
use shared::Asker;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use worker::Worker;

/// How many threads serve UDP at most. One answers more than 100,000 questions a second; more than a few would only
/// wait.
const MOST_WORKERS: usize = 4;

/// Why the server did not start, or did not take an asker; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The kernel gave no thread or no descriptor.
    #[error("failed to start the DNS server")]
    Start(#[source] io::Error),
    /// An asker's socket cannot be waited for.
    #[error("failed to serve the sockets of asker {}", .asker.0)]
    Sockets {
        /// The asker.
        asker: AskerId,
        /// The kernel's word.
        source: io::Error,
    },
}

/// Answers the questions of all tasks of a node. It stops, and its descriptors close, when it is dropped.
#[derive(Debug)]
pub struct DnsServer {
    shared: Arc<Shared>,
    workers: Vec<Arc<Worker>>,
    threads: Vec<JoinHandle<()>>,
    runtime: tokio::runtime::Handle,
    forwarding: Forwarding,
    /// Ends the runtime's thread when it is dropped.
    stop_runtime: Option<oneshot::Sender<()>>,
    askers: Mutex<Askers>,
}

/// Who is served, and where.
#[derive(Debug, Default)]
struct Askers {
    next: u64,
    served: HashMap<AskerId, Served>,
}

#[derive(Debug)]
struct Served {
    number: u64,
    asker: Arc<Asker>,
    tcp: AbortHandle,
}

impl DnsServer {
    /// Starts the threads, without askers, names and upstream servers. Upstream servers are asked from the network
    /// namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel gives no thread or descriptor.
    pub fn start() -> Result<Self, ServerError> {
        Self::try_start().map_err(ServerError::Start)
    }

    fn try_start() -> io::Result<Self> {
        let shared = Arc::new(Shared::new());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let forwarding = Forwarding::new(handle.clone(), shared.clone());
        let (stop_runtime, stopped) = oneshot::channel();
        let mut server = Self {
            shared,
            workers: Vec::new(),
            threads: Vec::new(),
            runtime: handle,
            forwarding,
            stop_runtime: Some(stop_runtime),
            askers: Mutex::default(),
        };
        let thread = std::thread::Builder::new().name("dns-outside".to_owned());
        server.threads.push(thread.spawn(move || {
            // It ends with the sender, which sends nothing.
            let _ = runtime.block_on(stopped);
        })?);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        for number in 0..cores.min(MOST_WORKERS) {
            let worker = Arc::new(Worker::new()?);
            server.workers.push(worker.clone());
            let (shared, forwarding) = (server.shared.clone(), server.forwarding.clone());
            let seed = getrandom::u64().map_err(io::Error::other)?;
            let thread = std::thread::Builder::new().name(format!("dns-udp-{number}"));
            server
                .threads
                .push(thread.spawn(move || worker.run(&shared, &forwarding, seed))?);
        }
        Ok(server)
    }

    fn askers(&self) -> MutexGuard<'_, Askers> {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker that serves the socket with this number.
    fn worker(&self, number: u64) -> Option<&Arc<Worker>> {
        let count = u64::try_from(self.workers.len())
            .ok()
            .filter(|count| *count > 0)?;
        self.workers.get(usize::try_from(number % count).ok()?)
    }

    /// Hands answers to the kernel, from the next new zone on: until then, what an earlier server handed over counts. To
    /// be called once.
    pub fn answer_in_kernel(&self, answers: Arc<dyn KernelAnswers>) {
        if self.shared.kernel.set(Kernel::new(answers)).is_err() {
            tracing::error!("the kernel's answers were set before");
            return;
        }
        let shared = self.shared.clone();
        self.runtime.spawn(async move {
            let mut ticks = tokio::time::interval(RENEWAL);
            loop {
                ticks.tick().await;
                if let Some(kernel) = shared.kernel.get() {
                    kernel.renew();
                }
            }
        });
    }

    /// Serves a task at these sockets; a former one with the same id is replaced. The descriptors are closed when the
    /// task is removed, and set to not block: give duplicates of what somebody else keeps.
    ///
    /// # Errors
    /// The sockets cannot be waited for.
    pub fn add_asker(
        &self,
        id: AskerId,
        info: AskerInfo,
        udp: UdpSocket,
        tcp: TcpListener,
    ) -> Result<(), ServerError> {
        let failed = |source| ServerError::Sockets { asker: id, source };
        udp.set_nonblocking(true).map_err(failed)?;
        tcp.set_nonblocking(true).map_err(failed)?;
        let addresses = (udp.local_addr(), tcp.local_addr());
        let ports = [
            addresses.0.map_err(failed)?.port(),
            addresses.1.map_err(failed)?.port(),
        ];
        let listener = {
            let _runtime = self.runtime.enter();
            tokio::net::TcpListener::from_std(tcp).map_err(failed)?
        };
        let asker = Arc::new(Asker::new(id, ports, self.shared.view_of(info, ports), udp));
        let mut askers = self.askers();
        let number = askers.next;
        askers.next += 1;
        if let Some(worker) = self.worker(number) {
            worker.add(number, &asker).map_err(|errno| failed(errno.into()))?;
        }
        let (shared, forwarding) = (self.shared.clone(), self.forwarding.clone());
        let connections = tcp::serve(listener, asker.clone(), shared, forwarding);
        let tcp = self.runtime.spawn(connections).abort_handle();
        let former = askers.served.insert(id, Served { number, asker, tcp });
        if let Some(former) = former {
            self.end(&former);
            self.shared.answers_changed();
        }
        Ok(())
    }

    /// Changes what a task's questions are answered by; does nothing where there is no such asker.
    pub fn set_asker(&self, id: AskerId, info: AskerInfo) {
        if let Some(served) = self.askers().served.get(&id) {
            let ports = served.asker.ports;
            served.asker.set_view(self.shared.view_of(info, ports));
            self.shared.answers_changed();
        }
    }

    /// Stops serving a task and closes the server's descriptors of its sockets; deleting what is absent succeeds.
    pub fn remove_asker(&self, id: AskerId) {
        if let Some(served) = self.askers().served.remove(&id) {
            self.end(&served);
        }
    }

    fn end(&self, served: &Served) {
        if let Some(worker) = self.worker(served.number) {
            worker.remove(served.number);
        }
        served.tcp.abort();
    }

    /// Answers from these names from now on.
    pub fn set_zone(&self, zone: Arc<Zone>) {
        self.shared.set_zone(zone);
    }

    /// Asks these servers for names of the outside, for askers without servers of their own; what others said is then
    /// forgotten.
    pub fn set_upstreams(&self, servers: Vec<SocketAddr>) {
        self.shared.set_servers(servers);
    }

    /// What has been counted since the start.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.shared.counters.add_to(&mut sum);
        for worker in &self.workers {
            worker.counters.add_to(&mut sum);
        }
        sum
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        drop(self.stop_runtime.take());
        for worker in &self.workers {
            worker.stop();
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the DNS server panicked");
            }
        }
    }
}
