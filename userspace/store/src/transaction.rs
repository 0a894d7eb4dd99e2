//! Transactions: what is agreed on in the log.

use crate::{Object, ObjectId};
use essaim_objects::Version;

/// Most changes of a transaction.
pub const MAX_CHANGES: usize = 200;
/// Largest transaction, encoded, in bytes.
pub const MAX_TRANSACTION_SIZE: usize = 3 << 19;

/// A change of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is made. The store gives it its version and times.
    Create(Object),
    /// It becomes this, if it still is as it was read.
    Update(Object, Version),
    /// It goes, if it still is as it was read.
    Remove(ObjectId, Version),
}

impl Change {
    /// The object that it changes.
    pub fn id(&self) -> ObjectId {
        match self {
            Self::Create(object) | Self::Update(object, _) => object.id(),
            Self::Remove(id, _) => *id,
        }
    }

    /// What the object becomes.
    pub fn object(&self) -> Option<&Object> {
        match self {
            Self::Create(object) | Self::Update(object, _) => Some(object),
            Self::Remove(..) => None,
        }
    }

    /// An update of an object that was read from the store and changed.
    pub fn update(object: impl Into<Object>) -> Self {
        let object = object.into();
        let version = object.version();
        Self::Update(object, version)
    }

    /// The removal of an object that was read from the store.
    pub fn remove(object: impl Into<Object>) -> Self {
        let object = object.into();
        Self::Remove(object.id(), object.version())
    }
}

/// Changes that happen together or not at all, each checked against what those before it leave. An object is changed at
/// most once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transaction {
    /// The changes, at most [`MAX_CHANGES`].
    pub changes: Vec<Change>,
}

impl Transaction {
    /// One without changes.
    pub const fn new() -> Self {
        Self { changes: Vec::new() }
    }

    /// Adds an object.
    pub fn create(&mut self, object: impl Into<Object>) -> &mut Self {
        self.changes.push(Change::Create(object.into()));
        self
    }

    /// Changes an object that was read from the store.
    pub fn update(&mut self, object: impl Into<Object>) -> &mut Self {
        self.changes.push(Change::update(object));
        self
    }

    /// Removes an object that was read from the store.
    pub fn remove(&mut self, object: impl Into<Object>) -> &mut Self {
        self.changes.push(Change::remove(object));
        self
    }
}
