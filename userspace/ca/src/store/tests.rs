use super::*;
use crate::testing::{NOW, Seeded, cluster_of, issue, renew};
use crate::{DesiredRoot, DiskDirectory, NodeLife, Role, RootCa};
use proptest::prelude::*;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn open(
    path: &Path,
    unlock: Option<&UnlockKey>,
) -> Result<(IdentityStore<DiskDirectory>, Found), StoreError> {
    IdentityStore::open(DiskDirectory::open(path).unwrap(), unlock.cloned())
}

/// A directory with a manager's identity and data keys.
fn filled(path: &Path, unlock: Option<&UnlockKey>) -> (RootCa, Identity, DataKeys) {
    let mut entropy = Seeded::new(1);
    let ca = RootCa::create(NOW, &mut entropy).unwrap();
    let cluster = cluster_of(&mut entropy);
    let identity = issue(
        &ca,
        &cluster,
        Role::Manager,
        NodeLife::default(),
        NOW,
        &mut entropy,
    );
    let keys = DataKeys::generate(&mut entropy).unwrap();
    let (mut store, found) = open(path, None).unwrap();
    assert_eq!(found, Found::Nothing);
    store.set_unlock_key(unlock.cloned(), &mut entropy).unwrap();
    store.set_data_keys(Some(keys.clone()), &mut entropy).unwrap();
    assert!(!path.join(KEY_FILE).exists(), "kept until there is an identity");
    store.install(identity.clone(), &mut entropy).unwrap();
    (ca, identity, keys)
}

#[test]
fn what_is_saved_is_read_back() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("deep/certificates");
    let (mut ca, identity, keys) = filled(&path, None);
    let (mut store, found) = open(&path, None).unwrap();
    assert_eq!(found, Found::Identity);
    assert_eq!(
        (store.identity(), store.data_keys()),
        (Some(&identity), Some(&keys))
    );

    let mut entropy = Seeded::new(2);
    ca.rotate(DesiredRoot::New, NOW, &mut entropy).unwrap();
    let subject = identity.certificate().subject().unwrap();
    let renewed = renew(&ca, &subject, NodeLife::default(), NOW, &mut entropy);
    store.install(renewed.clone(), &mut entropy).unwrap();
    let (mut store, _) = open(&path, None).unwrap();
    assert_eq!(
        (store.identity(), store.data_keys()),
        (Some(&renewed), Some(&keys))
    );
    assert_eq!(store.candidates.len(), 1, "the old key is gone");
    store.set_data_keys(None, &mut entropy).unwrap();
    assert_eq!(open(&path, None).unwrap().0.data_keys(), None);
}

#[test]
fn only_the_owner_can_read_the_files() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("certificates");
    filled(&path, None);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&path), 0o700);
    let mut names: Vec<_> = fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, [CERTIFICATE_FILE, KEY_FILE, TRUST_FILE]);
    for name in [CERTIFICATE_FILE, KEY_FILE, TRUST_FILE] {
        assert_eq!(mode(&path.join(name)), 0o600, "{name}");
    }
    for wrong in [0o640, 0o604, 0o620, 0o660, 0o601] {
        fs::set_permissions(path.join(KEY_FILE), Permissions::from_mode(wrong)).unwrap();
        let error = open(&path, None).unwrap_err();
        assert!(
            matches!(error, StoreError::Permissions { found, .. } if found == wrong),
            "{error}"
        );
        assert!(
            error.to_string().contains(&format!("{wrong:04o}, expected 0600")),
            "{error}"
        );
    }
    fs::set_permissions(path.join(KEY_FILE), Permissions::from_mode(0o400)).unwrap();
    assert!(open(&path, None).is_ok());
}

#[test]
fn a_link_that_waits_where_a_file_is_written_is_not_followed() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("certificates");
    fs::create_dir(&path).unwrap();
    let outside = place.path().join("outside");
    fs::write(&outside, "theirs").unwrap();
    std::os::unix::fs::symlink(&outside, path.join(format!("{KEY_FILE}.new"))).unwrap();
    filled(&path, None);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "theirs");
    assert!(fs::symlink_metadata(path.join(KEY_FILE)).unwrap().is_file());
}

#[test]
fn a_locked_node_needs_its_unlock_key_and_a_new_one_leaves_the_log_alone() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    let [first, second] = [3, 4].map(|seed| UnlockKey::generate(&mut Seeded::new(seed)).unwrap());
    let (_, identity, keys) = filled(path, Some(&first));
    let record = keys.seal(b"1", b"entry", [1; 12]).unwrap();
    assert!(matches!(
        open(path, None),
        Err(StoreError::Keys(KeyFileError::Locked))
    ));
    assert!(matches!(
        open(path, Some(&second)),
        Err(StoreError::Keys(KeyFileError::WrongUnlockKey))
    ));
    let (mut store, _) = open(path, Some(&first)).unwrap();
    assert!(store.unlock_key().unwrap().is(&first));

    store
        .set_unlock_key(Some(second.clone()), &mut Seeded::new(5))
        .unwrap();
    assert!(matches!(
        open(path, Some(&first)),
        Err(StoreError::Keys(KeyFileError::WrongUnlockKey))
    ));
    let (mut store, _) = open(path, Some(&second)).unwrap();
    assert_eq!(store.identity(), Some(&identity));
    let opened = store.data_keys().unwrap().open(b"1", &record).unwrap();
    assert_eq!(opened, b"entry");

    store.set_unlock_key(None, &mut Seeded::new(6)).unwrap();
    // A key that is not needed does no harm, and does not lock the node again.
    let (store, _) = open(path, Some(&second)).unwrap();
    assert!(store.unlock_key().is_none());
    assert!(open(path, None).is_ok());
}

#[test]
fn files_that_do_not_belong_together_are_told() {
    let place = tempfile::tempdir().unwrap();
    let (path, other) = (place.path().join("a"), place.path().join("b"));
    filled(&path, None);
    let mut entropy = Seeded::new(2);
    let ca = RootCa::create(NOW, &mut entropy).unwrap();
    let cluster = cluster_of(&mut entropy);
    let (mut store, _) = open(&other, None).unwrap();
    let identity = issue(
        &ca,
        &cluster,
        Role::Worker,
        NodeLife::default(),
        NOW,
        &mut entropy,
    );
    store.install(identity, &mut entropy).unwrap();

    let original = |name| fs::read(path.join(name)).unwrap();
    for name in [CERTIFICATE_FILE, KEY_FILE, TRUST_FILE] {
        let before = original(name);
        fs::copy(other.join(name), path.join(name)).unwrap();
        let error = open(&path, None).unwrap_err();
        let expected = name == TRUST_FILE;
        assert!(
            matches!(&error, StoreError::Identity(IdentityError::Untrusted(_)) if expected)
                || matches!(&error, StoreError::Identity(IdentityError::KeyMismatch { .. }) if !expected),
            "{name}: {error:?}"
        );
        fs::write(path.join(name), before).unwrap();
    }
    for name in [CERTIFICATE_FILE, TRUST_FILE] {
        let before = original(name);
        fs::write(path.join(name), &before[..before.len() / 2]).unwrap();
        let error = open(&path, None).unwrap_err();
        assert!(
            matches!(&error, StoreError::Certificates { name: found, .. } if *found == name),
            "{error:?}"
        );
        fs::remove_file(path.join(name)).unwrap();
        let error = open(&path, None).unwrap_err();
        assert!(
            matches!(&error, StoreError::Missing(found) if *found == name),
            "{error:?}"
        );
        fs::write(path.join(name), before).unwrap();
    }
    let before = original(KEY_FILE);
    fs::write(path.join(KEY_FILE), &before[..before.len() / 2]).unwrap();
    assert!(matches!(
        open(&path, None),
        Err(StoreError::Keys(KeyFileError::Damaged(_)))
    ));
    fs::remove_file(path.join(KEY_FILE)).unwrap();
    assert_eq!(open(&path, None).unwrap().1, Found::Unfinished);
    fs::write(path.join(KEY_FILE), vec![b'x'; 2 * 1024 * 1024]).unwrap();
    assert!(matches!(
        open(&path, None),
        Err(StoreError::Disk {
            operation: "reading",
            ..
        })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damaged_and_arbitrary_files_never_panic_and_never_load_as_something_else(
        file in 0..3_usize,
        junk in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
        at: usize,
        with in 1..=u8::MAX,
    ) {
        let place = tempfile::tempdir().unwrap();
        let (_, identity, _) = filled(place.path(), None);
        let path = place.path().join([CERTIFICATE_FILE, KEY_FILE, TRUST_FILE][file]);
        let mut bytes = fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= with;
        fs::write(&path, junk.unwrap_or(bytes)).unwrap();
        if let Ok((store, _)) = open(place.path(), None) {
            // Line ends and the like may change without a change of meaning.
            prop_assert_eq!(store.identity(), Some(&identity));
        }
    }
}
