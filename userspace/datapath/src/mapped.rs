//! Array maps as memory of this process: a change is a store, no system call.

use crate::bpf::map_info;
use crate::{DatapathError, syscall};
use essaim_abi::Pod;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;
/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

/// An mmaped array map of `T`; programs may read any entry at any time.
#[derive(Debug)]
pub struct MappedArray<T> {
    name: &'static str,
    fd: OwnedFd,
    start: NonNull<libc::c_void>,
    bytes: usize,
    stride: usize,
    len: u32,
    entries: PhantomData<T>,
}

// SAFETY: the memory belongs to the map, not to a thread; every access is volatile or atomic.
unsafe impl<T: Send> Send for MappedArray<T> {}
// SAFETY: as above; writers take `&mut self`.
unsafe impl<T: Sync> Sync for MappedArray<T> {}

impl<T: Pod> MappedArray<T> {
    /// Maps the array `fd` into memory.
    ///
    /// # Errors
    /// Where the map is no mmapable array of `T`, or the kernel refuses.
    pub(crate) fn new(name: &'static str, fd: OwnedFd) -> Result<Self, DatapathError> {
        let spec = map_info(&fd)
            .map_err(syscall("read the definition of map", name))?
            .spec;
        let stride = size_of::<T>().next_multiple_of(8);
        if spec.kind != ARRAY || spec.flags & MMAPABLE == 0 || spec.value_size as usize != size_of::<T>() {
            return Err(DatapathError::MapLayout {
                map: name.to_owned(),
                expected: format!("an mmapable array of {} bytes a value", size_of::<T>()),
                found: format!(
                    "type {}, flags {:#x}, {} bytes a value",
                    spec.kind, spec.flags, spec.value_size
                ),
            });
        }
        // The kernel stores values at multiples of 8 bytes and rounds the whole to pages.
        let bytes = (spec.max_entries as usize * stride).next_multiple_of(page_size());
        let length = NonZeroUsize::new(bytes).unwrap_or(NonZeroUsize::MIN);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                &fd,
                0,
            )
        }
        .map_err(|error| syscall("mmap map", name)(error.into()))?;
        Ok(Self {
            name,
            fd,
            start,
            bytes,
            stride,
            len: spec.max_entries,
            entries: PhantomData,
        })
    }

    /// The number of entries.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether the array has no entry; the kernel makes none such.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn entry(&self, index: u32) -> Result<NonNull<T>, DatapathError> {
        if index >= self.len {
            return Err(DatapathError::Index {
                map: self.name,
                index,
                len: self.len,
            });
        }
        // SAFETY: the index is below the length, so the entry lies inside the mapping.
        Ok(unsafe { self.start.byte_add(index as usize * self.stride) }.cast())
    }

    /// Reads an entry; a writer of single fields may be seen halfway.
    ///
    /// # Errors
    /// Where the array has no such index.
    pub fn read(&self, index: u32) -> Result<T, DatapathError> {
        let entry = self.entry(index)?;
        // SAFETY: the entry is inside the mapping and aligned to 8 bytes; every bit pattern is a `T`.
        Ok(unsafe { entry.read_volatile() })
    }

    /// Writes an entry, not atomically: for entries that no program can reach yet, or any more.
    ///
    /// # Errors
    /// Where the array has no such index.
    pub fn write(&mut self, index: u32, value: T) -> Result<(), DatapathError> {
        let entry = self.entry(index)?;
        // SAFETY: the entry is inside the mapping and aligned to 8 bytes.
        unsafe { entry.write_volatile(value) };
        Ok(())
    }

    /// Changes a live entry: every aligned word of eight bytes that differs is stored at once, the word at `last`
    /// after all others.
    ///
    /// # Errors
    /// Where the array has no such index, or the entry is not made of such words.
    pub fn store(&mut self, index: u32, value: &T, last: usize) -> Result<(), DatapathError> {
        let old = self.read(index)?;
        let words = |value: &T| -> Vec<u64> {
            value
                .bytes()
                .chunks_exact(8)
                .map(|bytes| u64::from_bytes(bytes).unwrap_or_default())
                .collect()
        };
        let (old, new) = (words(&old), words(value));
        if new.len() * 8 != size_of::<T>() || self.stride != size_of::<T>() {
            return Err(DatapathError::Index {
                map: self.name,
                index,
                len: self.len,
            });
        }
        let changed = |at: &usize| old.get(*at) != new.get(*at);
        let order = (0..new.len())
            .filter(|at| at * 8 != last)
            .chain([last / 8])
            .filter(changed);
        for at in order.collect::<Vec<_>>() {
            self.store_u64(index, at * 8, new.get(at).copied().unwrap_or_default())?;
        }
        Ok(())
    }

    /// Stores eight aligned bytes of an entry at once, after all that was written before.
    ///
    /// # Errors
    /// Where the array has no such index, or the field does not lie in the entry as one aligned word.
    pub fn store_u64(&mut self, index: u32, offset: usize, value: u64) -> Result<(), DatapathError> {
        let field = self.field(index, offset, 8)?;
        // SAFETY: the word is inside the mapping and aligned; programs read it whole.
        unsafe { AtomicU64::from_ptr(field.cast().as_ptr()) }.store(value, Ordering::Release);
        Ok(())
    }

    /// As [`Self::store_u64`], four bytes.
    ///
    /// # Errors
    /// As [`Self::store_u64`].
    pub fn store_u32(&mut self, index: u32, offset: usize, value: u32) -> Result<(), DatapathError> {
        let field = self.field(index, offset, 4)?;
        // SAFETY: the word is inside the mapping and aligned; programs read it whole.
        unsafe { AtomicU32::from_ptr(field.cast().as_ptr()) }.store(value, Ordering::Release);
        Ok(())
    }

    fn field(&self, index: u32, offset: usize, width: usize) -> Result<NonNull<u8>, DatapathError> {
        let entry = self.entry(index)?;
        if !offset.is_multiple_of(width) || offset + width > self.stride {
            return Err(DatapathError::Index {
                map: self.name,
                index,
                len: self.len,
            });
        }
        // SAFETY: the field was just seen to lie inside the entry.
        Ok(unsafe { entry.cast::<u8>().byte_add(offset) })
    }

    /// Bytes of memory that the map takes.
    pub fn memory(&self) -> usize {
        self.bytes
    }
}

impl<T> AsFd for MappedArray<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<T> Drop for MappedArray<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and no reference into it outlives `self`.
        let unmapped = unsafe { munmap(self.start, self.bytes) };
        debug_assert!(unmapped.is_ok(), "unmapping {}: {unmapped:?}", self.name);
    }
}

fn page_size() -> usize {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|size| usize::try_from(size).ok())
        .unwrap_or(4096)
}
