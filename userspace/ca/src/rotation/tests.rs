use super::*;
use crate::testing::{NOW, Seeded, cluster_of, issue, renew};
use crate::{ClusterId, End, Expected, PrivateKey, Refusal};
use std::time::Duration;

struct Cluster {
    entropy: Seeded,
    ca: RootCa,
    id: ClusterId,
    nodes: Vec<Identity>,
}

impl Cluster {
    fn new(nodes: usize) -> Self {
        let mut entropy = Seeded::new(1);
        let ca = RootCa::create(NOW, &mut entropy).unwrap();
        let id = cluster_of(&mut entropy);
        let mut make = || issue(&ca, &id, Role::Manager, NodeLife::default(), NOW, &mut entropy);
        let nodes = (0..nodes).map(|_| make()).collect();
        Self {
            entropy,
            ca,
            id,
            nodes,
        }
    }

    fn rotate(&mut self, desired: DesiredRoot) -> Result<RotateOutcome, RotateError> {
        self.ca.rotate(desired, NOW, &mut self.entropy)
    }

    fn renew(&mut self, at: usize) {
        let subject = self.nodes[at].certificate().subject().unwrap();
        self.nodes[at] = renew(&self.ca, &subject, NodeLife::default(), NOW, &mut self.entropy);
    }

    fn reports(&self) -> BTreeMap<NodeId, Option<TlsInfo>> {
        self.nodes
            .iter()
            .map(|node| (node.peer().node_id.clone(), TlsInfo::of(node)))
            .collect()
    }

    fn finish(&mut self) -> Result<(), FinishError> {
        let reports = self.reports();
        self.ca.finish(&reports, &mut self.entropy)
    }

    fn accepts(&self, by: usize, whom: usize) -> Result<(), Refusal> {
        let expected = Expected {
            end: End::Client,
            cluster_id: Some(&self.id),
            role: Role::Manager,
        };
        self.nodes[by]
            .trust()
            .verify(&self.nodes[whom].chain_der(), NOW, &expected)
            .map(|_| ())
    }
}

#[test]
fn a_rotation_ends_with_the_last_renewal_and_makes_new_tokens() {
    let mut cluster = Cluster::new(3);
    let (old, token) = (cluster.ca.root().clone(), cluster.ca.token(Role::Worker).clone());
    assert_eq!(cluster.finish(), Err(FinishError::NoRotation));
    assert_eq!(cluster.rotate(DesiredRoot::New), Ok(RotateOutcome::Started));
    let next = cluster.ca.rotation().unwrap().next().clone();
    // Nodes that join meanwhile do so by the current root.
    assert_eq!((cluster.ca.root(), cluster.ca.issuer()), (&old, &next));
    assert_eq!(cluster.ca.role_of(&token), Ok(Role::Worker));
    for node in 0..3 {
        let Err(FinishError::Pending(pending)) = cluster.finish() else {
            panic!("finished before node {node}")
        };
        assert_eq!(pending.len(), 3 - node);
        cluster.renew(node);
    }
    assert_eq!(cluster.finish(), Ok(()));
    assert_eq!((cluster.ca.root(), cluster.ca.rotation()), (&next, None));
    assert_eq!(cluster.ca.trust(), TrustBundle::of(next.clone()));
    let expected = crate::RootDigest::of(&next);
    assert_eq!(
        cluster.ca.role_of(&token),
        Err(TokenError::OtherRoot {
            found: token.root(),
            expected
        })
    );
    assert_eq!(cluster.ca.token(Role::Worker).root(), expected);
    assert_eq!(cluster.finish(), Err(FinishError::NoRotation));
}

#[test]
fn both_sides_of_a_rotation_accept_each_other() {
    let mut cluster = Cluster::new(2);
    let old_trust = cluster.nodes[0].trust().clone();
    cluster.rotate(DesiredRoot::New).unwrap();
    cluster.renew(1);
    assert_eq!(cluster.nodes[0].trust(), &old_trust);
    assert_eq!((cluster.accepts(0, 1), cluster.accepts(1, 0)), (Ok(()), Ok(())));
    assert_eq!(cluster.nodes[1].chain().count(), 2);
    // Without the cross-signed certificate the old side would refuse.
    let expected = Expected {
        end: End::Client,
        cluster_id: None,
        role: Role::Manager,
    };
    let alone = &cluster.nodes[1].chain_der()[..1];
    assert!(matches!(
        old_trust.verify(alone, NOW, &expected),
        Err(Refusal::Authority { .. })
    ));
}

#[test]
fn a_node_that_has_not_reported_or_does_not_trust_the_next_root_is_pending() {
    let mut cluster = Cluster::new(1);
    cluster.rotate(DesiredRoot::New).unwrap();
    cluster.renew(0);
    let mut reports = cluster.reports();
    let node = cluster.nodes[0].peer().node_id.clone();
    assert!(cluster.ca.pending(&reports).is_empty());
    let info = reports[&node].clone().unwrap();
    for unlike in [
        None,
        Some(TlsInfo {
            trust: TrustBundle::of(cluster.ca.root().clone()),
            ..info.clone()
        }),
        Some(TlsInfo {
            intermediates: vec![],
            ..info.clone()
        }),
        Some(TlsInfo {
            issuer_subject: vec![],
            ..info.clone()
        }),
        Some(TlsInfo {
            issuer_public_key: cluster.ca.root().public_key().to_vec(),
            ..info.clone()
        }),
    ] {
        reports.insert(node.clone(), unlike);
        assert_eq!(cluster.ca.pending(&reports), [node.clone()].into());
        let before = format!("{:?}", cluster.ca);
        let error = cluster.ca.finish(&reports, &mut Seeded::new(2));
        assert_eq!(error, Err(FinishError::Pending([node.clone()].into())));
        assert_eq!(format!("{:?}", cluster.ca), before);
    }
}

#[test]
fn a_second_rotation_replaces_the_first_and_all_renew_once_more() {
    let mut cluster = Cluster::new(3);
    cluster.rotate(DesiredRoot::New).unwrap();
    let first = cluster.ca.rotation().unwrap().next().clone();
    cluster.renew(0);
    assert_eq!(cluster.rotate(DesiredRoot::New), Ok(RotateOutcome::Started));
    let second = cluster.ca.rotation().unwrap().next().clone();
    assert!(second != first && !cluster.ca.trust().trusts(&first));
    assert_eq!(cluster.ca.pending(&cluster.reports()).len(), 3);
    cluster.renew(1);
    for (by, whom) in [(0, 1), (1, 0), (1, 2), (2, 1), (0, 2), (2, 0)] {
        assert_eq!(cluster.accepts(by, whom), Ok(()), "{by} of {whom}");
    }
    cluster.renew(0);
    cluster.renew(2);
    assert_eq!(cluster.finish(), Ok(()));
    assert_eq!(cluster.ca.root(), &second);
}

#[test]
fn a_root_that_is_given_is_rotated_to_and_one_of_the_same_key_refused() {
    let mut cluster = Cluster::new(1);
    let given = Root::create(NOW, &mut Seeded::new(9)).unwrap();
    let desired = || DesiredRoot::Given(Box::new(given.clone()));
    assert_eq!(cluster.rotate(desired()), Ok(RotateOutcome::Started));
    assert_eq!(cluster.rotate(desired()), Ok(RotateOutcome::UnderWay));
    cluster.renew(0);
    assert_eq!(cluster.finish(), Ok(()));
    assert_eq!(cluster.ca.root(), given.certificate());
    assert_eq!(cluster.rotate(desired()), Ok(RotateOutcome::Unchanged));
    // The same key in a certificate of its own.
    let renewed = Root::create(NOW.after(Duration::from_mins(1)), &mut Seeded::new(9)).unwrap();
    assert_ne!(renewed, given);
    assert_eq!(
        cluster.rotate(DesiredRoot::Given(Box::new(renewed))),
        Err(RotateError::SameKey)
    );
    assert_eq!(cluster.ca.rotation(), None);
}

#[test]
fn reports_of_an_earlier_rotation_to_the_same_root_do_not_count() {
    let mut cluster = Cluster::new(1);
    let given = Root::create(NOW, &mut Seeded::new(9)).unwrap();
    let desired = || DesiredRoot::Given(Box::new(given.clone()));
    cluster.rotate(desired()).unwrap();
    cluster.renew(0);
    let reports = cluster.reports();
    assert!(cluster.ca.pending(&reports).is_empty());
    // Meanwhile the node may have taken over the trust of another rotation, without the root that comes back.
    cluster.rotate(DesiredRoot::New).unwrap();
    assert_eq!(cluster.rotate(desired()), Ok(RotateOutcome::Started));
    assert_eq!(cluster.ca.pending(&reports).len(), 1);
    cluster.renew(0);
    assert_eq!(cluster.finish(), Ok(()));
}

#[test]
fn a_rotation_to_the_current_root_calls_it_off() {
    let mut cluster = Cluster::new(2);
    let state = serde_json::to_value(&cluster.ca).unwrap();
    let current: Root = serde_json::from_value(state["root"].clone()).unwrap();
    cluster.rotate(DesiredRoot::New).unwrap();
    cluster.renew(0);
    assert_eq!(
        cluster.rotate(DesiredRoot::Given(Box::new(current))),
        Ok(RotateOutcome::CalledOff)
    );
    assert_eq!(serde_json::to_value(&cluster.ca).unwrap(), state);
    assert_eq!((cluster.accepts(0, 1), cluster.accepts(1, 0)), (Ok(()), Ok(())));
    cluster.renew(0);
    assert_eq!(cluster.nodes[0].chain().count(), 1);
}

/// The root of an authority elsewhere, which has its key, and the same without it.
fn elsewhere(entropy: &mut Seeded) -> (RootCa, DesiredRoot) {
    let foreign = RootCa::create(NOW, entropy).unwrap();
    let root = Root::without_key(foreign.root().clone(), NOW).unwrap();
    (foreign, DesiredRoot::Given(Box::new(root)))
}

fn request(entropy: &mut Seeded) -> (PrivateKey, CertificateRequest) {
    let key = PrivateKey::generate(entropy).unwrap();
    let request = CertificateRequest::new(&key).unwrap();
    (key, request)
}

#[test]
fn a_root_whose_key_is_elsewhere_is_rotated_to_by_what_is_issued_there() {
    let mut cluster = Cluster::new(2);
    let (foreign, desired) = elsewhere(&mut cluster.entropy);
    assert_eq!(cluster.rotate(desired.clone()), Ok(RotateOutcome::Started));
    assert_eq!(cluster.rotate(desired), Ok(RotateOutcome::UnderWay));
    assert!(!cluster.ca.issues_here());
    let entropy = &mut cluster.entropy;
    for at in 0..2 {
        let subject = cluster.nodes[at].certificate().subject().unwrap();
        let (key, request) = request(entropy);
        let here = cluster
            .ca
            .issue(&request, &subject, NodeLife::default(), NOW, entropy);
        assert!(matches!(here, Err(RootError::NoKey { .. })), "{here:?}");
        let there = foreign.issue(&request, &subject, NodeLife::default(), NOW, entropy);
        let certificate = there.unwrap().chain.remove(0);
        let issued = cluster.ca.accept(certificate, &request, &subject, NOW).unwrap();
        cluster.nodes[at] = Identity::from_issued(key, issued).unwrap();
    }
    assert_eq!((cluster.accepts(0, 1), cluster.accepts(1, 0)), (Ok(()), Ok(())));
    assert_eq!(cluster.finish(), Ok(()));
    assert_eq!((cluster.ca.root(), cluster.ca.rotation()), (foreign.root(), None));
    // It stays without a key through the store; nothing is signed here, the next root neither.
    let text = serde_json::to_string(&cluster.ca).unwrap();
    cluster.ca = serde_json::from_str(&text).unwrap();
    assert!(!cluster.ca.issues_here());
    assert_eq!(cluster.rotate(DesiredRoot::New), Err(RotateError::KeyElsewhere));
    // Until the key is given.
    let given = DesiredRoot::Given(Box::new(foreign.signer().clone()));
    assert_eq!(cluster.rotate(given), Ok(RotateOutcome::Unchanged));
    assert!(cluster.ca.issues_here());
    assert_eq!(cluster.rotate(DesiredRoot::New), Ok(RotateOutcome::Started));
}

#[test]
fn what_is_issued_elsewhere_is_taken_only_as_it_was_requested() {
    let mut cluster = Cluster::new(1);
    let (foreign, desired) = elsewhere(&mut cluster.entropy);
    cluster.rotate(desired).unwrap();
    let entropy = &mut cluster.entropy;
    let subject = cluster.nodes[0].certificate().subject().unwrap();
    let (_, own) = request(entropy);
    let (_, others) = request(entropy);
    let (life, other_root) = (NodeLife::default(), RootCa::create(NOW, entropy).unwrap());
    let made = |ca: &RootCa, request: &CertificateRequest, subject: &Subject, now, entropy: &mut Seeded| {
        ca.issue(request, subject, life, now, entropy)
            .unwrap()
            .chain
            .remove(0)
    };
    let role = Subject {
        role: Role::Worker,
        ..subject.clone()
    };
    let node = Subject {
        node_id: NodeId::random(entropy).unwrap(),
        ..subject.clone()
    };
    let elsewhere = Subject {
        cluster_id: cluster_of(entropy),
        ..subject.clone()
    };
    let taken = |certificate: Certificate, subject: &Subject| {
        cluster.ca.accept(certificate, &own, subject, NOW).map(drop)
    };
    assert_eq!(
        taken(made(&foreign, &own, &subject, NOW, entropy), &subject),
        Ok(())
    );
    assert_eq!(
        taken(made(&foreign, &others, &subject, NOW, entropy), &subject),
        Err(ForeignError::Key)
    );
    let refused = taken(made(&foreign, &own, &node, NOW, entropy), &subject);
    assert!(
        matches!(refused, Err(ForeignError::Subject { .. })),
        "{refused:?}"
    );
    // A manager's for a worker is too much, a worker's for a manager too little.
    let refused = taken(made(&foreign, &own, &subject, NOW, entropy), &role);
    assert!(
        matches!(refused, Err(ForeignError::Subject { .. })),
        "{refused:?}"
    );
    let later = NOW.after(Duration::from_hours(24 * 91));
    for (certificate, now, expected) in [
        (made(&foreign, &own, &role, NOW, entropy), NOW, "role"),
        (made(&foreign, &own, &elsewhere, NOW, entropy), NOW, "cluster"),
        (made(&foreign, &own, &subject, NOW, entropy), later, "expired"),
        (
            made(&other_root, &own, &subject, NOW, entropy),
            NOW,
            "another root",
        ),
        (foreign.root().clone(), NOW, "an authority"),
    ] {
        let refused = cluster.ca.accept(certificate, &own, &subject, now);
        assert!(
            matches!(refused, Err(ForeignError::Refused(_))),
            "{expected}: {refused:?}"
        );
    }
}

#[test]
fn an_expired_root_cannot_be_rotated() {
    let mut cluster = Cluster::new(1);
    let end = cluster.ca.root().not_after();
    let mut entropy = Seeded::new(3);
    let late = cluster
        .ca
        .rotate(DesiredRoot::New, end.after(Duration::from_secs(1)), &mut entropy);
    assert_eq!(late, Err(RotateError::CurrentExpired { not_after: end }));
    assert_eq!(
        cluster.ca.rotate(DesiredRoot::New, end, &mut entropy),
        Ok(RotateOutcome::Started)
    );
    // What is cross-signed does not outlive who signed it.
    assert_eq!(cluster.ca.rotation().unwrap().cross_signed().not_after(), end);
}

#[test]
fn the_state_survives_the_store_and_shows_no_secret() {
    let mut cluster = Cluster::new(1);
    cluster.rotate(DesiredRoot::New).unwrap();
    let json = serde_json::to_string(&cluster.ca).unwrap();
    let back: RootCa = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), json);
    let state: serde_json::Value = serde_json::from_str(&json).unwrap();
    let shown = format!("{:?}", cluster.ca);
    for secret in [
        &state["root"]["key"],
        &state["rotation"]["next"]["key"],
        &state["tokens"]["worker"],
        &state["tokens"]["manager"],
    ] {
        let secret = secret.as_str().unwrap();
        assert!(
            secret.len() > 50 && !shown.contains(&secret[secret.len() - 20..]),
            "{shown}"
        );
    }
    cluster.ca = back;
    cluster.renew(0);
    assert_eq!(cluster.finish(), Ok(()));
}

#[test]
fn a_failing_source_of_randomness_changes_nothing() {
    struct Empty;
    impl Entropy for Empty {
        fn fill(&mut self, _: &mut [u8]) -> Result<(), EntropyError> {
            Err(EntropyError)
        }
    }
    let mut cluster = Cluster::new(1);
    let before = serde_json::to_string(&cluster.ca).unwrap();
    assert!(cluster.ca.rotate(DesiredRoot::New, NOW, &mut Empty).is_err());
    let given = DesiredRoot::Given(Box::new(Root::create(NOW, &mut Seeded::new(9)).unwrap()));
    assert!(cluster.ca.rotate(given, NOW, &mut Empty).is_err());
    assert!(cluster.ca.rotate_token(Role::Worker, &mut Empty).is_err());
    assert_eq!(serde_json::to_string(&cluster.ca).unwrap(), before);
    cluster.rotate(DesiredRoot::New).unwrap();
    cluster.renew(0);
    let before = serde_json::to_string(&cluster.ca).unwrap();
    let reports = cluster.reports();
    assert_eq!(
        cluster.ca.finish(&reports, &mut Empty),
        Err(FinishError::Entropy(EntropyError))
    );
    assert_eq!(serde_json::to_string(&cluster.ca).unwrap(), before);
}
