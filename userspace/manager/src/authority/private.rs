//! What the cluster object holds for managers only.

use data_encoding::BASE64;
use essaim_ca::{Entropy, EntropyError, Role, RootCa, UnlockKey};
use essaim_objects::{Cluster, Data, JoinTokens, NodeId, Sensitive, TlsInfo};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const CA: &str = "ca";
const GOSSIP_KEYS: &str = "gossip-keys";
const GOSSIP_ROTATED: &str = "gossip-rotated";
const DATA_KEYS: &str = "data-keys";
const DATA_ROTATED: &str = "data-rotated";
const UNLOCK_KEY: &str = "unlock-key";
const REMOVED: &str = "removed-nodes";

/// Keys of gossip that are kept: the one before, the one to send with, and the next one.
const RING: usize = 3;

/// The cluster object does not hold what it should; it was written by another version, or not by this program.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// It is not there.
    #[error("the cluster object has no private entry {0}")]
    Missing(&'static str),
    /// It cannot be read; what it holds is not shown.
    #[error("the cluster object's private entry {0} cannot be read")]
    Malformed(&'static str),
}

fn read<T: DeserializeOwned>(cluster: &Cluster, name: &'static str) -> Result<Option<T>, PrivateError> {
    let Some(data) = cluster.private.get(name) else {
        return Ok(None);
    };
    // The parser's own error could quote a secret.
    let read = serde_json::from_slice(data.as_bytes());
    read.map(Some).map_err(|_| PrivateError::Malformed(name))
}

fn write(cluster: &mut Cluster, name: &'static str, what: &impl Serialize) {
    // Texts, numbers and maps by text: JSON has them all.
    let bytes = serde_json::to_vec(what).unwrap_or_default();
    cluster.private.insert(name.to_owned(), Data::from(bytes));
}

/// The cluster's certificate authority, keys and all.
///
/// # Errors
/// [`PrivateError`].
pub fn root_ca(cluster: &Cluster) -> Result<RootCa, PrivateError> {
    read(cluster, CA)?.ok_or(PrivateError::Missing(CA))
}

/// Puts the authority into the cluster object, with what the API shows of it.
pub(super) fn set_root_ca(cluster: &mut Cluster, ca: &RootCa) {
    write(cluster, CA, ca);
    let token = |role| Some(Sensitive(ca.token(role).reveal()));
    cluster.join_tokens = Some(JoinTokens {
        worker: token(Role::Worker),
        manager: token(Role::Manager),
        ..JoinTokens::default()
    });
    cluster.tls_info = Some(TlsInfo {
        // While the root is replaced, both: it is what nodes are told to trust.
        trust_root: Some(ca.trust().to_pem()),
        cert_issuer_subject: Some(BASE64.encode(ca.issuer().subject_name())),
        cert_issuer_public_key: Some(BASE64.encode(ca.issuer().public_key())),
        ..TlsInfo::default()
    });
    cluster.root_rotation_in_progress = ca.rotation().is_some();
}

/// The key that managers' keys are encrypted with; none while autolock is off.
///
/// # Errors
/// [`PrivateError::Malformed`].
pub(super) fn unlock_key(cluster: &Cluster) -> Result<Option<UnlockKey>, PrivateError> {
    let text: Option<String> = read(cluster, UNLOCK_KEY)?;
    let parsed = text.map(|text| text.parse()).transpose();
    parsed.map_err(|_| PrivateError::Malformed(UNLOCK_KEY))
}

pub(super) fn set_unlock_key(cluster: &mut Cluster, key: Option<&UnlockKey>) {
    match key {
        Some(key) => write(cluster, UNLOCK_KEY, &key.reveal()),
        None => drop(cluster.private.remove(UNLOCK_KEY)),
    }
}

/// The keys of gossip, 32 bytes each: first the one to send with, then the next one, then the one before.
///
/// # Errors
/// [`PrivateError`].
pub fn gossip_keys(cluster: &Cluster) -> Result<Vec<Data>, PrivateError> {
    read(cluster, GOSSIP_KEYS)?.ok_or(PrivateError::Missing(GOSSIP_KEYS))
}

/// When the keys of gossip were last replaced, in seconds since 1970.
pub(super) fn gossip_rotated(cluster: &Cluster) -> u64 {
    read(cluster, GOSSIP_ROTATED).ok().flatten().unwrap_or_default()
}

/// Draws the next key of gossip. The one that was the next, which all nodes have by now, is sent with from now on; the
/// one before is still understood.
pub(super) fn rotate_gossip_keys(
    cluster: &mut Cluster,
    now: u64,
    entropy: &mut dyn Entropy,
) -> Result<(), EntropyError> {
    let drawn = |entropy: &mut dyn Entropy| {
        let mut key = vec![0; 32];
        entropy.fill(&mut key)?;
        Ok::<_, EntropyError>(Data::from(key))
    };
    let keys = gossip_keys(cluster).unwrap_or_default();
    let mut keys = keys.into_iter();
    let ring = match (keys.next(), keys.next()) {
        (Some(primary), Some(next)) => vec![next, drawn(entropy)?, primary],
        (before, _) => {
            let mut ring: Vec<_> = before.into_iter().collect();
            while ring.len() < RING {
                ring.push(drawn(entropy)?);
            }
            ring
        }
    };
    write(cluster, GOSSIP_KEYS, &ring);
    write(cluster, GOSSIP_ROTATED, &now);
    Ok(())
}

/// Keys of encrypted networks that are handed out: a node that has not got the newest still shares some with the others.
const DATA_RING: usize = 4;

/// A key of encrypted networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DataKey {
    /// A later key has a greater one.
    pub(crate) generation: u64,
    /// 32 bytes.
    pub(crate) key: Data,
}

/// The keys of encrypted networks, the oldest first; none in a cluster of an earlier version, until it is led by this one.
///
/// # Errors
/// [`PrivateError::Malformed`].
pub(crate) fn data_keys(cluster: &Cluster) -> Result<Vec<DataKey>, PrivateError> {
    Ok(read(cluster, DATA_KEYS)?.unwrap_or_default())
}

/// When a key of encrypted networks was last added, in milliseconds since 1970.
pub(super) fn data_rotated(cluster: &Cluster) -> u64 {
    read(cluster, DATA_ROTATED).ok().flatten().unwrap_or_default()
}

/// Adds a key of encrypted networks. Nodes change to it each when it and its peer have it, so it is handed out at once.
pub(super) fn rotate_data_keys(
    cluster: &mut Cluster,
    now_ms: u64,
    entropy: &mut dyn Entropy,
) -> Result<(), EntropyError> {
    let mut key = vec![0; 32];
    entropy.fill(&mut key)?;
    let mut keys = data_keys(cluster).unwrap_or_default();
    let next = keys.iter().map(|key| key.generation + 1).max().unwrap_or(1);
    keys.push(DataKey {
        generation: next,
        key: Data::from(key),
    });
    let surplus = keys.len().saturating_sub(DATA_RING);
    keys.drain(..surplus);
    write(cluster, DATA_KEYS, &keys);
    write(cluster, DATA_ROTATED, &now_ms);
    Ok(())
}

/// The nodes that were removed, whose certificates open nothing any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Removed {
    /// The longest life that node certificates ever had here, in seconds.
    pub(super) longest_life: u64,
    /// Until when each has to be kept, in seconds since 1970: its certificate has expired by then.
    pub(super) nodes: BTreeMap<NodeId, u64>,
}

pub(super) fn removed(cluster: &Cluster) -> Result<Removed, PrivateError> {
    Ok(read(cluster, REMOVED)?.unwrap_or_default())
}

pub(super) fn set_removed(cluster: &mut Cluster, removed: &Removed) {
    write(cluster, REMOVED, removed);
}
