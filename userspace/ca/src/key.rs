use crate::entropy::{Entropy, EntropyError, random};
use aws_lc_rs::agreement::{self, ECDH_P256};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use rustls::pki_types::PrivateKeyDer;
use std::fmt;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// Longest private key that is looked at, in bytes: RSA with 16384 bits takes some 9 KiB, and PEM a third more.
const MAX_BYTES: usize = 32 * 1024;

/// A private key could not be made or read; nothing of it is in the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not one private key in PEM.
    #[error("found no single private key in PEM (PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY)")]
    NotPem,
    /// The key is protected by a pass phrase.
    #[error("the private key is protected by a pass phrase; give it without")]
    PassPhrase,
    /// The bytes are no key, or of a kind that cannot sign here.
    #[error("the private key is damaged, or neither ECDSA (P-256, P-384, P-521), Ed25519 nor RSA")]
    Unreadable,
    /// There were no random bytes to make one from.
    #[error("no private key could be made")]
    Entropy(#[from] EntropyError),
    /// The crypto library refused; nothing was made.
    #[error("the crypto library refused to {0}")]
    Refused(&'static str),
}

/// A private key; wiped from memory with its last copy, and never shown.
#[derive(Clone)]
pub struct PrivateKey(Arc<Wiped>);

/// The library's key pair, wiped when dropped.
struct Wiped(KeyPair);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PrivateKey {
    /// A new key for ECDSA on P-256, its scalar drawn from the random bytes (FIPS 186-5 A.2.2, by rejection).
    ///
    /// # Errors
    /// There is no randomness, or the library refuses.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, KeyError> {
        // A draw is out of range once in 2^32, so the source is broken where that happens eight times in a row.
        for _ in 0..8 {
            let scalar = Zeroizing::new(random::<32>(entropy)?);
            let Ok(key) = agreement::PrivateKey::from_private_key(&ECDH_P256, &*scalar) else {
                continue;
            };
            let refused = |aws_lc_rs::error::Unspecified| KeyError::Refused("make a key on P-256");
            let public = key.compute_public_key().map_err(refused)?;
            let pair = EcdsaKeyPair::from_private_key_and_public_key(
                &ECDSA_P256_SHA256_ASN1_SIGNING,
                &*scalar,
                public.as_ref(),
            )
            .map_err(|_| KeyError::Refused("make a key on P-256"))?;
            return Self::from_der(pair.to_pkcs8v1().map_err(refused)?.as_ref());
        }
        Err(KeyError::Entropy(EntropyError))
    }

    /// Reads a key in DER: PKCS #8, SEC 1 or PKCS #1.
    ///
    /// # Errors
    /// [`KeyError::Unreadable`].
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        if der.len() > MAX_BYTES {
            return Err(KeyError::Unreadable);
        }
        match KeyPair::try_from(der) {
            Ok(pair) => Ok(Self(Arc::new(Wiped(pair)))),
            Err(_) => Err(KeyError::Unreadable),
        }
    }

    /// Reads the one key in this PEM text.
    ///
    /// # Errors
    /// There is none, more than one, or it cannot be read.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_BYTES {
            return Err(KeyError::NotPem);
        }
        let Ok(blocks) = pem::parse_many(text) else {
            return Err(KeyError::NotPem);
        };
        let mut keys = blocks
            .into_iter()
            .filter(|block| block.tag().ends_with("PRIVATE KEY"));
        let (Some(block), None) = (keys.next(), keys.next()) else {
            return Err(KeyError::NotPem);
        };
        if block.tag().starts_with("ENCRYPTED") || block.headers().get("DEK-Info").is_some() {
            return Err(KeyError::PassPhrase);
        }
        Self::from_der(&Zeroizing::new(block.into_contents()))
    }

    /// The key in DER, as it was made or read.
    pub fn to_der(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.pair().serialized_der().to_vec())
    }

    /// The public key, as the `SubjectPublicKeyInfo` of a certificate (DER).
    pub fn public_key(&self) -> Vec<u8> {
        self.pair().subject_public_key_info()
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.0.0
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.pair().sign(message).map_err(|_| KeyError::Refused("sign"))
    }

    pub(crate) fn for_tls(&self) -> Result<PrivateKeyDer<'static>, KeyError> {
        PrivateKeyDer::try_from(self.pair().serialized_der().to_vec()).map_err(|_| KeyError::Unreadable)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(not shown)")
    }
}

impl PartialEq for PrivateKey {
    /// Whether the public halves are the same, so nothing depends on the private ones.
    fn eq(&self, other: &Self) -> bool {
        self.public_key() == other.public_key()
    }
}

impl Eq for PrivateKey {}

/// Private keys in the replicated store: base64 of their DER, or nothing where the key is elsewhere.
pub(crate) mod maybe_as_base64 {
    use super::PrivateKey;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use zeroize::Zeroizing;

    #[expect(clippy::ref_option, reason = "as serde hands it over")]
    pub(crate) fn serialize<S: Serializer>(key: &Option<PrivateKey>, to: S) -> Result<S::Ok, S::Error> {
        match key {
            Some(key) => to.serialize_str(&Zeroizing::new(STANDARD.encode(key.to_der()))),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PrivateKey>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)?.map(Zeroizing::new) else {
            return Ok(None);
        };
        // The library's own error would quote the text.
        let Ok(der) = STANDARD.decode(&*text).map(Zeroizing::new) else {
            return Err(D::Error::custom("a private key is not base64"));
        };
        PrivateKey::from_der(&der).map(Some).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Seeded;
    use proptest::prelude::*;

    /// Too great a number once, then a good one.
    struct Once(bool);

    impl Entropy for Once {
        fn fill(&mut self, bytes: &mut [u8]) -> Result<(), EntropyError> {
            bytes.fill(if std::mem::replace(&mut self.0, false) {
                0xff
            } else {
                7
            });
            Ok(())
        }
    }

    /// Zeros only.
    struct Stuck;

    impl Entropy for Stuck {
        fn fill(&mut self, bytes: &mut [u8]) -> Result<(), EntropyError> {
            bytes.fill(0);
            Ok(())
        }
    }

    #[test]
    fn the_same_bytes_make_the_same_key() {
        let a = PrivateKey::generate(&mut Seeded::new(1)).unwrap();
        let b = PrivateKey::generate(&mut Seeded::new(1)).unwrap();
        let c = PrivateKey::generate(&mut Seeded::new(2)).unwrap();
        assert_eq!(a.to_der(), b.to_der());
        assert_ne!(a, c);
    }

    #[test]
    fn bytes_that_are_no_scalar_are_drawn_again() {
        assert!(PrivateKey::generate(&mut Once(true)).is_ok());
        assert_eq!(
            PrivateKey::generate(&mut Stuck).unwrap_err(),
            KeyError::Entropy(EntropyError)
        );
    }

    #[test]
    fn a_key_is_not_shown() {
        let key = PrivateKey::generate(&mut Seeded::new(1)).unwrap();
        assert_eq!(format!("{key:?}"), "PrivateKey(not shown)");
    }

    #[test]
    fn what_is_not_one_plain_key_is_refused_with_the_reason() {
        let key = PrivateKey::generate(&mut Seeded::new(1)).unwrap();
        let pem = pem::encode(&pem::Pem::new("PRIVATE KEY", key.to_der().to_vec()));
        assert_eq!(PrivateKey::from_pem(&pem), Ok(key));
        for (text, expected) in [
            (String::new(), KeyError::NotPem),
            ("SWMKEY-1-x".into(), KeyError::NotPem),
            (format!("{pem}{pem}"), KeyError::NotPem),
            (pem.replace("PRIVATE", "ENCRYPTED PRIVATE"), KeyError::PassPhrase),
            (
                pem::encode(&pem::Pem::new("PRIVATE KEY", [1, 2, 3])),
                KeyError::Unreadable,
            ),
            (" ".repeat(MAX_BYTES + 1), KeyError::NotPem),
        ] {
            assert_eq!(PrivateKey::from_pem(&text), Err(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..138_usize, with: u8) {
            prop_assert!(PrivateKey::from_der(&bytes).is_err());
            let _ = PrivateKey::from_pem(&String::from_utf8_lossy(&bytes));
            let mut der = PrivateKey::generate(&mut Seeded::new(1)).unwrap().to_der();
            if let Some(byte) = der.get_mut(at) {
                *byte = with;
            }
            let _ = PrivateKey::from_der(&der);
        }
    }
}
