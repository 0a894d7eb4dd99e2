//! What the tests share.

use crate::entropy::{Entropy, EntropyError};
use crate::{
    Callee, CertificateRequest, ClusterId, Identity, NodeId, NodeLife, PrivateKey, Refusal, Role, RootCa,
    Subject, Timestamp, refusal_of,
};
use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Reproducible bytes from a seed.
pub(crate) struct Seeded {
    seed: u64,
    block: u64,
}

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, block: 0 }
    }
}

impl Entropy for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        for chunk in bytes.chunks_mut(32) {
            let input = [self.seed.to_le_bytes(), self.block.to_le_bytes()].concat();
            self.block += 1;
            chunk.copy_from_slice(&digest(&SHA256, &input).as_ref()[..chunk.len()]);
        }
        Ok(())
    }
}

/// 2026-11-28T20:33:00Z.
pub(crate) const NOW: Timestamp = Timestamp::from_unix(1_795_897_980);

pub(crate) fn cluster_of(entropy: &mut dyn Entropy) -> ClusterId {
    ClusterId::random(entropy).unwrap()
}

/// A new node with a certificate of this authority.
pub(crate) fn issue(
    ca: &RootCa,
    cluster: &ClusterId,
    role: Role,
    life: NodeLife,
    now: Timestamp,
    entropy: &mut dyn Entropy,
) -> Identity {
    let subject = Subject {
        cluster_id: cluster.clone(),
        role,
        node_id: NodeId::random(entropy).unwrap(),
    };
    renew(ca, &subject, life, now, entropy)
}

/// A new key and certificate for this node.
pub(crate) fn renew(
    ca: &RootCa,
    subject: &Subject,
    life: NodeLife,
    now: Timestamp,
    entropy: &mut dyn Entropy,
) -> Identity {
    let key = PrivateKey::generate(entropy).unwrap();
    let request = CertificateRequest::new(&key).unwrap();
    Identity::from_issued(key, ca.issue(&request, subject, life, now, entropy).unwrap()).unwrap()
}

/// A clock that says what it is told.
#[derive(Debug)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    pub(crate) fn at(now: Timestamp) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(now.unix())))
    }

    pub(crate) fn set(&self, now: Timestamp) {
        self.0.store(now.unix(), Ordering::Relaxed);
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(Timestamp::from_unix(self.0.load(Ordering::Relaxed)).to_pki())
    }
}

/// Both ends of a link, in memory.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
}

/// What ended a handshake: the error of each end, the one that refused and the one that was told.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) client: Option<rustls::Error>,
    pub(crate) server: Option<rustls::Error>,
}

impl Refused {
    pub(crate) fn by_client(&self) -> Option<&Refusal> {
        self.client.as_ref().and_then(refusal_of)
    }

    pub(crate) fn by_server(&self) -> Option<&Refusal> {
        self.server.as_ref().and_then(refusal_of)
    }
}

/// A TLS handshake over two buffers.
pub(crate) fn connect(
    client: ClientConfig,
    server: ServerConfig,
    callee: &Callee,
) -> Result<Ends, Box<Refused>> {
    let client = ClientConnection::new(Arc::new(client), callee.server_name().unwrap()).unwrap();
    let server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut ends = Ends { client, server };
    ends.carry()?;
    assert!(!ends.client.is_handshaking() && !ends.server.is_handshaking());
    Ok(ends)
}

impl Ends {
    /// Carries bytes both ways until there are none.
    fn carry(&mut self) -> Result<(), Box<Refused>> {
        let mut refused = Refused {
            client: None,
            server: None,
        };
        loop {
            let mut bytes = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut bytes).unwrap();
            }
            let mut quiet = bytes.is_empty();
            if refused.server.is_none() {
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    self.server.read_tls(&mut rest).unwrap();
                    refused.server = refused.server.or(self.server.process_new_packets().err());
                }
            }
            let mut bytes = Vec::new();
            while self.server.wants_write() {
                self.server.write_tls(&mut bytes).unwrap();
            }
            quiet &= bytes.is_empty();
            if refused.client.is_none() {
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    self.client.read_tls(&mut rest).unwrap();
                    refused.client = refused.client.or(self.client.process_new_packets().err());
                }
            }
            match (quiet, &refused) {
                (
                    true,
                    Refused {
                        client: None,
                        server: None,
                    },
                ) => return Ok(()),
                (true, _) => return Err(Box::new(refused)),
                (false, _) => {}
            }
        }
    }

    /// Whether a word gets through each way.
    pub(crate) fn talk(&mut self) -> bool {
        self.client.writer().write_all(b"ping").unwrap();
        self.server.writer().write_all(b"pong").unwrap();
        if self.carry().is_err() {
            return false;
        }
        let (mut to_server, mut to_client) = ([0; 4], [0; 4]);
        self.server.reader().read_exact(&mut to_server).unwrap();
        self.client.reader().read_exact(&mut to_client).unwrap();
        (&to_server, &to_client) == (b"ping", b"pong")
    }
}
