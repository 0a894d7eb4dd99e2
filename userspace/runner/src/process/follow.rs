//! Reading a log along with the task.

use crate::dirs::TaskDir;
use crate::log::{LogFiles, Reader};
use crate::{LogError, LogQuery, LogRecord};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::io;
use std::os::fd::AsFd as _;
use tokio::sync::mpsc;

/// Records that are read ahead of who takes them.
const AHEAD: usize = 64;
/// From one look whether anybody still listens, or the shim of a task that has ended is done, to the next.
const LOOK_AGAIN_MS: u16 = 200;

/// What a task said, and says. Dropped, it ends what reads for it.
#[derive(Debug)]
pub struct LogFollower {
    records: mpsc::Receiver<Result<LogRecord, LogError>>,
}

impl LogFollower {
    /// Hands out what comes here, up to the first error.
    pub fn new(records: mpsc::Receiver<Result<LogRecord, LogError>>) -> Self {
        Self { records }
    }

    pub(super) fn start(dir: TaskDir, max_file: u32, query: LogQuery) -> Result<Self, LogError> {
        let (send, records) = mpsc::channel(AHEAD);
        let failed = |directory: &TaskDir| {
            let directory = directory.logs();
            move |source| LogError::Read { directory, source }
        };
        let on_error = failed(&dir);
        let run = move || {
            if let Err(error) = read(&dir, max_file, &query, &send) {
                // Who no longer listens need not know.
                let _ = send.blocking_send(Err(failed(&dir)(error)));
            }
        };
        let thread = std::thread::Builder::new()
            .name("essaim-logs".to_owned())
            .spawn(run);
        thread.map_err(on_error)?;
        Ok(Self::new(records))
    }

    /// The next record; `None` at the end. Nothing is lost where this is dropped half-way.
    ///
    /// # Errors
    /// [`LogError`], and then the end.
    pub async fn next_record(&mut self) -> Result<Option<LogRecord>, LogError> {
        self.records.recv().await.transpose()
    }
}

fn read(
    dir: &TaskDir,
    max_file: u32,
    query: &LogQuery,
    send: &mpsc::Sender<Result<LogRecord, LogError>>,
) -> io::Result<()> {
    let files = LogFiles::new(dir.logs());
    // Before the first look, so that nothing that comes after it is missed.
    let changes = query.follow.then(|| watch(files.directory())).transpose()?;
    let mut reader = Reader::new(files, max_file, query)?;
    loop {
        let ended = !dir.spec().exists() || (dir.exit().exists() && !dir.is_locked()?);
        while let Some(record) = reader.next_record()? {
            if send.blocking_send(Ok(record)).is_err() {
                return Ok(());
            }
        }
        let Some(changes) = &changes else {
            return Ok(());
        };
        if ended || send.is_closed() {
            return Ok(());
        }
        let mut polled = [PollFd::new(changes.as_fd(), PollFlags::POLLIN)];
        // Fails only where a signal comes between.
        let _ = poll(&mut polled, PollTimeout::from(LOOK_AGAIN_MS));
        // What changed is seen by reading on.
        let _ = changes.read_events();
    }
}

fn watch(directory: &std::path::Path) -> io::Result<Inotify> {
    let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    changes.add_watch(directory, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE)?;
    Ok(changes)
}
