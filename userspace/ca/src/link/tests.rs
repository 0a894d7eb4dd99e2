use super::*;
use crate::testing::{Clock, Ends, NOW, Refused, Seeded, cluster_of, connect, issue, renew};
use crate::{CertificateError, NodeLife, RENEWAL_GRACE, RootCa, RootDigest, Subject, Timestamp};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A cluster with its authority.
struct Cluster {
    entropy: Seeded,
    ca: RootCa,
    id: ClusterId,
}

impl Cluster {
    fn new(seed: u64) -> Self {
        let mut entropy = Seeded::new(seed);
        let ca = RootCa::create(NOW, &mut entropy).unwrap();
        Self {
            ca,
            id: cluster_of(&mut entropy),
            entropy,
        }
    }

    fn node(&mut self, role: Role) -> Arc<LiveIdentity> {
        self.node_of(role, &self.id.clone())
    }

    fn node_of(&mut self, role: Role, id: &ClusterId) -> Arc<LiveIdentity> {
        LiveIdentity::new(issue(
            &self.ca,
            id,
            role,
            NodeLife::default(),
            NOW,
            &mut self.entropy,
        ))
        .unwrap()
    }
}

fn call(
    client: &Arc<LiveIdentity>,
    server: &Arc<LiveIdentity>,
    admit: Admit,
    clock: &Arc<Clock>,
) -> Result<Ends, Box<Refused>> {
    let client = client_config(client, clock.clone()).unwrap();
    let server = server_config(server, admit, clock.clone()).unwrap();
    connect(client, server, &Callee::AnyManager)
}

const ANY_MEMBER: Admit = Admit::Members(Role::Worker);
const MANAGERS: Admit = Admit::Members(Role::Manager);

#[test]
fn members_know_each_other_after_the_handshake() {
    let mut cluster = Cluster::new(1);
    let (manager, worker) = (cluster.node(Role::Manager), cluster.node(Role::Worker));
    let mut ends = call(&worker, &manager, ANY_MEMBER, &Clock::at(NOW)).unwrap();
    assert_eq!(peer_of(&ends.server), Ok(Some(worker.current().peer().clone())));
    assert_eq!(peer_of(&ends.client), Ok(Some(manager.current().peer().clone())));
    assert_eq!(
        ends.client.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
    assert!(ends.talk());
}

#[test]
fn a_worker_is_refused_where_a_manager_is_needed() {
    let mut cluster = Cluster::new(1);
    let (manager, other, worker) = (
        cluster.node(Role::Manager),
        cluster.node(Role::Manager),
        cluster.node(Role::Worker),
    );
    assert!(call(&other, &manager, MANAGERS, &Clock::at(NOW)).is_ok());
    let expected = Refusal::Role {
        node_id: worker.current().peer().node_id.clone(),
        found: Role::Worker,
        expected: Role::Manager,
    };
    let refused = call(&worker, &manager, MANAGERS, &Clock::at(NOW)).unwrap_err();
    assert_eq!(refused.by_server(), Some(&expected));
    // The peer is told that its certificate is not accepted, and no more.
    assert!(
        matches!(refused.client, Some(rustls::Error::AlertReceived(_))),
        "{refused:?}"
    );
    // A worker that answers in a manager's place.
    let refused = call(&manager, &worker, ANY_MEMBER, &Clock::at(NOW)).unwrap_err();
    assert_eq!(refused.by_client(), Some(&expected));
    // And where the server lets every member in, the call itself is checked.
    let peer = worker.current().peer().clone();
    assert_eq!(
        (peer.require(Role::Worker), peer.require(Role::Manager)),
        (Ok(()), Err(expected))
    );
}

#[test]
fn a_node_of_another_cluster_under_the_same_root_is_refused_by_both_ends() {
    let mut cluster = Cluster::new(1);
    let (ours, other_id) = (cluster.node(Role::Manager), cluster_of(&mut Seeded::new(9)));
    let theirs = cluster.node_of(Role::Manager, &other_id);
    let expected = Refusal::Cluster {
        node_id: theirs.current().peer().node_id.clone(),
        found: other_id,
        expected: cluster.id.clone(),
    };
    let refused = call(&theirs, &ours, Admit::MembersAndJoining, &Clock::at(NOW)).unwrap_err();
    assert!(
        matches!(refused.by_client(), Some(Refusal::Cluster { .. })),
        "{refused:?}"
    );
    let refused = call(&ours, &theirs, Admit::MembersAndJoining, &Clock::at(NOW)).unwrap_err();
    assert_eq!(refused.by_client(), Some(&expected));

    // As a server sees it: the client must not refuse first.
    let joined = theirs.current();
    let config = ClientConfig::builder_with_details(provider(), Clock::at(NOW))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier {
            trust: Trust::Anybody,
            by: provider().signature_verification_algorithms,
        }))
        .with_client_cert_resolver(LiveIdentity::new(joined).unwrap());
    let server = server_config(&ours, Admit::MembersAndJoining, Clock::at(NOW)).unwrap();
    let refused = connect(config, server, &Callee::AnyManager).unwrap_err();
    assert_eq!(refused.by_server(), Some(&expected));
}

/// A client that shows this chain to a server, and accepts every server.
fn show(
    certified: CertifiedKey,
    server: &Arc<LiveIdentity>,
    admit: Admit,
    now: Timestamp,
) -> Result<Ends, Box<Refused>> {
    #[derive(Debug)]
    struct Always(Arc<CertifiedKey>);
    impl ResolvesClientCert for Always {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            Some(self.0.clone())
        }
        fn has_certs(&self) -> bool {
            true
        }
    }
    let mut client = root_fetch_client_config(Clock::at(now)).unwrap();
    client.client_auth_cert_resolver = Arc::new(Always(Arc::new(certified)));
    connect(
        client,
        server_config(server, admit, Clock::at(now)).unwrap(),
        &Callee::AnyManager,
    )
}

#[test]
fn a_wrong_authority_with_the_same_name_is_refused_by_both_ends() {
    let (mut cluster, mut other) = (Cluster::new(1), Cluster::new(2));
    assert_eq!(cluster.ca.root().subject_name(), other.ca.root().subject_name());
    let (ours, theirs) = (
        cluster.node(Role::Manager),
        other.node_of(Role::Manager, &cluster.id),
    );
    let trusted = RootDigest::of(cluster.ca.root()).to_string();
    let refused = call(&ours, &theirs, ANY_MEMBER, &Clock::at(NOW)).unwrap_err();
    assert!(
        matches!(refused.by_client(), Some(Refusal::Authority { trusted: roots, .. }) if *roots == trusted),
        "{refused:?}"
    );
    let chain = theirs.in_use().certified.clone();
    let refused = show(CertifiedKey::clone(&chain), &ours, Admit::MembersAndJoining, NOW).unwrap_err();
    assert!(
        matches!(refused.by_server(), Some(Refusal::Authority { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_unit_that_is_no_role_is_refused() {
    let mut cluster = Cluster::new(1);
    let ours = cluster.node(Role::Manager);
    // Issued by the right root, as only a compromised manager could.
    let state = serde_json::to_value(&cluster.ca).unwrap();
    let root: crate::Root = serde_json::from_value(state["root"].clone()).unwrap();
    let key = crate::PrivateKey::generate(&mut cluster.entropy).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, cluster.id.as_str());
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationalUnitName, "swarm-ca");
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "a".repeat(25));
    let mut name = rcgen::DistinguishedName::new();
    name.push(rcgen::DnType::CommonName, "swarm-ca");
    let mut issuer = rcgen::CertificateParams::default();
    issuer.distinguished_name = name;
    let written = params
        .signed_by(key.pair(), &rcgen::Issuer::new(issuer, root.key().pair()))
        .unwrap();
    let certified =
        CertifiedKey::from_der(vec![written.der().clone()], key.for_tls().unwrap(), &provider()).unwrap();
    let refused = show(certified, &ours, ANY_MEMBER, NOW).unwrap_err();
    let Some(Refusal::Certificate(CertificateError::Subject { problem, .. })) = refused.by_server() else {
        panic!("{refused:?}");
    };
    assert_eq!(
        problem,
        "found OU \"swarm-ca\", expected swarm-worker or swarm-manager"
    );
}

#[test]
fn certificates_hold_to_the_second() {
    let mut cluster = Cluster::new(1);
    let (manager, worker) = (cluster.node(Role::Manager), cluster.node(Role::Worker));
    let end = worker.current().certificate().not_after();
    assert_eq!(end, NOW.after(NodeLife::default().duration()));
    assert!(call(&worker, &manager, ANY_MEMBER, &Clock::at(end)).is_ok());
    // The manager's own has the same end.
    let refused = call(&worker, &manager, ANY_MEMBER, &Clock::at(end.after(SECOND))).unwrap_err();
    assert!(
        matches!(refused.by_client(), Some(Refusal::Expired { not_after, now, .. })
            if *not_after == end && *now == end.after(SECOND)),
        "{refused:?}"
    );
    let chain = worker.in_use().certified.clone();
    let refused = show(
        CertifiedKey::clone(&chain),
        &manager,
        Admit::MembersAndJoining,
        end.after(SECOND),
    )
    .unwrap_err();
    assert!(
        matches!(refused.by_server(), Some(Refusal::Expired { .. })),
        "{refused:?}"
    );
    // The grace is for renewals; no link knows of it.
    assert!(end.after(SECOND).since(end) < RENEWAL_GRACE);
}

#[test]
fn clocks_may_be_behind_by_the_backdate() {
    let mut cluster = Cluster::new(1);
    let (manager, worker) = (cluster.node(Role::Manager), cluster.node(Role::Worker));
    let behind = NOW.before(crate::BACKDATE);
    assert!(call(&worker, &manager, ANY_MEMBER, &Clock::at(behind)).is_ok());
    let error = call(&worker, &manager, ANY_MEMBER, &Clock::at(behind.before(SECOND))).unwrap_err();
    // The root begins in the same second, so it is no root yet either.
    assert!(error.by_client().is_some(), "{error:?}");

    let (clock, later) = (Clock::at(NOW), NOW.after(Duration::from_hours(24)));
    let renewed = renew(
        &cluster.ca,
        &worker.current().certificate().subject().unwrap(),
        NodeLife::default(),
        later,
        &mut cluster.entropy,
    );
    worker.replace(renewed).unwrap();
    clock.set(later.before(crate::BACKDATE));
    assert!(call(&worker, &manager, ANY_MEMBER, &clock).is_ok());
    clock.set(later.before(crate::BACKDATE + SECOND));
    let refused = call(&worker, &manager, ANY_MEMBER, &clock).unwrap_err();
    assert!(
        matches!(refused.by_server(), Some(Refusal::NotYetValid { not_before, .. })
            if *not_before == later.before(crate::BACKDATE)),
        "{refused:?}"
    );
}

#[test]
fn a_client_without_a_certificate_is_let_in_only_where_nodes_join() {
    let mut cluster = Cluster::new(1);
    let manager = cluster.node(Role::Manager);
    let trust = TrustBundle::of(cluster.ca.root().clone());
    let joining = || joining_client_config(trust.clone(), None, Clock::at(NOW)).unwrap();
    let server = |admit| server_config(&manager, admit, Clock::at(NOW)).unwrap();
    let mut ends = connect(joining(), server(Admit::MembersAndJoining), &Callee::AnyManager).unwrap();
    assert_eq!(peer_of(&ends.server), Ok(None));
    assert_eq!(peer_of(&ends.client), Ok(Some(manager.current().peer().clone())));
    assert!(ends.talk());
    let refused = connect(joining(), server(ANY_MEMBER), &Callee::AnyManager).unwrap_err();
    assert_eq!(refused.server, Some(rustls::Error::NoCertificatesPresented));
}

#[test]
fn a_node_joins_only_the_cluster_of_its_token() {
    let (mut cluster, mut other) = (Cluster::new(1), Cluster::new(2));
    let (ours, theirs) = (cluster.node(Role::Manager), other.node(Role::Manager));
    let token = cluster.ca.token(Role::Worker).clone();
    // The first fetch takes what it gets from whoever answers.
    for server in [&ours, &theirs] {
        let server = server_config(server, Admit::MembersAndJoining, Clock::at(NOW)).unwrap();
        let fetch = root_fetch_client_config(Clock::at(NOW)).unwrap();
        assert!(connect(fetch, server, &Callee::AnyManager).is_ok());
    }
    assert!(token.check_root(&other.ca.root().to_pem()).is_err());
    let root = token.check_root(&cluster.ca.root().to_pem()).unwrap();
    let join = |server: &Arc<LiveIdentity>| {
        let client = joining_client_config(TrustBundle::of(root.clone()), None, Clock::at(NOW)).unwrap();
        let server = server_config(server, Admit::MembersAndJoining, Clock::at(NOW)).unwrap();
        connect(client, server, &Callee::AnyManager)
    };
    assert!(join(&ours).is_ok());
    assert!(matches!(
        join(&theirs).unwrap_err().by_client(),
        Some(Refusal::Authority { .. })
    ));
}

#[test]
fn a_node_that_is_called_by_name_has_to_be_the_one() {
    let mut cluster = Cluster::new(1);
    let (a, b) = (cluster.node(Role::Manager), cluster.node(Role::Manager));
    let dial = |callee: &Arc<LiveIdentity>| {
        let client = client_config(&a, Clock::at(NOW)).unwrap();
        let name = Callee::Node(callee.current().peer().node_id.clone());
        connect(
            client,
            server_config(&b, MANAGERS, Clock::at(NOW)).unwrap(),
            &name,
        )
    };
    assert!(dial(&b).is_ok());
    let expected = Refusal::OtherNode {
        found: b.current().peer().node_id.clone(),
        expected: a.current().peer().node_id.to_string(),
    };
    assert_eq!(dial(&a).unwrap_err().by_client(), Some(&expected));
    let digits = NodeId::new(&"1".repeat(25)).unwrap();
    assert!(matches!(
        Callee::Node(digits).server_name(),
        Err(LinkError::Name(_))
    ));
}

#[test]
fn a_renewed_identity_serves_new_links_and_old_ones_stay_up() {
    let mut cluster = Cluster::new(1);
    let (manager, worker) = (cluster.node(Role::Manager), cluster.node(Role::Worker));
    let clock = Clock::at(NOW);
    let server = Arc::new(server_config(&manager, ANY_MEMBER, clock.clone()).unwrap());
    let client = Arc::new(client_config(&worker, clock.clone()).unwrap());
    let dial = || connect((*client).clone(), (*server).clone(), &Callee::AnyManager).unwrap();
    let mut before = dial();
    assert!(before.talk());

    let later = NOW.after(Duration::from_hours(60 * 24));
    for node in [&manager, &worker] {
        let subject = node.current().certificate().subject().unwrap();
        node.replace(renew(
            &cluster.ca,
            &subject,
            NodeLife::default(),
            later,
            &mut cluster.entropy,
        ))
        .unwrap();
    }
    clock.set(later.after(NodeLife::default().duration()));
    let mut after = dial();
    assert!(after.talk() && before.talk());
    let ends = |ends: &Ends| peer_of(&ends.server).unwrap().unwrap().expires;
    assert_eq!(ends(&before), NOW.after(NodeLife::default().duration()));
    assert_eq!(ends(&after), later.after(NodeLife::default().duration()));
}

#[test]
fn a_promoted_node_is_a_manager_on_its_next_link() {
    let mut cluster = Cluster::new(1);
    let (manager, worker) = (cluster.node(Role::Manager), cluster.node(Role::Worker));
    assert!(call(&worker, &manager, MANAGERS, &Clock::at(NOW)).is_err());
    let subject = Subject {
        role: Role::Manager,
        ..worker.current().certificate().subject().unwrap()
    };
    worker
        .replace(renew(
            &cluster.ca,
            &subject,
            NodeLife::default(),
            NOW,
            &mut cluster.entropy,
        ))
        .unwrap();
    assert!(call(&worker, &manager, MANAGERS, &Clock::at(NOW)).is_ok());
}

#[test]
fn another_nodes_identity_is_not_put_in_place() {
    let mut cluster = Cluster::new(1);
    let (a, b) = (cluster.node(Role::Manager), cluster.node(Role::Manager));
    let error = a.replace(b.current()).unwrap_err();
    assert!(
        matches!(error, LinkError::Identity(IdentityError::OtherNode { .. })),
        "{error:?}"
    );
    let subject = Subject {
        cluster_id: cluster_of(&mut Seeded::new(9)),
        ..a.current().certificate().subject().unwrap()
    };
    let moved = renew(
        &cluster.ca,
        &subject,
        NodeLife::default(),
        NOW,
        &mut cluster.entropy,
    );
    let error = a.replace(moved).unwrap_err();
    assert!(
        matches!(
            error,
            LinkError::Identity(IdentityError::Untrusted(Refusal::Cluster { .. }))
        ),
        "{error:?}"
    );
    assert_eq!(a.current().peer().cluster_id, cluster.id);
}

#[test]
fn no_session_is_resumed() {
    let mut cluster = Cluster::new(1);
    let (manager, worker) = (cluster.node(Role::Manager), cluster.node(Role::Worker));
    let server = server_config(&manager, ANY_MEMBER, Clock::at(NOW)).unwrap();
    let client = client_config(&worker, Clock::at(NOW)).unwrap();
    for _ in 0..3 {
        let ends = connect(client.clone(), server.clone(), &Callee::AnyManager).unwrap();
        assert_eq!(ends.server.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(ends.client.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(ends.client.tls13_tickets_received(), 0);
    }
}

#[test]
fn a_handshake_without_the_private_key_fails() {
    let mut cluster = Cluster::new(1);
    let (manager, worker) = (cluster.node(Role::Manager), cluster.node(Role::Worker));
    // The worker's certificate, which everybody has seen, with another key.
    let key = crate::PrivateKey::generate(&mut cluster.entropy).unwrap();
    let signer = provider()
        .key_provider
        .load_private_key(key.for_tls().unwrap())
        .unwrap();
    let certified = CertifiedKey::new(worker.current().chain_der(), signer);
    let refused = show(certified, &manager, ANY_MEMBER, NOW).unwrap_err();
    assert_eq!(
        refused.server,
        Some(rustls::Error::InvalidCertificate(
            rustls::CertificateError::BadSignature
        ))
    );
}
