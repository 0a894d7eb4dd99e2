use super::*;

fn write(disk: &MemoryDisk, name: &str, content: &[u8], sync: bool) {
    let mut file = disk.create(name).unwrap();
    file.write_all(content).unwrap();
    if sync {
        file.sync().unwrap();
    }
}

#[test]
fn what_was_synced_survives_a_power_cut() {
    for seed in 0..20 {
        let disk = MemoryDisk::new(seed);
        write(&disk, "a", &[7; 2000], true);
        disk.sync_directory().unwrap();
        let after = disk.crash();
        assert_eq!(after.read("a").unwrap(), [7; 2000], "seed {seed}");
        assert!(disk.read("a").is_err(), "a handle from before is dead");
    }
}

#[test]
fn what_was_not_synced_is_kept_lost_or_torn() {
    let mut lengths = std::collections::BTreeSet::new();
    let mut named = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let disk = MemoryDisk::new(seed);
        write(&disk, "a", &[7; 2000], false);
        let after = disk.crash();
        named.insert(after.read("a").is_ok());
        let disk = MemoryDisk::new(seed);
        write(&disk, "a", &[7; 2000], false);
        disk.sync_directory().unwrap();
        lengths.insert(disk.crash().read("a").unwrap().len());
    }
    assert_eq!(named.len(), 2, "the name is there or not");
    assert!(
        lengths.contains(&0) && lengths.contains(&2000) && lengths.contains(&512),
        "{lengths:?}"
    );
}

#[test]
fn an_error_comes_when_it_is_asked_for() {
    let disk = MemoryDisk::new(1);
    disk.set_faults(DiskFaults {
        fail_after: Some((2, ErrorKind::StorageFull)),
        ..DiskFaults::default()
    });
    let mut file = disk.create("a").unwrap();
    assert!(file.write_all(b"x").is_ok());
    assert_eq!(file.write_all(b"y").unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.sync().unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(disk.read("a").unwrap(), b"x");
}
