use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// What a secret or a config holds: shared by its copies, wiped with the last of them, and never shown.
///
/// It is left out where a spec is serialised: bytes of secrets are not to come near a disk. A spec that was read back
/// has none, and is refused where a task is to be started by it.
#[derive(Clone, Default)]
pub struct Contents(Option<Arc<Zeroizing<Vec<u8>>>>);

impl Contents {
    /// These bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Some(Arc::new(Zeroizing::new(bytes))))
    }

    /// The bytes, unless they were left out.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.0.as_ref().map(|bytes| bytes.as_slice())
    }
}

/// Their length only.
impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() {
            Some(bytes) => write!(f, "[{} bytes]", bytes.len()),
            None => f.write_str("[left out]"),
        }
    }
}
