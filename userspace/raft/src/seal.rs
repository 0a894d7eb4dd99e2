/// Encrypts and authenticates what lies on disk.
///
/// The manager's keys live behind it: an implementation opens what any key of its ring sealed, so that a key can be
/// rotated while old records still lie in the log.
pub trait Seal: Send + Sync + 'static {
    /// Seals `plain`, bound to `associated`, which is not kept in the result.
    fn encrypt(&self, associated: &[u8], plain: &[u8]) -> Vec<u8>;

    /// Opens what [`Seal::encrypt`] made of the same associated data.
    ///
    /// # Errors
    /// [`SealError`] when no key of the ring opens it: the bytes, or what they are bound to, are not what was sealed.
    fn decrypt(&self, associated: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError>;
}

/// Sealed bytes did not open; nothing of them may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// They name a key that is not in the ring: another cluster's data, or a key that was dropped too early.
    #[error("sealed under a key that is not in the ring")]
    UnknownKey,
    /// They are not what was sealed: damaged, or moved from another place.
    #[error("does not authenticate")]
    NotAuthentic,
}
