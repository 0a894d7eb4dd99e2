use super::*;
use crate::testing::{NOW, Seeded, cluster_of, issue};
use crate::{NodeLife, RootCa};
use proptest::prelude::*;
use std::time::Duration;

const REAL_ROOT: &str = include_str!("../../testdata/swarm-root.pem");
const REAL_NODE: &str = include_str!("../../testdata/swarm-node.pem");
const SECOND: Duration = Duration::from_secs(1);

fn anyone(end: End) -> Expected<'static> {
    Expected {
        end,
        cluster_id: None,
        role: Role::Worker,
    }
}

#[test]
fn a_node_of_a_real_swarm_verifies_under_its_root() {
    let trust = TrustBundle::from_pem(REAL_ROOT).unwrap();
    let node = Certificate::from_pem(REAL_NODE).unwrap();
    for end in [End::Client, End::Server] {
        let peer = trust.verify(&[node.der().clone()], NOW, &anyone(end)).unwrap();
        assert_eq!((peer.role, peer.expires), (Role::Manager, node.not_after()));
        assert_eq!(peer.node_id.as_str(), "jaxx7nxf7kbjq38ruw07gqxq5");
    }
}

#[test]
fn validity_begins_and_ends_with_its_seconds() {
    let trust = TrustBundle::from_pem(REAL_ROOT).unwrap();
    let node = Certificate::from_pem(REAL_NODE).unwrap();
    let root = Certificate::from_pem(REAL_ROOT).unwrap();
    let at = |now| trust.verify(&[node.der().clone()], now, &anyone(End::Client));
    // Swarm backdates roots by five minutes only, so this node's certificate begins before its root.
    assert!(node.not_before() < root.not_before());
    assert!(matches!(
        at(root.not_before().before(SECOND)),
        Err(Refusal::RootNotValid { .. })
    ));
    assert!(at(root.not_before()).is_ok());
    let early = at(node.not_before().before(SECOND));
    assert!(matches!(early, Err(Refusal::NotYetValid { .. })), "{early:?}");
    assert!(at(node.not_after()).is_ok());
    assert!(matches!(
        at(node.not_after().after(SECOND)),
        Err(Refusal::Expired { .. })
    ));
}

#[test]
fn certificates_of_an_expired_root_are_refused_with_it() {
    let mut entropy = Seeded::new(1);
    let ca = RootCa::create(NOW, &mut entropy).unwrap();
    let end = ca.root().not_after();
    assert_eq!(end, NOW.after(crate::ROOT_LIFE));
    let cluster = cluster_of(&mut entropy);
    let near = end.before(Duration::from_hours(2));
    let node = issue(
        &ca,
        &cluster,
        Role::Worker,
        NodeLife::default(),
        near,
        &mut entropy,
    );
    // It does not outlive its root.
    assert_eq!(node.certificate().not_after(), end);
    let at = |now| {
        ca.trust()
            .verify(&node.chain_der(), now, &anyone(End::Client))
            .map(|_| ())
    };
    assert_eq!(at(end), Ok(()));
    let late = at(end.after(SECOND));
    assert!(matches!(late, Err(Refusal::Expired { .. })), "{late:?}");
}

#[test]
fn a_chain_that_is_empty_long_or_no_certificate_is_refused() {
    let trust = TrustBundle::from_pem(REAL_ROOT).unwrap();
    let node = Certificate::from_pem(REAL_NODE).unwrap();
    let verify = |chain: &[CertificateDer<'_>]| trust.verify(chain, NOW, &anyone(End::Client)).unwrap_err();
    assert_eq!(verify(&[]), Refusal::NoCertificate(Role::Worker));
    assert!(matches!(
        verify(&vec![node.der().clone(); 9]),
        Refusal::Certificate(CertificateError::Count { .. })
    ));
    assert!(matches!(
        verify(&[CertificateDer::from(vec![1])]),
        Refusal::Certificate(_)
    ));
    // The root itself is no node, though it is trusted.
    let root = Certificate::from_pem(REAL_ROOT).unwrap();
    assert!(matches!(verify(&[root.der().clone()]), Refusal::Chain { .. }));
}

#[test]
fn bundles_are_sets_that_read_back() {
    let mut entropy = Seeded::new(1);
    let [a, b] = [(); 2].map(|()| RootCa::create(NOW, &mut entropy).unwrap().root().clone());
    let both = TrustBundle::of(a.clone()).with(&TrustBundle::of(b.clone()));
    assert!(both.trusts(&a) && both.trusts(&b) && !TrustBundle::of(a.clone()).trusts(&b));
    assert_eq!(
        TrustBundle::from_pem(&format!("{}{}{}", b.to_pem(), a.to_pem(), b.to_pem())),
        Ok(both.clone())
    );
    let json = serde_json::to_string(&both).unwrap();
    assert_eq!(serde_json::from_str::<TrustBundle>(&json).unwrap(), both);
    assert_eq!(TrustBundle::from_pem(""), Err(CertificateError::NotPem));
    // A node's certificate is no root, nor is one whose signature was damaged.
    assert!(TrustBundle::from_pem(REAL_NODE).is_err());
    let mut der = a.der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    let damaged = Certificate::from_der(&der).unwrap().to_pem();
    let expected = CertificateError::Damaged("a root that is not signed by itself");
    assert_eq!(TrustBundle::from_pem(&damaged), Err(expected));
    assert_eq!(
        TrustBundle::from_pem(&a.to_pem().repeat(9)),
        Err(CertificateError::Count {
            found: 9,
            expected: "at most 8"
        })
    );
}

proptest! {
    #[test]
    fn damaged_chains_are_refused_and_never_panic(
        damage in proptest::collection::vec((0..620_usize, 1..=u8::MAX), 1..4),
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let trust = TrustBundle::from_pem(REAL_ROOT).unwrap();
        let node = Certificate::from_pem(REAL_NODE).unwrap();
        let mut der = node.der().to_vec();
        for (at, with) in damage {
            if let Some(byte) = der.get_mut(at) {
                *byte ^= with;
            }
        }
        // Damage may undo itself, or lie beyond the end.
        let changed = der != node.der().as_ref();
        let chain = [CertificateDer::from(der), CertificateDer::from(bytes.clone())];
        prop_assert_eq!(trust.verify(&chain, NOW, &anyone(End::Client)).is_err(), changed);
        let _ = TrustBundle::from_pem(&String::from_utf8_lossy(&bytes));
        prop_assert!(trust.verify(&[CertificateDer::from(bytes)], NOW, &anyone(End::Server)).is_err());
    }
}
