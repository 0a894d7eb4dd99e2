use super::{LogFiles, LogRecord};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt as _;

#[cfg(test)]
mod tests;

/// Which part of a log to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Only so many records, the last ones; all where there is none given.
    pub tail: Option<u64>,
    /// Only records of this time or later.
    pub since: Option<Timestamp>,
    /// Whether to go on with what the task says from now on, until it has ended.
    pub follow: bool,
}

/// Why a log could not be read; what was handed out before is right.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The engine that holds it does not give it.
    #[error("{message}")]
    Engine {
        /// What it says, or what became of it.
        message: String,
    },
    /// The disk's, or inotify's.
    #[error("failed to read the log in {}", directory.display())]
    Read {
        /// Its directory.
        directory: std::path::PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Most bytes of one line of a file; a record of control characters is six times as long as they are.
const LONGEST_LINE: u64 = 256 << 10;
/// What is read at once when a file is looked through from its end.
const BLOCK: u64 = 64 << 10;

/// A file of the log.
#[derive(Debug)]
struct Open {
    inode: u64,
    reader: BufReader<File>,
}

/// Reads a log, across rotation, as far as it is written. Holds one line in memory.
#[derive(Debug)]
pub(crate) struct Reader {
    files: LogFiles,
    max_file: u32,
    since: Option<Timestamp>,
    /// The files that are left to read; the first one is read now.
    open: VecDeque<Open>,
    /// The begin of a line whose end is not written yet.
    part: Vec<u8>,
    /// Whether it is too long, and left out up to its end.
    skipping: bool,
}

impl Reader {
    pub(crate) fn new(files: LogFiles, max_file: u32, query: &LogQuery) -> io::Result<Self> {
        let open = snapshot(&files, max_file)?;
        let mut reader = Self {
            files,
            max_file,
            since: query.since,
            open,
            part: Vec::new(),
            skipping: false,
        };
        if let Some(tail) = query.tail {
            reader.skip_to_tail(tail)?;
        }
        Ok(reader)
    }

    /// Goes to where only so many lines follow.
    fn skip_to_tail(&mut self, mut wanted: u64) -> io::Result<()> {
        let mut kept = VecDeque::new();
        while let Some(mut open) = self.open.pop_back() {
            let found = seek_back(&mut open.reader, wanted)?;
            wanted = wanted.saturating_sub(found);
            kept.push_front(open);
            if wanted == 0 {
                break;
            }
        }
        self.open = kept;
        Ok(())
    }

    /// The next record; `None` where no more is written.
    pub(crate) fn next_record(&mut self) -> io::Result<Option<LogRecord>> {
        loop {
            if !self.next_line()? {
                return Ok(None);
            }
            let record = LogRecord::parse(&self.part);
            self.part.clear();
            if let Some(record) = record
                && self.since.is_none_or(|since| record.time >= since)
            {
                return Ok(Some(record));
            }
        }
    }

    /// Reads on until `part` is a whole line; `false` where no more is written.
    fn next_line(&mut self) -> io::Result<bool> {
        loop {
            if let Some(open) = self.open.front_mut() {
                let part = u64::try_from(self.part.len()).map_err(io::Error::other)?;
                let room = LONGEST_LINE.saturating_sub(part);
                if open
                    .reader
                    .by_ref()
                    .take(room)
                    .read_until(b'\n', &mut self.part)?
                    > 0
                {
                    if self.part.ends_with(b"\n") {
                        if !std::mem::take(&mut self.skipping) {
                            return Ok(true);
                        }
                        self.part.clear();
                    } else if self.part.len() as u64 >= LONGEST_LINE {
                        self.skipping = true;
                        self.part.clear();
                    }
                    continue;
                }
            }
            if !self.turn()? {
                return Ok(false);
            }
        }
    }

    /// At a file's end: goes on with the next newer one. `false` where there is none.
    fn turn(&mut self) -> io::Result<bool> {
        if self.open.len() <= 1 {
            let newest = std::fs::metadata(self.files.path(0))
                .map(|metadata| metadata.ino())
                .ok();
            let current = self.open.front().map(|open| open.inode);
            if newest == current || newest.is_none() {
                return Ok(false);
            }
            let mut found = snapshot(&self.files, self.max_file)?;
            if let Some(at) = found.iter().position(|open| Some(open.inode) == current) {
                found.drain(..=at);
            }
            // Between the last read and the look, a line may have been added to the file that was then moved away.
            if let Some(open) = self.open.front_mut()
                && !open.reader.fill_buf()?.is_empty()
            {
                return Ok(true);
            }
            if found.is_empty() {
                return Ok(false);
            }
            self.open = found;
        } else {
            self.open.pop_front();
        }
        // What has no end in its file never gets one.
        self.part.clear();
        self.skipping = false;
        Ok(true)
    }
}

/// The files that there are, the oldest first.
///
/// They are opened from the newest on: one that is rotated meanwhile is then seen twice, and not missed.
fn snapshot(files: &LogFiles, max_file: u32) -> io::Result<VecDeque<Open>> {
    let mut found: VecDeque<Open> = VecDeque::new();
    for age in 0..max_file {
        let file = match File::open(files.path(age)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let inode = file.metadata()?.ino();
        if found.iter().all(|open| open.inode != inode) {
            let reader = BufReader::new(file);
            found.push_front(Open { inode, reader });
        }
    }
    Ok(found)
}

/// Goes back over the last `wanted` whole lines of a file; how many of them there were.
fn seek_back(reader: &mut BufReader<File>, wanted: u64) -> io::Result<u64> {
    let mut end = reader.seek(SeekFrom::End(0))?;
    let mut lines = 0;
    let mut block = Vec::new();
    // The end of the last line is not the begin of another.
    let mut position = end;
    'blocks: while end > 0 {
        let start = end.saturating_sub(BLOCK);
        reader.seek(SeekFrom::Start(start))?;
        block.clear();
        reader
            .by_ref()
            .take(end.saturating_sub(start))
            .read_to_end(&mut block)?;
        for (index, byte) in block.iter().enumerate().rev() {
            if *byte == b'\n' {
                if lines == wanted {
                    position = start.saturating_add(index as u64).saturating_add(1);
                    break 'blocks;
                }
                lines = lines.saturating_add(1);
            }
        }
        position = start;
        end = start;
    }
    reader.seek(SeekFrom::Start(position))?;
    Ok(lines.min(wanted))
}
