//! A new cluster.

use super::private::{
    Removed, rotate_data_keys, rotate_gossip_keys, set_removed, set_root_ca, set_unlock_key,
};
use super::spec::{self, UpdateClusterError};
use essaim_ca::{Entropy, RootCa, Timestamp, UnlockKey};
use essaim_objects::{
    Availability, Cluster, ClusterId, Driver, InitRequest, ManagerStatus, Network, NetworkId, NetworkSpec,
    Node, NodeId, NodeRole, NodeSpec, Reachability, check_address_pools, check_data_path_port,
};
use essaim_store::Transaction;

/// What subnets are cut from where nothing is said.
const DEFAULT_POOL: &str = "10.0.0.0/8";
/// How long the prefix of a subnet is where nothing is said.
const DEFAULT_SUBNET_SIZE: u32 = 24;
/// The port of VXLAN where nothing is said.
pub const DEFAULT_DATA_PATH_PORT: u32 = 4789;

/// The manager that makes the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstManager {
    /// The node.
    pub node: NodeId,
    /// Its number in the consensus.
    pub raft_id: u64,
    /// Where it is called, `ADDRESS:PORT`.
    pub address: String,
}

/// Checks what a cluster is asked to be; its spec with Swarm's defaults where nothing is said.
///
/// # Errors
/// [`UpdateClusterError::Invalid`], with every member that cannot be as it is.
pub fn check_init(request: &InitRequest) -> Result<essaim_objects::ClusterSpec, UpdateClusterError> {
    let asked = request.spec.clone().unwrap_or_default();
    let mut spec = spec::merged(&spec::defaults(), &asked);
    if request.auto_lock_managers == Some(true) {
        spec.encryption_config.get_or_insert_default().auto_lock_managers = Some(true);
    }
    // Who names an authority with a root of its own wants that root.
    if let Some(ca) = &mut spec.ca_config
        && ca.signing_ca_cert.is_none()
    {
        let mut named = ca.external_cas.iter().flatten();
        ca.signing_ca_cert = named.find_map(|authority| authority.ca_cert.clone());
    }
    let mut problems = spec.check().err().unwrap_or_default();
    problems.extend(availability(request).err());
    let pools = request.default_addr_pool.clone().unwrap_or_default();
    problems.extend(
        check_address_pools(&pools, request.subnet_size)
            .err()
            .into_iter()
            .flatten(),
    );
    let port = request.data_path_port.unwrap_or_default();
    problems.extend(check_data_path_port(port).err().into_iter().flatten());
    if !problems.is_empty() {
        return Err(UpdateClusterError::Invalid(problems));
    }
    Ok(spec)
}

fn availability(request: &InitRequest) -> Result<Option<Availability>, essaim_objects::Invalid> {
    let text = request.availability.as_deref().unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| essaim_objects::Invalid {
        field: "Availability".to_owned(),
        found: format!("{:?}", text.chars().take(64).collect::<String>()),
        expected: "active, pause or drain".to_owned(),
    })
}

/// The first transaction of a cluster: the cluster object, its first manager and the ingress network. `ca` is what has
/// issued that manager's certificate; `unlock` is there where autolock is asked for.
///
/// # Errors
/// What is asked cannot be, see [`check_init`]; or there is no randomness.
pub fn new_cluster(
    request: &InitRequest,
    id: ClusterId,
    first: &FirstManager,
    ca: &RootCa,
    unlock: Option<&UnlockKey>,
    now: Timestamp,
    entropy: &mut dyn Entropy,
) -> Result<Transaction, UpdateClusterError> {
    let mut spec = check_init(request)?;
    let mut ca = ca.clone();
    // A root whose key is elsewhere takes the place of the one that the first manager's certificate is of.
    if let Some(desired) = spec::desired_root(None, &spec, Some(&ca), now)? {
        ca.rotate(desired, now, entropy)?;
    }
    spec::settle_external(None, &mut spec, &ca)?;
    let longest_life = spec.node_cert_expiry().to_duration().as_secs();
    let mut cluster = Cluster::new(id, spec::without_key(spec));
    set_root_ca(&mut cluster, &ca);
    set_unlock_key(&mut cluster, unlock);
    rotate_gossip_keys(&mut cluster, now.unix(), entropy)?;
    rotate_data_keys(&mut cluster, now.unix().saturating_mul(1000), entropy)?;
    let removed = Removed {
        longest_life,
        ..Removed::default()
    };
    set_removed(&mut cluster, &removed);
    let pools = request
        .default_addr_pool
        .clone()
        .filter(|pools| !pools.is_empty());
    cluster.default_addr_pool = Some(pools.unwrap_or_else(|| vec![DEFAULT_POOL.to_owned()]));
    let size = request.subnet_size.filter(|size| *size != 0);
    cluster.subnet_size = Some(size.unwrap_or(DEFAULT_SUBNET_SIZE));
    let port = request.data_path_port.filter(|port| *port != 0);
    cluster.data_path_port = Some(port.unwrap_or(DEFAULT_DATA_PATH_PORT));

    let mut node = Node::new(
        first.node,
        NodeSpec {
            role: Some(NodeRole::Manager),
            availability: Some(
                availability(request)
                    .ok()
                    .flatten()
                    .unwrap_or(Availability::Active),
            ),
            ..NodeSpec::default()
        },
    );
    node.certificate_role = Some(NodeRole::Manager);
    node.manager_status = Some(ManagerStatus {
        leader: Some(true),
        reachability: Reachability::Reachable,
        addr: Some(first.address.clone()),
        raft_id: Some(first.raft_id),
        ..ManagerStatus::default()
    });
    let mut network = [0; 16];
    entropy.fill(&mut network)?;
    let mut transaction = Transaction::new();
    transaction
        .create(cluster)
        .create(ingress(NetworkId::from_bits(u128::from_be_bytes(network))))
        .create(node);
    Ok(transaction)
}

/// The ingress network as Swarm makes it: its subnet is the first of the pool.
fn ingress(id: NetworkId) -> Network {
    let spec = NetworkSpec {
        name: Some("ingress".to_owned()),
        driver: Some(Driver {
            name: Some("overlay".to_owned()),
            ..Driver::default()
        }),
        ingress: Some(true),
        scope: Some("swarm".to_owned()),
        ..NetworkSpec::default()
    };
    Network::new(id, spec)
}
