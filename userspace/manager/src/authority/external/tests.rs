//! Certificates of an authority elsewhere: a server that speaks as `cfssl serve` does, well or not.

use super::super::spec::Rotate;
use super::super::{Authority, FirstManager, new_cluster, root_ca, update_cluster};
use super::*;
use crate::tests::{SOON, clock, directories};
use crate::{Parts, Replica};
use essaim_ca::{
    ClusterId, DataKeys, Identity, LiveIdentity, NodeId, NodeLife, PrivateKey, Role, Root, Sealer,
    SystemEntropy,
};
use essaim_objects::{CaConfig, InitRequest, Nanoseconds, Sensitive};
use essaim_protocol::{IssueRequest, IssuedCertificate, decode, encode};
use essaim_raft::{Settings, StateDirectory};
use essaim_rpc::{CallError, Caller, Code};
use http::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Mutex;
use std::time::SystemTime;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A root of its own, with what issues by it.
struct Pki {
    root: String,
    key: String,
    ca: RootCa,
}

impl Pki {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "elsewhere");
        let root = params.self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let given = Root::from_pem(&root, &key, now()).unwrap();
        let ca = RootCa::with_root(given, &mut SystemEntropy).unwrap();
        Self { root, key, ca }
    }

    /// Signs as it is asked to, for this life.
    fn sign(&self, asked: &Value, life: Duration, change: impl FnOnce(&mut Subject)) -> String {
        let name = &asked["subject"]["names"][0];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut subject = Subject {
            cluster_id: ClusterId::new(&text(&name["O"])).unwrap(),
            role: Role::from_unit(&text(&name["OU"])).unwrap(),
            node_id: NodeId::new(&text(&asked["subject"]["CN"])).unwrap(),
        };
        let hosts: Vec<_> = asked["hosts"].as_array().unwrap().iter().map(text).collect();
        assert_eq!(hosts, subject.names().collect::<Vec<_>>());
        change(&mut subject);
        let request = CertificateRequest::from_pem(&text(&asked["certificate_request"])).unwrap();
        let life = NodeLife::new(life).unwrap();
        let issued = self.ca.issue(&request, &subject, life, now(), &mut SystemEntropy);
        issued.unwrap().chain[0].to_pem()
    }

    /// The TLS of a server at 127.0.0.1 that lets in who has a certificate of one of these roots.
    fn server(&self, clients: &[&Certificate]) -> rustls::ServerConfig {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let signer = KeyPair::from_pem(&self.key).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&self.root, &signer).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let mut roots = RootCertStore::empty();
        for root in clients {
            roots.add(root.der().clone()).unwrap();
        }
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(vec![CertificateDer::from(certificate.der().to_vec())], key)
            .unwrap()
    }
}

/// What a server does with a request.
type Answers = dyn Fn(&Value) -> Option<(StatusCode, String)> + Send + Sync;

/// An authority elsewhere; it ends with this.
struct Server {
    authority: ExternalCa,
    asked: Arc<Mutex<Vec<Value>>>,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// One that answers so; without an answer it is silent.
    async fn start(
        tls: rustls::ServerConfig,
        root: &str,
        answers: impl Fn(&Value) -> Option<(StatusCode, String)> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (acceptor, asked) = (
            TlsAcceptor::from(Arc::new(tls)),
            Arc::<Mutex<Vec<Value>>>::default(),
        );
        let (answers, seen): (Arc<Answers>, _) = (Arc::new(answers), asked.clone());
        let serve = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answers, seen) = (acceptor.clone(), answers.clone(), seen.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (answers, seen) = (answers.clone(), seen.clone());
                        async move { answer(request, &*answers, &seen).await }
                    });
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        };
        Self {
            authority: ExternalCa {
                protocol: Some("cfssl".to_owned()),
                url: Some(format!("https://127.0.0.1:{port}/api/v1/cfssl/sign?x=1")),
                ca_cert: Some(root.to_owned()),
                ..ExternalCa::default()
            },
            asked,
            task: tokio::spawn(serve).abort_handle(),
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    answers: &Answers,
    seen: &Mutex<Vec<Value>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri().path_and_query().unwrap(), "/api/v1/cfssl/sign?x=1");
    assert_eq!(request.method(), http::Method::POST);
    assert!(
        request.headers()[header::HOST]
            .to_str()
            .unwrap()
            .starts_with("127.0.0.1:")
    );
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let answered = answers(&asked);
    seen.lock().unwrap().push(asked);
    let Some((status, body)) = answered else {
        return std::future::pending().await;
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    Ok(response)
}

/// As CFSSL answers.
#[expect(clippy::unnecessary_wraps, reason = "servers answer so, or not at all")]
fn signed(certificate: &str) -> Option<(StatusCode, String)> {
    let answer = json!({
        "success": true, "result": {"certificate": certificate}, "errors": [], "messages": [],
    });
    Some((StatusCode::OK, answer.to_string()))
}

const DAY: Duration = Duration::from_hours(24);

fn manager(ca: &RootCa, cluster: &ClusterId) -> (Arc<LiveIdentity>, Subject) {
    let subject = Subject {
        cluster_id: cluster.clone(),
        role: Role::Manager,
        node_id: NodeId::random(&mut SystemEntropy).unwrap(),
    };
    let key = PrivateKey::generate(&mut SystemEntropy).unwrap();
    let request = CertificateRequest::new(&key).unwrap();
    let issued = ca.issue(&request, &subject, NodeLife::default(), now(), &mut SystemEntropy);
    let identity = Identity::from_issued(key, issued.unwrap()).unwrap();
    (LiveIdentity::new(identity).unwrap(), subject)
}

/// A cluster whose root an authority elsewhere has too, and one of its managers.
struct Case {
    pki: Arc<Pki>,
    links: Arc<Links>,
    subject: Subject,
    request: CertificateRequest,
}

impl Case {
    fn new() -> Self {
        let pki = Arc::new(Pki::new());
        let cluster = ClusterId::random(&mut SystemEntropy).unwrap();
        let (identity, subject) = manager(&pki.ca, &cluster);
        let key = PrivateKey::generate(&mut SystemEntropy).unwrap();
        Self {
            links: Links::new(identity, clock()),
            request: CertificateRequest::new(&key).unwrap(),
            subject,
            pki,
        }
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            ca: &self.pki.ca,
            request: &self.request,
            subject: &self.subject,
            now: now(),
            within: Duration::from_secs(100),
        }
    }

    async fn server(
        &self,
        answers: impl Fn(&Value) -> Option<(StatusCode, String)> + Send + Sync + 'static,
    ) -> Server {
        Server::start(self.pki.server(&[self.pki.ca.root()]), &self.pki.root, answers).await
    }

    /// One that does as it should.
    async fn good(&self) -> Server {
        let pki = self.pki.clone();
        self.server(move |asked| signed(&pki.sign(asked, DAY, |_| {})))
            .await
    }

    async fn failure(&self, server: &Server, within: Duration) -> String {
        let signed = self.asked().sign_at(&server.authority, &self.links, within).await;
        chain(&signed.unwrap_err())
    }
}

#[tokio::test]
async fn what_swarm_asks_is_asked_and_what_cfssl_answers_is_taken() {
    let case = Case::new();
    let server = case.good().await;
    let issued = case
        .asked()
        .sign(std::slice::from_ref(&server.authority), &case.links)
        .await;
    let issued = issued.unwrap();
    assert_eq!(issued.chain[0].subject().unwrap(), case.subject);
    assert_eq!(issued.trust, case.pki.ca.trust());
    let node = case.subject.node_id.as_str();
    let expected = json!({
        "hosts": ["swarm-manager", node, "swarm-ca"],
        "certificate_request": case.request.to_pem(),
        "subject": {
            "CN": node,
            "names": [{"O": case.subject.cluster_id.as_str(), "OU": "swarm-manager"}],
        },
    });
    assert_eq!(*server.asked.lock().unwrap(), [expected]);
}

#[tokio::test]
async fn what_is_not_as_it_was_requested_is_not_taken() {
    let case = Case::new();
    let other = Pki::new();
    let pki = || case.pki.clone();
    let (here, by) = (pki(), other);
    let server = case
        .server(move |asked| signed(&by.sign(asked, DAY, |_| {})))
        .await;
    let error = case.failure(&server, SOON).await;
    assert!(error.contains("is not from a trusted root"), "{error}");
    let server = case
        .server(move |asked| {
            let key = PrivateKey::generate(&mut SystemEntropy).unwrap();
            let mut asked = asked.clone();
            asked["certificate_request"] = CertificateRequest::new(&key).unwrap().to_pem().into();
            signed(&here.sign(&asked, DAY, |_| {}))
        })
        .await;
    assert_eq!(
        case.failure(&server, SOON).await,
        "the certificate is for another key than the one requested"
    );
    let here = pki();
    let to_worker = |subject: &mut Subject| subject.role = Role::Worker;
    let server = case
        .server(move |asked| signed(&here.sign(asked, DAY, to_worker)))
        .await;
    let error = case.failure(&server, SOON).await;
    assert!(error.contains("worker"), "{error}");
    let here = pki();
    let server = case
        .server(move |asked| {
            let another = |subject: &mut Subject| {
                subject.node_id = NodeId::random(&mut SystemEntropy).unwrap();
            };
            signed(&here.sign(asked, DAY, another))
        })
        .await;
    let error = case.failure(&server, SOON).await;
    assert!(
        error.contains(&format!("expected the manager {}", case.subject.node_id)),
        "{error}"
    );
}

#[tokio::test]
async fn answers_that_are_none_are_told_apart_and_bounded() {
    let case = Case::new();
    let refused =
        json!({"success": false, "result": null, "errors": [{"code": 5100, "message": "Invalid policy"}]});
    let huge = json!({"success": true, "result": {"certificate": "x".repeat(MAX_ANSWER)}});
    let whole = case.pki.root.repeat(2);
    for (answer, expected) in [
        (
            Some((StatusCode::OK, refused.to_string())),
            "it refused: Invalid policy (code 5100)",
        ),
        (
            Some((StatusCode::BAD_REQUEST, refused.to_string())),
            "it refused: Invalid policy (code 5100)",
        ),
        (
            Some((StatusCode::OK, json!({"success": false}).to_string())),
            "it refused: no reason is given",
        ),
        (
            Some((StatusCode::NOT_FOUND, "no\nsuch page".to_owned())),
            "it answered 404 Not Found: nosuch page",
        ),
        (
            Some((StatusCode::OK, "{".to_owned())),
            "the answer is not CFSSL's",
        ),
        (signed("nothing"), "found no certificate in PEM"),
        (signed(&whole), "found 2 certificates, expected exactly one"),
        (
            Some((StatusCode::OK, huge.to_string())),
            "the answer cannot be read: length limit exceeded",
        ),
    ] {
        let server = case.server(move |_| answer.clone()).await;
        let error = case.failure(&server, SOON).await;
        assert!(error.contains(expected), "{error}");
    }
    let server = case.server(|_| None).await;
    let a_moment = Duration::from_millis(300);
    let error = case.failure(&server, a_moment).await;
    assert_eq!(error, "it has not answered within 300ms");
}

#[tokio::test]
async fn only_servers_of_the_clusters_root_are_asked_and_only_members_may_ask() {
    let case = Case::new();
    let other = Pki::new();
    let forged = other.server(&[case.pki.ca.root()]);
    let server = Server::start(forged, &case.pki.root, |_| None).await;
    let error = case.failure(&server, SOON).await;
    assert!(
        error.contains("it cannot be reached: invalid peer certificate"),
        "{error}"
    );
    let closed = case.pki.server(&[other.ca.root()]);
    let closed = Server::start(closed, &case.pki.root, |_| None).await;
    case.failure(&closed, SOON).await;
    for server in [&server, &closed] {
        assert!(server.asked.lock().unwrap().is_empty(), "nothing was sent");
    }
}

#[tokio::test]
async fn one_after_the_other_is_asked_until_one_signs() {
    let case = Case::new();
    let silent = case.server(|_| None).await;
    let error = case
        .server(|_| Some((StatusCode::BAD_GATEWAY, String::new())))
        .await;
    let (good, never) = (case.good().await, case.good().await);
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = gone.local_addr().unwrap().port();
    drop(gone);
    let gone = ExternalCa {
        url: Some(format!("https://127.0.0.1:{port}/")),
        ..silent.authority.clone()
    };
    let all = [
        &silent.authority,
        &gone,
        &error.authority,
        &good.authority,
        &never.authority,
    ];
    let all = all.map(ExternalCa::clone);
    let issued = case.asked().sign(&all, &case.links).await;
    assert_eq!(issued.unwrap().chain[0].public_key(), case.request_key());
    let asked = |server: &Server| server.asked.lock().unwrap().len();
    assert_eq!([&silent, &error, &good, &never].map(asked), [1, 1, 1, 0]);
    assert!(case.asked().sign(&all[..3], &case.links).await.is_none());
}

impl Case {
    fn request_key(&self) -> Vec<u8> {
        let subject = &self.subject;
        let issued = self.pki.ca.issue(
            &self.request,
            subject,
            NodeLife::default(),
            now(),
            &mut SystemEntropy,
        );
        issued.unwrap().chain[0].public_key().to_vec()
    }
}

#[test]
fn urls_are_read_with_their_host_and_port() {
    let address = |url: &str| {
        address_of(&ExternalCa {
            url: Some(url.to_owned()),
            ..ExternalCa::default()
        })
    };
    for (url, host, port) in [
        ("https://ca.example/sign", "ca.example", 443),
        ("https://[2001:db8::1]:8888", "2001:db8::1", 8888),
        ("https://192.0.2.1:1?x=y", "192.0.2.1", 1),
    ] {
        let read = address(url).unwrap();
        assert_eq!((read.host.as_str(), read.port), (host, port));
    }
    for url in [
        "http://ca.example/",
        "https://",
        "ca.example",
        "https://a b/",
        "https://a_b!c/",
        "",
    ] {
        assert!(address(url).is_err(), "{url}");
    }
}

/// A manager that leads a cluster of its own.
struct Leader {
    authority: Authority,
    replica: Replica,
    _directory: TempDir,
}

impl Leader {
    async fn found(pki: &Pki, external: &[&Server]) -> Self {
        let cluster = essaim_objects::ClusterId::from_bits(9);
        let id = ClusterId::new(cluster.as_str()).unwrap();
        let (identity, subject) = manager(&pki.ca, &id);
        let [directory, ..] = directories();
        let keys = DataKeys::generate(&mut SystemEntropy).unwrap();
        let replica = Replica::open(Parts {
            node: 1.into(),
            disk: Arc::new(StateDirectory::open(directory.path()).unwrap()),
            sealer: Arc::new(Sealer::new(keys, &mut SystemEntropy).unwrap()),
            identity,
            time: clock(),
            settings: Settings::default(),
        });
        let replica = replica.await.unwrap();
        let first = FirstManager {
            node: subject.node_id.as_str().parse().unwrap(),
            raft_id: 1,
            address: "127.0.0.1:1".to_owned(),
        };
        let member = essaim_raft::Member {
            node: subject.node_id.to_string(),
            address: first.address.clone(),
        };
        replica
            .raft()
            .init(essaim_raft::ClusterId::new(7), member)
            .await
            .unwrap();
        let mut status = replica.raft().watch();
        let led = status.wait_for(|status| status.leader.is_some());
        timeout(SOON, led).await.unwrap().unwrap();
        let request = InitRequest {
            spec: Some(named(external.iter().map(|server| ExternalCa {
                // The current root is meant.
                ca_cert: None,
                ..server.authority.clone()
            }))),
            ..InitRequest::default()
        };
        let made = replica.update(|_| {
            new_cluster(
                &request,
                cluster,
                &first,
                &pki.ca,
                None,
                now(),
                &mut SystemEntropy,
            )
        });
        made.await.unwrap();
        Self {
            authority: Authority::new(replica.clone(), clock()),
            replica,
            _directory: directory,
        }
    }

    fn ca(&self) -> RootCa {
        root_ca(self.replica.view().cluster().unwrap()).unwrap()
    }

    /// A node asks for its first certificate.
    async fn join(&self) -> Result<(PrivateKey, IssuedCertificate), CallError> {
        let key = PrivateKey::generate(&mut SystemEntropy).unwrap();
        let request = IssueRequest {
            token: Sensitive(self.ca().token(Role::Worker).reveal()),
            request: CertificateRequest::new(&key).unwrap().to_pem(),
            availability: None,
        };
        let caller = Caller {
            address: "127.0.0.1:9".parse().unwrap(),
            peer: None,
        };
        let issued = self.authority.issue(&caller, &encode(&request)).await?;
        Ok((key, decode(&issued).unwrap()))
    }

    async fn update(&self, spec: &ClusterSpec) -> Result<(), String> {
        let updated = self.replica.update(|view| {
            let version = view.cluster().unwrap().version;
            update_cluster(view, version, spec, Rotate::default(), now(), &mut SystemEntropy)
        });
        updated.await.map(drop).map_err(|error| chain(&error))
    }
}

fn named(authorities: impl IntoIterator<Item = ExternalCa>) -> ClusterSpec {
    ClusterSpec {
        ca_config: Some(CaConfig {
            external_cas: Some(authorities.into_iter().collect()),
            node_cert_expiry: Some(Nanoseconds::from_secs(3600)),
            ..CaConfig::default()
        }),
        ..ClusterSpec::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_by_a_certificate_from_elsewhere_and_waits_while_there_is_none() {
    let case = Case::new();
    let (works, pki) = (Arc::new(Mutex::new(false)), case.pki.clone());
    let switch = works.clone();
    let server = case
        .server(move |asked| {
            let works = *switch.lock().unwrap();
            let no = Some((StatusCode::SERVICE_UNAVAILABLE, String::new()));
            if works {
                signed(&pki.sign(asked, 30 * DAY, |_| {}))
            } else {
                no
            }
        })
        .await;
    let leader = Leader::found(&case.pki, &[&server]).await;
    let nodes = || leader.replica.view().nodes().count();
    let refused = leader.join().await.unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition, "{refused}");
    assert_eq!(nodes(), 1, "a node without a certificate is no node");
    *works.lock().unwrap() = true;
    let (key, issued) = leader.join().await.unwrap();
    assert_eq!(nodes(), 2);
    let chain = Certificate::all_from_pem(&issued.chain).unwrap();
    assert_eq!(chain[0].public_key(), key.public_key());
    assert_eq!(chain[0].subject().unwrap().role, Role::Worker);
    // It lives for longer than the cluster's certificates do: whoever is removed is remembered for as long.
    let view = leader.replica.view();
    let kept = super::super::private::removed(view.cluster().unwrap())
        .unwrap()
        .longest_life;
    assert!(
        (29 * DAY.as_secs()..=30 * DAY.as_secs()).contains(&kept),
        "{kept}"
    );
    // Without authorities elsewhere the managers sign again, who have the key.
    *works.lock().unwrap() = false;
    leader.update(&named([])).await.unwrap();
    leader.join().await.unwrap();
    assert_eq!(server.asked.lock().unwrap().len(), 2);
    leader.replica.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_is_rotated_to_one_whose_key_is_elsewhere() {
    let (own, elsewhere) = (Case::new(), Arc::new(Pki::new()));
    let leader = Leader::found(&own.pki, &[]).await;
    let signer = elsewhere.clone();
    let tls = elsewhere.server(&[own.pki.ca.root(), elsewhere.ca.root()]);
    let server = Server::start(tls, &elsewhere.root, move |asked| {
        signed(&signer.sign(asked, DAY, |_| {}))
    })
    .await;
    // For another root than the current one it does nothing, unless that is asked for.
    let error = leader
        .update(&named([server.authority.clone()]))
        .await
        .unwrap_err();
    let expected =
        "CAConfig.ExternalCAs[0].CACert is another certificate, expected the current root certificate";
    assert!(error.contains(expected), "{error}");
    let mut spec = named([server.authority.clone()]);
    spec.ca_config.as_mut().unwrap().signing_ca_cert = Some(elsewhere.root.clone());
    leader.update(&spec).await.unwrap();
    assert!(!leader.ca().issues_here());
    let (_, issued) = leader.join().await.unwrap();
    let chain = Certificate::all_from_pem(&issued.chain).unwrap();
    assert_eq!(chain.len(), 2, "the cross-signed one goes with it");
    // It cannot be taken away while the root needs it.
    let error = leader.update(&named([])).await.unwrap_err();
    assert!(
        error.contains("CAConfig.ExternalCAs names no authority"),
        "{error}"
    );
    leader.replica.close().await;
}
