//! Hash maps and per-CPU arrays with their types.

use crate::bpf::{
    Cursor, MapSpec, delete, delete_batch, lookup, lookup_batch, map_info, update, update_batch,
};
use crate::{DatapathError, syscall};
use essaim_abi::{Counters, Pod};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A hash map, or a plain array, of `K` to `V`.
#[derive(Debug)]
pub struct Table<K, V> {
    name: &'static str,
    fd: OwnedFd,
    spec: MapSpec,
    entries: PhantomData<fn(K) -> V>,
}

impl<K: Pod, V: Pod> Table<K, V> {
    pub(crate) fn new(name: &'static str, fd: OwnedFd) -> Result<Self, DatapathError> {
        let spec = map_info(&fd)
            .map_err(syscall("read the definition of map", name))?
            .spec;
        if spec.key_size as usize != size_of::<K>() || spec.value_size as usize != size_of::<V>() {
            return Err(DatapathError::MapLayout {
                map: name.to_owned(),
                expected: format!(
                    "keys of {} and values of {} bytes",
                    size_of::<K>(),
                    size_of::<V>()
                ),
                found: format!(
                    "keys of {} and values of {} bytes",
                    spec.key_size, spec.value_size
                ),
            });
        }
        Ok(Self {
            name,
            fd,
            spec,
            entries: PhantomData,
        })
    }

    /// The most entries that the map holds.
    pub fn capacity(&self) -> u32 {
        self.spec.max_entries
    }

    /// Reads an entry; `None` where there is none.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn entry(&self, key: &K) -> Result<Option<V>, DatapathError> {
        let mut value = V::zeroed().bytes().to_vec();
        let found = lookup(&self.fd, key.bytes(), &mut value).map_err(syscall("read map", self.name))?;
        Ok(if found { V::from_bytes(&value) } else { None })
    }

    /// Writes an entry.
    ///
    /// # Errors
    /// Where the map is full, or the kernel refuses.
    pub fn insert(&mut self, key: &K, value: &V) -> Result<(), DatapathError> {
        update(&self.fd, key.bytes(), value.bytes()).map_err(syscall("write map", self.name))
    }

    /// Writes many entries in one system call.
    ///
    /// # Errors
    /// Where the map is full, or the kernel refuses; some entries may have been written then.
    pub fn insert_all(&mut self, entries: &[(K, V)]) -> Result<(), DatapathError> {
        let keys: Vec<u8> = entries
            .iter()
            .flat_map(|(key, _)| key.bytes().iter().copied())
            .collect();
        let values: Vec<u8> = entries
            .iter()
            .flat_map(|(_, value)| value.bytes().iter().copied())
            .collect();
        update_batch(&self.fd, &keys, &values).map_err(syscall("write map", self.name))
    }

    /// Deletes an entry; deleting what is absent succeeds.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove(&mut self, key: &K) -> Result<(), DatapathError> {
        delete(&self.fd, key.bytes()).map_err(syscall("delete from map", self.name))
    }

    /// Deletes many entries; those that are absent are skipped.
    ///
    /// # Errors
    /// Where the kernel refuses; some entries may have been deleted then.
    pub fn remove_all(&mut self, keys: &[K]) -> Result<(), DatapathError> {
        let keys: Vec<u8> = keys.iter().flat_map(|key| key.bytes().iter().copied()).collect();
        delete_batch(&self.fd, &keys).map_err(syscall("delete from map", self.name))
    }

    /// Calls `visit` with the entries, a batch at a time; entries made or deleted meanwhile may or may not be seen.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn scan(&self, mut visit: impl FnMut(K, V)) -> Result<(), DatapathError> {
        let (mut cursor, mut keys, mut values) = (Cursor::default(), Vec::new(), Vec::new());
        loop {
            let found = lookup_batch(&self.fd, &mut cursor, &mut keys, &mut values)
                .map_err(syscall("scan map", self.name))?;
            if found == 0 {
                return Ok(());
            }
            let pairs = keys
                .chunks_exact(size_of::<K>())
                .zip(values.chunks_exact(size_of::<V>()));
            for (key, value) in pairs {
                if let (Some(key), Some(value)) = (K::from_bytes(key), V::from_bytes(value)) {
                    visit(key, value);
                }
            }
        }
    }

    /// All entries.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn entries(&self) -> Result<Vec<(K, V)>, DatapathError> {
        let mut entries = Vec::new();
        self.scan(|key, value| entries.push((key, value)))?;
        Ok(entries)
    }
}

impl<K, V> AsFd for Table<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A per-CPU array of [`Counters`].
#[derive(Debug)]
pub struct CounterArray {
    name: &'static str,
    fd: OwnedFd,
    cpus: usize,
    len: u32,
}

impl CounterArray {
    pub(crate) fn new(name: &'static str, fd: OwnedFd) -> Result<Self, DatapathError> {
        let spec = map_info(&fd)
            .map_err(syscall("read the definition of map", name))?
            .spec;
        if spec.value_size as usize != size_of::<Counters>() {
            return Err(DatapathError::MapLayout {
                map: name.to_owned(),
                expected: format!("values of {} bytes", size_of::<Counters>()),
                found: format!("values of {} bytes", spec.value_size),
            });
        }
        let cpus = aya::util::nr_cpus().map_err(|(path, error)| syscall("read", path)(error))?;
        Ok(Self {
            name,
            fd,
            cpus,
            len: spec.max_entries,
        })
    }

    /// The number of cells.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether it has no cell; the kernel makes none such.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The sum over all CPUs of one cell.
    ///
    /// # Errors
    /// Where there is no such cell, or the kernel refuses.
    pub fn sum(&self, index: u32) -> Result<Counters, DatapathError> {
        let mut values = vec![0; size_of::<Counters>() * self.cpus];
        if !lookup(&self.fd, &index.to_ne_bytes(), &mut values).map_err(syscall("read map", self.name))? {
            return Err(DatapathError::Index {
                map: self.name,
                index,
                len: self.len,
            });
        }
        Ok(sum(&values))
    }

    /// The sums over all CPUs of the cells that are not zero.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn sums(&self) -> Result<Vec<(u32, Counters)>, DatapathError> {
        let size = size_of::<Counters>() * self.cpus;
        let (mut cursor, mut keys, mut values) = (Cursor::default(), Vec::new(), Vec::new());
        let mut sums = Vec::new();
        while lookup_batch(&self.fd, &mut cursor, &mut keys, &mut values)
            .map_err(syscall("scan map", self.name))?
            > 0
        {
            for (key, value) in keys.chunks_exact(4).zip(values.chunks_exact(size)) {
                let cell = sum(value);
                if let Some(index) = u32::from_bytes(key).filter(|_| cell != Counters::default()) {
                    sums.push((index, cell));
                }
            }
        }
        Ok(sums)
    }

    /// Sets cells to zero on every CPU, in one system call.
    ///
    /// # Errors
    /// Where there is no such cell, or the kernel refuses.
    pub fn clear_all(&mut self, indices: &[u32]) -> Result<(), DatapathError> {
        let keys: Vec<u8> = indices.iter().flat_map(|index| index.to_ne_bytes()).collect();
        let values = vec![0; size_of::<Counters>() * self.cpus * indices.len()];
        update_batch(&self.fd, &keys, &values).map_err(syscall("write map", self.name))
    }

    /// Sets a cell to zero on every CPU.
    ///
    /// # Errors
    /// Where there is no such cell, or the kernel refuses.
    pub fn clear(&mut self, index: u32) -> Result<(), DatapathError> {
        let values = vec![0; size_of::<Counters>() * self.cpus];
        update(&self.fd, &index.to_ne_bytes(), &values).map_err(syscall("write map", self.name))
    }
}

impl AsFd for CounterArray {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn sum(per_cpu: &[u8]) -> Counters {
    per_cpu
        .chunks_exact(size_of::<Counters>())
        .filter_map(Counters::from_bytes)
        .fold(
            Counters::default(),
            |total,
             Counters {
                 packets,
                 bytes,
                 flows,
             }| Counters {
                packets: total.packets.wrapping_add(packets),
                bytes: total.bytes.wrapping_add(bytes),
                flows: total.flows.wrapping_add(flows),
            },
        )
}
