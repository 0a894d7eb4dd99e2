//! Removes what an agent made.

use crate::complaints::chain;
use crate::holder::{HolderClient, HolderError};
use crate::state_dir::{StateDir, StateDirError, pin_dir};
use essaim_datapath::DatapathError;
use essaim_model::{NameError, NodeName};
use essaim_netlink::{LinkReconciler, NetlinkError};
use std::fs;
use std::path::PathBuf;

/// What is to be removed where the state directory does not say.
#[derive(Clone, Debug, Default)]
pub struct CleanOptions {
    /// The node's name.
    pub node: Option<NodeName>,
    /// The folder of bpffs that holds the nodes' folders.
    pub bpf_root: Option<PathBuf>,
}

/// Something that is still there.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// Nothing was removed: the agent would make it again.
    #[error("nothing was removed: the agent is running; stop it first")]
    AgentRuns(#[source] StateDirError),
    /// The state directory could not be read or removed.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The record in the state directory names no node.
    #[error("the state directory names no node")]
    Node(#[from] NameError),
    /// The holder may still run.
    #[error(transparent)]
    Holder(#[from] HolderError),
    /// Links, routes or rules are left.
    #[error(transparent)]
    Links(#[from] NetlinkError),
    /// Programs or maps are left.
    #[error("failed to remove the data plane in {}", path.display())]
    Datapath {
        /// Its folder of pins.
        path: PathBuf,
        /// Why.
        source: DatapathError,
    },
}

/// Removes everything that the agent of this state directory made, in this network namespace; goes on where something
/// fails. Removing what is absent succeeds.
///
/// Returns what was removed, in words.
///
/// # Errors
/// Everything that could not be removed.
pub fn clean(state_dir: &StateDir, options: &CleanOptions) -> Result<Vec<String>, Vec<CleanError>> {
    let mut errors = Vec::new();
    let mut removed = Vec::new();
    let exists = state_dir.path().exists();
    // Held until the end: no agent may start meanwhile.
    let lock = if exists { Some(state_dir.lock()) } else { None };
    let _lock = match lock {
        Some(Err(busy @ StateDirError::Busy { .. })) => return Err(vec![CleanError::AgentRuns(busy)]),
        Some(Err(error)) => {
            errors.push(error.into());
            None
        }
        Some(Ok(lock)) => Some(lock),
        None => None,
    };
    let record = state_dir.record().unwrap_or_else(|error| {
        errors.push(error.into());
        None
    });
    match HolderClient::connect(&state_dir.holder_socket()).map(|holder| holder.map(HolderClient::stop)) {
        Ok(Some(Ok(()))) => removed.push("the holder and its ports".to_owned()),
        Ok(None) => {}
        Ok(Some(Err(error))) | Err(error) => errors.push(error.into()),
    }
    let recorded = record
        .as_ref()
        .map(|record| NodeName::new(&record.node))
        .transpose();
    let node = match (options.node.clone(), recorded) {
        (Some(node), _) | (None, Ok(Some(node))) => Some(node),
        (None, Ok(None)) => None,
        (None, Err(error)) => {
            errors.push(error.into());
            None
        }
    };
    if let Some(node) = node {
        let bpf_root = options
            .bpf_root
            .clone()
            .or_else(|| record.map(|record| record.bpf_root));
        let bpf_root = bpf_root.unwrap_or_else(|| PathBuf::from(DEFAULT_BPF_ROOT));
        let path = pin_dir(&bpf_root, node.as_str());
        let existed = path.exists();
        match essaim_datapath::clean(&path) {
            Ok(()) if existed => removed.push(format!("programs and maps in {}", path.display())),
            Ok(()) => {}
            Err(failed) => {
                errors.extend(failed.into_iter().map(|source| CleanError::Datapath {
                    path: path.clone(),
                    source,
                }));
            }
        }
        // Other nodes of this machine may have theirs in it.
        let _ = fs::remove_dir(&bpf_root);
        match LinkReconciler::clean(&node) {
            Ok(()) => removed.push(format!(
                "links, routes and rules of node {node} in this network namespace"
            )),
            Err(failed) => errors.extend(failed.into_iter().map(CleanError::Links)),
        }
    }
    if exists && errors.is_empty() {
        match state_dir.remove() {
            Ok(()) => removed.push(format!("the state directory {}", state_dir.path().display())),
            Err(error) => errors.push(error.into()),
        }
    }
    for error in &errors {
        tracing::debug!(error = chain(error), "not removed");
    }
    if errors.is_empty() {
        Ok(removed)
    } else {
        Err(errors)
    }
}

/// Where nodes have their folders of pins unless told otherwise.
pub const DEFAULT_BPF_ROOT: &str = "/sys/fs/bpf/essaim";
