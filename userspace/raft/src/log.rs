mod backend;
mod database;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use database::{Change, DATABASE as LOG_FILE, Header, LogDatabase};

use crate::disk::{self, Disk};
use crate::error::StorageError;
use crate::fault::Fault;
use crate::seal::Seal;
use crate::types::{ClusterId, Entry, LogId, NodeId, Types, Vote};
use openraft::OptionalSend;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};
use writer::Write;

/// How much of the log stays in memory, besides what is not on disk yet. Followers that keep up are fed from here.
const CACHE_BYTES: usize = 16 << 20;
/// How much one message of replicated entries holds, unless a single entry is larger.
const MESSAGE_BYTES: usize = 1 << 20;

/// The log, as openraft uses it.
///
/// An append is done when it is in memory and queued; the writer takes all that is queued in one commit, with one
/// sync, and only then reports it as durable. Votes wait for that report; removals need not, since what follows them is
/// written with or after them.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
    queue: mpsc::UnboundedSender<Write>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    /// Gone when the log is closed.
    database: Arc<Mutex<Option<LogDatabase>>>,
    view: Mutex<View>,
    fault: Fault,
}

/// The log as it will be when all that is queued is written.
struct View {
    vote: Option<Vote>,
    cluster: Option<ClusterId>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// The newest entries without a hole up to the last one, with the sizes of their records.
    cache: BTreeMap<u64, (Entry, usize)>,
    cached_bytes: usize,
    /// The last index that is on disk.
    durable: Option<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed() -> StorageError {
    StorageError::Stopped("the log is closed".to_owned())
}

impl View {
    fn new(header: &Header, entries: Vec<(Entry, usize)>) -> Self {
        let last = entries.last().map(|(entry, _)| entry.log_id());
        let mut this = Self {
            vote: header.vote,
            cluster: header.cluster,
            committed: header.committed.min(last.max(header.purged)),
            purged: header.purged,
            last: last.max(header.purged),
            cache: BTreeMap::new(),
            cached_bytes: 0,
            durable: last.map(|last| last.index),
        };
        for (entry, size) in entries {
            this.insert(entry, size);
        }
        this.shrink();
        this
    }

    fn insert(&mut self, entry: Entry, size: usize) {
        self.cached_bytes += size;
        self.last = Some(entry.log_id());
        if let Some((_, replaced)) = self.cache.insert(entry.index(), (entry, size)) {
            self.cached_bytes -= replaced;
        }
    }

    /// Drops the oldest entries from memory, as far as they are on disk.
    fn shrink(&mut self) {
        while self.cached_bytes > CACHE_BYTES
            && let Some((&oldest, &(_, size))) = self.cache.first_key_value()
            && self.durable.is_some_and(|durable| oldest <= durable)
        {
            self.cache.remove(&oldest);
            self.cached_bytes -= size;
        }
    }

    fn truncate_from(&mut self, from: u64, last: Option<LogId>) {
        for (_, size) in self.cache.split_off(&from).into_values() {
            self.cached_bytes -= size;
        }
        self.last = last.min(self.last).max(self.purged);
        self.durable = match (self.durable, from.checked_sub(1)) {
            (Some(durable), Some(before)) => Some(durable.min(before)),
            (Some(_) | None, None) | (None, Some(_)) => None,
        };
    }

    fn purge(&mut self, upto: LogId) {
        let kept = self.cache.split_off(&(upto.index + 1));
        for (_, size) in std::mem::replace(&mut self.cache, kept).into_values() {
            self.cached_bytes -= size;
        }
        self.purged = self.purged.max(Some(upto));
        self.last = self.last.max(self.purged);
    }

    fn first_cached(&self) -> u64 {
        match self.cache.first_key_value() {
            Some((&first, _)) => first,
            None => self.last.map_or(0, |last| last.index + 1),
        }
    }
}

impl LogStore {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// [`StorageError`] when it cannot be opened, or anything in it is damaged.
    pub(crate) async fn open(
        disk: Arc<dyn Disk>,
        seal: Arc<dyn Seal>,
        node: NodeId,
        fault: Fault,
    ) -> Result<Self, StorageError> {
        let opening = Arc::clone(&disk);
        let opened = disk::run(&*disk, move || LogDatabase::open(opening, seal, node)).await;
        let opened = opened.ok_or_else(|| StorageError::Stopped("the runtime ended".to_owned()))??;
        let view = View::new(opened.database.header(), opened.entries);
        let (queue, queued) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            disk,
            database: Arc::new(Mutex::new(Some(opened.database))),
            view: Mutex::new(view),
            fault,
        });
        tokio::spawn(writer::run(Arc::clone(&shared), queued));
        Ok(Self { shared, queue })
    }

    fn view(&self) -> MutexGuard<'_, View> {
        lock(&self.shared.view)
    }

    /// Which cluster the log belongs to, as soon as that is known.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        self.view().cluster
    }

    /// Makes the log that of a cluster, durably.
    pub(crate) async fn set_cluster(&self, cluster: ClusterId) -> Result<(), io::Error> {
        self.view().cluster = Some(cluster);
        self.write(vec![Change::Cluster(cluster)]).await
    }

    /// How many entries there are, and of how many bytes those in memory are.
    pub(crate) fn size(&self) -> (u64, u64) {
        let view = self.view();
        let after = view.last.map_or(0, |last| last.index + 1);
        let first = view.purged.map_or(0, |purged| purged.index + 1);
        (after.saturating_sub(first), view.cached_bytes as u64)
    }

    /// Writes what only waits for a write to go along with, and closes the database.
    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Write::Close { done }).is_ok() {
            let _ = closed.await;
        }
    }

    async fn write(&self, changes: Vec<Change>) -> Result<(), io::Error> {
        let (done, written) = oneshot::channel();
        let write = Write::Sync { changes, done };
        if self.queue.send(write).is_err() {
            return Err(self.shared.fault.as_io());
        }
        written.await.unwrap_or_else(|_| Err(self.shared.fault.as_io()))
    }

    /// Queues a removal, which need not be durable before what is queued after it: until then the log is what it was.
    fn write_later(&self, removal: Change) -> Result<(), io::Error> {
        let write = Write::Append {
            changes: vec![removal],
            callback: IOFlushed::noop(),
        };
        self.queue.send(write).map_err(|_| self.shared.fault.as_io())
    }

    /// The entries of a range, at most so many bytes of them but at least one.
    async fn read(&self, range: impl RangeBounds<u64>, limit: usize) -> Result<Vec<Entry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(&from) => from,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let after = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&after) => after,
            Bound::Unbounded => u64::MAX,
        };
        let (mut found, on_disk) = {
            let view = self.view();
            let after = after.min(view.last.map_or(0, |last| last.index + 1));
            let from = from.max(view.purged.map_or(0, |purged| purged.index + 1));
            if from >= after {
                return Ok(Vec::new());
            }
            let first_cached = view.first_cached();
            let cached: Vec<(Entry, usize)> = view
                .cache
                .range(from..after)
                .map(|(_, cached)| cached.clone())
                .collect();
            (
                cached,
                (from < first_cached).then(|| (from, after.min(first_cached))),
            )
        };
        if let Some((from, after)) = on_disk {
            let database = Arc::clone(&self.shared.database);
            let older = disk::run(&*self.shared.disk, move || match &*lock(&database) {
                Some(database) => database.entries(from..=after - 1),
                None => Err(closed()),
            });
            let mut older = match older.await {
                Some(Ok(older)) => older,
                Some(Err(error)) => return Err(self.shared.fault.record(error)),
                None => return Err(self.shared.fault.as_io()),
            };
            older.append(&mut found);
            found = older;
        }
        let mut bytes = 0;
        let mut entries = Vec::with_capacity(found.len());
        for (entry, size) in found {
            bytes += size;
            if bytes > limit && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(range, usize::MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.view().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start..end, MESSAGE_BYTES).await
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let view = self.view();
        Ok(LogState {
            last_purged_log_id: view.purged,
            last_log_id: view.last,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.write(vec![Change::Vote(*vote)]).await?;
        self.view().vote = Some(*vote);
        Ok(())
    }

    /// Kept in memory until the next write: it only says how far a restart may apply at once.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.view().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.view().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut changes = Vec::new();
        {
            let mut view = self.view();
            for entry in entries {
                let plain = postcard::to_stdvec(&entry)
                    .map_err(|error| io::Error::other(format!("entry cannot be written: {error}")))?;
                let index = entry.index();
                view.insert(entry, plain.len());
                changes.push(Change::Append { index, plain });
            }
        }
        match self.queue.send(Write::Append { changes, callback }) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.shared.fault.as_io()),
        }
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |last| last.index + 1);
        self.view().truncate_from(from, last);
        self.write_later(Change::RemoveFrom(from))
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.view().purge(upto);
        self.write_later(Change::RemoveUpTo(upto))
    }
}
