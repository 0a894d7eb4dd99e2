//! Into a cluster: a new one, or one that is there.

use crate::address;
use crate::error::{NodeError, TokenProblem};
use crate::keeper::WITHIN;
use crate::local::LocalState;
use crate::member::{Member, random_number};
use crate::node::{Inner, Node, State, identity_of};
use crate::record::{Phase, Record};
use essaim_ca::{
    Callee, CertificateRequest, DataKeys, Entropy as _, Identity, IdentityStore, JoinToken, LiveIdentity,
    NodeLife, PrivateKey, Role, Subject, SystemEntropy, TrustBundle, UnlockKey, joining_client_config,
    root_fetch_client_config,
};
use essaim_manager::UpdateError;
use essaim_manager::authority::{FirstManager, UpdateClusterError, check_init, new_cluster, new_root_ca};
use essaim_objects::{Availability, ClusterId, InitRequest, JoinRequest, NodeId};
use essaim_protocol::{
    IssueRequest, IssuedCertificate, ManagerAddress, RootCertificate, decode, encode, method,
};
use essaim_rpc::{CallError, Client, Code, chain};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long `join` waits (Docker: 20 s).
const JOIN_WITHIN: Duration = Duration::from_secs(20);
/// After how long a first certificate that could not be issued is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long a new cluster's manager takes to lead, at most.
const LEAD_WITHIN: Duration = Duration::from_secs(10);

fn random_bits() -> Result<u128, NodeError> {
    let mut bits = [0; 16];
    SystemEntropy.fill(&mut bits)?;
    Ok(u128::from_be_bytes(bits))
}

impl Node {
    /// Makes a cluster, of which this node is the first manager; or with `ForceNewCluster` one of this manager's state
    /// alone.
    ///
    /// # Errors
    /// [`NodeError`]; the node is in no cluster then, or in the one that it was in.
    pub async fn init(&self, request: InitRequest) -> Result<NodeId, NodeError> {
        let mut state = self.inner.state.lock().await;
        match &mut *state {
            State::Inactive => {}
            State::Locked(_) => return Err(NodeError::Locked),
            State::Closed => return Err(NodeError::Closed),
            State::Member(member) if request.force_new_cluster == Some(true) => {
                let forced = self.inner.force_member(member, &request).await;
                let node = member.record.node;
                self.inner.publish(&mut state);
                forced?;
                return node.ok_or(NodeError::NotMember);
            }
            State::Member(_) => return Err(NodeError::AlreadyMember),
        }
        let spec = check_init(&request)?;
        let interfaces = address::interfaces();
        let listen = address::listen(request.listen_addr.as_deref(), &interfaces)?;
        let asked = request.advertise_addr.as_deref();
        let advertise = address::advertise(asked, listen, None, &interfaces)?;
        let record = Record {
            phase: Phase::Entering,
            node: Some(NodeId::from_bits(random_bits()?)),
            cluster: Some(ClusterId::from_bits(random_bits()?)),
            raft: Some(random_number()?),
            listen,
            advertise,
            data_path: address::first_data_path(
                request.data_path_addr.as_deref(),
                advertise.ip(),
                &interfaces,
            )?,
            managers: Vec::new(),
            certificate_version: 0,
        };
        let node = record.node.unwrap_or(NodeId::MIN);
        self.inner.files.save(&record)?;
        self.inner.enters(&record);
        match self.inner.found(&request, &spec, record).await {
            Ok(member) => *state = self.inner.begin(member),
            Err(error) => {
                self.inner.become_inactive(&mut state)?;
                return Err(error);
            }
        }
        self.inner.publish(&mut state);
        Ok(node)
    }

    /// Joins a cluster, as a worker or a manager: the token says which. Returns once the node has its certificate, and a
    /// manager once it is a member of the consensus.
    ///
    /// # Errors
    /// [`NodeError`]; the node is in no cluster then, except for [`NodeError::JoinTimeout`].
    pub async fn join(&self, request: JoinRequest) -> Result<(), NodeError> {
        let mut state = self.inner.state.lock().await;
        match &*state {
            State::Inactive => {}
            State::Locked(_) => return Err(NodeError::Locked),
            State::Closed => return Err(NodeError::Closed),
            State::Member(_) => return Err(NodeError::AlreadyMember),
        }
        let token = request.join_token.clone().unwrap_or_default();
        let parsed = token.0.trim().parse::<JoinToken>();
        let token = parsed.map_err(|error| NodeError::Token(error.into()))?;
        let remotes = request.remote_addrs.clone().unwrap_or_default();
        let remotes: Vec<_> = remotes
            .iter()
            .map(|text| address::remote(text))
            .collect::<Result<_, _>>()?;
        let first = remotes.first().ok_or(NodeError::NoRemote)?;
        let availability = availability(request.availability.as_deref())?;
        let interfaces = address::interfaces();
        let listen = address::listen(request.listen_addr.as_deref(), &interfaces)?;
        let asked = request.advertise_addr.as_deref();
        let advertise = address::advertise(asked, listen, towards(first).await, &interfaces)?;
        let record = Record {
            phase: Phase::Entering,
            node: None,
            cluster: None,
            raft: None,
            listen,
            advertise,
            data_path: address::data_path(request.data_path_addr.as_deref(), &interfaces)?,
            managers: Vec::new(),
            certificate_version: 0,
        };
        self.inner.files.save(&record)?;
        self.inner.enters(&record);
        match self.inner.joined(&token, &remotes, availability, record).await {
            Ok(member) => *state = self.inner.begin(member),
            Err(error) => {
                self.inner.become_inactive(&mut state)?;
                return Err(error);
            }
        }
        self.inner.publish(&mut state);
        drop(state);
        let mut local = self.watch();
        let active = local.wait_for(|local| local.state == LocalState::Active);
        match timeout(JOIN_WITHIN, active).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(NodeError::Closed),
            Err(_) => Err(NodeError::JoinTimeout),
        }
    }
}

/// The address of this machine that a manager is reached from.
async fn towards(remote: &str) -> Option<IpAddr> {
    let remote: SocketAddr = tokio::net::lookup_host(remote).await.ok()?.next()?;
    let any = if remote.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    // Nothing is sent: the kernel only looks for the route.
    socket.connect(remote).ok()?;
    let own = socket.local_addr().ok()?.ip();
    // That of a manager on this machine is nobody else's way to this node, but there is no other node either.
    Some(own)
}

fn availability(text: Option<&str>) -> Result<Option<Availability>, NodeError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| NodeError::Invalid {
        field: "Availability",
        found: text.chars().take(64).collect(),
        expected: "active, pause or drain",
    })
}

impl Inner {
    fn enters(&self, record: &Record) {
        self.local.send_modify(|local| {
            local.state = LocalState::Pending;
            local.node = record.node;
            local.cluster = record.cluster;
            local.address = Some(record.advertise.ip());
        });
    }

    /// The first manager of a new cluster.
    async fn found(
        &self,
        request: &InitRequest,
        spec: &essaim_objects::ClusterSpec,
        mut record: Record,
    ) -> Result<Member, NodeError> {
        let (now, entropy) = (self.now(), &mut SystemEntropy);
        let ca = new_root_ca(spec, now, entropy)?;
        let (Some(node), Some(cluster), Some(raft_id)) = (record.node, record.cluster, record.raft) else {
            return Err(NodeError::NotMember);
        };
        let key = PrivateKey::generate(entropy)?;
        let csr = CertificateRequest::new(&key)?;
        let unusable = |_| NodeError::NotMember;
        let subject = Subject {
            cluster_id: essaim_ca::ClusterId::new(cluster.as_str()).map_err(unusable)?,
            role: Role::Manager,
            node_id: essaim_ca::NodeId::new(node.as_str()).map_err(unusable)?,
        };
        let valid_for = NodeLife::new(spec.node_cert_expiry().to_duration()).unwrap_or_default();
        let issued = ca
            .issue(&csr, &subject, valid_for, now, entropy)
            .map_err(UpdateClusterError::from)?;
        let identity = Identity::from_issued(key, issued)?;
        let (mut store, _) = IdentityStore::open(self.files.certificates()?, None)?;
        let unlock = spec
            .auto_lock_managers()
            .then(|| UnlockKey::generate(entropy))
            .transpose()?;
        store.set_unlock_key(unlock.clone(), entropy)?;
        store.set_data_keys(Some(DataKeys::generate(entropy)?), entropy)?;
        store.install(identity.clone(), entropy)?;
        let live = LiveIdentity::new(identity)?;
        let first = FirstManager {
            node,
            raft_id,
            address: record.advertise.to_string(),
        };
        record.managers = vec![ManagerAddress {
            node,
            address: first.address.clone(),
        }];
        let mut member = Member::new(record, store, live, now);
        member.open_manager(self).await?;
        let begun = self.begin_store(&member, |view| {
            if view.cluster().is_some() {
                return Ok(essaim_store::Transaction::new());
            }
            new_cluster(
                request,
                cluster,
                &first,
                &ca,
                unlock.as_ref(),
                now,
                &mut SystemEntropy,
            )
        });
        let version = match begun.await {
            Ok(version) => version,
            Err(error) => {
                Box::new(member).close().await;
                return Err(error);
            }
        };
        member.record.certificate_version = version;
        member.record.phase = Phase::Member;
        self.files.save(&member.record)?;
        Ok(member)
    }

    async fn begin_store(
        &self,
        member: &Member,
        decide: impl FnMut(&essaim_store::View) -> Result<essaim_store::Transaction, UpdateClusterError>,
    ) -> Result<u64, NodeError> {
        let Some(manager) = &member.manager else {
            return Err(NodeError::NotMember);
        };
        let raft = manager.replica.raft();
        let own = essaim_raft::Member {
            node: member.record.node.unwrap_or(NodeId::MIN).to_string(),
            address: member.record.advertise.to_string(),
        };
        raft.init(essaim_raft::ClusterId::new(random_number()?), own)
            .await?;
        let mut status = raft.watch();
        let led = status.wait_for(|status| status.leader.is_some());
        if !matches!(timeout(LEAD_WITHIN, led).await, Ok(Ok(_))) {
            let why = format!("this manager did not become the leader within {LEAD_WITHIN:?}");
            return Err(NodeError::Update(UpdateError::NoLeader(why)));
        }
        let view = manager.replica.update(decide).await?;
        Ok(view
            .cluster()
            .map(|cluster| cluster.version.index)
            .unwrap_or_default())
    }

    /// A node with its first certificate.
    async fn joined(
        &self,
        token: &JoinToken,
        remotes: &[String],
        availability: Option<Availability>,
        mut record: Record,
    ) -> Result<Member, NodeError> {
        let entropy = &mut SystemEntropy;
        let key = PrivateKey::generate(entropy)?;
        let csr = CertificateRequest::new(&key)?;
        let request = IssueRequest {
            token: essaim_objects::Sensitive(token.reveal()),
            request: csr.to_pem(),
            availability,
        };
        let (address, issued) = self.first_certificate(token, remotes, &request).await?;
        let identity = identity_of(key, &issued)?;
        let peer = identity.peer().clone();
        record.node = peer.node_id.as_str().parse().ok();
        record.cluster = peer.cluster_id.as_str().parse().ok();
        record.certificate_version = issued.version;
        // Whose address it is, it learns in its session.
        record.managers = vec![ManagerAddress {
            node: NodeId::MIN,
            address,
        }];
        let (mut store, _) = IdentityStore::open(self.files.certificates()?, None)?;
        if peer.role == Role::Manager {
            record.raft = Some(random_number()?);
            store.set_data_keys(Some(DataKeys::generate(entropy)?), entropy)?;
        }
        store.install(identity.clone(), entropy)?;
        let live = LiveIdentity::new(identity)?;
        let mut member = Member::new(record, store, live, self.now());
        if peer.role == Role::Manager {
            member.open_manager(self).await?;
        }
        member.record.phase = Phase::Member;
        self.files.save(&member.record)?;
        Ok(member)
    }

    /// Asks one manager after the other; the address of the one that has issued it. Where an authority elsewhere does not
    /// issue it, they are asked again for as long as a join waits.
    async fn first_certificate(
        &self,
        token: &JoinToken,
        remotes: &[String],
        request: &IssueRequest,
    ) -> Result<(String, IssuedCertificate), NodeError> {
        let begun = Instant::now();
        loop {
            let (mut failures, mut waits) = (Vec::new(), false);
            for address in remotes {
                match self.certificate_of(token, address, request).await {
                    Ok(issued) => return Ok((address.clone(), issued)),
                    Err(NodeError::Refused(error)) if error.code != Code::PermissionDenied => {
                        waits |= error.code == Code::FailedPrecondition;
                        failures.push(format!("{address}: {error}"));
                    }
                    Err(NodeError::Refused(_)) => return Err(NodeError::Token(TokenProblem::Refused)),
                    Err(error) => return Err(error),
                }
            }
            if !waits || begun.elapsed() >= JOIN_WITHIN {
                return Err(NodeError::NoManager(failures.join("; ")));
            }
            tracing::warn!(why = failures.join("; "), "the first certificate has to wait");
            sleep(ASK_AGAIN).await;
        }
    }

    async fn certificate_of(
        &self,
        token: &JoinToken,
        address: &str,
        request: &IssueRequest,
    ) -> Result<IssuedCertificate, NodeError> {
        let time = || self.options.time.clone();
        let malformed = |error: essaim_protocol::Malformed| {
            NodeError::Refused(CallError::new(Code::Internal, chain(&error)))
        };
        let fetch = Client::new(address, root_fetch_client_config(time())?, &Callee::AnyManager)?;
        let empty = bytes::Bytes::new();
        let root = fetch
            .call(method::ROOT_CERTIFICATE, empty, WITHIN)
            .await
            .map_err(NodeError::Refused)?;
        let root: RootCertificate = decode(&root).map_err(malformed)?;
        let checked = token.check_root(&root.certificate);
        let root = checked.map_err(|error| NodeError::Token(error.into()))?;
        let config = joining_client_config(TrustBundle::of(root), None, time())?;
        let client = Client::new(address, config, &Callee::AnyManager)?;
        let issued = client
            .call(method::ISSUE_CERTIFICATE, encode(request), WITHIN)
            .await;
        decode(&issued.map_err(NodeError::Refused)?).map_err(malformed)
    }
}
