use essaim_ca::{OpenError, Sealer};
use essaim_raft::{Seal, SealError};

/// Raft's records, sealed with the manager's data keys.
pub(crate) struct Sealed(pub(crate) std::sync::Arc<Sealer>);

impl Seal for Sealed {
    fn encrypt(&self, associated: &[u8], plain: &[u8]) -> Vec<u8> {
        self.0.encrypt(associated, plain)
    }

    fn decrypt(&self, associated: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        self.0.decrypt(associated, sealed).map_err(|error| match error {
            OpenError::UnknownKey { .. } => SealError::UnknownKey,
            _ => SealError::NotAuthentic,
        })
    }
}
