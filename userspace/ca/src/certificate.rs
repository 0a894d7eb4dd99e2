use crate::time::Timestamp;
use crate::{ClusterId, NodeId, Role};
use pem::{EncodeConfig, LineEnding, Pem};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

#[cfg(test)]
mod tests;

/// Longest PEM text that is read, in bytes: far more than any chain or bundle of roots.
const MAX_PEM: usize = 256 * 1024;

/// Why text or bytes are not the certificates that were asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The text is not PEM.
    #[error("found no certificate in PEM")]
    NotPem,
    /// Another number of certificates than there has to be.
    #[error("found {found} certificates, expected {expected}")]
    Count {
        /// How many there are.
        found: usize,
        /// How many there have to be.
        expected: &'static str,
    },
    /// The bytes are no X.509 certificate, or one that the verifier cannot use.
    #[error("a certificate is damaged: {0}")]
    Damaged(&'static str),
    /// The subject is not that of a node.
    #[error("the subject {subject} is not that of a node: {problem}")]
    Subject {
        /// The subject, as text.
        subject: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// An X.509 certificate, parsed but not verified.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Certificate {
    der: CertificateDer<'static>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    public_key: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Whom a node certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The organisation (O).
    pub cluster_id: ClusterId,
    /// The organisational unit (OU).
    pub role: Role,
    /// The common name (CN).
    pub node_id: NodeId,
}

impl Certificate {
    /// Reads one certificate in DER.
    ///
    /// # Errors
    /// [`CertificateError::Damaged`].
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let x509 = parse(der)?;
        let seconds = |time: i64| Timestamp::from_unix(u64::try_from(time).unwrap_or(0));
        Ok(Self {
            subject: x509.subject().as_raw().to_vec(),
            issuer: x509.issuer().as_raw().to_vec(),
            public_key: x509.public_key().raw.to_vec(),
            not_before: seconds(x509.validity().not_before.timestamp()),
            not_after: seconds(x509.validity().not_after.timestamp()),
            der: CertificateDer::from(der.to_vec()),
        })
    }

    /// Reads every certificate in the PEM text, in order; blocks of other kinds are passed over.
    ///
    /// # Errors
    /// There is none, or one is damaged.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, CertificateError> {
        if text.len() > MAX_PEM {
            return Err(CertificateError::NotPem);
        }
        let Ok(blocks) = pem::parse_many(text) else {
            return Err(CertificateError::NotPem);
        };
        let certificates: Vec<_> = blocks
            .iter()
            .filter(|block| block.tag() == "CERTIFICATE")
            .map(|block| Self::from_der(block.contents()))
            .collect::<Result<_, _>>()?;
        if certificates.is_empty() {
            return Err(CertificateError::NotPem);
        }
        Ok(certificates)
    }

    /// Reads the one certificate in the PEM text.
    ///
    /// # Errors
    /// There is none, or more than one, or it is damaged.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let mut all = Self::all_from_pem(text)?;
        match (all.pop(), all.len()) {
            (Some(certificate), 0) => Ok(certificate),
            (_, others) => Err(CertificateError::Count {
                found: others.saturating_add(1),
                expected: "exactly one",
            }),
        }
    }

    /// The certificate in PEM: lines of 64 characters and a line feed, byte for byte what Swarm writes.
    pub fn to_pem(&self) -> String {
        let block = Pem::new("CERTIFICATE", self.der.as_ref());
        pem::encode_config(&block, EncodeConfig::new().set_line_ending(LineEnding::LF))
    }

    /// The certificate in DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The first second in which it is valid.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second in which it is valid.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The subject's name, in DER.
    pub fn subject_name(&self) -> &[u8] {
        &self.subject
    }

    /// The issuer's name, in DER.
    pub fn issuer_name(&self) -> &[u8] {
        &self.issuer
    }

    /// The `SubjectPublicKeyInfo`, in DER.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Whom it is for. That is the certificate's word only: it has to be verified first.
    ///
    /// # Errors
    /// The subject is not that of a node.
    pub fn subject(&self) -> Result<Subject, CertificateError> {
        let x509 = parse(&self.der)?;
        let name = x509.subject();
        let wrong = |problem: String| CertificateError::Subject {
            subject: shown(name),
            problem,
        };
        let unit = single(name.iter_organizational_unit(), "OU").map_err(wrong)?;
        Ok(Subject {
            cluster_id: single(name.iter_organization(), "O")
                .and_then(|text| ClusterId::new(text).map_err(|error| error.to_string()))
                .map_err(wrong)?,
            role: Role::from_unit(unit).ok_or_else(|| {
                let (worker, manager) = (Role::Worker.unit(), Role::Manager.unit());
                wrong(format!(
                    "found OU {:?}, expected {worker} or {manager}",
                    cut(unit)
                ))
            })?,
            node_id: single(name.iter_common_name(), "CN")
                .and_then(|text| NodeId::new(text).map_err(|error| error.to_string()))
                .map_err(wrong)?,
        })
    }

    /// The DNS names that it is valid for.
    pub(crate) fn dns_names(&self) -> Result<Vec<String>, CertificateError> {
        let names = self.with_x509(|x509| {
            let extension = x509.subject_alternative_name().ok().flatten();
            let names = extension
                .iter()
                .flat_map(|extension| &extension.value.general_names);
            let names = names.filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            });
            names.collect()
        })?;
        Ok(names)
    }

    /// The subject as text, for a message; short, and without control characters.
    pub(crate) fn subject_text(&self) -> String {
        parse(&self.der).map_or_else(|_| "?".into(), |x509| shown(x509.subject()))
    }

    /// What a verifier says of it as an authority, where it is one.
    pub(crate) fn with_x509<T>(
        &self,
        of: impl FnOnce(&X509Certificate<'_>) -> T,
    ) -> Result<T, CertificateError> {
        parse(&self.der).map(|x509| of(&x509))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Certificate({}, {} to {})",
            self.subject_text(),
            self.not_before,
            self.not_after
        )
    }
}

impl PartialOrd for Certificate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Certificate {
    /// By the bytes: an order that is the same everywhere.
    fn cmp(&self, other: &Self) -> Ordering {
        self.der.as_ref().cmp(other.der.as_ref())
    }
}

impl TryFrom<String> for Certificate {
    type Error = CertificateError;

    fn try_from(text: String) -> Result<Self, CertificateError> {
        Self::from_pem(&text)
    }
}

impl From<Certificate> for String {
    fn from(certificate: Certificate) -> Self {
        certificate.to_pem()
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], x509)) => Ok(x509),
        Ok(_) => Err(CertificateError::Damaged("bytes follow its end")),
        Err(_) => Err(CertificateError::Damaged("not X.509 in DER")),
    }
}

/// The text of the one attribute of its kind: two would let each reader pick another.
fn single<'a>(
    mut values: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>,
    kind: &'static str,
) -> Result<&'a str, String> {
    match (values.next(), values.next()) {
        (Some(value), None) => value.as_str().map_err(|_| format!("{kind} is not text")),
        (None, _) => Err(format!("no {kind}")),
        (Some(_), Some(_)) => Err(format!("more than one {kind}")),
    }
}

fn shown(name: &X509Name<'_>) -> String {
    format!("{:?}", cut(&name.to_string()))
}

/// At most 120 characters of text that comes from anybody.
fn cut(text: &str) -> String {
    text.chars().take(120).collect()
}
