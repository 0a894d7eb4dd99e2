//! What a shim does while its task runs: waits for its end, and answers.

use super::ShimError;
use super::logs::LogThread;
use crate::protocol::{PROTOCOL, Reply, Request, ShimStatus, receive, send};
use crate::record::{ExitRecord, StartRecord};
use crate::sys;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

/// Connections at once; an agent has one or two.
const MAX_CONNECTIONS: usize = 16;
/// Longest that one who connects may take for a message.
const TALK_LIMIT: Duration = Duration::from_secs(1);
/// Longest that the exit record waits for a disk to take the last of the log.
const LOG_LIMIT: Duration = Duration::from_secs(5);
/// From one try to write the exit record to the next, where the disk refuses; milliseconds.
const TRY_AGAIN_MS: u16 = 1000;

struct Connection {
    stream: UnixStream,
    subscribed: bool,
}

/// Serves until the task has ended and that is written down.
pub(super) fn serve(
    listener: &UnixListener,
    start: &StartRecord,
    task: &OwnedFd,
    log: LogThread,
    write: &mut dyn FnMut(&ExitRecord) -> io::Result<()>,
    end: &dyn Fn() -> ExitRecord,
) -> Result<(), ShimError> {
    listener
        .set_nonblocking(true)
        .map_err(super::failed("serve the socket"))?;
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let mut polled = vec![
            PollFd::new(task.as_fd(), PollFlags::POLLIN),
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
        ];
        polled.extend(
            connections
                .iter()
                .map(|one| PollFd::new(one.stream.as_fd(), PollFlags::POLLIN)),
        );
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(super::failed("wait")(errno)),
        }
        let ready: Vec<bool> = polled
            .iter()
            .map(|one| one.revents().is_some_and(|events| !events.is_empty()))
            .collect();
        let (has_ended, is_called) = match ready.as_slice() {
            [task, listener, ..] => (*task, *listener),
            _ => (false, false),
        };
        let mut readable = ready.into_iter().skip(2);
        connections
            .retain_mut(|one| !readable.next().unwrap_or_default() || answer(one, start, task, &log).is_ok());
        if is_called
            && let Ok((stream, _)) = listener.accept()
            && connections.len() < MAX_CONNECTIONS
            && stream.set_read_timeout(Some(TALK_LIMIT)).is_ok()
            && stream.set_write_timeout(Some(TALK_LIMIT)).is_ok()
        {
            connections.push(Connection {
                stream,
                subscribed: false,
            });
        }
        if has_ended {
            break;
        }
    }
    let record = end();
    let log = log.finish(LOG_LIMIT);
    // A full disk may have room again; until then the end is known here only.
    while let Err(error) = write(&record) {
        use std::io::Write as _;
        let _ = writeln!(io::stderr(), "failed to write the exit record: {error}");
        let _ = poll(&mut [], PollTimeout::from(TRY_AGAIN_MS));
    }
    for one in connections.iter_mut().filter(|one| one.subscribed) {
        let _ = send(&mut one.stream, &Reply::Exited(record.clone()));
    }
    let _ = log.join();
    Ok(())
}

/// Answers one request; fails where the connection is of no more use.
fn answer(one: &mut Connection, start: &StartRecord, task: &OwnedFd, log: &LogThread) -> io::Result<()> {
    let reply = match receive(&mut one.stream) {
        Ok(Request::Status) => Reply::Status(ShimStatus {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start: start.clone(),
            log_lost: log.lost(),
        }),
        Ok(Request::Signal { signal }) => match sys::pidfd_send_signal(task.as_fd(), signal) {
            Ok(delivered) => Reply::Signalled { delivered },
            Err(errno) => Reply::Error {
                message: format!("failed to send signal {signal}: {}", errno.desc()),
            },
        },
        Ok(Request::Subscribe) => {
            one.subscribed = true;
            Reply::Subscribed
        }
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(error),
        Err(error) if error.get_ref().is_none() && error.raw_os_error().is_some() => return Err(error),
        Err(error) => Reply::Error {
            message: error.to_string(),
        },
    };
    send(&mut one.stream, &reply)
}
