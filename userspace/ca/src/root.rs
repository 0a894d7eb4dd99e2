use crate::bundle::{End, Expected, TrustBundle};
use crate::csr::CertificateRequest;
use crate::entropy::{Entropy, EntropyError, random};
use crate::life::{BACKDATE, LEAST_ROOT_LIFE, NodeLife, ROOT_LIFE};
use crate::{
    Certificate, CertificateError, ClusterId, KeyError, NodeId, PrivateKey, Refusal, Role, RootDigest,
    Subject, Timestamp,
};
use rcgen::string::{Ia5String, PrintableString};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use serde::{Deserialize, Serialize};
use x509_parser::asn1_rs::Tag;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::X509Certificate;

#[cfg(test)]
mod tests;

/// The common name of every root that is made here, and a name that managers' certificates are valid for too.
const ROOT_NAME: &str = "swarm-ca";

/// Why a root cannot be made, or one that was given cannot be taken; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// The certificate cannot be read.
    #[error("the root certificate cannot be used")]
    Certificate(#[from] CertificateError),
    /// The key cannot be read or made.
    #[error("the root key cannot be used")]
    Key(#[from] KeyError),
    /// There are no random bytes.
    #[error("no root can be made")]
    Entropy(#[from] EntropyError),
    /// The key belongs to another certificate.
    #[error("the root key does not belong to the root certificate {subject}")]
    KeyMismatch {
        /// The certificate's subject.
        subject: String,
    },
    /// Another authority has signed it: only a root can be pinned by a join token.
    #[error("the certificate {subject} is not signed by itself with ECDSA (P-256, P-384), Ed25519 or RSA")]
    NotSelfSigned {
        /// The certificate's subject.
        subject: String,
    },
    /// It may not do what a root does.
    #[error("the certificate {subject} cannot be the root: {problem}")]
    NotAuthority {
        /// The certificate's subject.
        subject: String,
        /// What it lacks.
        problem: &'static str,
    },
    /// It ends too soon.
    #[error("the root certificate {subject} ends at {not_after}, expected {least} or later")]
    EndsSoon {
        /// The certificate's subject.
        subject: String,
        /// Its end.
        not_after: Timestamp,
        /// The earliest end that is accepted.
        least: Timestamp,
    },
    /// A certificate issued by it does not verify, for example for its name constraints.
    #[error("a certificate issued by the root {subject} would not be accepted")]
    Unusable {
        /// The certificate's subject.
        subject: String,
        /// What the verifier says.
        source: Refusal,
    },
    /// Its key is with an authority elsewhere.
    #[error("the key of the root {subject} is with an authority elsewhere, expected it here")]
    NoKey {
        /// The certificate's subject.
        subject: String,
    },
    /// The library refuses to write a certificate.
    #[error("no certificate can be written: {0}")]
    Write(&'static str),
}

/// A root certificate with its private key, or without it where an authority elsewhere has that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    certificate: Certificate,
    #[serde(with = "crate::key::maybe_as_base64", default)]
    key: Option<PrivateKey>,
}

impl Root {
    /// Makes a new root: ECDSA on P-256, for 20 years, named `swarm-ca`.
    ///
    /// # Errors
    /// There is no randomness, or the time is beyond what a certificate can say.
    pub fn create(now: Timestamp, entropy: &mut dyn Entropy) -> Result<Self, RootError> {
        let key = PrivateKey::generate(entropy)?;
        let mut params = authority(entropy)?;
        params.distinguished_name.push(DnType::CommonName, ROOT_NAME);
        set_validity(&mut params, now.before(BACKDATE), now.after(ROOT_LIFE))?;
        let Ok(written) = params.self_signed(key.pair()) else {
            return Err(RootError::Write("the root"));
        };
        Ok(Self {
            certificate: Certificate::from_der(written.der())?,
            key: Some(key),
        })
    }

    /// Takes the root that the operator gives, after checks: one self-signed certificate of an authority that can have
    /// another below it, valid for a year at least, its own key, and a certificate issued by it has to verify.
    ///
    /// # Errors
    /// See [`RootError`].
    pub fn from_pem(certificate: &str, key: &str, now: Timestamp) -> Result<Self, RootError> {
        let certificate = Certificate::from_pem(certificate)?;
        let root = Self {
            key: Some(PrivateKey::from_pem(key)?),
            certificate,
        };
        root.check(now)?;
        Ok(root)
    }

    /// Takes a root whose key an authority elsewhere has, after the same checks as far as they need no key.
    ///
    /// # Errors
    /// See [`RootError`].
    pub fn without_key(certificate: Certificate, now: Timestamp) -> Result<Self, RootError> {
        let root = Self {
            certificate,
            key: None,
        };
        root.check(now)?;
        Ok(root)
    }

    fn check(&self, now: Timestamp) -> Result<(), RootError> {
        let subject = self.certificate.subject_text();
        let other = |key: &PrivateKey| key.public_key() != self.certificate.public_key();
        if self.key.as_ref().is_some_and(other) {
            return Err(RootError::KeyMismatch { subject });
        }
        let (self_signed, problem) = self
            .certificate
            .with_x509(|x509| (x509.verify_signature(None).is_ok(), lacks(x509)))?;
        if !self_signed || self.certificate.subject_name() != self.certificate.issuer_name() {
            return Err(RootError::NotSelfSigned { subject });
        }
        if let Some(problem) = problem {
            return Err(RootError::NotAuthority { subject, problem });
        }
        if now < self.certificate.not_before() {
            return Err(RootError::NotAuthority {
                subject,
                problem: "it is not valid yet",
            });
        }
        let (not_after, least) = (self.certificate.not_after(), now.after(LEAST_ROOT_LIFE));
        if not_after < least {
            return Err(RootError::EndsSoon {
                subject,
                not_after,
                least,
            });
        }
        let Ok(own) = SubjectPublicKeyInfo::from_der(self.certificate.public_key()) else {
            return Err(RootError::Write("for this kind of key"));
        };
        if self.key.is_none() {
            return Ok(());
        }
        // Any node's name will do: the certificate is thrown away.
        let somebody = Subject {
            cluster_id: ClusterId::new(&"0".repeat(25)).map_err(|_| RootError::Write("for a node"))?,
            node_id: NodeId::new(&"0".repeat(25)).map_err(|_| RootError::Write("for a node"))?,
            role: Role::Manager,
        };
        self.sign_node(&own, &somebody, NodeLife::default(), now, &[1])
            .map(|_| ())
    }

    /// The certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The digest that join tokens carry.
    pub fn digest(&self) -> RootDigest {
        RootDigest::of(&self.certificate)
    }

    /// Whether its key is here, so that it can sign here.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    #[cfg(test)]
    pub(crate) fn key(&self) -> &PrivateKey {
        self.key.as_ref().unwrap()
    }

    /// Issues a node certificate for the key in the request, and verifies it before it is given out.
    pub(crate) fn issue(
        &self,
        request: &CertificateRequest,
        subject: &Subject,
        life: NodeLife,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Certificate, RootError> {
        self.sign_node(request.public_key(), subject, life, now, &serial(entropy)?)
    }

    fn sign_node(
        &self,
        public_key: &impl PublicKeyData,
        subject: &Subject,
        life: NodeLife,
        now: Timestamp,
        serial: &[u8],
    ) -> Result<Certificate, RootError> {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from_slice(serial));
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, subject.cluster_id.as_str());
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, subject.role.unit());
        params
            .distinguished_name
            .push(DnType::CommonName, subject.node_id.as_str());
        for name in subject.names() {
            let Ok(name) = Ia5String::try_from(name) else {
                return Err(RootError::Write("for this name"));
            };
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        // It cannot outlive its root.
        let not_after = now.after(life.duration()).min(self.certificate.not_after());
        set_validity(&mut params, now.before(BACKDATE), not_after)?;
        let Ok(written) = params.signed_by(public_key, &self.issuer()?) else {
            return Err(RootError::Write("for a node"));
        };
        let issued = Certificate::from_der(written.der())?;
        self.verifies(&issued, subject, now)
            .map_err(|source| RootError::Unusable {
                subject: self.certificate.subject_text(),
                source,
            })?;
        Ok(issued)
    }

    /// Whether everybody who trusts this root accepts the certificate, at both ends of a link.
    pub(crate) fn verifies(
        &self,
        issued: &Certificate,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let trust = TrustBundle::of(self.certificate.clone());
        for end in [End::Client, End::Server] {
            let expected = Expected {
                end,
                cluster_id: Some(&subject.cluster_id),
                role: subject.role,
            };
            trust.verify(&[issued.der().clone()], now, &expected)?;
        }
        Ok(())
    }

    /// A certificate for the other root's name and key, issued by this one: who trusts this one then accepts what the
    /// other has issued.
    pub(crate) fn cross_sign(
        &self,
        other: &Certificate,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Certificate, RootError> {
        let mut params = authority(entropy)?;
        params.distinguished_name = name_of(other)?;
        params.use_authority_key_identifier_extension = true;
        if let Some(identifier) = key_identifier(other)? {
            params.key_identifier_method = KeyIdMethod::PreSpecified(identifier);
        }
        set_validity(
            &mut params,
            now.before(BACKDATE),
            other.not_after().min(self.certificate.not_after()),
        )?;
        let Ok(public_key) = SubjectPublicKeyInfo::from_der(other.public_key()) else {
            return Err(RootError::Write("for this kind of key"));
        };
        let Ok(written) = params.signed_by(&public_key, &self.issuer()?) else {
            return Err(RootError::Write("for the new root"));
        };
        let crossed = Certificate::from_der(written.der())?;
        if crossed.subject_name() != other.subject_name() {
            return Err(RootError::Write("with the new root's name"));
        }
        Ok(crossed)
    }

    fn issuer(&self) -> Result<Issuer<'static, &rcgen::KeyPair>, RootError> {
        let Some(key) = &self.key else {
            let subject = self.certificate.subject_text();
            return Err(RootError::NoKey { subject });
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = name_of(&self.certificate)?;
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        if let Some(identifier) = key_identifier(&self.certificate)? {
            params.key_identifier_method = KeyIdMethod::PreSpecified(identifier);
        }
        Ok(Issuer::new(params, key.pair()))
    }
}

/// What roots and cross-signed certificates have in common.
fn authority(entropy: &mut dyn Entropy) -> Result<CertificateParams, EntropyError> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial(entropy)?));
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// A positive serial number of 127 random bits (RFC 5280 4.1.2.2).
fn serial(entropy: &mut dyn Entropy) -> Result<[u8; 16], EntropyError> {
    let mut serial = random::<16>(entropy)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

impl Subject {
    /// The DNS names that its certificate is valid for, as Swarm's.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let authority = match self.role {
            Role::Manager => Some(ROOT_NAME),
            Role::Worker => None,
        };
        [self.role.unit(), self.node_id.as_str()]
            .into_iter()
            .chain(authority)
    }
}

fn set_validity(
    params: &mut CertificateParams,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<(), RootError> {
    let (Some(from), Some(to)) = (not_before.to_date(), not_after.to_date()) else {
        return Err(RootError::Write("past the year 9999; correct the clock"));
    };
    (params.not_before, params.not_after) = (from, to);
    Ok(())
}

/// What the certificate lacks to be a root with another authority below it.
fn lacks(x509: &X509Certificate<'_>) -> Option<&'static str> {
    let Ok(Some(constraints)) = x509.basic_constraints() else {
        return Some("it has no basic constraints");
    };
    if !constraints.value.ca {
        return Some("its basic constraints say that it is no authority");
    }
    if constraints.value.path_len_constraint == Some(0) {
        return Some("its path length of 0 leaves no room for a later rotation of the root");
    }
    match x509.key_usage() {
        Ok(Some(usage)) if !usage.value.key_cert_sign() => {
            Some("its key usage does not allow to sign certificates")
        }
        Ok(_) => None,
        Err(_) => Some("its key usage cannot be read"),
    }
}

fn key_identifier(certificate: &Certificate) -> Result<Option<Vec<u8>>, CertificateError> {
    certificate.with_x509(|x509| {
        x509.extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
                _ => None,
            })
    })
}

/// The subject's name for the writer, which knows one attribute of a kind, and one to a level.
fn name_of(certificate: &Certificate) -> Result<DistinguishedName, RootError> {
    let unsupported =
        RootError::Write("under a name like this one: one attribute of a kind, in UTF-8 or ASCII");
    let name = certificate.with_x509(|x509| {
        let mut name = DistinguishedName::new();
        for level in x509.subject().iter() {
            let mut attributes = level.iter();
            let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
                return None;
            };
            let kind = DnType::from_oid(&attribute.attr_type().iter()?.collect::<Vec<_>>());
            let text = std::str::from_utf8(attribute.attr_value().data).ok()?;
            let value = match attribute.attr_value().header.tag() {
                Tag::Utf8String => DnValue::Utf8String(text.to_owned()),
                Tag::PrintableString => DnValue::PrintableString(PrintableString::try_from(text).ok()?),
                Tag::Ia5String => DnValue::Ia5String(Ia5String::try_from(text).ok()?),
                _ => return None,
            };
            if name.get(&kind).is_some() {
                return None;
            }
            name.push(kind, value);
        }
        Some(name)
    })?;
    name.ok_or(unsupported)
}
