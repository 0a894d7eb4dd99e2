use crate::aead::{self, NONCE};
use crate::entropy::{Entropy, EntropyError, random};
use crate::{DataKeys, KeyError, PrivateKey, UnlockKey};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

#[cfg(test)]
mod tests;

/// The first line, up to the word that says whether the rest is encrypted.
const MAGIC: &str = "essaim-keys 1";

/// Why a node's key file cannot be read; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// The file is something else, or of a later version.
    #[error("not a key file of this version: expected {MAGIC} in its first line")]
    Format,
    /// The file was changed or cut off since it was written; take it back from a copy, or join anew.
    #[error("the key file is damaged: {0}")]
    Damaged(&'static str),
    /// The keys are encrypted, and no unlock key was given.
    #[error("the node is locked; unlock it with the cluster's unlock key")]
    Locked,
    /// The file is whole, and the unlock key does not open it.
    #[error("the unlock key is not the one that the node is locked with")]
    WrongUnlockKey,
    /// A key in it cannot be used.
    #[error("a key in the key file cannot be used")]
    Key(#[from] KeyError),
}

/// The secrets of a node, as one file holds them: its private key, and on a manager the keys of its log.
///
/// There are two private keys while a certificate is replaced: files are renamed one by one, and whichever of the two
/// certificates a crash leaves in place, its key is there. With an unlock key all of it is encrypted (AES-256-GCM), so to
/// change that key is to write this file anew, and the log stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyFile {
    pub(crate) node_keys: Vec<PrivateKey>,
    pub(crate) data_keys: Option<DataKeys>,
}

/// What the file holds, as it is serialised.
#[derive(Serialize, Deserialize)]
struct Content {
    node_keys: Vec<String>,
    data_keys: Option<DataKeys>,
}

impl Drop for Content {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.node_keys);
    }
}

impl KeyFile {
    /// The file's bytes, encrypted where there is an unlock key.
    pub(crate) fn encode(
        &self,
        unlock: Option<&UnlockKey>,
        entropy: &mut dyn Entropy,
    ) -> Result<Zeroizing<String>, EntropyError> {
        let content = Content {
            node_keys: self
                .node_keys
                .iter()
                .map(|key| STANDARD.encode(key.to_der()))
                .collect(),
            data_keys: self.data_keys.clone(),
        };
        // To write strings and numbers as JSON cannot fail, nor can a few hundred bytes be too many to encrypt.
        let plain = Zeroizing::new(serde_json::to_vec(&content).unwrap_or_default());
        let (head, body) = match unlock {
            None => (format!("{MAGIC} open"), plain),
            Some(key) => {
                let head = format!("{MAGIC} locked");
                let nonce = random::<NONCE>(entropy)?;
                let sealed = aead::seal(key.bytes(), nonce, head.as_bytes(), &plain).unwrap_or_default();
                (head, Zeroizing::new([nonce.as_slice(), &sealed].concat()))
            }
        };
        let body = Zeroizing::new(STANDARD.encode(&*body));
        Ok(Zeroizing::new(format!(
            "{head}\n{}\n{}\n",
            checksum(&head, &body),
            *body
        )))
    }

    /// Whether the file says that it is encrypted.
    pub(crate) fn is_locked(bytes: &[u8]) -> bool {
        bytes.starts_with(format!("{MAGIC} locked").as_bytes())
    }

    /// Reads the file.
    pub(crate) fn decode(bytes: &[u8], unlock: Option<&UnlockKey>) -> Result<Self, KeyFileError> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err(KeyFileError::Format);
        };
        let mut lines = text.split('\n');
        let head = lines.next().unwrap_or_default();
        let locked = match head.strip_prefix(MAGIC) {
            Some(" open") => false,
            Some(" locked") => true,
            _ => return Err(KeyFileError::Format),
        };
        let (Some(sum), Some(body), Some(""), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(KeyFileError::Damaged("it does not have three lines"));
        };
        if sum != checksum(head, body) {
            return Err(KeyFileError::Damaged("its checksum is wrong"));
        }
        let Ok(body) = STANDARD.decode(body).map(Zeroizing::new) else {
            return Err(KeyFileError::Damaged("its content is not base64"));
        };
        let plain = if locked {
            let key = unlock.ok_or(KeyFileError::Locked)?;
            let Some((nonce, sealed)) = body.split_first_chunk::<NONCE>() else {
                return Err(KeyFileError::Damaged("its content is cut off"));
            };
            aead::open(key.bytes(), *nonce, head.as_bytes(), sealed)
                .map(Zeroizing::new)
                .ok_or(KeyFileError::WrongUnlockKey)?
        } else {
            body
        };
        // The parser's own error could quote what it found.
        let Ok(content) = serde_json::from_slice::<Content>(&plain) else {
            return Err(KeyFileError::Damaged("its content cannot be read"));
        };
        let mut node_keys = Vec::new();
        for key in &content.node_keys {
            let Ok(der) = STANDARD.decode(key).map(Zeroizing::new) else {
                return Err(KeyFileError::Damaged("a key is not base64"));
            };
            node_keys.push(PrivateKey::from_der(&der)?);
        }
        Ok(Self {
            node_keys,
            data_keys: content.data_keys.clone(),
        })
    }
}

/// Finds damage, so that a wrong unlock key can be told from it; it protects nothing.
fn checksum(head: &str, body: &str) -> String {
    let sum = digest(&SHA256, format!("{head}\n{body}").as_bytes());
    let digits: Vec<_> = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256 {}", digits.concat())
}
