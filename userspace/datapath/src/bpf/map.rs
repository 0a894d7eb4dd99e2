//! Maps: creation, single entries, batches.

use super::{
    MAP_CREATE, MAP_DELETE_BATCH, MAP_DELETE_ELEM, MAP_LOOKUP_BATCH, MAP_LOOKUP_ELEM, MAP_UPDATE_BATCH,
    MAP_UPDATE_ELEM, OBJ_GET_INFO_BY_FD, address, address_mut, bpf, owned,
};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// What a map is, apart from its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MapSpec {
    /// `enum bpf_map_type`.
    pub(crate) kind: u32,
    /// Bytes of a key.
    pub(crate) key_size: u32,
    /// Bytes of a value.
    pub(crate) value_size: u32,
    /// Entries, or bytes of a ring buffer.
    pub(crate) max_entries: u32,
    /// `BPF_F_…` of its creation.
    pub(crate) flags: u32,
}

/// What the kernel says of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MapInfo {
    /// Its definition.
    pub(crate) spec: MapSpec,
    /// Its number, unique while it lives.
    pub(crate) id: u32,
}

#[repr(C)]
struct CreateAttributes {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
struct ElementAttributes {
    map_fd: RawFd,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: RawFd,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
struct InfoAttributes {
    fd: RawFd,
    length: u32,
    info: u64,
}

/// The head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default)]
struct RawInfo {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    name: [u8; 16],
}

/// Creates a map.
///
/// # Errors
/// What bpf(2) says of `BPF_MAP_CREATE`.
pub(crate) fn map_create(name: &str, spec: &MapSpec) -> io::Result<OwnedFd> {
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    let mut attributes = CreateAttributes {
        kind: spec.kind,
        key_size: spec.key_size,
        value_size: spec.value_size,
        max_entries: spec.max_entries,
        flags: spec.flags,
        inner_map_fd: 0,
        numa_node: 0,
        name: short,
    };
    // SAFETY: the arm of `BPF_MAP_CREATE`; it holds no address.
    let result = unsafe { bpf(MAP_CREATE, &mut attributes) }?;
    // SAFETY: the command returned a new descriptor.
    unsafe { owned(result) }
}

/// Reads what the kernel knows of a map.
///
/// # Errors
/// What bpf(2) says of `BPF_OBJ_GET_INFO_BY_FD`.
pub(crate) fn map_info(map: &impl AsFd) -> io::Result<MapInfo> {
    let mut raw = RawInfo::default();
    let mut attributes = InfoAttributes {
        fd: map.as_fd().as_raw_fd(),
        length: u32::try_from(size_of::<RawInfo>()).map_err(io::Error::other)?,
        info: std::ptr::from_mut(&mut raw) as u64,
    };
    // SAFETY: the arm of `BPF_OBJ_GET_INFO_BY_FD`; the kernel writes at most `length` bytes, which are those of `raw`.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    let RawInfo {
        kind,
        id,
        key_size,
        value_size,
        max_entries,
        flags,
        name: _,
    } = raw;
    Ok(MapInfo {
        spec: MapSpec {
            kind,
            key_size,
            value_size,
            max_entries,
            flags,
        },
        id,
    })
}

/// Bytes that the kernel reads or writes for one value.
fn value_size(spec: &MapSpec) -> io::Result<usize> {
    /// `BPF_MAP_TYPE_PERCPU_HASH`, `BPF_MAP_TYPE_PERCPU_ARRAY`, `BPF_MAP_TYPE_LRU_PERCPU_HASH`.
    const PER_CPU: [u32; 3] = [5, 6, 10];
    if !PER_CPU.contains(&spec.kind) {
        return Ok(spec.value_size as usize);
    }
    // One value for each possible CPU, each padded to eight bytes.
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    Ok(spec.value_size.next_multiple_of(8) as usize * cpus)
}

fn element(command: libc::c_int, map: &impl AsFd, key: &[u8], value: u64) -> io::Result<()> {
    let mut attributes = ElementAttributes {
        map_fd: map.as_fd().as_raw_fd(),
        padding: 0,
        key: address(key),
        value,
        flags: 0,
    };
    // SAFETY: the arm of the element commands; the callers below pass keys and values of the map's own sizes.
    unsafe { bpf(command, &mut attributes) }.map(|_| ())
}

fn check(map: &impl AsFd, key: usize, value: Option<usize>) -> io::Result<()> {
    let spec = map_info(map)?.spec;
    let value_size = value_size(&spec)?;
    if key != spec.key_size as usize || value.is_some_and(|len| len != value_size) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "key of {key} and value of {value:?} bytes for a map of {}/{}",
                spec.key_size, spec.value_size
            ),
        ));
    }
    Ok(())
}

/// Reads an entry into `value`; `false` where there is none.
///
/// # Errors
/// Where the sizes are not the map's, or what bpf(2) says of `BPF_MAP_LOOKUP_ELEM`.
pub(crate) fn lookup(map: &impl AsFd, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    check(map, key.len(), Some(value.len()))?;
    match element(MAP_LOOKUP_ELEM, map, key, address_mut(value)) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes an entry.
///
/// # Errors
/// Where the sizes are not the map's, or what bpf(2) says of `BPF_MAP_UPDATE_ELEM`.
pub(crate) fn update(map: &impl AsFd, key: &[u8], value: &[u8]) -> io::Result<()> {
    check(map, key.len(), Some(value.len()))?;
    element(MAP_UPDATE_ELEM, map, key, address(value))
}

/// Deletes an entry; deleting what is absent succeeds.
///
/// # Errors
/// Where the key's size is not the map's, or what bpf(2) says of `BPF_MAP_DELETE_ELEM`.
pub(crate) fn delete(map: &impl AsFd, key: &[u8]) -> io::Result<()> {
    check(map, key.len(), None)?;
    match element(MAP_DELETE_ELEM, map, key, 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

fn batch(
    command: libc::c_int,
    map: &impl AsFd,
    keys: &[u8],
    values: u64,
    key_size: usize,
) -> io::Result<u32> {
    let count = keys
        .len()
        .checked_div(key_size)
        .and_then(|count| u32::try_from(count).ok())
        .unwrap_or(0);
    let mut attributes = BatchAttributes {
        in_batch: 0,
        out_batch: 0,
        keys: address(keys),
        values,
        count,
        map_fd: map.as_fd().as_raw_fd(),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the arm of the batch commands; `keys` holds `count` keys, and the callers below checked the values.
    match unsafe { bpf(command, &mut attributes) } {
        Ok(_) => Ok(count),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(attributes.count),
        Err(error) => Err(error),
    }
}

/// Writes many entries in one call; keys and values stand one after the other.
///
/// # Errors
/// Where the sizes do not agree with the map's, or what bpf(2) says of `BPF_MAP_UPDATE_BATCH`: some entries may
/// have been written then.
pub(crate) fn update_batch(map: &impl AsFd, keys: &[u8], values: &[u8]) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let spec = map_info(map)?.spec;
    let key_size = spec.key_size as usize;
    let value_size = value_size(&spec)?;
    if !keys.len().is_multiple_of(key_size) || keys.len() / key_size * value_size != values.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "keys and values of a batch differ in number",
        ));
    }
    batch(MAP_UPDATE_BATCH, map, keys, address(values), key_size).map(|_| ())
}

/// Deletes many entries; those that are absent are skipped.
///
/// # Errors
/// Where the keys are not the map's, or what bpf(2) says of `BPF_MAP_DELETE_BATCH`.
pub(crate) fn delete_batch(map: &impl AsFd, keys: &[u8]) -> io::Result<()> {
    let key_size = map_info(map)?.spec.key_size as usize;
    if !keys.len().is_multiple_of(key_size) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the keys of a batch are cut off",
        ));
    }
    let mut rest = keys;
    while !rest.is_empty() {
        // The kernel stops at a key that is absent and says how many it had deleted: go on behind that one.
        let deleted = batch(MAP_DELETE_BATCH, map, rest, 0, key_size)? as usize;
        rest = rest.get((deleted + 1) * key_size..).unwrap_or_default();
    }
    Ok(())
}

/// Where a batched scan of a map stands.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    place: Option<[u8; 96]>,
    finished: bool,
}

/// Reads the next entries of a scan into the buffers, which are grown as needed, and returns their number; 0 at the
/// end.
///
/// # Errors
/// What bpf(2) says of `BPF_MAP_LOOKUP_BATCH`.
pub(crate) fn lookup_batch(
    map: &impl AsFd,
    cursor: &mut Cursor,
    keys: &mut Vec<u8>,
    values: &mut Vec<u8>,
) -> io::Result<usize> {
    /// Entries asked for at once; a bucket of a hash that holds more makes it grow.
    const START: u32 = 4096;
    let spec = map_info(map)?.spec;
    let (key_size, value_size) = (spec.key_size as usize, value_size(&spec)?);
    let mut count = START.min(spec.max_entries.max(1));
    while !cursor.finished {
        keys.resize(count as usize * key_size, 0);
        values.resize(count as usize * value_size, 0);
        let mut next = [0_u8; 96];
        let mut attributes = BatchAttributes {
            in_batch: cursor.place.as_ref().map_or(0, |place| address(place)),
            out_batch: address_mut(&mut next),
            keys: address_mut(keys),
            values: address_mut(values),
            count,
            map_fd: map.as_fd().as_raw_fd(),
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: the arm of `BPF_MAP_LOOKUP_BATCH`; both buffers hold `count` entries, and the places are at least as
        // long as any key of ours.
        let result = unsafe { bpf(MAP_LOOKUP_BATCH, &mut attributes) };
        match result {
            Ok(_) => cursor.place = Some(next),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => cursor.finished = true,
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                count = count.saturating_mul(2);
                continue;
            }
            Err(error) => return Err(error),
        }
        let found = attributes.count as usize;
        keys.truncate(found * key_size);
        values.truncate(found * value_size);
        if found > 0 {
            return Ok(found);
        }
    }
    Ok(0)
}
