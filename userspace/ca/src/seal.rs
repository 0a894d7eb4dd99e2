use crate::aead::{self, KEY, NONCE};
use crate::entropy::{Entropy, EntropyError, random};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

#[cfg(test)]
mod tests;

/// The layout of a sealed record, its first byte.
const LAYOUT: u8 = 1;
/// Layout and key id.
const HEADER: usize = 1 + 4;

/// A record is longer than 64 GiB, so that it cannot be sealed; nothing of it may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record is too long to be sealed, expected at most 64 GiB")]
pub struct TooLong;

/// A record cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is cut off, or was never sealed.
    #[error("the sealed record has {0} bytes, expected 33 or more")]
    Short(usize),
    /// It is of a later version of this program.
    #[error("the sealed record has layout {0}, expected 1")]
    Layout(u8),
    /// Its key is not in the ring.
    #[error("the record is sealed with data key {0}, which this node does not have")]
    UnknownKey(u32),
    /// It was changed, or stands in the place of another.
    #[error("the sealed record does not authenticate: it is damaged, or belongs to another place")]
    NotAuthentic,
}

/// A key for data at rest, with its number.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
struct DataKey {
    #[zeroize(skip)]
    id: u32,
    bytes: [u8; KEY],
}

/// The keys that this manager's log and snapshots are encrypted with.
///
/// The current one seals. A rotation goes through a pending one, which opens but does not seal yet: it is saved with
/// [`crate::IdentityStore::set_data_keys`] before anything is sealed with it, so that no crash leaves records whose key
/// is lost. Older ones open what is not rewritten yet.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataKeys {
    current: DataKey,
    pending: Option<DataKey>,
    older: Vec<DataKey>,
}

impl DataKeys {
    /// A first key.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
        let current = DataKey {
            id: 1,
            bytes: random(entropy)?,
        };
        Ok(Self {
            current,
            pending: None,
            older: Vec::new(),
        })
    }

    /// Begins a rotation: makes the pending key. One that is pending already stays.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn begin_rotation(&mut self, entropy: &mut dyn Entropy) -> Result<(), EntropyError> {
        if self.pending.is_none() {
            let id = self.current.id.wrapping_add(1);
            self.pending = Some(DataKey {
                id,
                bytes: random(entropy)?,
            });
        }
        Ok(())
    }

    /// Makes the pending key, which has to be saved by now, the one that seals. Nothing changes where none is pending.
    pub fn complete_rotation(&mut self) {
        if let Some(next) = self.pending.take() {
            self.older.push(std::mem::replace(&mut self.current, next));
        }
    }

    /// Forgets the older keys: once the snapshot is rewritten and the log before it is gone.
    pub fn forget_older(&mut self) {
        self.older.clear();
    }

    /// Whether a rotation has begun and is not completed.
    pub fn is_rotating(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether there are keys for what is not rewritten yet.
    pub fn has_older(&self) -> bool {
        !self.older.is_empty()
    }

    fn with_id(&self, id: u32) -> Option<&DataKey> {
        std::iter::once(&self.current)
            .chain(&self.pending)
            .chain(self.older.iter().rev())
            .find(|key| key.id == id)
    }
}

impl fmt::Debug for DataKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            current,
            pending,
            older,
        } = self;
        let (pending, older) = (pending.as_ref().map(|key| key.id), older.iter().map(|key| key.id));
        let older: Vec<_> = older.collect();
        write!(
            f,
            "DataKeys(current {}, pending {pending:?}, older {older:?}, not shown)",
            current.id
        )
    }
}

/// Seals and opens records of the log and of snapshots: AES-256-GCM with a nonce that cannot be told from random.
///
/// A sealed record is its layout (one byte), the key's number (four, big-endian), the nonce (12), and the encrypted
/// record with its tag (16). Header and `aad` are authenticated: with the log index as `aad`, and something else for a
/// snapshot, no record can be put in the place of another. An earlier version of a record *at the same place* still
/// opens: against that the log has its own chain of terms.
///
/// Random nonces are safe for 2^32 records of one key (NIST SP 800-38D 8.3): a year of 130 records a second.
pub struct Sealer {
    keys: RwLock<DataKeys>,
    nonces: Nonces,
}

impl Sealer {
    /// Seals with these keys.
    ///
    /// # Errors
    /// There is no randomness for the nonces: it is drawn here, so that to seal cannot fail for it.
    pub fn new(keys: DataKeys, entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
        Ok(Self {
            keys: RwLock::new(keys),
            nonces: Nonces::new(entropy)?,
        })
    }

    /// Uses these keys from now on: they have to be saved already.
    pub fn set_keys(&self, keys: DataKeys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Seals a record for the place that `aad` says.
    ///
    /// # Panics
    /// The record is longer than 64 GiB, which no process that runs this has had in one piece.
    #[expect(
        clippy::expect_used,
        reason = "the cipher refuses past 64 GiB only, and to write such a record in clear or not at all would be worse"
    )]
    pub fn encrypt(&self, aad: &[u8], plain: &[u8]) -> Vec<u8> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.seal(aad, plain, self.nonces.next())
            .expect("a record of less than 64 GiB")
    }

    /// Opens a record that was sealed for this place.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn decrypt(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .open(aad, sealed)
    }
}

/// Nonces from one draw of randomness: HMAC-SHA-256 of a counter, cut to 96 bits.
struct Nonces {
    key: hmac::Key,
    drawn: AtomicU64,
}

impl Nonces {
    fn new(entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
        let secret = Zeroizing::new(random::<KEY>(entropy)?);
        Ok(Self {
            key: hmac::Key::new(HMAC_SHA256, &*secret),
            drawn: AtomicU64::new(0),
        })
    }

    fn next(&self) -> [u8; NONCE] {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let tag = hmac::sign(&self.key, &number.to_be_bytes());
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&tag.as_ref()[..NONCE]);
        nonce
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Sealer({:?})",
            self.keys.read().unwrap_or_else(PoisonError::into_inner)
        )
    }
}

impl DataKeys {
    /// Seals a record for the place that `aad` says; the nonce must be random, and used for nothing else.
    ///
    /// # Errors
    /// The record is longer than 64 GiB.
    pub fn seal(&self, aad: &[u8], plain: &[u8], nonce: [u8; NONCE]) -> Result<Vec<u8>, TooLong> {
        let mut record = header(self.current.id).to_vec();
        let sealed = aead::seal(
            &self.current.bytes,
            nonce,
            &[record.as_slice(), aad].concat(),
            plain,
        );
        record.extend_from_slice(&nonce);
        record.extend(sealed.ok_or(TooLong)?);
        Ok(record)
    }

    /// Opens a record that was sealed for this place, with any key of the ring.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&self, aad: &[u8], record: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (Some(([layout, id @ ..], rest)), true) = (
            record.split_first_chunk::<HEADER>(),
            record.len() >= HEADER + NONCE + 16,
        ) else {
            return Err(OpenError::Short(record.len()));
        };
        if *layout != LAYOUT {
            return Err(OpenError::Layout(*layout));
        }
        let id = u32::from_be_bytes(*id);
        let key = self.with_id(id).ok_or(OpenError::UnknownKey(id))?;
        let (nonce, sealed) = rest
            .split_first_chunk::<NONCE>()
            .ok_or(OpenError::Short(record.len()))?;
        let aad = [header(id).as_slice(), aad].concat();
        aead::open(&key.bytes, *nonce, &aad, sealed).ok_or(OpenError::NotAuthentic)
    }
}

fn header(id: u32) -> [u8; HEADER] {
    let [a, b, c, d] = id.to_be_bytes();
    [LAYOUT, a, b, c, d]
}
