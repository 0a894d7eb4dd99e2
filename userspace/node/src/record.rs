//! `node.json`: what the node is, and what it is about to become.

use essaim_ca::{Directory as _, DiskDirectory};
use essaim_objects::{ClusterId, NodeId};
use essaim_protocol::ManagerAddress;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// The record's file.
pub(crate) const RECORD_FILE: &str = "node.json";
/// The identity's directory.
pub(crate) const CERTIFICATES: &str = "certificates";
/// The log's directory.
pub(crate) const RAFT: &str = "raft";

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// It makes a cluster, or joins one. A crash here leaves it in none.
    Entering,
    /// It is in a cluster.
    Member,
    /// It makes a new cluster of its state alone, of this number. A crash here has it done again.
    ForcingNewCluster(u64),
    /// It leaves. A crash here has it done to the end.
    Leaving,
}

/// What the node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) phase: Phase,
    pub(crate) node: Option<NodeId>,
    pub(crate) cluster: Option<ClusterId>,
    /// Its number in the consensus, of a manager.
    pub(crate) raft: Option<u64>,
    /// Where a manager listens.
    pub(crate) listen: SocketAddr,
    /// Where others reach it.
    pub(crate) advertise: SocketAddr,
    pub(crate) data_path: Option<IpAddr>,
    pub(crate) managers: Vec<ManagerAddress>,
    /// The store's version that the certificate and its roots are of.
    pub(crate) certificate_version: u64,
}

/// The directory cannot be used; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The disk fails, or the directory may not be used.
    #[error("{action} {} failed", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The record is not what was written.
    #[error("{} cannot be read; restore the whole directory from a copy, or remove it and join anew", path.display())]
    Malformed {
        /// Its file.
        path: PathBuf,
        /// Where it is none.
        source: serde_json::Error,
    },
}

/// The node's directory.
#[derive(Clone, Debug)]
pub(crate) struct StateFiles {
    path: PathBuf,
}

impl StateFiles {
    pub(crate) fn open(path: &Path) -> Result<Self, RecordError> {
        let files = Self {
            path: path.to_owned(),
        };
        files.disk("opening", path, DiskDirectory::open(path))?;
        Ok(files)
    }

    #[expect(clippy::unused_self, reason = "it reads as the directory's own")]
    fn disk<T>(&self, action: &'static str, path: &Path, done: io::Result<T>) -> Result<T, RecordError> {
        done.map_err(|source| RecordError::Disk {
            action,
            path: path.to_owned(),
            source,
        })
    }

    pub(crate) fn certificates(&self) -> Result<DiskDirectory, RecordError> {
        let path = self.path.join(CERTIFICATES);
        self.disk("opening", &path, DiskDirectory::open(&path))
    }

    pub(crate) fn raft(&self) -> PathBuf {
        self.path.join(RAFT)
    }

    pub(crate) fn load(&self) -> Result<Option<Record>, RecordError> {
        let path = self.path.join(RECORD_FILE);
        let directory = self.disk("opening", &self.path, DiskDirectory::open(&self.path))?;
        let Some(found) = self.disk("reading", &path, directory.read(RECORD_FILE))? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&found.bytes);
        record
            .map(Some)
            .map_err(|source| RecordError::Malformed { path, source })
    }

    /// Replaces the record as a whole.
    pub(crate) fn save(&self, record: &Record) -> Result<(), RecordError> {
        let path = self.path.join(RECORD_FILE);
        let beside = format!("{RECORD_FILE}.new");
        let text = serde_json::to_vec_pretty(record).map_err(|source| RecordError::Malformed {
            path: path.clone(),
            source,
        })?;
        let written = || {
            let mut directory = DiskDirectory::open(&self.path)?;
            directory.create(&beside, &text)?;
            directory.sync(&beside)?;
            directory.rename(&beside, RECORD_FILE)?;
            directory.sync_directory()
        };
        self.disk("writing", &path, written())
    }

    /// Removes the log, all of it.
    pub(crate) fn remove_log(&self) -> Result<(), RecordError> {
        self.remove(&self.raft())
    }

    /// Removes everything; the record last, which says that it is to be removed.
    pub(crate) fn clear(&self) -> Result<(), RecordError> {
        self.remove_log()?;
        self.remove(&self.path.join(CERTIFICATES))?;
        let path = self.path.join(RECORD_FILE);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => fs::File::open(&self.path).and_then(|directory| directory.sync_all()),
        };
        self.disk("removing", &path, removed)
    }

    fn remove(&self, path: &Path) -> Result<(), RecordError> {
        let removed = match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => Err(error),
            // What comes after must not be on the disk before this is.
            Ok(()) => fs::File::open(&self.path).and_then(|directory| directory.sync_all()),
        };
        self.disk("removing", path, removed)
    }
}
