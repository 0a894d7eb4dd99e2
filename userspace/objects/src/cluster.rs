//! The cluster.

use crate::object::{object, spec};
use crate::{ClusterId, Data, Driver, Labels, Nanoseconds, Sensitive, Timestamp, Version};
use std::collections::BTreeMap;

object! {
    /// The cluster itself: `swarm` in the API.
    Cluster {
        /// Its identity.
        "ID" id: ClusterId,
        /// The log index of its last change.
        "Version" version: Version,
        /// When it was made.
        "CreatedAt" created_at: Timestamp,
        /// When it was last changed.
        "UpdatedAt" updated_at: Timestamp,
        /// What the operator asks of it.
        "Spec" spec: ClusterSpec,
        /// Its root certificate.
        "TLSInfo" tls_info: Option<TlsInfo>,
        /// Whether its root certificate is being replaced.
        "RootRotationInProgress" root_rotation_in_progress: bool,
        /// The port of VXLAN.
        "DataPathPort" data_path_port: Option<u32>,
        /// What subnets are cut from, of either family.
        "DefaultAddrPool" default_addr_pool: Option<Vec<String>>,
        /// How long the prefix of an IPv4 subnet is.
        "SubnetSize" subnet_size: Option<u32>,
        /// What nodes join with.
        "JoinTokens" join_tokens: Option<JoinTokens>,
        /// What only managers may know, such as keys, by name; each has its own shape. Not part of Docker's API.
        "Private" private: BTreeMap<String, Data>,
    }
}

impl Cluster {
    /// A new cluster; the store gives it version and times.
    pub fn new(id: ClusterId, spec: ClusterSpec) -> Self {
        Self {
            id,
            version: Version::default(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            spec,
            tls_info: None,
            root_rotation_in_progress: false,
            data_path_port: None,
            default_addr_pool: None,
            subnet_size: None,
            join_tokens: None,
            private: BTreeMap::new(),
            extra: crate::Extra::new(),
        }
    }

    /// As the API may show it: without what only managers may know.
    #[must_use]
    pub fn to_public(&self) -> Self {
        let mut public = self.clone();
        public.private.clear();
        public.spec.ca_config = public.spec.ca_config.map(|ca| CaConfig {
            signing_ca_key: None,
            ..ca
        });
        public
    }
}

spec! {
    /// What the operator asks of the cluster.
    ClusterSpec {
        /// Its name; `default`.
        "Name" name: Option<String>,
        /// Its labels.
        "Labels" labels: Option<Labels>,
        /// What is kept of tasks.
        "Orchestration" orchestration: Option<Orchestration>,
        /// The consensus.
        "Raft" raft: Option<RaftConfig>,
        /// The nodes' sessions.
        "Dispatcher" dispatcher: Option<DispatcherConfig>,
        /// The certificate authority.
        "CAConfig" ca_config: Option<CaConfig>,
        /// What tasks get where their spec is silent.
        "TaskDefaults" task_defaults: Option<TaskDefaults>,
        /// What protects the managers' state at rest.
        "EncryptionConfig" encryption_config: Option<EncryptionConfig>,
    }
}

impl ClusterSpec {
    /// How many tasks of a slot are kept; 5 where nothing is said, and a negative number keeps all.
    pub fn task_history_limit(&self) -> i64 {
        let set = self
            .orchestration
            .as_ref()
            .and_then(|orchestration| orchestration.task_history_retention_limit);
        set.unwrap_or(5)
    }

    /// From one heartbeat of a node to the next; 5 seconds where nothing is said.
    pub fn heartbeat_period(&self) -> Nanoseconds {
        let set = self
            .dispatcher
            .as_ref()
            .and_then(|dispatcher| dispatcher.heartbeat_period);
        set.filter(|period| period.0 != 0)
            .unwrap_or(Nanoseconds::from_secs(5))
    }

    /// How long a node's certificate is good for; 90 days where nothing is said.
    pub fn node_cert_expiry(&self) -> Nanoseconds {
        let set = self.ca_config.as_ref().and_then(|ca| ca.node_cert_expiry);
        set.filter(|expiry| expiry.0 != 0)
            .unwrap_or(Nanoseconds::from_secs(90 * 24 * 3600))
    }

    /// Whether a manager that restarts waits for a key.
    pub fn auto_lock_managers(&self) -> bool {
        self.encryption_config
            .as_ref()
            .and_then(|encryption| encryption.auto_lock_managers)
            == Some(true)
    }
}

spec! {
    /// What is kept of tasks.
    Orchestration {
        /// How many tasks of a slot are kept.
        "TaskHistoryRetentionLimit" task_history_retention_limit: Option<i64>,
    }
}

spec! {
    /// The consensus.
    RaftConfig {
        /// Entries from one snapshot to the next; 10000 where nothing is said.
        "SnapshotInterval" snapshot_interval: Option<u64>,
        /// Old snapshots that are kept; 0 where nothing is said.
        "KeepOldSnapshots" keep_old_snapshots: Option<u64>,
        /// Entries before a snapshot that are kept for slow followers; 500 where nothing is said.
        "LogEntriesForSlowFollowers" log_entries_for_slow_followers: Option<u64>,
        /// Ticks without a leader before an election; 10 where nothing is said.
        "ElectionTick" election_tick: Option<u64>,
        /// Ticks from one heartbeat of the leader to the next; 1 where nothing is said.
        "HeartbeatTick" heartbeat_tick: Option<u64>,
    }
}

spec! {
    /// The nodes' sessions.
    DispatcherConfig {
        /// From one heartbeat to the next.
        "HeartbeatPeriod" heartbeat_period: Option<Nanoseconds>,
    }
}

spec! {
    /// The certificate authority.
    CaConfig {
        /// How long a node's certificate is good for.
        "NodeCertExpiry" node_cert_expiry: Option<Nanoseconds>,
        /// Authorities elsewhere.
        "ExternalCAs" external_cas: Option<Vec<ExternalCa>>,
        /// The root certificate to use, in PEM.
        "SigningCACert" signing_ca_cert: Option<String>,
        /// Its key, in PEM; never shown.
        "SigningCAKey" signing_ca_key: Option<Sensitive>,
        /// Counted up to replace the root certificate.
        "ForceRotate" force_rotate: Option<u64>,
    }
}

spec! {
    /// A certificate authority elsewhere.
    ExternalCa {
        /// `cfssl`.
        "Protocol" protocol: Option<String>,
        /// Where it is.
        "URL" url: Option<String>,
        /// Options.
        "Options" options: Option<Labels>,
        /// Its root certificate, in PEM.
        "CACert" ca_cert: Option<String>,
    }
}

spec! {
    /// What tasks get where their spec is silent.
    TaskDefaults {
        /// Where their output goes.
        "LogDriver" log_driver: Option<Driver>,
    }
}

spec! {
    /// What protects the managers' state at rest.
    EncryptionConfig {
        /// Whether a manager that restarts waits for a key.
        "AutoLockManagers" auto_lock_managers: Option<bool>,
    }
}

spec! {
    /// A certificate's issuer.
    TlsInfo {
        /// The root certificate, in PEM.
        "TrustRoot" trust_root: Option<String>,
        /// Its subject, in base64 of DER.
        "CertIssuerSubject" cert_issuer_subject: Option<String>,
        /// Its public key, in base64 of DER.
        "CertIssuerPublicKey" cert_issuer_public_key: Option<String>,
    }
}

spec! {
    /// What nodes join with.
    JoinTokens {
        /// As a worker.
        "Worker" worker: Option<Sensitive>,
        /// As a manager.
        "Manager" manager: Option<Sensitive>,
    }
}

spec! {
    /// The body that makes a cluster.
    InitRequest {
        /// Where the manager listens.
        "ListenAddr" listen_addr: Option<String>,
        /// The address that others reach it at.
        "AdvertiseAddr" advertise_addr: Option<String>,
        /// The address, or the interface, of VXLAN.
        "DataPathAddr" data_path_addr: Option<String>,
        /// The port of VXLAN; 0 is 4789.
        "DataPathPort" data_path_port: Option<u32>,
        /// Whether a new cluster is made of this manager's state alone.
        "ForceNewCluster" force_new_cluster: Option<bool>,
        /// What the operator asks of the cluster.
        "Spec" spec: Option<ClusterSpec>,
        /// Beside the spec's own.
        "AutoLockManagers" auto_lock_managers: Option<bool>,
        /// Whether this node takes tasks.
        "Availability" availability: Option<String>,
        /// What subnets are cut from.
        "DefaultAddrPool" default_addr_pool: Option<Vec<String>>,
        /// How long the prefix of an IPv4 subnet is.
        "SubnetSize" subnet_size: Option<u32>,
    }
}

spec! {
    /// The body with which a node joins.
    JoinRequest {
        /// Where the manager listens.
        "ListenAddr" listen_addr: Option<String>,
        /// The address that others reach it at.
        "AdvertiseAddr" advertise_addr: Option<String>,
        /// The address, or the interface, of VXLAN.
        "DataPathAddr" data_path_addr: Option<String>,
        /// The managers to ask.
        "RemoteAddrs" remote_addrs: Option<Vec<String>>,
        /// What it joins with.
        "JoinToken" join_token: Option<Sensitive>,
        /// Whether it takes tasks.
        "Availability" availability: Option<String>,
    }
}
