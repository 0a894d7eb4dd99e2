use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// Where random bytes come from.
///
/// Identities, secrets, serial numbers, nonces and private keys are all made from these bytes. What is not: the nonces
/// inside ECDSA signatures, which the crypto library draws for itself, so two certificates over the same input differ.
pub trait Entropy {
    /// Fills the bytes with randomness fit for keys.
    ///
    /// # Errors
    /// The source has none to give; the bytes must not be used.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), EntropyError>;
}

/// The source of randomness failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the source of random bytes failed")]
pub struct EntropyError;

/// The randomness of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        SystemRandom::new()
            .fill(bytes)
            .map_err(|aws_lc_rs::error::Unspecified| EntropyError)
    }
}

/// An array of random bytes.
pub(crate) fn random<const N: usize>(entropy: &mut dyn Entropy) -> Result<[u8; N], EntropyError> {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes)?;
    Ok(bytes)
}
