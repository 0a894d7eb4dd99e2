//! What the authority, a link's handshake and the sealing of a record cost.
#![allow(missing_docs, reason = "criterion's macros make items without docs")]
#![expect(clippy::expect_used, reason = "a bench that cannot be set up has to stop")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use essaim_ca::{
    Admit, Callee, CertificateRequest, ClusterId, DataKeys, DesiredRoot, End, Expected, Identity,
    LiveIdentity, NodeId, NodeLife, PrivateKey, Role, RootCa, Sealer, Subject, SystemEntropy, Timestamp,
    client_config, server_config,
};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConnection, ServerConnection};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_unix(1_795_897_980);

#[derive(Debug)]
struct Fixed;

impl TimeProvider for Fixed {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(NOW.unix())))
    }
}

fn subject() -> Subject {
    let random = &mut SystemEntropy;
    Subject {
        cluster_id: ClusterId::random(random).expect("randomness"),
        role: Role::Manager,
        node_id: NodeId::random(random).expect("randomness"),
    }
}

fn identity(ca: &RootCa) -> Identity {
    let key = PrivateKey::generate(&mut SystemEntropy).expect("a key");
    let request = CertificateRequest::new(&key).expect("a request");
    let issued = ca.issue(&request, &subject(), NodeLife::default(), NOW, &mut SystemEntropy);
    Identity::from_issued(key, issued.expect("a certificate")).expect("an identity")
}

fn authority(c: &mut Criterion) {
    let mut ca = RootCa::create(NOW, &mut SystemEntropy).expect("an authority");
    let key = PrivateKey::generate(&mut SystemEntropy).expect("a key");
    let request = CertificateRequest::new(&key).expect("a request").to_pem();
    let subject = subject();
    c.bench_function("ca/key", |b| b.iter(|| PrivateKey::generate(&mut SystemEntropy)));
    c.bench_function("ca/issue", |b| {
        b.iter(|| {
            let request = CertificateRequest::from_pem(black_box(&request)).expect("a request");
            ca.issue(&request, &subject, NodeLife::default(), NOW, &mut SystemEntropy)
        });
    });
    let trust = ca.trust();
    let expected = Expected {
        end: End::Client,
        cluster_id: None,
        role: Role::Worker,
    };
    for (name, rotating) in [("ca/verify/root", false), ("ca/verify/cross-signed", true)] {
        if rotating {
            ca.rotate(DesiredRoot::New, NOW, &mut SystemEntropy)
                .expect("a rotation");
        }
        let chain: Vec<_> = identity(&ca)
            .chain()
            .map(|certificate| certificate.der().clone())
            .collect();
        c.bench_function(name, |b| {
            b.iter(|| trust.verify(black_box(&chain), NOW, &expected));
        });
    }
}

fn handshake(c: &mut Criterion) {
    let ca = RootCa::create(NOW, &mut SystemEntropy).expect("an authority");
    let subject = subject();
    let live = || {
        let key = PrivateKey::generate(&mut SystemEntropy).expect("a key");
        let request = CertificateRequest::new(&key).expect("a request");
        let issued = ca.issue(&request, &subject, NodeLife::default(), NOW, &mut SystemEntropy);
        let identity = Identity::from_issued(key, issued.expect("a certificate")).expect("an identity");
        LiveIdentity::new(identity).expect("an identity in use")
    };
    let server =
        Arc::new(server_config(&live(), Admit::Members(Role::Worker), Arc::new(Fixed)).expect("a server"));
    let client = Arc::new(client_config(&live(), Arc::new(Fixed)).expect("a client"));
    let name = Callee::AnyManager.server_name().expect("a name");
    c.bench_function("link/handshake/both-ends", |b| {
        b.iter_batched(
            || {
                let client = ClientConnection::new(client.clone(), name.clone()).expect("a client");
                (client, ServerConnection::new(server.clone()).expect("a server"))
            },
            |(mut client, mut server)| {
                while client.is_handshaking() || server.is_handshaking() {
                    let mut bytes = Vec::new();
                    while client.wants_write() {
                        client.write_tls(&mut bytes).expect("memory");
                    }
                    let mut rest = bytes.as_slice();
                    while !rest.is_empty() {
                        server.read_tls(&mut rest).expect("memory");
                        server.process_new_packets().expect("a handshake");
                    }
                    bytes.clear();
                    while server.wants_write() {
                        server.write_tls(&mut bytes).expect("memory");
                    }
                    let mut rest = bytes.as_slice();
                    while !rest.is_empty() {
                        client.read_tls(&mut rest).expect("memory");
                        client.process_new_packets().expect("a handshake");
                    }
                }
                (client, server)
            },
            BatchSize::SmallInput,
        );
    });
}

fn records(c: &mut Criterion) {
    let keys = DataKeys::generate(&mut SystemEntropy).expect("keys");
    let sealer = Sealer::new(keys, &mut SystemEntropy).expect("a sealer");
    let mut group = c.benchmark_group("seal");
    for length in [256_usize, 4_096, 1_048_576] {
        let plain = vec![7_u8; length];
        let record = sealer.encrypt(b"1", &plain);
        group.throughput(Throughput::Bytes(u64::try_from(length).expect("a length")));
        group.bench_function(format!("encrypt/{length}"), |b| {
            b.iter(|| sealer.encrypt(b"1", black_box(&plain)));
        });
        group.bench_function(format!("decrypt/{length}"), |b| {
            b.iter(|| sealer.decrypt(b"1", black_box(&record)));
        });
    }
    group.finish();
}

criterion_group!(benches, authority, handshake, records);
criterion_main!(benches);
