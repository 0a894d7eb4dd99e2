//! Carrying the contents of maps over to maps of another size or layout.

use crate::bpf::{Cursor, MapSpec, lookup, lookup_batch, map_info, update, update_batch};
use crate::{DatapathError, syscall};
use essaim_abi::{Flow, Pod, maps};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

/// `BPF_MAP_TYPE_…` of the maps whose contents can be carried over.
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PERCPU_ARRAY: u32 = 6;
const LRU_HASH: u32 = 9;

/// The maps that programs write: what they change during a switch is carried over behind it.
const WRITTEN_BY_PROGRAMS: [&str; 4] = [
    maps::FLOWS,
    maps::HALF_OPEN_FLOWS,
    maps::FRAGMENTS,
    maps::TRANSLATED,
];

/// Maps that are replaced: the old one and the new one by name.
pub(crate) type Replaced<'a> = BTreeMap<&'a str, (&'a OwnedFd, &'a OwnedFd)>;

/// Copies what the old maps hold; programs may go on writing them.
///
/// # Errors
/// Where the kernel refuses: the new map is too small, say.
pub(crate) fn copy(replaced: &Replaced<'_>) -> Result<(), DatapathError> {
    for (name, (old, new)) in replaced {
        let (from, to) = (spec(name, old)?, spec(name, new)?);
        if can_copy(&from, &to) {
            each_batch(name, old, |keys, values| {
                let (keys, values) = fitting(&from, &to, keys, values);
                update_batch(*new, &keys, &values).map_err(syscall("copy into map", name))
            })?;
        }
    }
    Ok(())
}

/// Copies what the programs wrote into the old maps between [`copy`] and the switch to the new ones.
///
/// # Errors
/// As [`copy`].
pub(crate) fn copy_delta(replaced: &Replaced<'_>) -> Result<(), DatapathError> {
    let written = replaced
        .iter()
        .filter(|(name, _)| WRITTEN_BY_PROGRAMS.contains(name));
    for (name, (old, new)) in written {
        let (from, to) = (spec(name, old)?, spec(name, new)?);
        if !can_copy(&from, &to) {
            continue;
        }
        each_batch(name, old, |keys, values| {
            let (keys, values) = fitting(&from, &to, keys, values);
            let mut present = vec![0; to.value_size as usize];
            let pairs = keys
                .chunks_exact(to.key_size as usize)
                .zip(values.chunks_exact(to.value_size as usize));
            for (key, value) in pairs {
                let found = lookup(*new, key, &mut present).map_err(syscall("read map", name))?;
                if !found || is_newer(name, value, &present) {
                    update(*new, key, value).map_err(syscall("copy into map", name))?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Whether what the old map holds happened after what the new one holds.
fn is_newer(name: &str, old: &[u8], new: &[u8]) -> bool {
    if name == maps::TRANSLATED {
        return old.iter().any(|byte| *byte != 0) && new.iter().all(|byte| *byte == 0);
    }
    match (Flow::from_bytes(old), Flow::from_bytes(new)) {
        (Some(old), Some(new)) => old.seen.wrapping_sub(new.seen).cast_signed() > 0,
        (_, _) => false,
    }
}

fn spec(name: &str, map: &OwnedFd) -> Result<MapSpec, DatapathError> {
    Ok(map_info(map)
        .map_err(syscall("read the definition of map", name))?
        .spec)
}

/// Values grow at their end, by fields whose zero means what was meant before.
fn can_copy(from: &MapSpec, to: &MapSpec) -> bool {
    let same_values = from.value_size == to.value_size;
    from.kind == to.kind
        && from.key_size == to.key_size
        && match from.kind {
            HASH | ARRAY | LRU_HASH => true,
            PERCPU_ARRAY => same_values,
            // Programs, sockets' storage, rings.
            _ => false,
        }
}

/// The entries with values of the new size; those that have no place in a shorter array are left out.
fn fitting(from: &MapSpec, to: &MapSpec, keys: &[u8], values: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let count = keys.len() / from.key_size as usize;
    let (old, new) = (values.len() / count.max(1), to.value_size as usize);
    let mut kept = (Vec::with_capacity(keys.len()), Vec::with_capacity(count * new));
    for (key, value) in keys
        .chunks_exact(from.key_size as usize)
        .zip(values.chunks_exact(old))
    {
        let is_array = to.kind == ARRAY || to.kind == PERCPU_ARRAY;
        if is_array && u32::from_bytes(key).is_some_and(|index| index >= to.max_entries) {
            continue;
        }
        kept.0.extend_from_slice(key);
        if to.kind == PERCPU_ARRAY {
            kept.1.extend_from_slice(value);
        } else {
            kept.1
                .extend(value.iter().copied().chain(std::iter::repeat(0)).take(new));
        }
    }
    kept
}

fn each_batch(
    name: &str,
    map: &impl AsFd,
    mut with: impl FnMut(&[u8], &[u8]) -> Result<(), DatapathError>,
) -> Result<(), DatapathError> {
    let (mut cursor, mut keys, mut values) = (Cursor::default(), Vec::new(), Vec::new());
    while lookup_batch(map, &mut cursor, &mut keys, &mut values).map_err(syscall("scan map", name))? > 0 {
        with(&keys, &values)?;
    }
    Ok(())
}
