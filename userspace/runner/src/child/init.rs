//! The small init: process 1 of a task that forwards signals to the command and collects orphans.

use super::SetupError;
use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, Pid};
use std::convert::Infallible;
use std::os::unix::process::ExitStatusExt as _;

/// Goes on as the command-to-be in a child, and stays behind as the init of it.
pub(super) fn split() -> Result<(), SetupError> {
    let all = SigSet::all();
    all.thread_block().map_err(SetupError::io("hold signals back"))?;
    match crate::sys::fork_single_threaded().map_err(SetupError::io("start a process"))? {
        ForkResult::Child => {
            // A group of its own, as a shell would give it.
            let _ = nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0));
            all.thread_unblock()
                .map_err(SetupError::io("let signals through"))
        }
        ForkResult::Parent { child } => {
            // The command's own errors are told by the child alone, and its exec is seen by the pipe's end.
            let _ = crate::sys::close_from(3, false);
            let code = match serve(child, &all) {
                Ok(never) => match never {},
                Err(Ended { code }) => code,
            };
            std::process::exit(code)
        }
    }
}

struct Ended {
    code: i32,
}

/// Forwards and collects until the command has ended.
fn serve(command: Pid, all: &SigSet) -> Result<Infallible, Ended> {
    let failed = |errno: Errno| {
        tracing::error!(%errno, "the init of a task failed");
        Ended { code: 128 }
    };
    let signals = SignalFd::with_flags(all, SfdFlags::SFD_CLOEXEC).map_err(failed)?;
    loop {
        let Some(info) = signals.read_signal().map_err(failed)? else {
            continue;
        };
        if info.ssi_signo.cast_signed() == libc::SIGCHLD {
            collect(command)?;
        } else {
            // It may have ended; that is seen next.
            let _ = crate::sys::kill(command, info.ssi_signo.cast_signed());
        }
    }
}

/// Collects all that has ended.
fn collect(command: Pid) -> Result<(), Ended> {
    loop {
        match crate::sys::collect(None, false) {
            Ok(Some((pid, status))) if pid == command => {
                let signal = status.signal().map(|signal| 128 + signal);
                return Err(Ended {
                    code: status.code().or(signal).unwrap_or(128),
                });
            }
            Ok(Some(_)) => {}
            // Nothing more has ended.
            Ok(None) | Err(_) => return Ok(()),
        }
    }
}
