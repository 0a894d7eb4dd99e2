//! The API on TCP, where only who shows a certificate gets in.

use crate::Listen;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a client may take to show who it is.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Most handshakes at a time; more connections wait in the kernel's queue.
const MAX_HANDSHAKES: usize = 4096;

/// What a server shows and asks for: files in PEM, as dockerd takes them with `--tlsverify`.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The authorities whose certificates clients may show.
    pub authority: PathBuf,
    /// The server's certificate, followed by those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

/// The API is not served on TCP; nothing listens.
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
    /// A file holds nothing of what it should.
    #[error("{} holds no certificate, expected at least one in PEM", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A certificate is none that can be gone by, or the key is of another one.
    #[error("the certificates and the key cannot be used together")]
    Unusable(#[from] rustls::Error),
    /// The authorities cannot be gone by.
    #[error("the authorities of clients cannot be used")]
    Authorities(#[from] VerifierBuilderError),
    /// The address cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

impl TlsFiles {
    /// TLS 1.3 that ends where the client shows no certificate of the authorities.
    fn config(&self) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in certificates("certificates of the authorities", &self.authority)? {
            roots.add(certificate)?;
        }
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
        let chain = certificates("server's certificate", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|source| TlsError::Read {
            what: "server's private key",
            path: self.key.clone(),
            source,
        })?;
        Ok(ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)?)
    }
}

fn certificates(what: &'static str, path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |source| TlsError::Read {
        what,
        path: path.clone(),
        source,
    };
    let found = CertificateDer::pem_file_iter(path).map_err(read)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(read)?;
    if found.is_empty() {
        return Err(TlsError::Empty { path: path.clone() });
    }
    Ok(found)
}

/// How long a connection may be silent until it is probed.
const PROBE_AFTER: Duration = Duration::from_secs(30);
/// How often it is probed then.
const PROBE_EACH: Duration = Duration::from_secs(10);

/// A TCP socket that only lets clients in that show a certificate.
///
/// The files are read once: a renewed certificate counts from the next start on.
pub struct TlsSocket {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    /// Each in a task of its own, so that a client that is slow or silent keeps no other out.
    handshakes: JoinSet<Option<TlsStream<TcpStream>>>,
}

impl TlsSocket {
    /// Listens at an address.
    ///
    /// # Errors
    /// [`TlsError`]: the files do not serve, or the address cannot be had.
    pub async fn bind(address: SocketAddr, files: &TlsFiles) -> Result<Self, TlsError> {
        let config = files.config()?;
        let listener = TcpListener::bind(address).await;
        Ok(Self {
            listener: listener.map_err(|source| TlsError::Listen { address, source })?,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            handshakes: JoinSet::new(),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn greet(&mut self, connection: TcpStream, from: SocketAddr) {
        // A client whose machine is gone would keep its place: a stream may be silent for hours.
        let keepalive = TcpKeepalive::new()
            .with_time(PROBE_AFTER)
            .with_interval(PROBE_EACH);
        if let Err(error) = SockRef::from(&connection).set_tcp_keepalive(&keepalive) {
            tracing::debug!(%from, %error, "a connection is not probed");
        }
        let handshake = self.acceptor.accept(connection);
        self.handshakes.spawn(async move {
            match timeout(HANDSHAKE_WITHIN, handshake).await {
                Ok(Ok(stream)) => return Some(stream),
                Ok(Err(error)) => tracing::info!(%from, %error, "a client of the API is refused"),
                Err(_) => tracing::info!(%from, "a client of the API did not say who it is in time"),
            }
            None
        });
    }
}

impl Listen for TlsSocket {
    type Connection = TlsStream<TcpStream>;

    async fn accept(&mut self) -> io::Result<Self::Connection> {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(stream)) = done {
                        return Ok(stream);
                    }
                }
                accepted = self.listener.accept(), if self.handshakes.len() < MAX_HANDSHAKES => {
                    let (connection, from) = accepted?;
                    self.greet(connection, from);
                }
            }
        }
    }
}
