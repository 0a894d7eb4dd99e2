use crate::{KeyError, PrivateKey};
use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::{
    CertificateParams, DistinguishedName, PKCS_ECDSA_P256_SHA256, PublicKeyData, SubjectPublicKeyInfo,
};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

/// Longest request that is read, in bytes of PEM.
const MAX_PEM: usize = 16 * 1024;

/// Why a certificate request is refused; nothing was issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is not PEM, or not PKCS #10.
    #[error("not a certificate request in PEM (PKCS #10)")]
    Unreadable,
    /// Whoever sent it has not shown that the private key is theirs.
    #[error("the certificate request is not signed by its own key")]
    Signature,
    /// The public key is of another kind.
    #[error("the certificate request's key is not ECDSA on P-256")]
    Key,
}

/// A certificate request (PKCS #10): a public key, and the proof that its sender holds the private one.
///
/// Nothing else in it counts: who the node is, and in which role, is for the managers to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    der: Vec<u8>,
    public_key: SubjectPublicKeyInfo,
}

impl CertificateRequest {
    /// Makes the request for this key, on the node: the key itself stays there.
    ///
    /// # Errors
    /// The crypto library refuses to sign.
    pub fn new(key: &PrivateKey) -> Result<Self, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let refused = KeyError::Refused("sign a certificate request");
        let Ok(request) = params.serialize_request(key.pair()) else {
            return Err(refused);
        };
        Self::from_der(request.der()).map_err(|_| refused)
    }

    /// Reads a request in DER, and checks its signature.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn from_der(der: &[u8]) -> Result<Self, RequestError> {
        let Ok(([], request)) = X509CertificationRequest::from_der(der) else {
            return Err(RequestError::Unreadable);
        };
        let key = request.certification_request_info.subject_pki.raw;
        let public_key = match SubjectPublicKeyInfo::from_der(key) {
            Ok(key) if key.algorithm() == &PKCS_ECDSA_P256_SHA256 => key,
            _ => return Err(RequestError::Key),
        };
        if request.verify_signature().is_err() {
            return Err(RequestError::Signature);
        }
        Ok(Self {
            der: der.to_vec(),
            public_key,
        })
    }

    /// Reads a request in PEM, and checks its signature.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn from_pem(text: &str) -> Result<Self, RequestError> {
        if text.len() > MAX_PEM {
            return Err(RequestError::Unreadable);
        }
        match pem::parse(text) {
            Ok(block) if block.tag() == "CERTIFICATE REQUEST" => Self::from_der(block.contents()),
            _ => Err(RequestError::Unreadable),
        }
    }

    /// The request in PEM.
    pub fn to_pem(&self) -> String {
        let block = Pem::new("CERTIFICATE REQUEST", self.der.as_slice());
        pem::encode_config(&block, EncodeConfig::new().set_line_ending(LineEnding::LF))
    }

    /// The request in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    pub(crate) fn public_key(&self) -> &SubjectPublicKeyInfo {
        &self.public_key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Seeded;
    use proptest::prelude::*;

    fn key(seed: u64) -> PrivateKey {
        PrivateKey::generate(&mut Seeded::new(seed)).unwrap()
    }

    #[test]
    fn a_request_carries_the_public_key_and_not_the_private_one() {
        let key = key(1);
        let request = CertificateRequest::new(&key).unwrap();
        assert_eq!(
            CertificateRequest::from_pem(&request.to_pem()),
            Ok(request.clone())
        );
        assert_eq!(request.public_key().subject_public_key_info(), key.public_key());
        // The scalar follows the header of the PKCS #8 key.
        let scalar = &key.to_der()[36..68];
        assert!(!request.der().windows(32).any(|window| window == scalar));
    }

    #[test]
    fn a_request_for_somebody_elses_key_is_refused() {
        let (mine, theirs) = (key(1), key(2));
        let mut der = CertificateRequest::new(&mine).unwrap().der().to_vec();
        let (from, to) = (mine.public_key(), theirs.public_key());
        let at = der.windows(from.len()).position(|window| window == from).unwrap();
        der[at..at + to.len()].copy_from_slice(&to);
        assert_eq!(CertificateRequest::from_der(&der), Err(RequestError::Signature));
    }

    #[test]
    fn keys_of_other_kinds_are_refused() {
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let request = CertificateParams::default().serialize_request(&other).unwrap();
        assert_eq!(
            CertificateRequest::from_pem(&request.pem().unwrap()),
            Err(RequestError::Key)
        );
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let root = include_str!("../testdata/swarm-root.pem");
        for text in ["", "x", root, &root.replace("CERTIFICATE", "CERTIFICATE REQUEST")] {
            assert_eq!(CertificateRequest::from_pem(text), Err(RequestError::Unreadable));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_and_damaged_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            damage in proptest::collection::vec((0..220_usize, any::<u8>()), 1..4),
        ) {
            prop_assert!(CertificateRequest::from_der(&bytes).is_err());
            let _ = CertificateRequest::from_pem(&String::from_utf8_lossy(&bytes));
            let request = CertificateRequest::new(&key(1)).unwrap();
            let mut der = request.der().to_vec();
            for (at, with) in damage {
                if let Some(byte) = der.get_mut(at) {
                    *byte = with;
                }
            }
            if let Ok(read) = CertificateRequest::from_der(&der) {
                prop_assert_eq!(read.public_key(), request.public_key());
            }
        }
    }
}
