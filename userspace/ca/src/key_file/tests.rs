use super::*;
use crate::testing::Seeded;
use proptest::prelude::*;

fn file() -> KeyFile {
    let mut entropy = Seeded::new(1);
    KeyFile {
        node_keys: vec![PrivateKey::generate(&mut entropy).unwrap()],
        data_keys: Some(DataKeys::generate(&mut entropy).unwrap()),
    }
}

fn unlock_key(seed: u64) -> UnlockKey {
    UnlockKey::generate(&mut Seeded::new(seed)).unwrap()
}

#[test]
fn an_open_file_reads_back_with_and_without_an_unlock_key() {
    let text = file().encode(None, &mut Seeded::new(2)).unwrap();
    assert!(text.starts_with("essaim-keys 1 open\nsha256 ") && !KeyFile::is_locked(text.as_bytes()));
    assert_eq!(KeyFile::decode(text.as_bytes(), None), Ok(file()));
    assert_eq!(KeyFile::decode(text.as_bytes(), Some(&unlock_key(3))), Ok(file()));
}

#[test]
fn a_locked_file_opens_with_its_unlock_key_only() {
    let text = file().encode(Some(&unlock_key(3)), &mut Seeded::new(2)).unwrap();
    assert!(KeyFile::is_locked(text.as_bytes()));
    assert_eq!(KeyFile::decode(text.as_bytes(), Some(&unlock_key(3))), Ok(file()));
    assert_eq!(
        KeyFile::decode(text.as_bytes(), Some(&unlock_key(4))),
        Err(KeyFileError::WrongUnlockKey)
    );
    assert_eq!(KeyFile::decode(text.as_bytes(), None), Err(KeyFileError::Locked));
    // Nothing of it is in clear.
    let open = file().encode(None, &mut Seeded::new(2)).unwrap();
    let secret = STANDARD.encode(&file().node_keys[0].to_der()[36..60]);
    let decoded = |text: &str| STANDARD.decode(text.lines().nth(2).unwrap()).unwrap();
    let holds = |bytes: &[u8]| {
        bytes
            .windows(secret.len())
            .any(|window| window == secret.as_bytes())
    };
    assert!(holds(&decoded(&open)) && !holds(&decoded(&text)));
}

#[test]
fn damage_is_told_from_a_wrong_unlock_key() {
    let key = unlock_key(3);
    let text = file().encode(Some(&key), &mut Seeded::new(2)).unwrap();
    let decode = |text: &str| KeyFile::decode(text.as_bytes(), Some(&key)).unwrap_err();
    assert_eq!(
        decode(&text[..text.len() - 1]),
        KeyFileError::Damaged("it does not have three lines")
    );
    assert_eq!(
        decode(&text[..text.len() / 2]),
        KeyFileError::Damaged("it does not have three lines")
    );
    assert_eq!(
        decode(&text.replace("locked", "open")),
        KeyFileError::Damaged("its checksum is wrong")
    );
    assert_eq!(
        decode(&text.replacen("sha256 ", "sha256 0", 1)),
        KeyFileError::Damaged("its checksum is wrong")
    );
    assert_eq!(decode(&text.replace("keys 1", "keys 2")), KeyFileError::Format);
    assert_eq!(decode(""), KeyFileError::Format);
    // Whole by the checksum, and still no key file.
    for (head, body, expected) in [
        (
            "essaim-keys 1 open",
            "%",
            KeyFileError::Damaged("its content is not base64"),
        ),
        (
            "essaim-keys 1 open",
            "e30=",
            KeyFileError::Damaged("its content cannot be read"),
        ),
        (
            "essaim-keys 1 locked",
            "AAAA",
            KeyFileError::Damaged("its content is cut off"),
        ),
        (
            "essaim-keys 1 locked",
            "AAAAAAAAAAAAAAAA",
            KeyFileError::WrongUnlockKey,
        ),
    ] {
        assert_eq!(
            decode(&format!("{head}\n{}\n{body}\n", checksum(head, body))),
            expected
        );
    }
    let body = STANDARD.encode("{\"node_keys\":[\"AQID\"],\"data_keys\":null}");
    let head = "essaim-keys 1 open";
    let error = decode(&format!("{head}\n{}\n{body}\n", checksum(head, &body)));
    assert_eq!(error, KeyFileError::Key(KeyError::Unreadable));
}

proptest! {
    #[test]
    fn any_changed_byte_is_found(locked: bool, at: usize, with in 1..=u8::MAX) {
        let key = unlock_key(3);
        let text = file().encode(locked.then_some(&key), &mut Seeded::new(2)).unwrap();
        let mut bytes = text.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= with;
        let error = KeyFile::decode(&bytes, Some(&key)).unwrap_err();
        prop_assert!(matches!(error, KeyFileError::Format | KeyFileError::Damaged(_)), "{error}");
    }

    #[test]
    fn arbitrary_files_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        body in proptest::collection::vec(any::<u8>(), 0..200),
        locked: bool,
    ) {
        prop_assert!(KeyFile::decode(&bytes, None).is_err());
        let head = if locked { "essaim-keys 1 locked" } else { "essaim-keys 1 open" };
        let body = STANDARD.encode(body);
        let text = format!("{head}\n{}\n{body}\n", checksum(head, &body));
        prop_assert!(KeyFile::decode(text.as_bytes(), Some(&unlock_key(1))).is_err());
    }
}
