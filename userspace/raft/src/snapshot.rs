#[cfg(test)]
mod tests;

use crate::disk::{Disk, NewFile};
use crate::error::StorageError;
use crate::seal::Seal;
use crate::types::SnapshotMeta;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// ```text
/// "essaim snapshot" 15 | version 1 | length 4 | sealed head | (length 4 | sealed chunk)*
/// ```
///
/// The head says how long the state is; each chunk is bound to the head's bytes and to its own number.
const MAGIC: &[u8; 15] = b"essaim snapshot";
const FORMAT_VERSION: u8 = 1;
const CHUNK_BYTES: usize = 1 << 20;
const PREFIX: &str = "snapshot-";
const UNFINISHED: &str = "unfinished-snapshot";
const HEAD_PLACE: &[u8] = b"essaim raft snapshot head 1";

#[derive(Serialize, Deserialize)]
struct Head {
    meta: SnapshotMeta,
    length: u64,
}

/// The snapshots on disk: the newest, and as many before it as are asked for.
///
/// A new one is written beside it, synced, renamed, and its name synced; only then are old ones removed. So at any
/// moment a whole snapshot is there, and a torn one never has a snapshot's name.
#[derive(Clone)]
pub(crate) struct SnapshotStore {
    disk: Arc<dyn Disk>,
    seal: Arc<dyn Seal>,
    /// One is written at a time: the one that is being made here and one that the leader sends may meet.
    writing: Arc<Mutex<()>>,
    /// How many before the newest stay.
    kept: Arc<AtomicU64>,
}

impl SnapshotStore {
    pub(crate) fn new(disk: Arc<dyn Disk>, seal: Arc<dyn Seal>) -> Self {
        Self {
            disk,
            seal,
            writing: Arc::default(),
            kept: Arc::default(),
        }
    }

    /// From the next one on, so many before the newest stay.
    pub(crate) fn keep(&self, before_the_newest: u64) {
        self.kept.store(before_the_newest, Ordering::Relaxed);
    }

    /// Removes what a crash left, and says what the newest snapshot holds. Blocks.
    pub(crate) fn recover(&self) -> Result<Option<(SnapshotMeta, Vec<u8>)>, StorageError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error| StorageError::from_io("look for snapshots", error);
        if self
            .disk
            .list()
            .map_err(failed)?
            .iter()
            .any(|name| name == UNFINISHED)
        {
            self.disk.remove(UNFINISHED).map_err(failed)?;
        }
        let names = self.names()?;
        let Some(newest) = names.last() else {
            return Ok(None);
        };
        self.read_file(newest).map(Some)
    }

    /// The newest snapshot. Blocks.
    pub(crate) fn read(&self) -> Result<Option<(SnapshotMeta, Vec<u8>)>, StorageError> {
        match self.names()?.last() {
            Some(newest) => self.read_file(newest).map(Some),
            None => Ok(None),
        }
    }

    /// Writes a snapshot in place of those before it, unless a newer one is there. When this returns it is durable.
    /// Blocks.
    pub(crate) fn write(&self, meta: &SnapshotMeta, state: &[u8]) -> Result<(), StorageError> {
        let failed = |error| StorageError::from_io("write a snapshot", error);
        let name = name(meta);
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.names()?.last().is_some_and(|newest| *newest > name) {
            return Ok(());
        }
        let head = Head {
            meta: meta.clone(),
            length: state.len() as u64,
        };
        let head = postcard::to_stdvec(&head).map_err(|error| failed(io::Error::other(error.to_string())))?;
        let mut file = self.disk.create(UNFINISHED).map_err(failed)?;
        let mut written = || -> io::Result<()> {
            file.write_all(MAGIC)?;
            file.write_all(&[FORMAT_VERSION])?;
            put(&mut *file, &self.seal.encrypt(HEAD_PLACE, &head))?;
            for (number, chunk) in state.chunks(CHUNK_BYTES).enumerate() {
                put(&mut *file, &self.seal.encrypt(&chunk_place(&head, number), chunk))?;
            }
            file.sync()
        };
        written().map_err(failed)?;
        drop(file);
        self.disk.rename(UNFINISHED, &name).map_err(failed)?;
        self.disk.sync_directory().map_err(failed)?;
        self.remove_old()
    }

    fn names(&self) -> Result<Vec<String>, StorageError> {
        let names = self
            .disk
            .list()
            .map_err(|error| StorageError::from_io("list the snapshots", error))?;
        let mut names: Vec<String> = names
            .into_iter()
            .filter(|name| name.starts_with(PREFIX))
            .collect();
        names.sort();
        Ok(names)
    }

    fn remove_old(&self) -> Result<(), StorageError> {
        let names = self.names()?;
        let kept = usize::try_from(self.kept.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let removed = names.len().saturating_sub(kept.saturating_add(1));
        for name in names.iter().take(removed) {
            let removed = self.disk.remove(name);
            removed.map_err(|error| StorageError::from_io("remove an old snapshot", error))?;
        }
        Ok(())
    }

    fn read_file(&self, name: &str) -> Result<(SnapshotMeta, Vec<u8>), StorageError> {
        let bytes = self
            .disk
            .read(name)
            .map_err(|error| StorageError::from_io("read a snapshot", error))?;
        self.open(&bytes).map_err(|detail| StorageError::SnapshotDamaged {
            file: name.to_owned(),
            detail,
        })
    }

    fn open(&self, bytes: &[u8]) -> Result<(SnapshotMeta, Vec<u8>), String> {
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(|| "it is not a snapshot".to_owned())?;
        let (&version, mut rest) = rest
            .split_first()
            .ok_or_else(|| "it ends in its first line".to_owned())?;
        if version != FORMAT_VERSION {
            return Err(format!("it has version {version}, expected {FORMAT_VERSION}"));
        }
        let sealed = take(&mut rest).ok_or_else(|| "it ends within its head".to_owned())?;
        let head = self
            .seal
            .decrypt(HEAD_PLACE, sealed)
            .map_err(|error| format!("its head {error}"))?;
        let Head { meta, length } =
            postcard::from_bytes(&head).map_err(|error| format!("its head cannot be read: {error}"))?;
        let mut state = Vec::with_capacity(usize::try_from(length).unwrap_or(0).min(bytes.len()));
        let mut number = 0;
        while (state.len() as u64) < length {
            let sealed =
                take(&mut rest).ok_or_else(|| format!("it ends after {} of {length} bytes", state.len()))?;
            let chunk = self
                .seal
                .decrypt(&chunk_place(&head, number), sealed)
                .map_err(|error| format!("part {number} {error}"))?;
            if chunk.is_empty() {
                return Err(format!("part {number} is empty"));
            }
            state.extend_from_slice(&chunk);
            number += 1;
        }
        if state.len() as u64 == length && rest.is_empty() {
            Ok((meta, state))
        } else {
            Err(format!("it goes on after {length} bytes"))
        }
    }
}

/// The file of a snapshot; the names sort as the snapshots do.
fn name(meta: &SnapshotMeta) -> String {
    let (index, term) = meta
        .last_log_id
        .map_or((0, 0), |last| (last.index, last.leader_id.term));
    format!("{PREFIX}{index:016x}-{term:016x}")
}

fn chunk_place(head: &[u8], number: usize) -> Vec<u8> {
    let mut place = b"essaim raft snapshot part 1 ".to_vec();
    place.extend_from_slice(&(number as u64).to_be_bytes());
    place.extend_from_slice(head);
    place
}

/// Writes a piece with its length before it.
fn put(file: &mut dyn NewFile, piece: &[u8]) -> io::Result<()> {
    let length = u32::try_from(piece.len()).map_err(io::Error::other)?;
    file.write_all(&length.to_be_bytes())?;
    file.write_all(piece)
}

/// The next piece with a length before it.
fn take<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (piece, after) = after.split_at_checked(u32::from_be_bytes(*length).try_into().ok()?)?;
    *rest = after;
    Some(piece)
}
