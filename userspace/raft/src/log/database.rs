use super::backend::Backend;
use crate::disk::Disk;
use crate::error::StorageError;
use crate::seal::Seal;
use crate::types::{ClusterId, Entry, LogId, NodeId, Vote};
use openraft::entry::RaftEntry;
use redb::{Builder, ReadableDatabase, TableDefinition};
use serde::{Deserialize, Serialize};
use std::io;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The version of the format; another one is not opened.
const FORMAT_VERSION: u32 = 1;
const CACHE_BYTES: usize = 16 << 20;

const FORMAT: TableDefinition<'static, &str, u32> = TableDefinition::new("format");
const HEADER: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("header");
const ENTRIES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("entries");
const KEY: &str = "";

/// The log's file.
pub(crate) const DATABASE: &str = "log.redb";
const UNFINISHED: &str = "unfinished-log.redb";
/// The file that notes the number of the last acknowledged write.
const NOTE: &str = "log.last";

/// What is not an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) node: NodeId,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    /// How many writes were acknowledged.
    pub(crate) writes: u64,
}

/// One change of the log; a write is a list of them, and happens as a whole or not at all.
#[derive(Debug)]
pub(crate) enum Change {
    Append { index: u64, plain: Vec<u8> },
    RemoveFrom(u64),
    RemoveUpTo(LogId),
    Vote(Vote),
    Cluster(ClusterId),
}

/// The log on disk: each record sealed and bound to its index, so that it cannot stand in another's place.
///
/// redb commits with one sync: the new tree and the header that points to it go out together, and after a crash the
/// checksums tell whether they are complete; if not, the commit before is taken. The price: damage to the newest
/// commit looks like one that never finished. So every write is numbered, and the number noted beside the database
/// after the commit: a database that opens with a lower one is refused. The note is not synced, so the one case that
/// is left is damage to the newest commit that meets a power cut within the seconds until the note is on disk.
pub(crate) struct LogDatabase {
    database: redb::Database,
    disk: Arc<dyn Disk>,
    seal: Arc<dyn Seal>,
    header: Header,
}

/// What was found on disk.
pub(crate) struct Opened {
    pub(crate) database: LogDatabase,
    pub(crate) entries: Vec<(Entry, usize)>,
}

impl LogDatabase {
    /// Opens the log, or begins that of `node`. Everything is read and verified.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        seal: Arc<dyn Seal>,
        node: NodeId,
    ) -> Result<Opened, StorageError> {
        // Damage inside a page may make the database panic: that, too, must end as an error.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::open_unguarded(disk, seal, node)));
        opened.unwrap_or_else(|_| {
            Err(StorageError::DatabaseDamaged {
                detail: "the database panicked while it was opened".to_owned(),
            })
        })
    }

    fn open_unguarded(
        disk: Arc<dyn Disk>,
        seal: Arc<dyn Seal>,
        node: NodeId,
    ) -> Result<Opened, StorageError> {
        let failed = |error| StorageError::from_io("open the log", error);
        let names = disk.list().map_err(failed)?;
        if !names.iter().any(|name| name == DATABASE) {
            if names.iter().any(|name| name == NOTE) {
                return Err(StorageError::Gone);
            }
            Self::make(&disk, &seal, node)?;
        }
        let mut this = Self::open_file(disk, seal, node, DATABASE)?;
        match read(&this.database, FORMAT, KEY, |version| version)? {
            Some(FORMAT_VERSION) => {}
            found => {
                return Err(StorageError::FormatVersion {
                    found: found.unwrap_or(0),
                    expected: FORMAT_VERSION,
                });
            }
        }
        this.header = this.read_header()?;
        if this.header.node != node {
            return Err(StorageError::OtherNode {
                found: this.header.node,
                expected: node,
            });
        }
        this.check_note()?;
        let entries = this.read_entries()?;
        Ok(Opened {
            database: this,
            entries,
        })
    }

    /// Makes an empty log beside its place, and puts it there when it is whole: a crash leaves none, or this one.
    fn make(disk: &Arc<dyn Disk>, seal: &Arc<dyn Seal>, node: NodeId) -> Result<(), StorageError> {
        let failed = |error| StorageError::from_io("make the log", error);
        if disk.list().map_err(failed)?.iter().any(|name| name == UNFINISHED) {
            disk.remove(UNFINISHED).map_err(failed)?;
        }
        let mut made = Self::open_file(Arc::clone(disk), Arc::clone(seal), node, UNFINISHED)?;
        let header = made.header.clone();
        made.transact(&[], &header)
            .map_err(|error| StorageError::from_redb("make the log", error))?;
        made.database
            .close()
            .map_err(|error| StorageError::from_redb("make the log", error.into()))?;
        disk.rename(UNFINISHED, DATABASE).map_err(failed)?;
        disk.sync_directory().map_err(failed)
    }

    fn open_file(
        disk: Arc<dyn Disk>,
        seal: Arc<dyn Seal>,
        node: NodeId,
        name: &str,
    ) -> Result<Self, StorageError> {
        let backend = disk
            .database(name)
            .map_err(|error| StorageError::from_io("open the log", error))?;
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create_with_backend(Backend(backend))
            .map_err(|error| StorageError::from_redb("open the log", error.into()))?;
        Ok(Self {
            database,
            disk,
            seal,
            header: Header {
                node,
                cluster: None,
                vote: None,
                committed: None,
                purged: None,
                writes: 0,
            },
        })
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Writes all changes, in that order, with one sync. `committed` goes along; it is a hint that need not be newest.
    ///
    /// After an error the database is not to be used again.
    pub(crate) fn write(&mut self, changes: &[Change], committed: Option<LogId>) -> Result<(), StorageError> {
        catch_unwind(AssertUnwindSafe(|| self.commit(changes, committed))).unwrap_or_else(|_| {
            Err(StorageError::DatabaseDamaged {
                detail: "the database panicked while it was written".to_owned(),
            })
        })
    }

    fn commit(&mut self, changes: &[Change], committed: Option<LogId>) -> Result<(), StorageError> {
        let mut header = self.header.clone();
        header.writes += 1;
        header.committed = committed.max(header.committed);
        for change in changes {
            match change {
                Change::Append { .. } | Change::RemoveFrom(_) => {}
                Change::RemoveUpTo(upto) => header.purged = header.purged.max(Some(*upto)),
                Change::Vote(vote) => header.vote = Some(*vote),
                Change::Cluster(cluster) => header.cluster = Some(*cluster),
            }
        }
        self.transact(changes, &header)
            .map_err(|error| StorageError::from_redb("write the log", error))?;
        self.header = header;
        self.note();
        Ok(())
    }

    fn transact(&mut self, changes: &[Change], header: &Header) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            transaction.open_table(FORMAT)?.insert(KEY, FORMAT_VERSION)?;
            let plain = postcard::to_stdvec(header).map_err(|error| io::Error::other(error.to_string()))?;
            let sealed = self.seal.encrypt(HEADER_PLACE, &plain);
            transaction.open_table(HEADER)?.insert(KEY, sealed.as_slice())?;
            let mut entries = transaction.open_table(ENTRIES)?;
            for change in changes {
                match change {
                    Change::Append { index, plain } => {
                        let sealed = self.seal.encrypt(&entry_place(*index), plain);
                        entries.insert(index, sealed.as_slice())?;
                    }
                    Change::RemoveFrom(from) => entries.retain_in::<u64, _>(*from.., |_, _| false)?,
                    Change::RemoveUpTo(upto) => entries.retain_in::<u64, _>(..=upto.index, |_, _| false)?,
                    Change::Vote(_) | Change::Cluster(_) => {}
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// The entries of those indices, with the size of their records.
    pub(crate) fn entries(&self, range: RangeInclusive<u64>) -> Result<Vec<(Entry, usize)>, StorageError> {
        catch_unwind(AssertUnwindSafe(|| self.entries_unguarded(range))).unwrap_or_else(|_| {
            Err(StorageError::DatabaseDamaged {
                detail: "the database panicked while it was read".to_owned(),
            })
        })
    }

    fn entries_unguarded(&self, range: RangeInclusive<u64>) -> Result<Vec<(Entry, usize)>, StorageError> {
        let sealed = self
            .sealed_entries(range)
            .map_err(|error| StorageError::from_redb("read the log", error))?;
        sealed
            .into_iter()
            .map(|(index, sealed)| {
                let entry: Entry =
                    self.open_record(&entry_place(index), &sealed, || format!("entry {index}"))?;
                if entry.index() == index {
                    Ok((entry, sealed.len()))
                } else {
                    Err(StorageError::Hole { missing: index })
                }
            })
            .collect()
    }

    fn sealed_entries(&self, range: RangeInclusive<u64>) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
        let transaction = self.database.begin_read()?;
        let table = transaction.open_table(ENTRIES)?;
        let mut found = Vec::new();
        for row in table.range(range)? {
            let (index, sealed) = row?;
            found.push((index.value(), sealed.value().to_vec()));
        }
        Ok(found)
    }

    fn read_header(&self) -> Result<Header, StorageError> {
        let sealed = read(&self.database, HEADER, KEY, <[u8]>::to_vec)?;
        let sealed = sealed.ok_or_else(|| StorageError::DatabaseDamaged {
            detail: "it has no header".to_owned(),
        })?;
        self.open_record(HEADER_PLACE, &sealed, || "the header".to_owned())
    }

    /// All entries, checked to follow one another without a hole from the purged one on.
    fn read_entries(&self) -> Result<Vec<(Entry, usize)>, StorageError> {
        let entries = self.entries(0..=u64::MAX)?;
        let first = self.header.purged.map_or(0, |purged| purged.index + 1);
        match (first..)
            .zip(&entries)
            .find(|(expected, (entry, _))| entry.index() != *expected)
        {
            Some((missing, _)) => Err(StorageError::Hole { missing }),
            None => Ok(entries),
        }
    }

    fn open_record<T: for<'de> Deserialize<'de>>(
        &self,
        place: &[u8],
        sealed: &[u8],
        record: impl Fn() -> String,
    ) -> Result<T, StorageError> {
        let plain = self
            .seal
            .decrypt(place, sealed)
            .map_err(|source| StorageError::RecordDamaged {
                record: record(),
                source,
            })?;
        postcard::from_bytes(&plain).map_err(|source| StorageError::RecordMalformed {
            record: record(),
            source,
        })
    }

    /// Notes the number of the write that just became durable. A note that fails costs a check, not data.
    fn note(&self) {
        let sealed = self.seal.encrypt(NOTE_PLACE, &self.header.writes.to_be_bytes());
        if let Err(error) = self.disk.note(NOTE, &sealed) {
            tracing::debug!(%error, "failed to note the last write");
        }
    }

    fn noted(&self) -> Option<u64> {
        let sealed = self.disk.read(NOTE).ok()?;
        let plain = self.seal.decrypt(NOTE_PLACE, &sealed).ok()?;
        plain.try_into().ok().map(u64::from_be_bytes)
    }

    fn check_note(&self) -> Result<(), StorageError> {
        match self.noted() {
            Some(expected) if expected > self.header.writes => Err(StorageError::WentBack {
                found: self.header.writes,
                expected,
            }),
            Some(_) | None => Ok(()),
        }
    }
}

const HEADER_PLACE: &[u8] = b"essaim raft header 1";
const NOTE_PLACE: &[u8] = b"essaim raft last write 1";

fn entry_place(index: u64) -> Vec<u8> {
    let mut place = b"essaim raft entry 1 ".to_vec();
    place.extend_from_slice(&index.to_be_bytes());
    place
}

/// One row of a table that may not be there yet.
fn read<V: redb::Value + 'static, T>(
    database: &redb::Database,
    table: TableDefinition<'static, &'static str, V>,
    key: &str,
    take: impl for<'v> Fn(V::SelfType<'v>) -> T,
) -> Result<Option<T>, StorageError> {
    let row = || -> Result<Option<T>, redb::Error> {
        let transaction = database.begin_read()?;
        let table = match transaction.open_table(table) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(table.get(key)?.map(|row| take(row.value())))
    };
    row().map_err(|error| StorageError::from_redb("read the log", error))
}

/// Makes the log one of another version.
#[cfg(test)]
pub(super) fn write_format_for_test(file: Box<dyn redb::StorageBackend>, version: u32) {
    let database = Builder::new().create_with_backend(Backend(file)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(FORMAT)
        .unwrap()
        .insert(KEY, version)
        .unwrap();
    transaction.commit().unwrap();
}
