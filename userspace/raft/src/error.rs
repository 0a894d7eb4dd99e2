use crate::log::LOG_FILE;
use crate::seal::SealError;
use crate::types::NodeId;
use std::io;

/// The log or a snapshot cannot be read or written. The node that meets one stops: it acknowledges nothing more, and
/// what it acknowledged before is on disk.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The file system is full. What was being written was not acknowledged; make room and start again.
    #[error("no space left to {action}; make room")]
    Full {
        /// What was being done.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The state directory may not be written. Nothing was changed.
    #[error("not allowed to {action}; the state directory must be writable")]
    ReadOnly {
        /// What was being done.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// Another error of the system. What was being written was not acknowledged.
    #[error("failed to {action}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// Another process has the log open. Nothing was changed.
    #[error("the log is in use by another process")]
    InUse,
    /// The log was written by another version. Nothing was changed.
    #[error("the log has format version {found}, expected {expected}; start the version that wrote it")]
    FormatVersion {
        /// The version on disk.
        found: u32,
        /// The version of this program.
        expected: u32,
    },
    /// The database file was written by another version of the database. Nothing was changed.
    #[error("the log's database has file format {found}; start the version that wrote it")]
    DatabaseVersion {
        /// The version on disk.
        found: u8,
    },
    /// The log belongs to another manager. Nothing was changed.
    #[error(
        "the log belongs to manager {found}, expected {expected}; is this another node's state directory?"
    )]
    OtherNode {
        /// Whose log it is.
        found: NodeId,
        /// Who wants to use it.
        expected: NodeId,
    },
    /// The database's own structure is damaged. Restore the state directory from a copy, or remove this manager and
    /// let it join again.
    #[error("the log's database is damaged: {detail}")]
    DatabaseDamaged {
        /// What the database says.
        detail: String,
    },
    /// A record of the log is not what was written.
    #[error("{record} in the log is damaged")]
    RecordDamaged {
        /// Which one.
        record: String,
        /// Why it does not open.
        source: SealError,
    },
    /// A record of the log opens, but does not mean anything to this version.
    #[error("{record} in the log cannot be read")]
    RecordMalformed {
        /// Which one.
        record: String,
        /// Why.
        source: postcard::Error,
    },
    /// An entry between others, or at the end, is gone.
    #[error("log entry {missing} is missing")]
    Hole {
        /// Its index.
        missing: u64,
    },
    /// The log's file is gone, though there was one. Restore the whole state directory from a copy, or remove this
    /// manager and let it join again under a new id.
    #[error("the log is gone, but there was one in this state directory")]
    Gone,
    /// The log is older than what this manager last acknowledged.
    #[error("the log went back from write {expected} to write {found}; restore the whole state directory")]
    WentBack {
        /// The last write that the log knows.
        found: u64,
        /// The last write that was acknowledged.
        expected: u64,
    },
    /// The state before the first entry of the log is gone.
    #[error("the log begins after entry {purged}, but there is no snapshot of that state")]
    SnapshotMissing {
        /// The last entry that was removed because a snapshot held it.
        purged: u64,
    },
    /// The snapshot file is not what was written.
    #[error("snapshot {file} is damaged: {detail}")]
    SnapshotDamaged {
        /// Its file.
        file: String,
        /// What is wrong.
        detail: String,
    },
    /// The state machine refused a snapshot, or panicked.
    #[error("the state machine failed at entry {index}: {detail}")]
    StateMachine {
        /// The entry, or the last entry of the snapshot.
        index: u64,
        /// What it said.
        detail: String,
    },
    /// The log has no entries and no membership, so there is nothing to make a new cluster of.
    #[error("the state directory holds no cluster")]
    NoCluster,
    /// An earlier write failed; see the error of that one.
    #[error("the log stopped after an earlier error: {0}")]
    Stopped(String),
}

impl StorageError {
    /// The file that is not what was written, or is gone, where that is the error.
    pub fn damaged(&self) -> Option<&str> {
        match self {
            Self::DatabaseDamaged { .. }
            | Self::RecordDamaged { .. }
            | Self::RecordMalformed { .. }
            | Self::Hole { .. }
            | Self::Gone
            | Self::WentBack { .. } => Some(LOG_FILE),
            Self::SnapshotMissing { .. } => Some("snapshot-*"),
            Self::SnapshotDamaged { file, .. } => Some(file),
            Self::Full { .. }
            | Self::ReadOnly { .. }
            | Self::Io { .. }
            | Self::InUse
            | Self::FormatVersion { .. }
            | Self::DatabaseVersion { .. }
            | Self::OtherNode { .. }
            | Self::StateMachine { .. }
            | Self::NoCluster
            | Self::Stopped(_) => None,
        }
    }

    /// Sorts a system error.
    pub(crate) fn from_io(action: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { action, source },
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Self::ReadOnly { action, source }
            }
            _ => Self::Io { action, source },
        }
    }

    pub(crate) fn from_redb(action: &'static str, error: redb::Error) -> Self {
        match error {
            redb::Error::Io(source) => Self::from_io(action, source),
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::UpgradeRequired(found) => Self::DatabaseVersion { found },
            redb::Error::PreviousIo => Self::Stopped("the database met a system error".to_owned()),
            other => Self::DatabaseDamaged {
                detail: other.to_string(),
            },
        }
    }
}
