use super::*;
use crate::testing::Seeded;
use proptest::prelude::*;

fn keys() -> DataKeys {
    DataKeys::generate(&mut Seeded::new(1)).unwrap()
}

#[test]
fn a_record_opens_at_its_own_place_only() {
    let sealer = Sealer::new(keys(), &mut Seeded::new(2)).unwrap();
    let at = |index: u64| index.to_be_bytes();
    let record = sealer.encrypt(&at(7), b"entry seven");
    assert_eq!(
        sealer.decrypt(&at(7), &record).as_deref(),
        Ok(b"entry seven".as_slice())
    );
    assert_eq!(sealer.decrypt(&at(8), &record), Err(OpenError::NotAuthentic));
    assert_eq!(sealer.decrypt(b"", &record), Err(OpenError::NotAuthentic));
    assert_eq!(record.len(), 33 + 11);
    assert!(!record.windows(5).any(|window| window == b"entry"));
}

#[test]
fn the_same_record_is_never_sealed_alike() {
    let sealer = Sealer::new(keys(), &mut Seeded::new(2)).unwrap();
    assert_ne!(sealer.encrypt(b"7", b"x"), sealer.encrypt(b"7", b"x"));
}

#[test]
fn nonces_differ_within_a_run_and_between_runs() {
    let nonces: std::collections::BTreeSet<_> = (0..50)
        .flat_map(|seed| {
            let nonces = Nonces::new(&mut Seeded::new(seed)).unwrap();
            (0..200).map(|_| nonces.next()).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(nonces.len(), 10_000);
}

#[test]
fn older_keys_open_until_they_are_forgotten() {
    let mut ring = keys();
    let mut entropy = Seeded::new(3);
    let sealer = Sealer::new(ring.clone(), &mut Seeded::new(2)).unwrap();
    let first = sealer.encrypt(b"1", b"first");

    ring.begin_rotation(&mut entropy).unwrap();
    let pending = ring.clone();
    ring.begin_rotation(&mut entropy).unwrap();
    assert_eq!(ring, pending, "one that is pending stays");
    assert!(ring.is_rotating() && !ring.has_older());
    sealer.set_keys(ring.clone());
    let still_first = sealer.encrypt(b"2", b"second");
    assert_eq!(still_first[..5], first[..5], "a pending key seals nothing");

    ring.complete_rotation();
    assert!(!ring.is_rotating() && ring.has_older());
    sealer.set_keys(ring.clone());
    let second = sealer.encrypt(b"3", b"third");
    assert_eq!(
        (first[..5].to_vec(), second[..5].to_vec()),
        (vec![1, 0, 0, 0, 1], vec![1, 0, 0, 0, 2])
    );
    for (aad, record, plain) in [
        (b"1", &first, "first"),
        (b"2", &still_first, "second"),
        (b"3", &second, "third"),
    ] {
        assert_eq!(sealer.decrypt(aad, record).as_deref(), Ok(plain.as_bytes()));
    }
    // A crash between saving the pending key and completing: what the new key has sealed still opens.
    assert_eq!(pending.open(b"3", &second).as_deref(), Ok(b"third".as_slice()));

    ring.forget_older();
    sealer.set_keys(ring.clone());
    assert_eq!(sealer.decrypt(b"1", &first), Err(OpenError::UnknownKey(1)));
    assert!(sealer.decrypt(b"3", &second).is_ok());
    ring.complete_rotation();
    assert!(!ring.has_older(), "there was nothing to complete");
}

#[test]
fn what_was_never_sealed_is_refused_with_the_reason() {
    let ring = keys();
    let record = ring.seal(b"1", b"x", [0; 12]).unwrap();
    assert_eq!(ring.open(b"1", &[]), Err(OpenError::Short(0)));
    assert_eq!(ring.open(b"1", &record[..32]), Err(OpenError::Short(32)));
    assert_eq!(ring.open(b"1", &record[..33]), Err(OpenError::NotAuthentic));
    let mut later = record.clone();
    later[0] = 2;
    assert_eq!(ring.open(b"1", &later), Err(OpenError::Layout(2)));
    let other = DataKeys::generate(&mut Seeded::new(9)).unwrap();
    assert_eq!(other.open(b"1", &record), Err(OpenError::NotAuthentic));
    // The key's number is authenticated as well.
    let mut ring = ring;
    ring.begin_rotation(&mut Seeded::new(4)).unwrap();
    let mut moved = record;
    moved[4] = 2;
    assert_eq!(ring.open(b"1", &moved), Err(OpenError::NotAuthentic));
}

#[test]
fn keys_are_not_shown() {
    let mut ring = keys();
    ring.begin_rotation(&mut Seeded::new(3)).unwrap();
    let sealer = Sealer::new(ring, &mut Seeded::new(2)).unwrap();
    assert_eq!(
        format!("{sealer:?}"),
        "Sealer(DataKeys(current 1, pending Some(2), older [], not shown))"
    );
}

proptest! {
    #[test]
    fn records_read_back_and_any_damage_is_found(
        plain in proptest::collection::vec(any::<u8>(), 0..200),
        aad in proptest::collection::vec(any::<u8>(), 0..20),
        at: usize,
        with in 1..=u8::MAX,
        junk in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let sealer = Sealer::new(keys(), &mut Seeded::new(2)).unwrap();
        let mut record = sealer.encrypt(&aad, &plain);
        prop_assert_eq!(sealer.decrypt(&aad, &record), Ok(plain));
        let at = at % record.len();
        record[at] ^= with;
        prop_assert!(sealer.decrypt(&aad, &record).is_err());
        record.truncate(at);
        prop_assert!(sealer.decrypt(&aad, &record).is_err());
        prop_assert!(sealer.decrypt(&aad, &junk).is_err());
    }
}
