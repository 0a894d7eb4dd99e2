//! What the data plane needs to start while no manager answers: the keys of gossip. The catalog is in the agent's state
//! directory, as it was applied.

use essaim_gossip::{KEY_LENGTH, Key, KeyRing};
use essaim_ipsec::{Generation, RING_KEY_LENGTH, Ring, RingKey};
use essaim_objects::Data;
use essaim_protocol::{DataKey, GossipKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// What was kept cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// The file.
    #[error("failed to {doing} {}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is not what this build writes.
    #[error("{} holds no keys; remove it, and the managers give them again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// The keys' file. Only root may read it.
pub(crate) fn keys_file(data_dir: &Path) -> PathBuf {
    data_dir.join("gossip.json")
}

/// The keys as the managers gave them last; none where they never did.
pub(crate) fn read_keys(path: &Path) -> Result<Option<KeyRing>, KeptError> {
    read(path, |keys: Vec<Data>| {
        let keys: Vec<_> = keys.into_iter().map(|key| GossipKey { key }).collect();
        ring(&keys)
    })
}

/// The file of the keys of encrypted networks. Only root may read it.
pub(crate) fn data_keys_file(data_dir: &Path) -> PathBuf {
    data_dir.join("data-keys.json")
}

/// The keys of encrypted networks as the managers gave them last; none where they never did.
pub(crate) fn read_data_keys(path: &Path) -> Result<Ring, KeptError> {
    let kept = read(path, |keys: Vec<DataKey>| data_ring(&keys))?;
    Ok(kept.unwrap_or_default())
}

/// What a file holds, and what that is made of it; none where there is no file.
fn read<T: DeserializeOwned, R>(
    path: &Path,
    make: impl FnOnce(T) -> Option<R>,
) -> Result<Option<R>, KeptError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let path = path.to_owned();
            return Err(KeptError::File {
                doing: "read",
                path,
                source,
            });
        }
    };
    let found = serde_json::from_slice(&text).ok().and_then(make);
    found.map(Some).ok_or_else(|| KeptError::Damaged {
        path: path.to_owned(),
    })
}

/// Keeps the keys of encrypted networks for the next start.
pub(crate) fn write_data_keys(path: &Path, keys: &[DataKey]) -> Result<(), KeptError> {
    write(path, &keys)
}

/// The keys of encrypted networks as the agent takes them; none where one is malformed.
pub(crate) fn data_ring(keys: &[DataKey]) -> Option<Ring> {
    let key = |key: &DataKey| {
        let bytes = <[u8; RING_KEY_LENGTH]>::try_from(key.key.as_bytes()).ok()?;
        Some((Generation(key.generation), RingKey::new(bytes)))
    };
    keys.iter().map(key).collect::<Option<Vec<_>>>().map(Ring::new)
}

/// Keeps the keys for the next start.
pub(crate) fn write_keys(path: &Path, keys: &[GossipKey]) -> Result<(), KeptError> {
    let keys: Vec<&Data> = keys.iter().map(|key| &key.key).collect();
    write(path, &keys)
}

fn write(path: &Path, keys: &impl Serialize) -> Result<(), KeptError> {
    let failed = |source| KeptError::File {
        doing: "write",
        path: path.to_owned(),
        source,
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    // Its mode is 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    serde_json::to_writer(&mut file, keys).map_err(|error| failed(error.into()))?;
    file.flush()
        .and_then(|()| file.as_file().sync_all())
        .map_err(failed)?;
    file.persist(path).map(drop).map_err(|error| failed(error.error))
}

/// The keys as gossip takes them: the first seals, all of them open; none where there is no key or one is malformed.
pub(crate) fn ring(keys: &[GossipKey]) -> Option<KeyRing> {
    let key = |key: &GossipKey| {
        <[u8; KEY_LENGTH]>::try_from(key.key.as_bytes())
            .ok()
            .map(Key::new)
    };
    let mut keys = keys.iter().map(key);
    let mut ring = KeyRing::new(keys.next()??);
    if let Some(previous) = keys.next() {
        ring = ring.with_previous(previous?);
    }
    if let Some(next) = keys.next() {
        ring = ring.with_next(next?);
    }
    Some(ring)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn keys(bytes: &[u8]) -> Vec<GossipKey> {
        let key = |byte: &u8| GossipKey {
            key: vec![*byte; KEY_LENGTH].into(),
        };
        bytes.iter().map(key).collect()
    }

    #[test]
    fn keys_are_read_as_they_were_written_and_by_root_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = keys_file(folder.path());
        assert_eq!(read_keys(&path).unwrap(), None);
        for bytes in [&[1][..], &[2, 1], &[3, 2, 1]] {
            write_keys(&path, &keys(bytes)).unwrap();
            assert_eq!(read_keys(&path).unwrap(), ring(&keys(bytes)));
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn keys_of_encrypted_networks_are_read_as_they_were_written_and_by_root_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = data_keys_file(folder.path());
        assert_eq!(read_data_keys(&path).unwrap(), Ring::default());
        let keys = [3, 4].map(|generation| DataKey {
            generation,
            key: vec![7; RING_KEY_LENGTH].into(),
        });
        write_data_keys(&path, &keys).unwrap();
        let ring = read_data_keys(&path).unwrap();
        assert_eq!(ring.span(), Some((Generation(3), Generation(4))));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "[{\"generation\": 1, \"key\": \"c2hvcnQ=\"}]").unwrap();
        let error = read_data_keys(&path).unwrap_err().to_string();
        assert!(!error.contains("c2hv"), "{error}");
    }

    #[test]
    fn what_are_no_keys_is_refused_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = keys_file(folder.path());
        for text in ["", "[]", "[\"c2hvcnQ=\"]", "{\"key\": 1}"] {
            fs::write(&path, text).unwrap();
            let error = read_keys(&path).unwrap_err().to_string();
            assert!(
                error.contains("holds no keys") && !error.contains("c2hv"),
                "{error}"
            );
        }
    }
}
