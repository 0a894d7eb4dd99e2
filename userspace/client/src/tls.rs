//! TLS towards a daemon on TCP: it is checked, and asks for a certificate itself.

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a client shows and asks for: files in PEM, as docker has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities whose certificates daemons may show.
    pub authority: PathBuf,
    /// The client's certificate, followed by those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A daemon cannot be asked over TLS; it was not asked.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is no PEM.
    #[error("cannot read the {what} in {}", path.display())]
    Read {
        /// What was expected there.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: pem::Error,
    },
    /// A certificate is none that can be gone by, or the key is of another one.
    #[error("the certificate and the key cannot be used together")]
    Unusable(#[from] rustls::Error),
    /// A certificate cannot be for this name.
    #[error("{found:?} is no name that a certificate can be for")]
    Name {
        /// The host.
        found: String,
        /// Why not.
        source: InvalidDnsNameError,
    },
}

impl TlsFiles {
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in certificates("authorities of the daemon", &self.authority)? {
            roots.add(certificate)?;
        }
        let chain = certificates("certificate to show", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|source| TlsError::Read {
            what: "key of the certificate to show",
            path: self.key.clone(),
            source,
        })?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        Ok(Arc::new(config))
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |source| TlsError::Read {
        what,
        path: path.to_owned(),
        source,
    };
    CertificateDer::pem_file_iter(path)
        .map_err(read)?
        .collect::<Result<_, _>>()
        .map_err(read)
}

/// Whom the daemon's certificate must be for: the host of `HOST:PORT`.
pub(crate) fn server_name(address: &str) -> Result<ServerName<'static>, TlsError> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(|source| TlsError::Name {
        found: host.to_owned(),
        source,
    })
}
