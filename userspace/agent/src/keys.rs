//! The keys that the nodes of a cluster share for gossip: where they come from, and how they are written.

use essaim_gossip::{KEY_LENGTH, Key, KeyRing};
use essaim_ipsec::{Generation, Ring, RingKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tokio::sync::watch;

/// Why there are no keys; those that were read before hold on.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file could not be read.
    #[error("failed to read the gossip keys {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not of the right form.
    #[error("{}: {problem}; make one with essaim keygen", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong. Keys are not shown.
        problem: String,
    },
}

/// Where the keys come from that the nodes share.
#[derive(Clone, Debug)]
pub enum Keys {
    /// A file, which is read again each time that something changes.
    File(PathBuf),
    /// The managers.
    Managers {
        /// The keys of gossip.
        gossip: watch::Receiver<KeyRing>,
        /// Those of encrypted networks.
        data: watch::Receiver<Ring>,
    },
}

impl Keys {
    pub(crate) fn read(&self) -> Result<(KeyRing, Ring), KeysError> {
        match self {
            Self::File(path) => read_keys(path),
            Self::Managers { gossip, data } => Ok((gossip.borrow().clone(), data.borrow().clone())),
        }
    }

    /// Waits until the managers have given other keys of encrypted networks; for ever where they come from a file. Safe to
    /// drop at any time.
    pub(crate) async fn changed(&mut self) {
        let changed = match self {
            Self::File(_) => std::future::pending().await,
            Self::Managers { data, .. } => data.changed().await,
        };
        if changed.is_err() {
            // Nobody is left to give any.
            std::future::pending::<()>().await;
        }
    }
}

/// The file of keys, as TOML: 64 hexadecimal digits each.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    primary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Of encrypted networks, by generation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    data: BTreeMap<String, String>,
}

/// Reads the keys that all nodes share.
///
/// # Errors
/// [`KeysError`]; keys stand in none of its texts.
pub fn read_keys(path: &Path) -> Result<(KeyRing, Ring), KeysError> {
    let text = fs::read_to_string(path).map_err(|source| KeysError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse_keys(&text).map_err(|problem| KeysError::Form {
        path: path.to_owned(),
        problem,
    })
}

/// A file of one fresh key.
///
/// # Errors
/// The system has no randomness to give.
pub fn fresh_keys() -> io::Result<String> {
    let [gossip, data] = [digits(&random()?), digits(&random()?)];
    Ok(format!(
        "# Keys of gossip, the same file on every node. To rotate, on all nodes before the next step each time:\n# add the new key as `next`, make it `primary` and the old one `previous`, remove the old one.\nprimary = \"{gossip}\"\n\n# Keys of encrypted networks, by generation. To rotate, add the next generation on all nodes, in any order and at any\n# time; keep the last four.\n[data]\n1 = \"{data}\"\n"
    ))
}

fn parse_keys(text: &str) -> Result<(KeyRing, Ring), String> {
    let file: KeyFile = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    Ok((file.ring()?, file.data()?))
}

impl KeyFile {
    /// The ring of these keys.
    pub(crate) fn ring(&self) -> Result<KeyRing, String> {
        let mut ring = KeyRing::new(key("primary", &self.primary)?);
        if let Some(previous) = &self.previous {
            ring = ring.with_previous(key("previous", previous)?);
        }
        if let Some(next) = &self.next {
            ring = ring.with_next(key("next", next)?);
        }
        Ok(ring)
    }

    /// The keys of encrypted networks.
    fn data(&self) -> Result<Ring, String> {
        let mut keys = Vec::new();
        for (generation, digits) in &self.data {
            let number = generation
                .parse()
                .map_err(|_| format!("data: {generation:?} is no generation, expected a number"))?;
            let bytes = key_bytes(&format!("data, generation {number}"), digits)?;
            keys.push((Generation(number), RingKey::new(bytes)));
        }
        Ok(Ring::new(keys))
    }
}

impl From<&KeyRing> for KeyFile {
    fn from(ring: &KeyRing) -> Self {
        Self {
            primary: digits(ring.primary().bytes()),
            previous: ring.previous().map(|key| digits(key.bytes())),
            next: ring.next().map(|key| digits(key.bytes())),
            data: BTreeMap::new(),
        }
    }
}

/// Shows no key.
impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyFile(..)")
    }
}

fn digits(key: &[u8; KEY_LENGTH]) -> String {
    let mut text = String::with_capacity(2 * KEY_LENGTH);
    for byte in key {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn key(field: &str, digits: &str) -> Result<Key, String> {
    key_bytes(field, digits).map(Key::new)
}

fn key_bytes(field: &str, digits: &str) -> Result<[u8; KEY_LENGTH], String> {
    let expected = 2 * KEY_LENGTH;
    let wrong = || format!("{field} is not {expected} hexadecimal digits");
    if digits.len() != expected || !digits.is_ascii() {
        return Err(wrong());
    }
    let mut bytes = [0; KEY_LENGTH];
    for (byte, digits) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

/// 32 bytes of the system's randomness.
pub(crate) fn random() -> io::Result<[u8; 32]> {
    use std::io::Read as _;
    let mut bytes = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_keys_are_read_and_differ() {
        let [one, other] = [(); 2].map(|()| fresh_keys().unwrap());
        assert_ne!(one, other);
        let [(one, data), (other, other_data)] = [one, other].map(|text| parse_keys(&text).unwrap());
        assert_ne!(one, other);
        assert_ne!(data, other_data);
        assert_eq!(data.span(), Some((Generation(1), Generation(1))));
        let ring = one.clone().with_next(other.primary().clone());
        assert_eq!(KeyFile::from(&ring).ring(), Ok(ring));
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        let good = "ab".repeat(32);
        for (text, problem) in [
            (String::new(), "primary"),
            (
                format!("primary = \"{}\"", &good[1..]),
                "primary is not 64 hexadecimal digits",
            ),
            (
                format!("primary = \"{good}\"\nnext = \"{}\"", good.replace('a', "g")),
                "next is not",
            ),
            (
                format!("primary = \"{good}\"\n[data]\nx = \"{good}\""),
                "\"x\" is no generation",
            ),
            (
                format!("primary = \"{good}\"\n[data]\n3 = \"abab\""),
                "data, generation 3 is not",
            ),
            (
                format!("primary = \"{good}\"\nother = \"{good}\""),
                "unknown field",
            ),
        ] {
            let error = parse_keys(&text).unwrap_err();
            assert!(error.contains(problem) && !error.contains("abab"), "{error}");
        }
    }
}
