#[cfg(test)]
mod tests;

use super::Draw;
use crate::disk::{Disk, Job, NewFile};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redb::StorageBackend;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a disk writes as a whole or not at all.
const SECTOR: usize = 512;

/// How a [`MemoryDisk`] behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// How long every piece of work takes at least.
    pub delay: Duration,
    /// By how much it varies.
    pub jitter: Duration,
    /// After so many more writes and syncs, every one fails with this kind of error.
    pub fail_after: Option<(u64, ErrorKind)>,
}

/// A disk that outlives its manager and forgets what was not synced.
///
/// [`MemoryDisk::crash`] is a power cut: of each write since the last sync nothing, all, or its first sectors stay;
/// of each name that was changed since the last sync of the directory, the old or the new meaning. Who has files open
/// from before gets errors from then on. Copies are the same disk.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
    /// The power cut after which this handle was made.
    boot: u64,
}

#[derive(Debug)]
struct State {
    files: BTreeMap<u64, File>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    next_file: u64,
    boot: u64,
    faults: DiskFaults,
    draw: Draw,
    writes: u64,
}

#[derive(Clone, Debug, Default)]
struct File {
    content: Vec<u8>,
    durable: Vec<u8>,
    /// What happened since the last sync.
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

impl File {
    fn apply(content: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Length(length) => content.resize(*length, 0),
            Change::Write(offset, data) => {
                let end = offset + data.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                if let Some(place) = content.get_mut(*offset..end) {
                    place.copy_from_slice(data);
                }
            }
        }
    }

    fn change(&mut self, change: Change) {
        Self::apply(&mut self.content, &change);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            Self::apply(&mut self.durable, &change);
        }
    }

    fn crash(&mut self, draw: &mut Draw) {
        for change in std::mem::take(&mut self.unsynced) {
            let kept = match (draw.below(3), change) {
                (0, _) => continue,
                (1, Change::Write(offset, mut data)) => {
                    let sectors = data.len().div_ceil(SECTOR) as u64;
                    let whole = usize::try_from(draw.below(sectors + 1)).unwrap_or(0);
                    data.truncate(whole * SECTOR);
                    Change::Write(offset, data)
                }
                (_, change) => change,
            };
            Self::apply(&mut self.durable, &kept);
        }
        self.content.clone_from(&self.durable);
    }
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                files: BTreeMap::new(),
                names: BTreeMap::new(),
                durable_names: BTreeMap::new(),
                next_file: 0,
                boot: 0,
                faults: DiskFaults::default(),
                draw: Draw(seed),
                writes: 0,
            })),
            boot: 0,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how it behaves from now on.
    pub fn set_faults(&self, faults: DiskFaults) {
        self.state().faults = faults;
    }

    /// Cuts the power: what was not synced is lost or torn, and this and all earlier handles fail. The one that is
    /// returned is the disk after the restart, without faults.
    #[must_use = "the other handles are dead"]
    pub fn crash(&self) -> Self {
        let mut state = self.state();
        let State {
            files,
            names,
            durable_names,
            draw,
            ..
        } = &mut *state;
        for file in files.values_mut() {
            file.crash(draw);
        }
        let mut changed: Vec<String> = names.keys().chain(durable_names.keys()).cloned().collect();
        changed.sort();
        changed.dedup();
        for name in changed {
            if draw.chance(500) {
                match names.get(&name) {
                    Some(file) => durable_names.insert(name, *file),
                    None => durable_names.remove(&name),
                };
            }
        }
        *names = durable_names.clone();
        state.boot += 1;
        state.faults = DiskFaults::default();
        Self {
            state: Arc::clone(&self.state),
            boot: state.boot,
        }
    }

    /// A disk of its own with the same files, as a copy of a stopped manager's directory would be.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.state();
        let copied = Self::new(state.draw.clone().next());
        {
            let mut to = copied.state();
            to.files.clone_from(&state.files);
            to.names.clone_from(&state.names);
            to.next_file = state.next_file;
            to.durable_names.clone_from(&state.names);
            for file in to.files.values_mut() {
                file.sync();
            }
        }
        copied
    }

    /// How many writes and syncs there were.
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// The names of its files and how long they are.
    pub fn files(&self) -> BTreeMap<String, usize> {
        let state = self.state();
        let length = |file| state.files.get(file).map_or(0, |file| file.content.len());
        state
            .names
            .iter()
            .map(|(name, file)| (name.clone(), length(file)))
            .collect()
    }

    /// Changes a file behind everybody's back, as a failing disk does.
    pub fn damage(&self, name: &str, how: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let file = state.names.get(name).copied();
        if let Some(file) = file.and_then(|file| state.files.get_mut(&file)) {
            file.sync();
            how(&mut file.content);
            file.durable.clone_from(&file.content);
        }
    }

    /// Something is read.
    fn reading(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.boot == self.boot {
            Ok(state)
        } else {
            Err(io::Error::other("the power was cut"))
        }
    }

    /// Something is written: the place where faults are met.
    fn writing(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.reading()?;
        state.writes += 1;
        match &mut state.faults.fail_after {
            None => Ok(state),
            Some((0, kind)) => Err(io::Error::from(*kind)),
            Some((left, _)) => {
                *left -= 1;
                Ok(state)
            }
        }
    }

    fn open_file(&self, number: u64) -> OpenFile {
        OpenFile {
            disk: self.clone(),
            number,
            offset: 0,
        }
    }
}

fn not_found() -> io::Error {
    io::Error::from(ErrorKind::NotFound)
}

impl State {
    fn file(&mut self, number: u64) -> io::Result<&mut File> {
        self.files.get_mut(&number).ok_or_else(not_found)
    }

    fn make(&mut self, name: &str) -> u64 {
        let number = self.next_file;
        self.next_file += 1;
        self.files.insert(number, File::default());
        self.names.insert(name.to_owned(), number);
        number
    }
}

impl Disk for MemoryDisk {
    fn database(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let known = self.reading()?.names.get(name).copied();
        let number = match known {
            Some(number) => number,
            None => self.writing()?.make(name),
        };
        Ok(Box::new(self.open_file(number)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.reading()?.names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut state = self.reading()?;
        let number = *state.names.get(name).ok_or_else(not_found)?;
        Ok(state.file(number)?.content.clone())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn NewFile>> {
        let number = self.writing()?.make(name);
        Ok(Box::new(self.open_file(number)))
    }

    fn note(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut state = self.writing()?;
        let number = match state.names.get(name) {
            Some(number) => *number,
            None => state.make(name),
        };
        state.file(number)?.change(Change::Write(0, content.to_vec()));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.writing()?;
        let number = state.names.remove(from).ok_or_else(not_found)?;
        state.names.insert(to.to_owned(), number);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.writing()?;
        state.names.remove(name).map(drop).ok_or_else(not_found)
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.writing()?;
        state.durable_names = state.names.clone();
        let named: Vec<u64> = state.names.values().copied().collect();
        state.files.retain(|number, _| named.contains(number));
        Ok(())
    }

    fn run(&self, job: Job) -> BoxFuture<'static, ()> {
        let mut state = self.state();
        let DiskFaults { delay, jitter, .. } = state.faults;
        let micros = u64::try_from(jitter.as_micros()).unwrap_or(u64::MAX);
        let delay = delay + Duration::from_micros(state.draw.below(micros));
        drop(state);
        async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            job();
        }
        .boxed()
    }
}

#[derive(Debug)]
struct OpenFile {
    disk: MemoryDisk,
    number: u64,
    offset: usize,
}

fn place(offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    let end = start
        .checked_add(length)
        .ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
    Ok(start..end)
}

impl StorageBackend for OpenFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.reading()?.file(self.number)?.content.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.reading()?;
        let content = &state.file(self.number)?.content;
        let found = content.get(place(offset, out.len())?);
        out.copy_from_slice(found.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let mut state = self.disk.writing()?;
        state.file(self.number)?.change(Change::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.writing()?;
        state.file(self.number)?.sync();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = place(offset, data.len())?.start;
        let mut state = self.disk.writing()?;
        state
            .file(self.number)?
            .change(Change::Write(start, data.to_vec()));
        Ok(())
    }
}

impl io::Write for OpenFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.writing()?;
        state
            .file(self.number)?
            .change(Change::Write(self.offset, data.to_vec()));
        drop(state);
        self.offset += data.len();
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for OpenFile {
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.writing()?;
        state.file(self.number)?.sync();
        Ok(())
    }
}
