//! What the node sees to by itself: its certificate, its role, its way into the consensus.

use crate::error::NodeError;
use crate::member::{Member, any_number};
use crate::node::{Inner, State, identity_of};
use essaim_ca::{
    Callee, CertificateRequest, ExpiredRenewal, Identity, LiveIdentity, PrivateKey, SystemEntropy, Timestamp,
    client_config, joining_client_config,
};
use essaim_manager::authority::{self, Authority};
use essaim_objects::{NodeId, NodeRole, TlsInfo};
use essaim_protocol::{
    CertificateInstalled, IssuedCertificate, JoinRaft, ManagerAddress, RenewRequest, decode, encode, method,
};
use essaim_rpc::{CallError, Client, Code, chain};
use essaim_store::View;
use rustls::time_provider::TimeProvider;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

/// How long a call to a manager may take.
pub(crate) const WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to become a member of the consensus.
const JOIN_WITHIN: Duration = Duration::from_secs(150);
/// How often everything is looked at, whatever happens.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// What is not settled is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A manager whose disk has failed is begun anew so long after.
const BEGIN_ANEW_AFTER: Duration = Duration::from_secs(5);

/// Sees to the node until it is gone.
pub(crate) fn start(inner: &Arc<Inner>) -> AbortHandle {
    let (weak, wake) = (Arc::downgrade(inner), inner.wake.clone());
    let keeper = tokio::spawn(async move {
        loop {
            let Some(inner) = weak.upgrade() else { return };
            let pause = inner.keep().await;
            drop(inner);
            tokio::select! {
                () = wake.notified() => {}
                () = sleep(pause) => {}
            }
        }
    });
    keeper.abort_handle()
}

/// What the node has to ask managers for.
enum Task {
    /// Nothing, for so long.
    Rest(Duration),
    /// Its next certificate.
    Renew,
    /// To be a member of the consensus.
    Join(JoinRaft),
    /// To note what it shows.
    Report(NodeId, TlsInfo),
}

/// What came of it.
enum Done {
    /// A certificate for this key.
    Issued(PrivateKey, IssuedCertificate),
    /// It is a member of the consensus.
    Joined,
    /// The managers know what it shows.
    Reported,
}

/// Whom it can ask, and as whom.
pub(crate) struct Managers {
    pub(crate) live: Arc<LiveIdentity>,
    pub(crate) time: Arc<dyn TimeProvider>,
    pub(crate) others: Vec<String>,
    /// A manager's own.
    pub(crate) own: Option<Authority>,
    /// Whether this manager leads.
    pub(crate) leads: bool,
}

impl Inner {
    async fn keep(&self) -> Duration {
        let (task, managers) = {
            let mut state = self.state.lock().await;
            let State::Member(member) = &mut *state else {
                return LOOK_EVERY;
            };
            let task = self.look(member).await;
            let managers = self.managers(member);
            self.publish(&mut state);
            (task, managers)
        };
        let done = match task {
            Task::Rest(pause) => return pause,
            Task::Renew => {
                let issued = managers.renew().await;
                if let State::Member(member) = &mut *self.state.lock().await {
                    let is_denied = |error: &CallError| error.code == Code::PermissionDenied;
                    member.is_refused = issued.as_ref().is_err_and(is_denied);
                }
                issued.map(|(key, issued)| Done::Issued(key, issued))
            }
            Task::Join(call) => {
                let joined = managers.ask(method::JOIN_RAFT, &call, JOIN_WITHIN).await;
                joined.map(|_| Done::Joined)
            }
            Task::Report(node, tls_info) => managers.report(node, tls_info).await.map(|()| Done::Reported),
        };
        self.took(done).await
    }

    /// Whom a member can ask.
    pub(crate) fn managers(&self, member: &Member) -> Managers {
        let own = member.record.node;
        let others = member
            .record
            .managers
            .iter()
            .filter(|manager| Some(manager.node) != own);
        Managers {
            live: member.live.clone(),
            time: self.options.time.clone(),
            others: others.map(|manager| manager.address.clone()).collect(),
            own: member.manager.as_ref().map(|manager| manager.authority.clone()),
            leads: member.manager.as_ref().is_some_and(|manager| {
                let status = manager.replica.raft().status();
                status.leader == Some(status.node)
            }),
        }
    }

    /// Takes in what was heard and what the store says, and decides what is next.
    async fn look(&self, member: &mut Member) -> Task {
        if let Some(pause) = self.mind_manager(member).await {
            return Task::Rest(pause);
        }
        let view = member.manager.as_ref().map(|manager| manager.replica.view());
        if let Some(manager) = &member.manager {
            manager.replica.tune();
        }
        let mut trouble = None;
        if let Some(view) = &view
            && let Err(error) = member.follow_unlock_key(view).await
        {
            tracing::error!(
                error = chain(&error),
                "the keys are not encrypted as the cluster asks"
            );
            trouble = Some(chain(&error));
        }
        let (node, must_renew, removed) = {
            let mut heard = self.heard();
            if let Some(managers) = heard.managers.take() {
                self.know(member, managers);
            }
            (heard.node.clone(), heard.renew, heard.removed)
        };
        if let Some(view) = &view {
            let managers = managers_in(view);
            if !managers.is_empty() {
                self.know(member, managers);
            }
        }
        if removed || member.is_removed {
            member.is_removed = true;
            member.trouble =
                Some("this node was removed from the cluster; leave it, and join anew".to_owned());
            return Task::Rest(LOOK_EVERY);
        }
        if let Some(wait) = member
            .try_at
            .map(|at| at.saturating_duration_since(Instant::now()))
            && !wait.is_zero()
        {
            return Task::Rest(wait);
        }
        let identity = member.live.current();
        let wanted = wanted_role(member, view.as_ref(), node.as_deref());
        let is_due = self.now() >= member.renew_at
            || must_renew
            || wanted.is_some_and(|role| (role == NodeRole::Manager) != member.is_manager())
            || view
                .as_ref()
                .is_some_and(|view| has_other_roots(view, member, &identity));
        let own = member.record.node;
        if is_due {
            return Task::Renew;
        }
        if member.is_manager() && !member.is_raft_member() {
            return Task::Join(JoinRaft {
                raft_id: member.record.raft.unwrap_or_default(),
                address: member.record.advertise.to_string(),
            });
        }
        if let Some(own) = own.filter(|_| !member.is_reported) {
            return Task::Report(own, authority::report(&identity));
        }
        let left = member.renew_at.since(self.now());
        // What made the manager stop is shown until it has run for a while.
        if member
            .stopped_at
            .is_some_and(|at| at.elapsed() < 2 * BEGIN_ANEW_AFTER)
        {
            return Task::Rest(BEGIN_ANEW_AFTER);
        }
        (member.trouble, member.stopped_at) = (trouble, None);
        Task::Rest(left.clamp(LOOK_AGAIN, LOOK_EVERY))
    }

    /// Ends a manager whose disk has failed, and begins it anew after a while: there may be room again. How long to wait
    /// where none runs that should.
    async fn mind_manager(&self, member: &mut Member) -> Option<Duration> {
        let runs = member.manager.as_ref();
        let failure = runs.and_then(|manager| manager.replica.raft().failure());
        if let Some(failure) = failure
            && let Some(manager) = member.manager.take()
        {
            let why = chain(&*failure);
            tracing::error!(
                error = why,
                "the manager has stopped; it begins anew with all that it acknowledged"
            );
            let every = BEGIN_ANEW_AFTER.as_secs();
            member.trouble = Some(format!(
                "the manager has stopped: {why}; it is begun anew every {every} s"
            ));
            member.stopped_at = Some(Instant::now());
            manager.close().await;
        }
        if !member.is_manager() || member.manager.is_some() {
            return None;
        }
        let waited = member.stopped_at.map_or(BEGIN_ANEW_AFTER, |at| at.elapsed());
        if waited < BEGIN_ANEW_AFTER {
            return BEGIN_ANEW_AFTER.checked_sub(waited);
        }
        let error = chain(&member.open_manager(self).await.err()?);
        if member.trouble.as_ref() != Some(&error) {
            tracing::error!(error, "the manager does not begin");
        }
        member.trouble = Some(error);
        Some(Duration::from_secs(1))
    }

    fn know(&self, member: &mut Member, managers: Vec<ManagerAddress>) {
        if member.record.managers == managers {
            return;
        }
        member.record.managers = managers;
        // There may be one among them that answers.
        member.try_at = None;
        if let Err(error) = self.files.save(&member.record) {
            tracing::warn!(error = chain(&error), "the managers' addresses are not saved");
        }
    }

    /// Takes in how a call has ended.
    async fn took(&self, done: Result<Done, CallError>) -> Duration {
        let mut state = self.state.lock().await;
        let State::Member(member) = &mut *state else {
            return LOOK_EVERY;
        };
        let mut installed = Ok(());
        match done {
            Ok(Done::Issued(key, issued)) => {
                self.heard().renew = false;
                installed = self.take_over(member, key, &issued).await;
            }
            Ok(Done::Reported) => member.is_reported = true,
            Ok(Done::Joined) => {}
            Err(error) => installed = Err(NodeError::Refused(error)),
        }
        let pause = match installed {
            Ok(()) => {
                member.backoff.succeeded();
                (member.trouble, member.try_at) = (None, None);
                Duration::ZERO
            }
            Err(error) => {
                if let NodeError::Refused(call) = &error
                    && call.code == Code::PermissionDenied
                {
                    // The certificate says another role than the store, perhaps.
                    self.heard().renew = true;
                }
                let mut pause = member.backoff.failed(any_number());
                // Only a certificate that is old in vain is asked for less and less.
                if self.now() < member.renew_at {
                    pause = pause.min(LOOK_EVERY);
                }
                tracing::warn!(
                    error = chain(&error),
                    ?pause,
                    "the node's place in the cluster has to wait"
                );
                member.trouble = Some(if member.is_refused {
                    "the managers give this node no certificate any more: it was removed from the cluster, or was \
                     off for too long; leave it, and join anew"
                        .to_owned()
                } else {
                    chain(&error)
                });
                member.try_at = Some(Instant::now() + pause);
                pause
            }
        };
        self.publish(&mut state);
        pause
    }

    async fn take_over(
        &self,
        member: &mut Member,
        key: PrivateKey,
        issued: &IssuedCertificate,
    ) -> Result<(), NodeError> {
        member
            .install(self, identity_of(key, issued)?, issued.version)
            .await
    }
}

/// The role that the newest word on the node says.
fn wanted_role(
    member: &Member,
    view: Option<&View>,
    told: Option<&essaim_objects::Node>,
) -> Option<NodeRole> {
    let own = view
        .and_then(|view| view.node(member.record.node?))
        .map(AsRef::as_ref);
    let newest = match (own, told) {
        (Some(own), Some(told)) if told.version > own.version => Some(told),
        (Some(own), _) => Some(own),
        (None, told) => told,
    };
    newest.and_then(|node| node.certificate_role)
}

/// Whether the store says other roots, or another issuer, than the certificate is of.
fn has_other_roots(view: &View, member: &Member, identity: &Identity) -> bool {
    let Some(cluster) = view.cluster() else {
        return false;
    };
    if cluster.version.index <= member.record.certificate_version {
        return false;
    }
    let Ok(ca) = authority::root_ca(cluster) else {
        return false;
    };
    let cross_signed = ca.rotation().map(|rotation| rotation.cross_signed().clone());
    ca.trust() != *identity.trust() || identity.chain().nth(1) != cross_signed.as_ref()
}

/// The managers that the store knows, the leader first.
fn managers_in(view: &View) -> Vec<ManagerAddress> {
    let mut managers: Vec<_> = view
        .nodes()
        .filter_map(|node| {
            let status = node.manager_status.as_ref()?;
            let address = status.addr.clone()?;
            Some((
                status.leader != Some(true),
                ManagerAddress {
                    node: node.id,
                    address,
                },
            ))
        })
        .collect();
    managers.sort_by_key(|(follows, _)| *follows);
    managers.into_iter().map(|(_, manager)| manager).collect()
}

impl Managers {
    fn now(&self) -> Timestamp {
        self.time
            .current_time()
            .map_or(Timestamp::from_unix(0), Timestamp::from)
    }

    /// The next certificate, with the key that it is for.
    async fn renew(&self) -> Result<(PrivateKey, IssuedCertificate), CallError> {
        let internal = |error: &dyn std::error::Error| CallError::new(Code::Internal, chain(error));
        let key = PrivateKey::generate(&mut SystemEntropy).map_err(|error| internal(&error))?;
        let csr = CertificateRequest::new(&key).map_err(|error| internal(&error))?;
        let identity = self.live.current();
        let here = async || match &self.own {
            Some(own) => own.renew_here(&identity.peer().node_id, &csr).await,
            None => Err(CallError::new(Code::Unavailable, "no manager is known")),
        };
        if self.leads {
            return here().await.map(|issued| (key, issued));
        }
        let has_expired = self.now() > identity.certificate().not_after();
        let asked = if has_expired {
            let renewal = ExpiredRenewal::new(&identity, &csr).map_err(|error| internal(&error))?;
            self.ask(method::RENEW_EXPIRED, &renewal, WITHIN).await
        } else {
            let request = RenewRequest {
                request: csr.to_pem(),
            };
            self.ask(method::RENEW_CERTIFICATE, &request, WITHIN).await
        };
        let issued = match asked {
            Ok(answer) => decode(&answer).map_err(|error| internal(&error))?,
            // A manager that nobody answers goes by its own copy.
            Err(error) if error.code == Code::Unavailable && self.own.is_some() => here().await?,
            Err(error) => return Err(error),
        };
        Ok((key, issued))
    }

    async fn report(&self, node: NodeId, tls_info: TlsInfo) -> Result<(), CallError> {
        if let Some(own) = &self.own {
            return own.note_installed(node, &tls_info).await;
        }
        let message = CertificateInstalled { tls_info };
        self.ask(method::CERTIFICATE_INSTALLED, &message, WITHIN)
            .await
            .map(drop)
    }

    /// Asks one manager after the other until one answers.
    pub(crate) async fn ask(
        &self,
        method: &str,
        message: &impl serde::Serialize,
        within: Duration,
    ) -> Result<bytes::Bytes, CallError> {
        let message = encode(message);
        let identity = self.live.current();
        let has_expired = self.now() > identity.certificate().not_after();
        let mut failures = Vec::new();
        for address in &self.others {
            let config = if has_expired {
                let cluster = identity.peer().cluster_id.clone();
                joining_client_config(identity.trust().clone(), Some(cluster), self.time.clone())
            } else {
                client_config(&self.live, self.time.clone())
            };
            let client = config.and_then(|config| Client::new(address, config, &Callee::AnyManager));
            let client = client.map_err(|error| CallError::new(Code::Internal, chain(&error)))?;
            match client.call(method, message.clone(), within).await {
                Err(error) if matches!(error.code, Code::Unavailable | Code::DeadlineExceeded) => {
                    failures.push(format!("{address}: {error}"));
                }
                answered => return answered,
            }
        }
        let why = if failures.is_empty() {
            "no other manager is known".to_owned()
        } else {
            format!("no manager answers: {}", failures.join("; "))
        };
        Err(CallError::new(Code::Unavailable, why))
    }
}
