use crate::error::StorageError;
use std::io;
use std::sync::{Arc, OnceLock};

/// Why a node's storage stopped: the first error, which all parts of the node share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fault(Arc<OnceLock<Arc<StorageError>>>);

impl Fault {
    /// Keeps the error if it is the first, and hands it out as openraft wants it.
    pub(crate) fn record(&self, error: StorageError) -> io::Error {
        let error = Arc::new(error);
        tracing::error!(error = &*error as &dyn std::error::Error, "raft storage stopped");
        io::Error::other(Arc::clone(self.0.get_or_init(|| error)))
    }

    pub(crate) fn happened(&self) -> bool {
        self.0.get().is_some()
    }

    pub(crate) fn get(&self) -> Option<Arc<StorageError>> {
        self.0.get().cloned()
    }

    pub(crate) fn as_io(&self) -> io::Error {
        match self.0.get() {
            Some(error) => io::Error::other(Arc::clone(error)),
            None => io::Error::other("the log is closed"),
        }
    }
}
