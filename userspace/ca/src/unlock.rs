use crate::aead::KEY;
use crate::entropy::{Entropy, EntropyError, random};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::fmt;
use std::str::FromStr;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const PREFIX: &str = "SWMKEY-1-";
/// Digits of base64 for 32 bytes without padding.
const DIGITS: usize = 43;

/// Text is not an unlock key; what it is, is not said, since it may be nearly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an unlock key: expected SWMKEY-1- and 43 digits of base64")]
pub struct UnlockKeyError;

/// The key that a manager's keys are encrypted with while autolock is on: `SWMKEY-1-` and base64 of 32 bytes.
///
/// Its text is a secret: [`UnlockKey::reveal`] gives it, and nothing else shows it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct UnlockKey([u8; KEY]);

impl UnlockKey {
    /// A new one.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
        Ok(Self(random(entropy)?))
    }

    /// The key's text, to be shown to the operator.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD_NO_PAD.encode(self.0))
    }

    /// Whether the two are the same, in a time that does not tell where they differ.
    pub fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY] {
        &self.0
    }
}

impl FromStr for UnlockKey {
    type Err = UnlockKeyError;

    fn from_str(text: &str) -> Result<Self, UnlockKeyError> {
        let digits = text
            .strip_prefix(PREFIX)
            .filter(|digits| digits.len() == DIGITS)
            .ok_or(UnlockKeyError)?;
        // The library's own error would quote the text.
        let Ok(bytes) = STANDARD_NO_PAD.decode(digits).map(Zeroizing::new) else {
            return Err(UnlockKeyError);
        };
        <[u8; KEY]>::try_from(bytes.as_slice())
            .map(Self)
            .map_err(|_| UnlockKeyError)
    }
}

impl fmt::Debug for UnlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnlockKey(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Seeded;
    use proptest::prelude::*;

    #[test]
    fn the_unlock_key_of_a_real_swarm_is_read_and_written() {
        // Of a swarm of dockerd 20.10.
        let text = "SWMKEY-1-HdMtxayfCUxDJNGXWzH4DLgZs10N5tlX1zZlMAKIHjA";
        let key: UnlockKey = text.parse().unwrap();
        assert_eq!(key.reveal(), text);
        assert_eq!(format!("{key:?}"), "UnlockKey(not shown)");
    }

    #[test]
    fn what_is_no_unlock_key_is_refused() {
        let digits = "A".repeat(43);
        for text in [
            "",
            "SWMKEY-1-",
            &format!("SWMKEY-2-{digits}"),
            &format!("SWMKEY-1-{digits}="),
            &format!("SWMKEY-1-{digits}A"),
            &format!("SWMKEY-1-{}", &digits[1..]),
            &format!("SWMKEY-1-{}-", &digits[1..]),
            // Bits that belong to no byte.
            &format!("SWMKEY-1-{}B", &digits[1..]),
            &format!(" SWMKEY-1-{digits}"),
        ] {
            assert_eq!(text.parse::<UnlockKey>().unwrap_err(), UnlockKeyError, "{text}");
        }
    }

    proptest! {
        #[test]
        fn keys_read_back_and_compare(seed: u64, bit in 0..256_usize) {
            let key = UnlockKey::generate(&mut Seeded::new(seed)).unwrap();
            let mut back: UnlockKey = key.reveal().parse().unwrap();
            prop_assert!(back.is(&key));
            back.0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!back.is(&key));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,60}|SWMKEY-1-[A-Za-z0-9+/]{43}|SWMKEY-1-\\PC{43}") {
            if let Ok(key) = text.parse::<UnlockKey>() {
                prop_assert_eq!(key.reveal(), text);
            }
        }
    }
}
