use crate::support::{SOON, TestEngine};
use essaim_api::{TlsError, TlsFiles, TlsSocket, serve};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const HERE: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// An authority, and a certificate of it for 127.0.0.1, as files.
struct Pki {
    folder: TempDir,
}

impl Pki {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &authority).unwrap();
        for (name, text) in [
            ("ca.pem", authority.pem()),
            ("cert.pem", certificate.pem()),
            ("key.pem", key.serialize_pem()),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self { folder }
    }

    fn files(&self) -> TlsFiles {
        TlsFiles {
            authority: self.folder.path().join("ca.pem"),
            certificate: self.folder.path().join("cert.pem"),
            key: self.folder.path().join("key.pem"),
        }
    }
}

/// A client that trusts `authority`, and shows the certificate of `own`, if any.
fn client(authority: &Pki, own: Option<&Pki>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(authority.files().authority).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        Some(own) => {
            let files = own.files();
            let certificate = CertificateDer::from_pem_file(files.certificate).unwrap();
            let key = PrivateKeyDer::from_pem_file(files.key).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    TlsConnector::from(Arc::new(config))
}

/// What a client gets to `GET /_ping`; an error where the server does not let it in.
async fn ping(address: SocketAddr, client: &TlsConnector) -> std::io::Result<String> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    let mut stream = client.connect(name, stream).await?;
    let request = b"GET /_ping HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await?;
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap()?;
    Ok(answer)
}

async fn serving(files: &TlsFiles) -> SocketAddr {
    let socket = TlsSocket::bind(HERE.into(), files).await.unwrap();
    let address = socket.local_address().unwrap();
    tokio::spawn(serve(socket, TestEngine::inactive(), std::future::pending()));
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_tcp_only_who_shows_a_certificate_of_the_authority_is_served() {
    let (ours, others) = (Pki::new(), Pki::new());
    let address = serving(&ours.files()).await;
    let answer = ping(address, &client(&ours, Some(&ours))).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("OK"),
        "{answer}"
    );
    for (who, client) in [
        ("nobody", client(&ours, None)),
        ("a stranger", client(&ours, Some(&others))),
        ("one who does not trust the server", client(&others, Some(&ours))),
    ] {
        let answer = ping(address, &client).await;
        assert!(answer.is_err(), "{who} gets {answer:?}");
    }
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"GET /_ping HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // It is told an alert of TLS, or the connection is reset.
    let _ = timeout(SOON, plain.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_say_nothing_keep_nobody_out() {
    let pki = Pki::new();
    let address = serving(&pki.files()).await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    ping(address, &client(&pki, Some(&pki))).await.unwrap();
}

#[tokio::test]
async fn files_that_do_not_serve_are_named() {
    let (pki, others) = (Pki::new(), Pki::new());
    let refused = async |files: TlsFiles| match TlsSocket::bind(HERE.into(), &files).await {
        Ok(_) => panic!("{files:?} serve"),
        Err(error) => error,
    };
    let missing = pki.folder.path().join("none.pem");
    for file in 0..3 {
        let mut files = pki.files();
        *[&mut files.authority, &mut files.certificate, &mut files.key][file] = missing.clone();
        let error = refused(files).await;
        assert!(
            matches!(&error, TlsError::Read { path, .. } if *path == missing),
            "{error:?}"
        );
    }
    let mut files = pki.files();
    files.authority = files.key.clone();
    assert!(matches!(refused(files).await, TlsError::Empty { .. }));
    let mut files = pki.files();
    files.key = others.files().key;
    assert!(matches!(refused(files).await, TlsError::Unusable(_)));
    let taken = std::net::TcpListener::bind(HERE).unwrap();
    let error = TlsSocket::bind(taken.local_addr().unwrap(), &pki.files())
        .await
        .err();
    assert!(matches!(error, Some(TlsError::Listen { .. })), "{error:?}");
}
