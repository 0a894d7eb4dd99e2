//! The keys and the ring of them.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::fmt;

/// The length of a key in bytes.
pub const KEY_LENGTH: usize = 32;
/// The length of AES-GCM's tag in bytes.
pub(super) const TAG_LENGTH: usize = 16;

/// A key that all nodes share.
#[derive(Clone)]
pub struct Key {
    bytes: [u8; KEY_LENGTH],
    cipher: std::sync::Arc<LessSafeKey>,
}

impl Key {
    /// A key of these bytes, which should be random.
    ///
    /// # Panics
    /// Never: only another length is refused.
    pub fn new(bytes: [u8; KEY_LENGTH]) -> Self {
        #[expect(
            clippy::expect_used,
            reason = "the only error is a wrong length, which the type rules out"
        )]
        let key = UnboundKey::new(&AES_256_GCM, &bytes).expect("32 bytes are an AES-256 key");
        Self {
            bytes,
            cipher: std::sync::Arc::new(LessSafeKey::new(key)),
        }
    }

    /// Its bytes, to be kept where nobody else reads them.
    pub const fn bytes(&self) -> &[u8; KEY_LENGTH] {
        &self.bytes
    }

    /// Appends ciphertext and tag.
    pub(super) fn seal(&self, nonce: Nonce, associated: Aad<&Vec<u8>>, content: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(content);
        let Some(text) = out.get_mut(start..) else { return };
        #[expect(
            clippy::expect_used,
            reason = "AES-GCM refuses only content of more than 64 GiB"
        )]
        let tag = self
            .cipher
            .seal_in_place_separate_tag(nonce, associated, text)
            .expect("content is bounded");
        out.extend_from_slice(tag.as_ref());
    }

    /// The content, where the tag is right.
    pub(super) fn open(&self, nonce: Nonce, associated: Aad<&Vec<u8>>, sealed: &[u8]) -> Option<Vec<u8>> {
        let (text, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG_LENGTH)?)?;
        let mut content = vec![0; text.len()];
        self.cipher
            .open_separate_gather(nonce, associated, text, tag, &mut content)
            .ok()?;
        Some(content)
    }
}

impl PartialEq for Key {
    /// In constant time, though nothing here compares with what a stranger sent.
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.bytes, &other.bytes).is_ok()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The keys that are in use: one seals, all of them open.
///
/// A rotation loses nothing when every node has passed one step before any takes the next: first the new key is `next`
/// everywhere (all can open it), then it is `primary` and the old one `previous` (all seal with it, late datagrams still
/// open), then the old one goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRing {
    primary: Key,
    previous: Option<Key>,
    next: Option<Key>,
}

impl KeyRing {
    /// A ring of one key.
    pub const fn new(primary: Key) -> Self {
        Self {
            primary,
            previous: None,
            next: None,
        }
    }

    /// The ring with a key that was in use before.
    #[must_use]
    pub fn with_previous(mut self, key: Key) -> Self {
        self.previous = Some(key);
        self
    }

    /// The ring with a key that will be in use.
    #[must_use]
    pub fn with_next(mut self, key: Key) -> Self {
        self.next = Some(key);
        self
    }

    /// The key that seals.
    pub const fn primary(&self) -> &Key {
        &self.primary
    }

    /// The key that was in use before.
    pub const fn previous(&self) -> Option<&Key> {
        self.previous.as_ref()
    }

    /// The key that will be in use.
    pub const fn next(&self) -> Option<&Key> {
        self.next.as_ref()
    }

    /// All keys, the likeliest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.primary)
            .chain(&self.previous)
            .chain(&self.next)
    }
}
