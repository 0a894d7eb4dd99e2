//! The thread that takes what the task says to the disk.
//!
//! A disk that is slow holds up this thread, then the pipes fill, and the task waits: nobody else. A disk that refuses
//! costs the records that it refused, which are counted.

use crate::LogOptions;
use crate::dirs::TaskDir;
use crate::log::{LogFiles, LogStream, Rotating, Splitter, write_line};
use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

/// What is read at once, in bytes; a pipe holds as much.
const READ: usize = 64 << 10;
/// Lines are written together up to so many bytes. Each record fits, so that the bound of the files is kept.
const WRITE: usize = 96 << 10;

/// A log that is open.
pub(super) struct Log {
    files: Rotating,
}

/// The thread.
pub(super) struct LogThread {
    thread: JoinHandle<()>,
    /// Closed to have it finish.
    stop: OwnedFd,
    finished: mpsc::Receiver<()>,
    lost: Arc<AtomicU64>,
}

impl Log {
    pub(super) fn open(dir: &TaskDir, options: LogOptions) -> io::Result<Self> {
        fs::create_dir_all(dir.logs())?;
        let files = Rotating::open(LogFiles::new(dir.logs()), options)?;
        Ok(Self { files })
    }

    /// Starts the thread.
    pub(super) fn start(self, stdout: OwnedFd, stderr: OwnedFd) -> io::Result<LogThread> {
        for pipe in [&stdout, &stderr] {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let (stopped, stop) = io::pipe()?;
        let (tell, finished) = mpsc::channel();
        let lost = Arc::new(AtomicU64::new(0));
        let mut writer = Writer {
            files: self.files,
            lines: Vec::new(),
            records: 0,
            lost: Arc::clone(&lost),
        };
        let run = move || {
            writer.run(stdout, stderr, &stopped.into());
            let _ = tell.send(());
        };
        // What it needs is on the heap.
        let thread = std::thread::Builder::new()
            .name("log".to_owned())
            .stack_size(128 << 10);
        Ok(LogThread {
            thread: thread.spawn(run)?,
            stop: stop.into(),
            finished,
            lost,
        })
    }
}

impl LogThread {
    /// Records that the disk refused.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Has it write what is left in the pipes; waits so long for that.
    pub(super) fn finish(self, limit: Duration) -> JoinHandle<()> {
        drop(self.stop);
        let _ = self.finished.recv_timeout(limit);
        self.thread
    }
}

struct Source {
    stream: LogStream,
    /// None after its end.
    pipe: Option<OwnedFd>,
    splitter: Splitter,
}

struct Writer {
    files: Rotating,
    lines: Vec<u8>,
    records: u64,
    lost: Arc<AtomicU64>,
}

impl Writer {
    fn run(&mut self, stdout: OwnedFd, stderr: OwnedFd, stopped: &OwnedFd) {
        let source = |stream, pipe| Source {
            stream,
            pipe: Some(pipe),
            splitter: Splitter::default(),
        };
        let mut sources = [
            source(LogStream::Stdout, stdout),
            source(LogStream::Stderr, stderr),
        ];
        let mut buffer = vec![0; READ];
        let mut last = false;
        loop {
            let mut more = false;
            for source in &mut sources {
                more |= self.read(source, &mut buffer);
            }
            self.flush();
            if more {
                continue;
            }
            // All that was said before the task's end is read.
            if last || sources.iter().all(|source| source.pipe.is_none()) {
                break;
            }
            last = wait(&sources, stopped);
        }
        for source in &mut sources {
            let (stream, now) = (source.stream, Timestamp::now());
            source.splitter.finish(|record| self.add(now, stream, record));
        }
        self.flush();
    }

    /// Reads once; `false` where there was nothing.
    fn read(&mut self, source: &mut Source, buffer: &mut [u8]) -> bool {
        let Some(pipe) = &source.pipe else {
            return false;
        };
        match nix::unistd::read(pipe, buffer) {
            Ok(count @ 1..) => {
                let (stream, now) = (source.stream, Timestamp::now());
                let read = buffer.get(..count).unwrap_or_default();
                source.splitter.push(read, |record| self.add(now, stream, record));
                true
            }
            Err(Errno::EAGAIN) => false,
            Err(Errno::EINTR) => true,
            Ok(0) | Err(_) => {
                source.pipe = None;
                false
            }
        }
    }

    fn add(&mut self, time: Timestamp, stream: LogStream, record: &[u8]) {
        let before = self.lines.len();
        write_line(&mut self.lines, time, stream, record);
        self.records = self.records.saturating_add(1);
        if self.lines.len() > WRITE && before > 0 {
            let line = self.lines.split_off(before);
            self.records = self.records.saturating_sub(1);
            self.flush();
            self.lines.extend_from_slice(&line);
            self.records = 1;
        }
    }

    fn flush(&mut self) {
        if !self.lines.is_empty() {
            if self.files.append(&self.lines).is_err() {
                self.lost.fetch_add(self.records, Ordering::Relaxed);
            }
            self.lines.clear();
            self.records = 0;
        }
    }
}

/// Waits until there is something to read, or it is to stop: `true`.
fn wait(sources: &[Source], stopped: &OwnedFd) -> bool {
    let mut polled = vec![PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
    let open = sources.iter().filter_map(|source| source.pipe.as_ref());
    polled.extend(open.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
    // Fails only where a signal comes between.
    let _ = poll(&mut polled, PollTimeout::NONE);
    polled
        .first()
        .is_some_and(|stopped| stopped.revents().is_some_and(|events| !events.is_empty()))
}
