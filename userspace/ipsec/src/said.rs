//! What a node says of its part in IPsec, for all others to hear.

use crate::Generation;
use essaim_model::NodeName;
use std::collections::BTreeMap;

/// The length of a salt in bytes.
pub const SALT_LENGTH: usize = 16;

/// A number that a node draws when its agent starts, and whenever one of its associations was lost. No secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Salt(pub [u8; SALT_LENGTH]);

/// What a node says of itself: it holds, for each peer that it has heard, the inbound associations of all generations from
/// the oldest to the newest, with the two salts that are named here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its own salt.
    pub salt: Salt,
    /// The oldest and the newest generation that it holds; none before it holds any.
    pub held: Option<(Generation, Generation)>,
    /// The salts of its peers with which it holds them.
    pub heard: BTreeMap<NodeName, Salt>,
}
