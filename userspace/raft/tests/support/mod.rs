//! What unit and integration tests share: a real seal, and a state machine that remembers what it was told.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, reason = "included into several crates")]

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use essaim_raft::{Seal, SealError, SnapshotView, StateMachine, Timestamp};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// AES-256-GCM under one key; the nonces count, so that runs repeat.
pub struct TestSeal {
    key: LessSafeKey,
    nonces: AtomicU64,
}

impl TestSeal {
    pub fn new(key: u8) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &[key; 32]).unwrap();
        Self {
            key: LessSafeKey::new(key),
            nonces: AtomicU64::new(0),
        }
    }
}

impl Seal for TestSeal {
    fn encrypt(&self, associated: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.nonces.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let mut sealed = nonce.to_vec();
        let mut content = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(associated), &mut content)
            .unwrap();
        sealed.append(&mut content);
        sealed
    }

    fn decrypt(&self, associated: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, content) = sealed
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(SealError::NotAuthentic)?;
        let mut content = content.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(associated), &mut content)
            .map_err(|_| SealError::NotAuthentic)?;
        Ok(plain.to_vec())
    }
}

/// Remembers every command with its index and time, in order; so two replicas can be compared.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<Line>>>);

/// One command that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub index: u64,
    pub at: Timestamp,
    pub command: Vec<u8>,
}

impl Journal {
    pub fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.0.lock().unwrap()
    }
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (number, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(u64::from_be_bytes(*number))
}

impl StateMachine for Journal {
    fn apply(&mut self, index: u64, at: Timestamp, command: &[u8]) -> Vec<u8> {
        let mut lines = self.lines();
        if let Some(last) = lines.last() {
            assert!(last.index < index, "applied {index} after {}", last.index);
        }
        lines.push(Line {
            index,
            at,
            command: command.to_vec(),
        });
        command.iter().rev().copied().collect()
    }

    fn snapshot(&self) -> SnapshotView {
        let lines = self.lines().clone();
        Box::new(move || {
            let mut bytes = Vec::new();
            for line in lines {
                bytes.extend_from_slice(&line.index.to_be_bytes());
                bytes.extend_from_slice(&line.at.millis().to_be_bytes());
                bytes.extend_from_slice(&(line.command.len() as u64).to_be_bytes());
                bytes.extend_from_slice(&line.command);
            }
            bytes
        })
    }

    fn restore(&mut self, mut snapshot: &[u8]) -> Result<(), String> {
        let mut restored = Vec::new();
        while !snapshot.is_empty() {
            let mut line = || {
                let index = number(&mut snapshot)?;
                let at = Timestamp::from_millis(number(&mut snapshot)?);
                let length = usize::try_from(number(&mut snapshot)?).ok()?;
                let (command, after) = snapshot.split_at_checked(length)?;
                snapshot = after;
                Some(Line {
                    index,
                    at,
                    command: command.to_vec(),
                })
            };
            restored.push(line().ok_or("it ends within a line")?);
        }
        *self.lines() = restored;
        Ok(())
    }
}
