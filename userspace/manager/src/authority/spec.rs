//! What the operator asks of the cluster, and changes of it.

use super::external;
use super::private::{PrivateError, removed, root_ca, set_removed, set_root_ca, set_unlock_key};
use essaim_ca::{
    Certificate, DesiredRoot, Entropy, EntropyError, Role, Root, RootCa, RootError, RotateError, Timestamp,
    UnlockKey,
};
use essaim_objects::{
    CaConfig, Cluster, ClusterSpec, DispatcherConfig, EncryptionConfig, Invalid, Nanoseconds, Orchestration,
    RaftConfig, TaskDefaults, Version,
};
use essaim_store::{Transaction, View};

/// What is to be replaced beside a change of the spec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotate {
    /// The token that workers join with.
    pub worker_token: bool,
    /// The token that managers join with.
    pub manager_token: bool,
    /// The key that managers are unlocked with.
    pub unlock_key: bool,
}

/// Why the cluster is not changed; nothing is done.
#[derive(Debug, thiserror::Error)]
pub enum UpdateClusterError {
    /// There is no cluster object: the store is that of no cluster yet.
    #[error("the store holds no cluster; try again when the manager has caught up")]
    NoCluster,
    /// It changed since it was read. The text is Docker's, which clients look for.
    #[error("update out of sequence: the cluster is at version {found}, expected {expected}; read it again")]
    OutOfSequence {
        /// Its version.
        found: Version,
        /// The version that it was read at.
        expected: Version,
    },
    /// Members that cannot be as they are.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Invalid>),
    /// The root's key is elsewhere, and no authority that would have it is named.
    #[error(
        "CAConfig.ExternalCAs names no authority with the key of the root that issues, expected one: the managers do \
         not have that key"
    )]
    NoExternal,
    /// A key without its certificate.
    #[error("CAConfig.SigningCAKey is given without SigningCACert, expected both; give the certificate too")]
    KeyWithoutCertificate,
    /// A certificate that is not the root's, without its key.
    #[error(
        "CAConfig.SigningCACert is not the current root, and neither SigningCAKey nor one of ExternalCAs with this CACert \
         is given; give one of them too"
    )]
    CertificateWithoutKey,
    /// The root that was given cannot be used.
    #[error("CAConfig.SigningCACert cannot be used")]
    Root(#[from] RootError),
    /// The root cannot be replaced.
    #[error("the root certificate cannot be rotated")]
    Rotate(#[from] RotateError),
    /// The cluster object is damaged.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// There is no randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// What a cluster is asked where nothing is said: Swarm's defaults.
pub(super) fn defaults() -> ClusterSpec {
    ClusterSpec {
        name: Some("default".to_owned()),
        labels: Some(essaim_objects::Labels::new()),
        orchestration: Some(Orchestration {
            task_history_retention_limit: Some(5),
            ..Orchestration::default()
        }),
        raft: Some(RaftConfig {
            snapshot_interval: Some(10_000),
            keep_old_snapshots: Some(0),
            log_entries_for_slow_followers: Some(500),
            election_tick: Some(10),
            heartbeat_tick: Some(1),
            ..RaftConfig::default()
        }),
        dispatcher: Some(DispatcherConfig {
            heartbeat_period: Some(Nanoseconds::from_secs(5)),
            ..DispatcherConfig::default()
        }),
        ca_config: Some(CaConfig {
            node_cert_expiry: Some(Nanoseconds::from_secs(90 * 24 * 3600)),
            ..CaConfig::default()
        }),
        task_defaults: Some(TaskDefaults::default()),
        encryption_config: Some(EncryptionConfig {
            auto_lock_managers: Some(false),
            ..EncryptionConfig::default()
        }),
        ..ClusterSpec::default()
    }
}

/// What was asked before, with what is asked now in its place: what is not said stays, as with Docker. Only what concerns
/// the root does not: where it is not said, nothing is asked of the root.
pub(super) fn merged(before: &ClusterSpec, asked: &ClusterSpec) -> ClusterSpec {
    fn zero_is_unsaid(span: Option<Nanoseconds>) -> Option<Nanoseconds> {
        span.filter(|span| span.0 != 0)
    }
    let mut spec = before.clone();
    if asked.name.as_deref().is_some_and(|name| !name.is_empty()) {
        spec.name.clone_from(&asked.name);
    }
    spec.labels = asked.labels.clone().or(spec.labels);
    if let Some(asked) = &asked.orchestration {
        let own = spec.orchestration.get_or_insert_default();
        own.task_history_retention_limit = asked
            .task_history_retention_limit
            .or(own.task_history_retention_limit);
    }
    if let Some(asked) = &asked.raft {
        let own = spec.raft.get_or_insert_default();
        own.snapshot_interval = asked
            .snapshot_interval
            .filter(|it| *it != 0)
            .or(own.snapshot_interval);
        own.keep_old_snapshots = asked.keep_old_snapshots.or(own.keep_old_snapshots);
        let entries = asked.log_entries_for_slow_followers.filter(|it| *it != 0);
        own.log_entries_for_slow_followers = entries.or(own.log_entries_for_slow_followers);
        own.election_tick = asked.election_tick.filter(|it| *it != 0).or(own.election_tick);
        own.heartbeat_tick = asked.heartbeat_tick.filter(|it| *it != 0).or(own.heartbeat_tick);
    }
    if let Some(asked) = &asked.dispatcher {
        let own = spec.dispatcher.get_or_insert_default();
        own.heartbeat_period = zero_is_unsaid(asked.heartbeat_period).or(own.heartbeat_period);
    }
    if let Some(asked) = &asked.ca_config {
        let own = spec.ca_config.get_or_insert_default();
        own.node_cert_expiry = zero_is_unsaid(asked.node_cert_expiry).or(own.node_cert_expiry);
        own.external_cas = asked.external_cas.clone().or_else(|| own.external_cas.take());
        own.signing_ca_cert = asked.signing_ca_cert.clone().filter(|text| !text.is_empty());
        own.signing_ca_key = asked.signing_ca_key.clone().filter(|text| !text.0.is_empty());
        own.force_rotate = asked.force_rotate.or(own.force_rotate);
    }
    spec.task_defaults = asked.task_defaults.clone().or(spec.task_defaults);
    if let Some(asked) = &asked.encryption_config {
        let own = spec.encryption_config.get_or_insert_default();
        own.auto_lock_managers = asked.auto_lock_managers.or(own.auto_lock_managers);
    }
    spec
}

/// The authorities elsewhere of a spec, each with its place in it and the root that it signs for: the current one where
/// nothing is said, as for Swarm.
fn external_roots(
    spec: &ClusterSpec,
    current: Option<&Certificate>,
) -> Result<Vec<Option<Certificate>>, UpdateClusterError> {
    let external = spec.ca_config.as_ref().and_then(|ca| ca.external_cas.as_deref());
    let mut roots = Vec::new();
    for (at, authority) in external.unwrap_or_default().iter().enumerate() {
        let text = authority
            .ca_cert
            .as_deref()
            .filter(|text| !text.trim().is_empty());
        let given = text.map(Certificate::from_pem).transpose();
        let unreadable = |error| invalid(at, "CACert", &error, "one certificate in PEM");
        roots.push(given.map_err(unreadable)?.or_else(|| current.cloned()));
        external::address_of(authority)
            .map_err(|error| invalid(at, "URL", &error, "https://HOST[:PORT][/PATH]"))?;
    }
    Ok(roots)
}

fn invalid(at: usize, member: &str, found: &dyn std::fmt::Display, expected: &str) -> UpdateClusterError {
    UpdateClusterError::Invalid(vec![Invalid {
        field: format!("CAConfig.ExternalCAs[{at}].{member}"),
        found: found.to_string(),
        expected: expected.to_owned(),
    }])
}

/// Writes down for which root each authority elsewhere signs, which has to be the current or the next one. Those that
/// were named before and whose root is gone are left out.
pub(super) fn settle_external(
    before: Option<&ClusterSpec>,
    spec: &mut ClusterSpec,
    ca: &RootCa,
) -> Result<(), UpdateClusterError> {
    let roots = external_roots(spec, Some(ca.root()))?;
    let known = before.and_then(|before| before.ca_config.as_ref()?.external_cas.as_deref());
    let named = spec
        .ca_config
        .as_mut()
        .and_then(|config| config.external_cas.as_mut());
    let mut has_issuer = ca.issues_here();
    if let Some(named) = named {
        let mut settled = Vec::new();
        for (at, (mut authority, root)) in std::mem::take(named).into_iter().zip(roots).enumerate() {
            let counts = root.as_ref().filter(|root| ca.trust().trusts(root));
            if let Some(root) = counts {
                authority.ca_cert = Some(root.to_pem());
                has_issuer |= root == ca.issuer();
                settled.push(authority);
            } else if !known.is_some_and(|known| known.contains(&authority)) {
                let expected = "the current root certificate, or the next one (SigningCACert)";
                return Err(invalid(at, "CACert", &"another certificate", expected));
            }
        }
        *named = settled;
    }
    if has_issuer {
        Ok(())
    } else {
        Err(UpdateClusterError::NoExternal)
    }
}

/// As the store keeps it: the root's key is the authority's, and nowhere else.
pub(super) fn without_key(mut spec: ClusterSpec) -> ClusterSpec {
    if let Some(ca) = &mut spec.ca_config {
        ca.signing_ca_key = None;
    }
    spec
}

/// Which root is asked for; none where it stays.
pub(super) fn desired_root(
    before: Option<&ClusterSpec>,
    spec: &ClusterSpec,
    ca: Option<&RootCa>,
    now: Timestamp,
) -> Result<Option<DesiredRoot>, UpdateClusterError> {
    let asked = spec.ca_config.clone().unwrap_or_default();
    let rotated = |spec: &ClusterSpec| {
        spec.ca_config
            .as_ref()
            .and_then(|ca| ca.force_rotate)
            .unwrap_or(0)
    };
    match (&asked.signing_ca_cert, &asked.signing_ca_key) {
        (Some(certificate), Some(key)) => {
            let root = Root::from_pem(certificate, &key.0, now)?;
            Ok(Some(DesiredRoot::Given(Box::new(root))))
        }
        (None, Some(_)) => Err(UpdateClusterError::KeyWithoutCertificate),
        // The client sends back what it has read.
        (Some(certificate), None) => {
            let given = essaim_ca::Certificate::from_pem(certificate).map_err(RootError::from)?;
            if ca.is_some_and(|ca| *ca.issuer() == given) {
                return Ok(None);
            }
            let external = external_roots(spec, ca.map(RootCa::root))?;
            if !external.contains(&Some(given.clone())) {
                return Err(UpdateClusterError::CertificateWithoutKey);
            }
            let root = Root::without_key(given, now)?;
            Ok(Some(DesiredRoot::Given(Box::new(root))))
        }
        (None, None) => {
            let is_forced = before.is_some_and(|before| rotated(before) != rotated(spec));
            Ok(is_forced.then_some(DesiredRoot::New))
        }
    }
}

/// Changes what is asked of the cluster, and replaces what is to be replaced. `version` is the one that the client has
/// read.
///
/// # Errors
/// [`UpdateClusterError`].
pub fn update_cluster(
    view: &View,
    version: Version,
    asked: &ClusterSpec,
    rotate: Rotate,
    now: Timestamp,
    entropy: &mut dyn Entropy,
) -> Result<Transaction, UpdateClusterError> {
    let cluster = view.cluster().ok_or(UpdateClusterError::NoCluster)?;
    if cluster.version != version {
        return Err(UpdateClusterError::OutOfSequence {
            found: cluster.version,
            expected: version,
        });
    }
    let mut cluster = Cluster::clone(cluster);
    let mut spec = merged(&cluster.spec, asked);
    spec.check().map_err(UpdateClusterError::Invalid)?;
    let mut ca = root_ca(&cluster)?;
    if let Some(desired) = desired_root(Some(&cluster.spec), &spec, Some(&ca), now)? {
        ca.rotate(desired, now, entropy)?;
    }
    settle_external(Some(&cluster.spec), &mut spec, &ca)?;
    for (role, is_asked) in [
        (Role::Worker, rotate.worker_token),
        (Role::Manager, rotate.manager_token),
    ] {
        if is_asked {
            ca.rotate_token(role, entropy)?;
        }
    }
    set_root_ca(&mut cluster, &ca);
    let locks = spec.auto_lock_managers();
    match super::private::unlock_key(&cluster)? {
        Some(_) if !locks => set_unlock_key(&mut cluster, None),
        Some(_) if !rotate.unlock_key => {}
        None if !locks => {}
        Some(_) | None => set_unlock_key(&mut cluster, Some(&UnlockKey::generate(entropy)?)),
    }
    let mut removed = removed(&cluster)?;
    let life = spec.node_cert_expiry().to_duration().as_secs();
    if life > removed.longest_life {
        removed.longest_life = life;
        set_removed(&mut cluster, &removed);
    }
    cluster.spec = without_key(spec);
    let mut transaction = Transaction::new();
    transaction.update(cluster);
    Ok(transaction)
}

/// The key that managers are unlocked with, to be shown to the operator; none while autolock is off.
///
/// # Errors
/// [`UpdateClusterError::NoCluster`], or the cluster object is damaged.
pub fn unlock_key(view: &View) -> Result<Option<UnlockKey>, UpdateClusterError> {
    let cluster = view.cluster().ok_or(UpdateClusterError::NoCluster)?;
    Ok(super::private::unlock_key(cluster)?)
}
