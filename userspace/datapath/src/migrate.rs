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

/// Copies of what other maps hold, in places that another build may count in another way: the next plan fills them.
const MADE_ANEW: [&str; 2] = [maps::FRONT_BY_IFINDEX, maps::FRONT_BY_ADDR];

/// Maps that are replaced: the old one and the new one by name.
pub(crate) type Replaced<'a> = BTreeMap<&'a str, (&'a OwnedFd, &'a OwnedFd)>;

/// Copies what the old maps hold; programs may go on writing them.
///
/// # Errors
/// Where the kernel refuses: the new map is too small, say.
pub(crate) fn copy(replaced: &Replaced<'_>) -> Result<(), DatapathError> {
    for (name, (old, new)) in replaced {
        let (from, to) = (spec(name, old)?, spec(name, new)?);
        if can_copy(&from, &to) && !MADE_ANEW.contains(name) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::map_create;
    use essaim_abi::FlowKey;

    fn map(kind: u32, value_size: u32, max_entries: u32) -> OwnedFd {
        let key_size = if kind == HASH { 40 } else { 4 };
        map_create(
            "migrate",
            &MapSpec {
                kind,
                key_size,
                value_size,
                max_entries,
                flags: 0,
            },
        )
        .unwrap()
    }

    fn value(map: &OwnedFd, key: &[u8], len: usize) -> Option<Vec<u8>> {
        let mut value = vec![0; len];
        lookup(map, key, &mut value).unwrap().then_some(value)
    }

    #[test]
    fn a_value_that_grew_keeps_its_head_and_a_shorter_array_its_start() {
        let (old, new) = (map(ARRAY, 8, 10), map(ARRAY, 16, 4));
        for index in 0..10_u32 {
            update(&old, &index.to_ne_bytes(), &[u8::try_from(index).unwrap(); 8]).unwrap();
        }
        copy(&Replaced::from([("ANY", (&old, &new))])).unwrap();
        for index in 0..4_u8 {
            let expected: Vec<u8> = [[index; 8], [0; 8]].concat();
            assert_eq!(value(&new, &u32::from(index).to_ne_bytes(), 16), Some(expected));
        }
    }

    #[test]
    fn maps_of_another_kind_start_empty() {
        let (old, new) = (map(ARRAY, 8, 1), map(HASH, 8, 1));
        update(&old, &[0; 4], &[1; 8]).unwrap();
        copy(&Replaced::from([("ANY", (&old, &new))])).unwrap();
        assert_eq!(value(&new, &[0; 40], 8), None);
    }

    #[test]
    fn the_fronts_of_another_build_start_empty() {
        let (old, new) = (map(ARRAY, 8, 1), map(ARRAY, 16, 1));
        update(&old, &[0; 4], &[1; 8]).unwrap();
        copy(&Replaced::from([(maps::FRONT_BY_ADDR, (&old, &new))])).unwrap();
        assert_eq!(value(&new, &[0; 4], 16), Some(vec![0; 16]));
    }

    #[test]
    fn what_happened_during_the_switch_is_carried_over_and_the_newer_state_of_a_flow_wins() {
        let (old, new) = (map(HASH, 48, 10), map(HASH, 48, 20));
        let key = |port: u16| FlowKey {
            local_port: port,
            ..FlowKey::default()
        };
        let flow = |seen: u32| Flow {
            seen,
            ..Flow::default()
        };
        let put = |map: &OwnedFd, port, seen| update(map, key(port).bytes(), flow(seen).bytes()).unwrap();
        put(&old, 1, 5);
        put(&old, 2, 5);
        let replaced = Replaced::from([(maps::FLOWS, (&old, &new))]);
        copy(&replaced).unwrap();
        // The old programs go on for a moment, the new ones begin.
        put(&old, 1, 6);
        put(&old, 3, 6);
        put(&new, 2, 7);
        copy_delta(&replaced).unwrap();
        let seen = |port| {
            value(&new, key(port).bytes(), 48)
                .and_then(|bytes| Flow::from_bytes(&bytes))
                .unwrap()
                .seen
        };
        assert_eq!([1, 2, 3].map(seen), [6, 7, 6]);
    }
}
