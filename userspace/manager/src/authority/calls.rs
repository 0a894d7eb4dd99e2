//! What nodes call managers for.

use super::private::{removed, root_ca, set_removed};
use super::{Authority, certificate_role, external, object_id, object_role};
use crate::replica::UpdateError;
use bytes::Bytes;
use essaim_ca::{
    Certificate, CertificateRequest, ClusterId, Entropy, ExpiredRenewal, Issued, JoinToken, NodeLife, Peer,
    Role, RootCa, Subject, SystemEntropy,
};
use essaim_objects::{Cluster, Node, NodeId, NodeRole, NodeSpec, NodeState, TlsInfo};
use essaim_protocol::{
    CertificateInstalled, IssueRequest, IssuedCertificate, JoinRaft, Leave, OnBehalf, RenewRequest,
    RootCertificate, decode, encode, method,
};
use essaim_raft::{ChangeError, Member};
use essaim_rpc::{Admission, CallError, Caller, Code, Methods, chain};
use essaim_store::{Transaction, View};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

/// How long a manager may take to become a member: its copy of the store may have to travel.
const JOIN_WITHIN: Duration = Duration::from_secs(150);
/// How long another call to the leader may take.
const WITHIN: Duration = Duration::from_secs(15);

impl Authority {
    /// Adds what nodes call managers for, and has each call of a member checked by what the store says of it.
    #[must_use]
    pub fn methods(&self, methods: Methods) -> Methods {
        let (anybody, members) = (Admission::Anybody, Admission::Members(Role::Worker));
        let managers = Admission::Members(Role::Manager);
        let guard = self.clone();
        let own = || self.clone();
        let [root, issue, renew, expired, installed, leave] = std::array::from_fn(|_| own());
        let [join, join_on_behalf, leave_on_behalf] = std::array::from_fn(|_| own());
        methods
            .guarded(move |peer, role, method| guard.still_counts(peer, role, method))
            .one(method::ROOT_CERTIFICATE, anybody, move |_, _| {
                let it = root.clone();
                async move { it.root_certificate() }
            })
            .one(method::ISSUE_CERTIFICATE, anybody, move |caller, message| {
                let it = issue.clone();
                async move { it.issue(&caller, &message).await }
            })
            .one(method::RENEW_EXPIRED, anybody, move |caller, message| {
                let it = expired.clone();
                async move { it.renew_expired(&caller, &message).await }
            })
            .one(method::RENEW_CERTIFICATE, members, move |caller, message| {
                let it = renew.clone();
                async move { it.renew(&caller, &message).await }
            })
            .one(method::CERTIFICATE_INSTALLED, members, move |caller, message| {
                let it = installed.clone();
                async move { it.installed(&caller, &message).await }
            })
            .one(method::LEAVE, members, move |caller, message| {
                let it = leave.clone();
                async move {
                    let call: Leave = read(&message)?;
                    let node = id_of(member(&caller)?)?;
                    it.leave(OnBehalf { node, call }).await
                }
            })
            .one(method::JOIN_RAFT, managers, move |caller, message| {
                let it = join.clone();
                async move {
                    let call: JoinRaft = read(&message)?;
                    let node = id_of(member(&caller)?)?;
                    it.join_raft(OnBehalf { node, call }).await
                }
            })
            .one(method::JOIN_RAFT_ON_BEHALF, managers, move |_, message| {
                let it = join_on_behalf.clone();
                async move { it.join_raft(read(&message)?).await }
            })
            .one(method::LEAVE_ON_BEHALF, managers, move |_, message| {
                let it = leave_on_behalf.clone();
                async move { it.leave(read(&message)?).await }
            })
    }

    fn root_certificate(&self) -> Result<Bytes, CallError> {
        let view = self.replica.view();
        let ca = root_ca(cluster(&view)?).map_err(damaged)?;
        Ok(encode(&RootCertificate {
            certificate: ca.root().to_pem(),
        }))
    }

    /// A first certificate, by a token.
    pub(super) async fn issue(&self, caller: &Caller, message: &[u8]) -> Result<Bytes, CallError> {
        let refused = |why: &dyn Display| refusal(caller, method::ISSUE_CERTIFICATE, why);
        let request: IssueRequest = read(message)?;
        let token: JoinToken = request.token.0.parse().map_err(|error| refused(&error))?;
        let csr = CertificateRequest::from_pem(&request.request).map_err(|error| refused(&error))?;
        let mut bits = [0; 16];
        SystemEntropy
            .fill(&mut bits)
            .map_err(|error| CallError::new(Code::Internal, error))?;
        let id = NodeId::from_bits(u128::from_be_bytes(bits));
        let role_in = |view: &View| {
            let cluster = view
                .cluster()
                .ok_or_else(|| "there is no cluster yet".to_owned())?;
            let ca = root_ca(cluster).map_err(|error| error.to_string())?;
            ca.role_of(&token).map_err(|error| error.to_string())
        };
        let view = self.replica.view();
        let role = role_in(&view).map_err(|why| refused(&why))?;
        // Signed first: an authority elsewhere may not answer, and a node that has no certificate is no node. It is given
        // out once the node's object is there.
        let issued = self.sign(&view, id, role, &csr).await?;
        let created = self.replica.update(|view| {
            if role_in(view)? != role {
                return Err("the tokens were replaced meanwhile".to_owned());
            }
            let mut node = Node::new(
                id,
                NodeSpec {
                    role: Some(object_role(role)),
                    availability: Some(
                        request
                            .availability
                            .unwrap_or(essaim_objects::Availability::Active),
                    ),
                    ..NodeSpec::default()
                },
            );
            node.certificate_role = Some(object_role(role));
            let mut transaction = Transaction::new();
            transaction.create(node);
            Ok::<_, String>(transaction)
        });
        match created.await {
            Ok(_) => {}
            Err(UpdateError::Refused(why)) => return Err(refused(&why)),
            Err(error) => return Err(CallError::new(Code::Unavailable, error)),
        }
        tracing::info!(node = %id, %role, from = %caller.address, "a node joins");
        Ok(issued)
    }

    /// The next certificate, by the one that the node has.
    async fn renew(&self, caller: &Caller, message: &[u8]) -> Result<Bytes, CallError> {
        let request: RenewRequest = read(message)?;
        let csr = CertificateRequest::from_pem(&request.request)
            .map_err(|error| refusal(caller, method::RENEW_CERTIFICATE, &error))?;
        let view = self.newest().await?;
        let id = id_of(member(caller)?)?;
        let issued = self.sign_member(&view, id, &csr).await;
        issued.map_err(|why| refused(caller, method::RENEW_CERTIFICATE, why))
    }

    /// The next certificate, by one that has expired.
    async fn renew_expired(&self, caller: &Caller, message: &[u8]) -> Result<Bytes, CallError> {
        let refused_for = |why: &dyn Display| refusal(caller, method::RENEW_EXPIRED, why);
        let Ok(renewal) = serde_json::from_slice::<ExpiredRenewal>(message) else {
            return Err(refused_for(&"the message cannot be read"));
        };
        let view = self.newest().await?;
        let cluster = cluster(&view)?;
        let ca = root_ca(cluster).map_err(damaged)?;
        let id = cluster_id(cluster)?;
        let (peer, csr) = renewal
            .verify(&ca.trust(), &id, self.now())
            .map_err(|error| refused_for(&chain(&error)))?;
        super::still_counts(&view, &peer, Role::Worker, false).map_err(|why| refused_for(&why))?;
        let node = id_of(&peer)?;
        let issued = self.sign_member(&view, node, &csr).await;
        issued.map_err(|why| refused(caller, method::RENEW_EXPIRED, why))
    }

    /// A manager's own next certificate, by its own copy of the store: where no other manager can be asked.
    ///
    /// # Errors
    /// [`CallError`]: the copy knows no such node, or no cluster; or no authority elsewhere has signed.
    pub async fn renew_here(
        &self,
        node: &essaim_ca::NodeId,
        request: &CertificateRequest,
    ) -> Result<IssuedCertificate, CallError> {
        let view = self.replica.view();
        let id = object_id(node).map_err(|error| CallError::new(Code::InvalidArgument, error))?;
        if super::is_removed(&view, id) {
            return Err(CallError::new(
                Code::PermissionDenied,
                "this node was removed from the cluster",
            ));
        }
        let issued = self.sign_member(&view, id, request).await?;
        decode(&issued).map_err(|error| CallError::new(Code::Internal, chain(&error)))
    }

    /// For a node that the store knows, in the role that it says.
    async fn sign_member(
        &self,
        view: &View,
        id: NodeId,
        request: &CertificateRequest,
    ) -> Result<Bytes, CallError> {
        let Some(node) = view.node(id) else {
            let why = format!("node {id} is not in the cluster");
            return Err(CallError::new(Code::PermissionDenied, why));
        };
        let role = node.certificate_role.unwrap_or(NodeRole::Worker);
        self.sign(view, id, certificate_role(role), request).await
    }

    async fn sign(
        &self,
        view: &View,
        id: NodeId,
        role: Role,
        request: &CertificateRequest,
    ) -> Result<Bytes, CallError> {
        let cluster = cluster(view)?;
        let ca: RootCa = root_ca(cluster).map_err(damaged)?;
        let internal = |error: &dyn std::error::Error| CallError::new(Code::Internal, chain(error));
        let subject = Subject {
            cluster_id: cluster_id(cluster)?,
            role,
            node_id: essaim_ca::NodeId::new(id.as_str()).map_err(|error| internal(&error))?,
        };
        let life = NodeLife::new(cluster.spec.node_cert_expiry().to_duration()).unwrap_or_default();
        let elsewhere = external::authorities(&cluster.spec, &ca);
        let issued = if elsewhere.is_empty() {
            ca.issue(request, &subject, life, self.now(), &mut SystemEntropy)
                .map_err(|error| internal(&error))?
        } else {
            let asked = external::Asked {
                ca: &ca,
                request,
                subject: &subject,
                now: self.now(),
                within: external::ALL_WITHIN,
            };
            let issued = asked.sign(&elsewhere, self.replica.links()).await;
            let issued = issued.ok_or_else(|| {
                let why = "no external certificate authority has issued the certificate; the managers' logs say why";
                CallError::new(Code::FailedPrecondition, why)
            })?;
            self.note_life(&issued).await?;
            issued
        };
        Ok(encode(&IssuedCertificate {
            chain: issued.chain.iter().map(Certificate::to_pem).collect(),
            trust: issued.trust.to_pem(),
            version: cluster.version.index,
        }))
    }

    /// Notes how long what an authority elsewhere has issued is valid, which is not for the managers to say: a node that
    /// is removed is remembered for as long.
    async fn note_life(&self, issued: &Issued) -> Result<(), CallError> {
        let end = issued.chain.first().map(Certificate::not_after);
        let life = end.map_or(Duration::ZERO, |end| end.since(self.now())).as_secs();
        let is_known = |cluster: &Cluster| removed(cluster).is_ok_and(|removed| removed.longest_life >= life);
        if self
            .replica
            .view()
            .cluster()
            .is_some_and(|cluster| is_known(cluster))
        {
            return Ok(());
        }
        let noted = self.replica.update(|view| {
            let mut transaction = Transaction::new();
            if let Some(cluster) = view.cluster().filter(|cluster| !is_known(cluster)) {
                let mut cluster = Cluster::clone(cluster);
                let mut list = removed(&cluster)?;
                list.longest_life = life;
                set_removed(&mut cluster, &list);
                transaction.update(cluster);
            }
            Ok::<_, super::PrivateError>(transaction)
        });
        let noted = noted.await.map(drop);
        noted.map_err(|error| CallError::new(Code::Unavailable, chain(&error)))
    }

    /// Notes what a node shows now: the rotation of the root waits for it.
    async fn installed(&self, caller: &Caller, message: &[u8]) -> Result<Bytes, CallError> {
        let CertificateInstalled { tls_info } = read(message)?;
        let id = id_of(member(caller)?)?;
        self.note_installed(id, &tls_info).await?;
        Ok(Bytes::new())
    }

    /// Notes what a node shows now.
    ///
    /// # Errors
    /// [`CallError`]: it is not noted, or that is not known.
    pub async fn note_installed(&self, id: NodeId, tls_info: &TlsInfo) -> Result<(), CallError> {
        let noted = self.replica.update(|view| {
            let mut transaction = Transaction::new();
            if let Some(node) = view.node(id)
                && node.certificate.as_ref() != Some(tls_info)
            {
                let mut node = Node::clone(node);
                node.certificate = Some(tls_info.clone());
                // As the API shows it; what the node says of itself at other times may take its place.
                node.description.get_or_insert_default().tls_info = Some(TlsInfo {
                    extra: essaim_objects::Extra::new(),
                    ..tls_info.clone()
                });
                transaction.update(node);
            }
            Ok::<_, std::convert::Infallible>(transaction)
        });
        noted
            .await
            .map(drop)
            .map_err(|error| CallError::new(Code::Unavailable, chain(&error)))
    }

    /// Makes a manager a member of the consensus.
    async fn join_raft(&self, joins: OnBehalf<JoinRaft>) -> Result<Bytes, CallError> {
        let raft = self.replica.raft();
        let status = raft.status();
        if status.leader != Some(status.node) {
            return self
                .hand_on(method::JOIN_RAFT_ON_BEHALF, &joins, JOIN_WITHIN)
                .await;
        }
        let view = self.newest().await?;
        let node = view.node(joins.node);
        let is_manager = node.is_some_and(|node| {
            node.spec.role() == NodeRole::Manager && node.certificate_role == Some(NodeRole::Manager)
        });
        if !is_manager {
            tracing::warn!(node = %joins.node, "a node that is to be no manager asks to be a member");
            return Err(CallError::new(
                Code::PermissionDenied,
                "not allowed to call JoinRaft",
            ));
        }
        let id = essaim_raft::NodeId::new(joins.call.raft_id);
        let other = status
            .members
            .get(&id)
            .filter(|it| it.member.node != joins.node.as_str());
        if other.is_some() {
            let why = format!("raft id {id} is another manager's; join with a new one");
            return Err(CallError::new(Code::FailedPrecondition, why));
        }
        let was_known = other.is_some() || status.members.contains_key(&id);
        let member = Member {
            node: joins.node.to_string(),
            address: joins.call.address,
        };
        raft.add_learner(id, member)
            .await
            .map_err(|error| not_changed(&error))?;
        if let Err(error) = raft.promote(id).await {
            if !was_known && let Err(left) = raft.remove(id, false).await {
                tracing::warn!(node = %joins.node, error = chain(&left), "a manager that did not join stays a learner");
            }
            return Err(not_changed(&error));
        }
        // One that lost its log came back under a new number.
        let before = raft.status().members;
        let before = before
            .iter()
            .filter(|(known, it)| **known != id && it.member.node == joins.node.as_str());
        for (known, _) in before {
            if let Err(error) = raft.remove(*known, false).await {
                tracing::warn!(node = %joins.node, error = chain(&error), "a manager's former number stays");
            }
        }
        tracing::info!(node = %joins.node, "a manager has joined the consensus");
        Ok(Bytes::new())
    }

    /// Takes a node out: of the consensus, and for down.
    async fn leave(&self, leaves: OnBehalf<Leave>) -> Result<Bytes, CallError> {
        let raft = self.replica.raft();
        let status = raft.status();
        let members = status.members.iter();
        let own: Vec<_> = members
            .filter(|(_, it)| it.member.node == leaves.node.as_str())
            .map(|(id, _)| *id)
            .collect();
        if !own.is_empty() {
            if status.leader != Some(status.node) {
                return self.hand_on(method::LEAVE_ON_BEHALF, &leaves, WITHIN).await;
            }
            for id in own {
                match raft.remove(id, leaves.call.force).await {
                    Ok(()) | Err(ChangeError::NotMember(_)) => {}
                    Err(error) => return Err(not_changed(&error)),
                }
            }
        }
        let noted = self.replica.update(|view| {
            let mut transaction = Transaction::new();
            if let Some(node) = view.node(leaves.node) {
                let mut node = Node::clone(node);
                node.manager_status = None;
                node.status.state = NodeState::Down;
                node.status.message = Some("the node has left the cluster".to_owned());
                transaction.update(node);
            }
            Ok::<_, std::convert::Infallible>(transaction)
        });
        noted
            .await
            .map_err(|error| CallError::new(Code::Unavailable, chain(&error)))?;
        tracing::info!(node = %leaves.node, "a node has left");
        Ok(Bytes::new())
    }

    /// Has the leader do it.
    async fn hand_on(
        &self,
        method: &str,
        message: &impl Serialize,
        within: Duration,
    ) -> Result<Bytes, CallError> {
        let status = self.replica.raft().status();
        let leader = status.leader.and_then(|leader| status.members.get(&leader));
        let Some(leader) = leader.filter(|_| status.leader != Some(status.node)) else {
            return Err(CallError::new(
                Code::Unavailable,
                "no manager leads the cluster; try again",
            ));
        };
        let client = self.replica.links().to(&leader.member.address);
        let client = client.map_err(|error| CallError::new(Code::Unavailable, chain(&error)))?;
        client.call(method, encode(message), within).await
    }

    async fn newest(&self) -> Result<View, CallError> {
        let view = self.replica.read().await;
        view.map_err(|error| CallError::new(Code::Unavailable, chain(&error)))
    }
}

fn cluster(view: &View) -> Result<&Arc<Cluster>, CallError> {
    let none = || {
        CallError::new(
            Code::Unavailable,
            "this manager's store holds no cluster yet; try again",
        )
    };
    view.cluster().ok_or_else(none)
}

fn cluster_id(cluster: &Cluster) -> Result<ClusterId, CallError> {
    ClusterId::new(cluster.id.as_str()).map_err(|error| CallError::new(Code::Internal, error))
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn damaged(error: super::PrivateError) -> CallError {
    CallError::new(Code::Internal, chain(&error))
}

fn member(caller: &Caller) -> Result<&Peer, CallError> {
    let none = || CallError::new(Code::PermissionDenied, "no certificate was shown");
    caller.peer.as_ref().ok_or_else(none)
}

fn id_of(peer: &Peer) -> Result<NodeId, CallError> {
    object_id(&peer.node_id).map_err(|error| CallError::new(Code::InvalidArgument, error))
}

fn read<T: DeserializeOwned>(message: &[u8]) -> Result<T, CallError> {
    decode(message).map_err(|error| CallError::new(Code::InvalidArgument, error))
}

/// Logs why, and says that it may not.
fn refusal(caller: &Caller, method: &str, why: &dyn Display) -> CallError {
    tracing::warn!(method, from = %caller.address, %why, "call refused");
    CallError::new(Code::PermissionDenied, format!("not allowed to call {method}"))
}

/// The same for what was found out further down.
fn refused(caller: &Caller, method: &str, error: CallError) -> CallError {
    match error.code {
        Code::PermissionDenied => refusal(caller, method, &error),
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Unavailable
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Unimplemented
        | Code::Internal => error,
    }
}

fn not_changed(error: &ChangeError) -> CallError {
    let code = match error {
        ChangeError::QuorumLoss(_) | ChangeError::NotMember(_) => Code::FailedPrecondition,
        ChangeError::NotLeader { .. }
        | ChangeError::InProgress
        | ChangeError::NotCaughtUp(_)
        | ChangeError::Unknown
        | ChangeError::Stopped { .. } => Code::Unavailable,
    };
    CallError::new(code, chain(error))
}
