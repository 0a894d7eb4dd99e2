//! A task's sockets, opened inside its namespace.

use crate::RESOLVER_ADDRESS;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::BorrowedFd;

/// How much may wait in a task's UDP socket, in bytes: some 1,000 questions, which take a few milliseconds. Too low: a
/// burst of a task loses some; too high: one that floods has the kernel's memory.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Why a task has no sockets. Nothing is left open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The descriptor is no network namespace, or this process may not enter it.
    #[error("failed to enter the network namespace")]
    Enter(#[source] nix::Error),
    /// The namespace's loopback is down, or it has no port left.
    #[error("failed to open a {kind} socket at a port of 127.0.0.11")]
    Open {
        /// `UDP` or `TCP`.
        kind: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// No thread could be started to enter the namespace on.
    #[error("failed to start a thread")]
    Thread(#[source] io::Error),
}

/// Opens a UDP socket and a TCP listener inside a network namespace, each at a port of 127.0.0.11 that the kernel
/// picks: never at 53, which the task may want to bind on all addresses. A thread of its own enters the namespace, so
/// the caller's stays where it is.
///
/// # Errors
/// The namespace cannot be entered, or the kernel gives no socket.
pub fn open_sockets(netns: BorrowedFd<'_>) -> Result<(UdpSocket, TcpListener), OpenError> {
    let open = || {
        setns(netns, CloneFlags::CLONE_NEWNET).map_err(OpenError::Enter)?;
        let failed = |kind| move |source| OpenError::Open { kind, source };
        let udp = UdpSocket::bind((RESOLVER_ADDRESS, 0)).map_err(failed("UDP"))?;
        // Where it is refused the usual size has to do.
        let _ = setsockopt(&udp, RcvBufForce, &RECEIVE_BUFFER);
        let tcp = TcpListener::bind((RESOLVER_ADDRESS, 0)).map_err(failed("TCP"))?;
        Ok((udp, tcp))
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("dns-netns".to_owned())
            .spawn_scoped(scope, open)
            .map_err(OpenError::Thread)?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
