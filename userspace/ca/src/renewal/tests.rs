use super::*;
use crate::testing::{NOW, Seeded, cluster_of, issue};
use crate::{NodeLife, PrivateKey, RootCa};
use proptest::prelude::*;
use std::time::Duration;

struct Case {
    ca: RootCa,
    cluster: ClusterId,
    node: Identity,
    request: CertificateRequest,
}

impl Case {
    fn new() -> Self {
        let mut entropy = Seeded::new(1);
        let ca = RootCa::create(NOW, &mut entropy).unwrap();
        let cluster = cluster_of(&mut entropy);
        let node = issue(
            &ca,
            &cluster,
            Role::Worker,
            NodeLife::default(),
            NOW,
            &mut entropy,
        );
        let request = CertificateRequest::new(&PrivateKey::generate(&mut entropy).unwrap()).unwrap();
        Self {
            ca,
            cluster,
            node,
            request,
        }
    }

    fn renewal(&self) -> ExpiredRenewal {
        ExpiredRenewal::new(&self.node, &self.request).unwrap()
    }

    fn verify(
        &self,
        renewal: &ExpiredRenewal,
        now: Timestamp,
    ) -> Result<(Peer, CertificateRequest), RenewalRefusal> {
        renewal.verify(&self.ca.trust(), &self.cluster, now)
    }
}

#[test]
fn a_certificate_is_renewed_until_the_last_second_of_the_grace() {
    let case = Case::new();
    let end = case.node.certificate().not_after();
    let second = Duration::from_secs(1);
    for now in [NOW, end, end.after(second), end.after(RENEWAL_GRACE)] {
        assert_eq!(
            case.verify(&case.renewal(), now),
            Ok((case.node.peer().clone(), case.request.clone())),
            "{now}"
        );
    }
    let late = end.after(RENEWAL_GRACE + second);
    assert!(matches!(
        case.verify(&case.renewal(), late),
        Err(RenewalRefusal::Certificate(Refusal::Expired { not_after, now, .. })) if not_after == end && now == late
    ));
    let early = case.node.certificate().not_before().before(second);
    assert!(matches!(
        case.verify(&case.renewal(), early),
        Err(RenewalRefusal::Certificate(_))
    ));
}

#[test]
fn whoever_has_only_seen_the_certificate_cannot_renew_it() {
    let case = Case::new();
    let thief = PrivateKey::generate(&mut Seeded::new(9)).unwrap();
    let theirs = CertificateRequest::new(&thief).unwrap();
    let forged = ExpiredRenewal {
        request: theirs.der().to_vec(),
        signature: thief.sign(&signed_text(theirs.der())).unwrap(),
        ..case.renewal()
    };
    let expected = RenewalRefusal::Signature {
        node: case.node.peer().node_id.to_string(),
    };
    assert_eq!(case.verify(&forged, NOW), Err(expected.clone()));
    // The node's own signature, under another request.
    let moved = ExpiredRenewal {
        request: theirs.der().to_vec(),
        ..case.renewal()
    };
    assert_eq!(case.verify(&moved, NOW), Err(expected.clone()));
    // A signature by the node for another purpose.
    let elsewhere = ExpiredRenewal {
        signature: case.node.key().sign(case.request.der()).unwrap(),
        ..case.renewal()
    };
    assert_eq!(case.verify(&elsewhere, NOW), Err(expected));
}

#[test]
fn other_clusters_and_roots_are_refused() {
    let case = Case::new();
    let other = cluster_of(&mut Seeded::new(5));
    let refused = case.renewal().verify(&case.ca.trust(), &other, NOW);
    assert!(
        matches!(refused, Err(RenewalRefusal::Certificate(Refusal::Cluster { .. }))),
        "{refused:?}"
    );
    let ca = RootCa::create(NOW, &mut Seeded::new(6)).unwrap();
    let refused = case.renewal().verify(&ca.trust(), &case.cluster, NOW);
    assert!(
        matches!(
            refused,
            Err(RenewalRefusal::Certificate(Refusal::Authority { .. }))
        ),
        "{refused:?}"
    );
    let empty = ExpiredRenewal {
        chain: vec![],
        ..case.renewal()
    };
    assert!(matches!(
        case.verify(&empty, NOW),
        Err(RenewalRefusal::Certificate(Refusal::NoCertificate(_)))
    ));
    let long = ExpiredRenewal {
        chain: vec![vec![]; 9],
        ..case.renewal()
    };
    assert!(matches!(
        case.verify(&long, NOW),
        Err(RenewalRefusal::Certificate(Refusal::Certificate(_)))
    ));
}

#[test]
fn a_request_that_is_none_is_refused_though_it_is_signed() {
    let case = Case::new();
    let renewal = ExpiredRenewal {
        request: vec![1, 2, 3],
        signature: case.node.key().sign(&signed_text(&[1, 2, 3])).unwrap(),
        ..case.renewal()
    };
    assert_eq!(
        case.verify(&renewal, NOW),
        Err(RenewalRefusal::Request(RequestError::Unreadable))
    );
}

proptest! {
    #[test]
    fn damaged_renewals_are_refused_and_never_panic(part in 0..3_u8, at in 0..700_usize, with in 1..=u8::MAX) {
        let case = Case::new();
        let mut renewal = case.renewal();
        let bytes = match part {
            0 => &mut renewal.chain[0],
            1 => &mut renewal.request,
            _ => &mut renewal.signature,
        };
        let at = at % bytes.len();
        bytes[at] ^= with;
        prop_assert!(case.verify(&renewal, NOW).is_err());
    }
}
