//! `swarm`: the cluster itself.

mod run;

use crate::parse::{fields, nano_duration, word};
use essaim_objects::{
    Availability, ClusterSpec, DispatcherConfig, EncryptionConfig, ExternalCa, InitRequest, JoinRequest,
    Labels, Nanoseconds, Orchestration, RaftConfig, Sensitive,
};

/// What can be done with the cluster.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum SwarmCommand {
    /// Display and rotate the root CA
    Ca(CaArgs),
    /// Initialize a swarm
    Init(Box<InitArgs>),
    /// Join a swarm as a node and/or manager
    Join(JoinArgs),
    /// Manage join tokens
    JoinToken {
        /// Only display token
        #[arg(short, long)]
        quiet: bool,
        /// Rotate join token
        #[arg(long)]
        rotate: bool,
        /// Whose token
        role: TokenRole,
    },
    /// Leave the swarm
    Leave {
        /// Force this node to leave the swarm, ignoring warnings
        #[arg(short, long)]
        force: bool,
    },
    /// Unlock swarm
    Unlock,
    /// Manage the unlock key
    UnlockKey {
        /// Only display token
        #[arg(short, long)]
        quiet: bool,
        /// Rotate unlock key
        #[arg(long)]
        rotate: bool,
    },
    /// Update the swarm
    Update(UpdateArgs),
}

/// As what a node joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TokenRole {
    /// Runs tasks
    Worker,
    /// Runs tasks and holds the cluster's state
    Manager,
}

impl TokenRole {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Manager => "manager",
        }
    }
}

/// A certificate authority elsewhere: `protocol=cfssl,url=https://…[,cacert=FILE]`.
#[derive(Clone, Debug, PartialEq)]
struct ExternalFlag {
    ca: ExternalCa,
    cert_file: Option<String>,
}

impl std::str::FromStr for ExternalFlag {
    type Err = crate::parse::Expected;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected =
            || crate::parse::Expected::new("protocol=cfssl,url=URL[,cacert=FILE] and options as KEY=VALUE");
        let (mut ca, mut cert_file) = (ExternalCa::default(), None);
        let mut options = Labels::new();
        for field in fields(text)? {
            let (key, value) = field.split_once('=').ok_or_else(expected)?;
            match key.to_ascii_lowercase().as_str() {
                "protocol" if value.eq_ignore_ascii_case("cfssl") => ca.protocol = Some("cfssl".to_owned()),
                "protocol" => return Err(expected()),
                "url" => ca.url = Some(value.to_owned()),
                "cacert" => cert_file = Some(value.to_owned()),
                other => drop(options.insert(other.to_owned(), value.to_owned())),
            }
        }
        if ca.protocol.is_none() || ca.url.is_none() {
            return Err(expected());
        }
        ca.options = Some(options).filter(|options| !options.is_empty());
        Ok(Self { ca, cert_file })
    }
}

/// The flags that `init` and `update` share.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub(crate) struct SpecFlags {
    /// Validity period for node certificates (ns|us|ms|s|m|h) [default: 2160h]
    #[arg(long, value_name = "DURATION", value_parser = nano_duration)]
    cert_expiry: Option<Nanoseconds>,
    /// Dispatcher heartbeat period (ns|us|ms|s|m|h) [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = nano_duration)]
    dispatcher_heartbeat: Option<Nanoseconds>,
    /// Specifications of one or more certificate signing endpoints
    #[arg(long, value_name = "CA")]
    external_ca: Vec<ExternalFlag>,
    /// Number of additional Raft snapshots to retain
    #[arg(long, value_name = "NUMBER")]
    max_snapshots: Option<u64>,
    /// Number of log entries between Raft snapshots [default: 10000]
    #[arg(long, value_name = "NUMBER")]
    snapshot_interval: Option<u64>,
    /// Task history retention limit [default: 5]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    task_history_limit: Option<i64>,
}

impl SpecFlags {
    fn apply(&self, spec: &mut ClusterSpec, external: Vec<ExternalCa>) {
        if let Some(limit) = self.task_history_limit {
            spec.orchestration
                .get_or_insert_default()
                .task_history_retention_limit = Some(limit);
        }
        if let Some(period) = self.dispatcher_heartbeat {
            spec.dispatcher.get_or_insert_default().heartbeat_period = Some(period);
        }
        if let Some(expiry) = self.cert_expiry {
            spec.ca_config.get_or_insert_default().node_cert_expiry = Some(expiry);
        }
        if !external.is_empty() {
            spec.ca_config.get_or_insert_default().external_cas = Some(external);
        }
        if let Some(interval) = self.snapshot_interval {
            spec.raft.get_or_insert_default().snapshot_interval = Some(interval);
        }
        if let Some(kept) = self.max_snapshots {
            spec.raft.get_or_insert_default().keep_old_snapshots = Some(kept);
        }
    }
}

/// Where a manager listens and how others reach it.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub(crate) struct AddressFlags {
    /// Advertised address (format: IP|INTERFACE[:PORT])
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    advertise_addr: String,
    /// Availability of the node (active, pause, drain) [default: active]
    #[arg(long, value_parser = word::<Availability>)]
    availability: Option<Availability>,
    /// Address or interface to use for data path traffic (format: IP|INTERFACE)
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    data_path_addr: String,
    /// Listen address (format: IP|INTERFACE[:PORT])
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:2377")]
    listen_addr: String,
}

impl AddressFlags {
    fn availability(&self) -> String {
        self.availability
            .map(|availability| availability.as_str().to_owned())
            .unwrap_or_default()
    }
}

/// What `swarm init` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct InitArgs {
    #[command(flatten)]
    address: AddressFlags,
    /// Enable manager autolocking (requiring an unlock key to start a stopped manager)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    autolock: bool,
    /// Port number to use for data path traffic (1024 - 49151); 0 is 4789
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    data_path_port: u32,
    /// Default address pool in CIDR format
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    default_addr_pool: Vec<String>,
    /// Default address pool subnet mask length
    #[arg(long, value_name = "LENGTH", default_value_t = 24)]
    default_addr_pool_mask_length: u32,
    /// Force create a new cluster from current state
    #[arg(long)]
    force_new_cluster: bool,
    #[command(flatten)]
    spec: SpecFlags,
}

impl InitArgs {
    fn to_request(&self, external: Vec<ExternalCa>) -> InitRequest {
        let mut spec = ClusterSpec {
            orchestration: Some(Orchestration::default()),
            raft: Some(RaftConfig {
                election_tick: Some(0),
                heartbeat_tick: Some(0),
                ..RaftConfig::default()
            }),
            dispatcher: Some(DispatcherConfig::default()),
            ca_config: Some(essaim_objects::CaConfig::default()),
            task_defaults: Some(essaim_objects::TaskDefaults::default()),
            encryption_config: Some(EncryptionConfig {
                auto_lock_managers: Some(self.autolock),
                ..EncryptionConfig::default()
            }),
            ..ClusterSpec::default()
        };
        self.spec.apply(&mut spec, external);
        InitRequest {
            listen_addr: Some(self.address.listen_addr.clone()),
            advertise_addr: Some(self.address.advertise_addr.clone()),
            data_path_addr: Some(self.address.data_path_addr.clone()),
            data_path_port: Some(self.data_path_port),
            force_new_cluster: Some(self.force_new_cluster),
            spec: Some(spec),
            auto_lock_managers: Some(self.autolock),
            availability: Some(self.address.availability()),
            default_addr_pool: Some(self.default_addr_pool.clone()),
            subnet_size: Some(self.default_addr_pool_mask_length),
            ..InitRequest::default()
        }
    }
}

/// What `swarm join` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct JoinArgs {
    #[command(flatten)]
    address: AddressFlags,
    /// Token for entry into the swarm
    #[arg(long, default_value = "", hide_default_value = true)]
    token: String,
    /// A manager
    #[arg(value_name = "HOST:PORT")]
    remote: String,
}

impl JoinArgs {
    fn to_request(&self) -> JoinRequest {
        JoinRequest {
            listen_addr: Some(self.address.listen_addr.clone()),
            advertise_addr: Some(self.address.advertise_addr.clone()),
            data_path_addr: Some(self.address.data_path_addr.clone()),
            remote_addrs: Some(vec![self.remote.clone()]),
            join_token: Some(Sensitive(self.token.clone())),
            availability: Some(self.address.availability()),
            ..JoinRequest::default()
        }
    }
}

/// What `swarm update` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct UpdateArgs {
    /// Change manager autolocking setting (true|false)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    autolock: Option<bool>,
    #[command(flatten)]
    spec: SpecFlags,
}

/// What `swarm ca` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct CaArgs {
    /// Path to the PEM-formatted root CA certificate to use for the new cluster
    #[arg(long, value_name = "FILE", requires = "rotate")]
    ca_cert: Option<String>,
    /// Path to the PEM-formatted root CA key to use for the new cluster
    #[arg(long, value_name = "FILE", requires = "rotate")]
    ca_key: Option<String>,
    /// Validity period for node certificates (ns|us|ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = nano_duration, requires = "rotate")]
    cert_expiry: Option<Nanoseconds>,
    /// Exit immediately instead of waiting for the root rotation to converge
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    detach: bool,
    /// Specifications of one or more certificate signing endpoints
    #[arg(long, value_name = "CA", requires = "rotate")]
    external_ca: Vec<ExternalFlag>,
    /// Suppress progress output
    #[arg(short, long)]
    quiet: bool,
    /// Rotate the swarm CA; if no certificate or key are provided, new ones will be generated
    #[arg(long)]
    rotate: bool,
}
