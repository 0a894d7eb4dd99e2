use super::*;
use crate::memory::{DiskFaults, MemoryDisk};
use crate::support::TestSeal;
use crate::types::LogId;

fn store(disk: &MemoryDisk) -> SnapshotStore {
    SnapshotStore::new(Arc::new(disk.clone()), Arc::new(TestSeal::new(1)))
}

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: Some(LogId::new_term_index(1, index)),
        ..SnapshotMeta::default()
    }
}

#[test]
fn what_was_written_is_read() {
    for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 5] {
        let disk = MemoryDisk::new(1);
        let state: Vec<u8> = (0..length).map(|at| (at / 1000).to_le_bytes()[0]).collect();
        store(&disk).write(&meta(7), &state).unwrap();
        let (found, bytes) = store(&disk).recover().unwrap().unwrap();
        assert_eq!(found, meta(7));
        assert!(bytes == state, "{length} bytes");
    }
    assert!(store(&MemoryDisk::new(1)).recover().unwrap().is_none());
}

#[test]
fn a_newer_snapshot_replaces_an_older_one_and_not_the_other_way_round() {
    let disk = MemoryDisk::new(1);
    let store = store(&disk);
    store.write(&meta(7), b"seven").unwrap();
    store.write(&meta(300), b"three hundred").unwrap();
    store.write(&meta(20), b"twenty").unwrap();
    assert_eq!(
        store.read().unwrap().unwrap(),
        (meta(300), b"three hundred".to_vec())
    );
    assert_eq!(disk.files().len(), 1, "only one is kept");
}

#[test]
fn as_many_before_the_newest_stay_as_are_asked_for() {
    let disk = MemoryDisk::new(1);
    let store = store(&disk);
    let mut files = Vec::new();
    for (index, kept) in [(1, 2), (2, 2), (3, 2), (4, 2), (5, 0), (6, u64::MAX)] {
        store.keep(kept);
        store.write(&meta(index), b"state").unwrap();
        files.push(disk.files().len());
    }
    assert_eq!(files, [1, 2, 3, 3, 1, 2]);
    assert_eq!(store.recover().unwrap().unwrap().0, meta(6), "the newest counts");
    assert_eq!(disk.files().len(), 2, "a start removes none");
}

#[test]
fn a_crash_at_any_moment_leaves_a_whole_snapshot() {
    let state = vec![9; 2 * CHUNK_BYTES];
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..20 {
        for failing in 0.. {
            let disk = MemoryDisk::new(seed);
            store(&disk).write(&meta(1), b"old").unwrap();
            disk.set_faults(DiskFaults {
                fail_after: Some((failing, io::ErrorKind::Other)),
                ..DiskFaults::default()
            });
            let written = store(&disk).write(&meta(2), &state).is_ok();
            let after = disk.crash();
            let (found, bytes) = store(&after).recover().unwrap().unwrap();
            let new = found == meta(2);
            assert!(
                if new { bytes == state } else { bytes == b"old" },
                "seed {seed}, write {failing}"
            );
            assert!(
                new || !written,
                "seed {seed}, write {failing}: it was said to be durable"
            );
            let names = after.files();
            assert!(!names.contains_key(UNFINISHED), "leftovers are removed");
            store(&after).write(&meta(3), b"next").unwrap();
            assert_eq!(after.files().len(), 1, "with the next one the old ones are gone");
            outcomes.insert((written, new));
            if written {
                break;
            }
        }
    }
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
}

#[test]
fn parts_do_not_open_in_each_others_place() {
    let disk = MemoryDisk::new(1);
    store(&disk).write(&meta(1), &vec![5; 2 * CHUNK_BYTES]).unwrap();
    let name = name(&meta(1));
    let sealed = CHUNK_BYTES + 4 + 28;
    disk.damage(&name, |content| {
        let parts = content.len() - 2 * sealed;
        let (first, second) = content[parts..].split_at_mut(sealed);
        first.swap_with_slice(second);
    });
    let refused = store(&disk).read().unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("snapshot {name} is damaged: part 0 does not authenticate")
    );
}

#[test]
fn another_version_is_refused() {
    let disk = MemoryDisk::new(1);
    store(&disk).write(&meta(1), b"x").unwrap();
    disk.damage(&name(&meta(1)), |content| content[MAGIC.len()] = 9);
    assert!(
        store(&disk)
            .read()
            .unwrap_err()
            .to_string()
            .contains("version 9, expected 1")
    );
}
