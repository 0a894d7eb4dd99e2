//! A map that is cheap to copy and then change in a few places.

use std::collections::HashMap;
use std::sync::Arc;

/// How many parts there are: a zone of some 100,000 names has some 100 in each, which are copied for a change of one.
const SHARDS: usize = 1024;

/// A map from bytes, in parts that are shared with its copies until one is changed.
#[derive(Clone, Debug)]
pub(super) struct Shards<V> {
    shards: Box<[Arc<Shard<V>>]>,
}

type Shard<V> = HashMap<Box<[u8]>, V>;

/// FNV-1a, folded: only spreads names over parts, where a clash costs nothing.
fn shard_of(key: &[u8]) -> usize {
    let hash = key.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    (hash ^ hash >> 16) as usize % SHARDS
}

impl<V: Clone> Shards<V> {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Arc::default()).collect(),
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&V> {
        self.shards.get(shard_of(key))?.get(key)
    }

    pub(super) fn insert(&mut self, key: &[u8], value: V) {
        if let Some(shard) = self.shard(key) {
            shard.insert(key.into(), value);
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        if let Some(shard) = self.shard(key) {
            shard.remove(key);
        }
    }

    fn shard(&mut self, key: &[u8]) -> Option<&mut Shard<V>> {
        self.shards.get_mut(shard_of(key)).map(Arc::make_mut)
    }
}
