use jiff::Timestamp;
use nix::errno::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum Exit {
    /// By itself, with this code. Under the small init, a command that a signal ended counts as 128 and its number.
    Code {
        /// The code.
        code: u8,
    },
    /// A signal ended it.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// The command never ran.
    NotStarted {
        /// As shells and Docker number it: 127 where it was not found, 126 where it may not be run, else 128.
        code: u8,
        /// Why.
        message: String,
    },
    /// Nobody saw its end: its shim was killed, or the machine stopped. It has ended all the same.
    Lost {
        /// What is known.
        message: String,
    },
}

impl Exit {
    /// The code that shells and Docker would show; `None` where it is not known.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Code { code } | Self::NotStarted { code, .. } => Some(i32::from(*code)),
            Self::Signal { signal } => signal.checked_add(128),
            Self::Lost { .. } => None,
        }
    }
}

/// The end of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// How it ended.
    pub exit: Exit,
    /// Whether the out-of-memory killer took one of its processes.
    pub oom_killed: bool,
    /// When it started, if it ever did.
    pub started: Option<Timestamp>,
    /// When it ended, or was found to have ended.
    pub finished: Timestamp,
}

/// The start of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRecord {
    /// Its process, as the node numbers it; process 1 of its own PID namespace.
    pub pid: i32,
    /// Its shim; of a container, what holds its network namespace.
    pub shim: i32,
    /// When it was let go.
    pub started: Timestamp,
    /// What its engine calls its container, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What its checks say, where the runner itself has them run; it then tells of each change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<TaskHealth>,
}

/// What a runner says of a task's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskHealth {
    /// No check has passed yet, and too few have failed.
    Starting,
    /// The checks pass.
    Healthy,
    /// They have failed too often.
    Unhealthy {
        /// How many in a row.
        failures: u32,
    },
}

/// What a record's file holds; `None` where there is none.
///
/// # Errors
/// It cannot be read, or is no such record.
pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a record, whole or not at all. It is on the disk when this returns only where `durable`.
///
/// # Errors
/// The file system's; what was there before is there still.
pub fn write(path: &Path, record: &impl Serialize, durable: bool) -> io::Result<()> {
    Reserved::new(path)?.write(record, durable)
}

/// Room on the disk for a record that is written later, when the disk may be full.
#[derive(Debug)]
pub(crate) struct Reserved {
    path: std::path::PathBuf,
    draft: std::path::PathBuf,
    file: File,
}

/// Bytes that are kept free: one block of common file systems, and far more than a record has.
const ROOM: i64 = 4096;

impl Reserved {
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let draft = path.with_extension("draft");
        let file = fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        Ok(Self {
            path: path.to_owned(),
            draft,
            file,
        })
    }

    /// Has the file system set the room aside; one that cannot do so is no error.
    pub(crate) fn set_aside(self) -> io::Result<Self> {
        use nix::fcntl::{FallocateFlags, fallocate};
        match fallocate(&self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, ROOM) {
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(self),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes the record and puts it in its place; may be tried again.
    pub(crate) fn write(&mut self, record: &impl Serialize, durable: bool) -> io::Result<()> {
        use std::os::unix::fs::FileExt as _;
        let bytes = serde_json::to_vec(record)?;
        self.file.write_all_at(&bytes, 0)?;
        self.file
            .set_len(u64::try_from(bytes.len()).map_err(io::Error::other)?)?;
        self.file.flush()?;
        if durable {
            self.file.sync_all()?;
        }
        fs::rename(&self.draft, &self.path)?;
        if durable && let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(exit: Exit) -> ExitRecord {
        ExitRecord {
            exit,
            oom_killed: true,
            started: None,
            finished: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("exit.json");
        assert_eq!(read::<ExitRecord>(&path).unwrap(), None);
        let message = "no such program".to_owned();
        for exit in [
            Exit::Code { code: 255 },
            Exit::Signal { signal: 9 },
            Exit::NotStarted {
                code: 127,
                message: message.clone(),
            },
            Exit::Lost { message },
        ] {
            let mut reserved = Reserved::new(&path).unwrap().set_aside().unwrap();
            reserved.write(&record(exit.clone()), true).unwrap();
            assert_eq!(read(&path).unwrap(), Some(record(exit)));
        }
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            1,
            "a draft is left"
        );
    }

    #[test]
    fn a_record_that_is_not_written_yet_is_not_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("exit.json");
        let reserved = Reserved::new(&path).unwrap().set_aside().unwrap();
        assert_eq!(read::<ExitRecord>(&path).unwrap(), None);
        drop(reserved);
        fs::write(&path, b"{\"exit\":").unwrap();
        assert!(read::<ExitRecord>(&path).is_err());
    }

    #[test]
    fn an_exit_has_the_code_that_docker_shows() {
        let message = String::new();
        for (exit, code) in [
            (Exit::Code { code: 3 }, Some(3)),
            (Exit::Signal { signal: 15 }, Some(143)),
            (
                Exit::NotStarted {
                    code: 126,
                    message: message.clone(),
                },
                Some(126),
            ),
            (Exit::Lost { message }, None),
        ] {
            assert_eq!(exit.code(), code);
        }
    }
}
