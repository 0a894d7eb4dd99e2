//! AES-256-GCM as the rest of this crate uses it.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Bytes of a key.
pub(crate) const KEY: usize = 32;
/// Bytes of a nonce.
pub(crate) const NONCE: usize = NONCE_LEN;

/// The sealed bytes; `None` where the library refuses, which it does past 64 GiB only.
pub(crate) fn seal(key: &[u8; KEY], nonce: [u8; NONCE], aad: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
    bytes.extend_from_slice(plain);
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut bytes)
        .ok()?;
    Some(bytes)
}

/// What was sealed; `None` where it was not, with this key, nonce and associated data.
pub(crate) fn open(key: &[u8; KEY], nonce: [u8; NONCE], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = sealed.to_vec();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let length = key.open_in_place(nonce, Aad::from(aad), &mut bytes).ok()?.len();
    bytes.truncate(length);
    Some(bytes)
}
