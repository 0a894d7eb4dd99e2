//! The seal round every datagram and frame: AES-256-GCM (RFC 5116) under a ring of keys.
//!
//! ```text
//! version 1 | kind 1 | name length 1 | sender's name | sender's epoch 8 | nonce 12 | ciphertext | tag 16
//! ```
//!
//! Everything before the nonce, and the receiver's name, which is not sent, is associated data: a datagram that is
//! sent on to another node, or passed off as a frame, does not open.
//!
//! **Nonces.** All nodes share the key, so no two of their runs may ever use the same nonce. A run draws 8 random bytes
//! and counts in the other 4: a collision then needs two runs with the same 64 random bits (some 2^-30 for a hundred
//! thousand runs under one key), however much each of them sends, where wholly random nonces would collide with the
//! number of datagrams. When the count is used up, 8 new bytes are drawn.
//!
//! **Replays** open, and harm nothing: facts and claims are ordered by epoch, version and incarnation, so what is old
//! changes nothing, and an answer to a probe must repeat the probe's own random number.

mod keys;

pub use keys::{KEY_LENGTH, Key, KeyRing};

use crate::DropReason;
use crate::epoch::Epoch;
use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use essaim_model::NodeName;
use keys::TAG_LENGTH;
use rand::Rng;

/// The version of the format; another one is dropped.
pub(crate) const FORMAT_VERSION: u8 = 1;

const LONGEST_NAME: usize = 63;
/// The most bytes that a seal adds.
pub(crate) const SEAL_OVERHEAD: usize = 3 + LONGEST_NAME + 8 + NONCE_LEN + TAG_LENGTH;

/// How sealed bytes travel; part of what is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Datagram,
    Frame,
}

impl Carrier {
    const fn byte(self) -> u8 {
        match self {
            Self::Datagram => 1,
            Self::Frame => 2,
        }
    }
}

/// What is said in clear: who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) sender: NodeName,
    pub(crate) epoch: Epoch,
    /// Where the nonce starts.
    length: usize,
}

impl Header {
    /// Reads it, of a datagram or frame of any origin.
    pub(crate) fn read(carrier: Carrier, sealed: &[u8]) -> Result<Self, DropReason> {
        let (&[version, kind, name_length], rest) =
            sealed.split_first_chunk::<3>().ok_or(DropReason::Truncated)?;
        if version != FORMAT_VERSION {
            return Err(DropReason::Version);
        }
        if kind != carrier.byte() {
            return Err(DropReason::Malformed);
        }
        let (name, rest) = rest
            .split_at_checked(usize::from(name_length))
            .ok_or(DropReason::Truncated)?;
        let (epoch, rest) = rest.split_first_chunk::<8>().ok_or(DropReason::Truncated)?;
        if rest.len() < NONCE_LEN + TAG_LENGTH {
            return Err(DropReason::Truncated);
        }
        let name = str::from_utf8(name)
            .ok()
            .and_then(|name| NodeName::new(name).ok());
        Ok(Self {
            sender: name.ok_or(DropReason::Malformed)?,
            epoch: Epoch::from_number(u64::from_be_bytes(*epoch)),
            length: sealed.len() - rest.len(),
        })
    }
}

/// Seals what one run of a node sends, and opens what it receives.
pub(crate) struct Sealer {
    name: NodeName,
    keys: KeyRing,
    nonces: Nonces,
}

impl Sealer {
    pub(crate) fn new(name: NodeName, keys: KeyRing, random: &mut impl Rng) -> Self {
        Self {
            name,
            keys,
            nonces: Nonces::new(random),
        }
    }

    pub(crate) fn set_keys(&mut self, keys: KeyRing) {
        self.keys = keys;
    }

    /// How much content fits a datagram or frame of that size.
    pub(crate) fn room(&self, sealed: usize) -> usize {
        let overhead = SEAL_OVERHEAD - LONGEST_NAME + self.name.as_str().len();
        sealed.saturating_sub(overhead)
    }

    /// Seals the content for one receiver.
    pub(crate) fn seal(
        &mut self,
        carrier: Carrier,
        epoch: Epoch,
        to: &NodeName,
        content: &[u8],
        random: &mut impl Rng,
    ) -> Vec<u8> {
        let name = self.name.as_str().as_bytes();
        let mut sealed = Vec::with_capacity(SEAL_OVERHEAD + content.len());
        // A name has at most 63 bytes.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a node's name has at most 63 bytes"
        )]
        sealed.extend_from_slice(&[FORMAT_VERSION, carrier.byte(), name.len() as u8]);
        sealed.extend_from_slice(name);
        sealed.extend_from_slice(&epoch.number().to_be_bytes());
        let associated = associated(&sealed, to);
        let nonce = self.nonces.next(random);
        sealed.extend_from_slice(&nonce);
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.keys
            .primary()
            .seal(nonce, Aad::from(&associated), content, &mut sealed);
        sealed
    }

    /// Opens what was sealed for this node under any key of the ring.
    pub(crate) fn open(&self, header: &Header, sealed: &[u8]) -> Result<Vec<u8>, DropReason> {
        let (clear, rest) = sealed
            .split_at_checked(header.length)
            .ok_or(DropReason::Truncated)?;
        let (nonce, rest) = rest
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(DropReason::Truncated)?;
        let associated = associated(clear, &self.name);
        let opened = self.keys.iter().find_map(|key| {
            let nonce = Nonce::assume_unique_for_key(*nonce);
            key.open(nonce, Aad::from(&associated), rest)
        });
        opened.ok_or(DropReason::Sealed)
    }
}

fn associated(clear: &[u8], to: &NodeName) -> Vec<u8> {
    [clear, to.as_str().as_bytes()].concat()
}

/// Nonces that no other run uses: random bytes, then a count.
struct Nonces {
    prefix: [u8; 8],
    count: u32,
}

impl Nonces {
    fn new(random: &mut impl Rng) -> Self {
        let mut prefix = [0; 8];
        random.fill_bytes(&mut prefix);
        Self { prefix, count: 0 }
    }

    fn next(&mut self, random: &mut impl Rng) -> [u8; NONCE_LEN] {
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.prefix);
        nonce[8..].copy_from_slice(&self.count.to_be_bytes());
        match self.count.checked_add(1) {
            Some(count) => self.count = count,
            None => *self = Self::new(random),
        }
        nonce
    }
}

#[cfg(test)]
mod tests;
