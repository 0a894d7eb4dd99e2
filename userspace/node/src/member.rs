//! A node that is in a cluster.

use crate::error::NodeError;
use crate::local::LocalState;
use crate::manager::Manager;
use crate::node::Inner;
use crate::record::Record;
use essaim_ca::{
    DataKeys, DiskDirectory, Entropy as _, EntropyError, Identity, IdentityError, IdentityStore, LinkError,
    LiveIdentity, RenewalBackoff, Role, SystemEntropy, Timestamp, UnlockKey, renewal_moment,
};
use essaim_manager::authority;
use essaim_store::View;
use std::sync::Arc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// A node that is in a cluster.
pub(crate) struct Member {
    pub(crate) record: Record,
    pub(crate) store: IdentityStore<DiskDirectory>,
    pub(crate) live: Arc<LiveIdentity>,
    pub(crate) manager: Option<Manager>,
    /// When the certificate is to be renewed.
    pub(crate) renew_at: Timestamp,
    pub(crate) backoff: RenewalBackoff,
    /// Nothing is tried before.
    pub(crate) try_at: Option<Instant>,
    /// Whether the managers know what the node shows.
    pub(crate) is_reported: bool,
    /// Why it cannot go on, or what it waits for.
    pub(crate) trouble: Option<String>,
    /// It was removed from the cluster.
    pub(crate) is_removed: bool,
    /// It is given no certificate any more, as one that was removed.
    pub(crate) is_refused: bool,
    /// When the manager's disk last failed.
    pub(crate) stopped_at: Option<Instant>,
    pub(crate) keeper: Option<AbortHandle>,
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
    }
}

/// Any number; the least where there is no randomness, which only makes nodes come together.
pub(crate) fn any_number() -> u64 {
    random_number().unwrap_or_default()
}

pub(crate) fn random_number() -> Result<u64, EntropyError> {
    let mut bytes = [0; 8];
    SystemEntropy.fill(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

impl Member {
    pub(crate) fn new(
        record: Record,
        store: IdentityStore<DiskDirectory>,
        live: Arc<LiveIdentity>,
        now: Timestamp,
    ) -> Self {
        let renew_at = renewal_moment(live.current().certificate(), any_number());
        tracing::debug!(%renew_at, %now, "the certificate");
        Self {
            record,
            store,
            live,
            manager: None,
            renew_at,
            backoff: RenewalBackoff::default(),
            try_at: None,
            is_reported: false,
            trouble: None,
            is_removed: false,
            is_refused: false,
            stopped_at: None,
            keeper: None,
        }
    }

    pub(crate) fn is_manager(&self) -> bool {
        self.live.current().peer().role == Role::Manager
    }

    /// Whether the consensus knows this manager.
    pub(crate) fn is_raft_member(&self) -> bool {
        let Some((manager, number)) = self.manager.as_ref().zip(self.record.raft) else {
            return false;
        };
        let status = manager.replica.raft().status();
        status.members.contains_key(&essaim_raft::NodeId::new(number))
    }

    pub(crate) fn local_state(&self, now: Timestamp) -> LocalState {
        if self.is_removed || self.is_refused || now > self.live.current().certificate().not_after() {
            LocalState::Error
        } else if self.is_manager() && !self.is_raft_member() {
            LocalState::Pending
        } else {
            LocalState::Active
        }
    }

    /// Does to its end what a change of the role has left when it was interrupted.
    pub(crate) fn tidy(&mut self, inner: &Inner) -> Result<(), NodeError> {
        if self.is_manager() {
            if self.record.raft.is_none() {
                self.record.raft = Some(random_number()?);
                inner.files.save(&self.record)?;
            }
            return Ok(());
        }
        inner.files.remove_log()?;
        if self.record.raft.take().is_some() {
            inner.files.save(&self.record)?;
        }
        if self.store.data_keys().is_some() {
            self.store.set_data_keys(None, &mut SystemEntropy)?;
        }
        if self.store.unlock_key().is_some() {
            self.store.set_unlock_key(None, &mut SystemEntropy)?;
        }
        Ok(())
    }

    pub(crate) async fn open_manager(&mut self, inner: &Inner) -> Result<(), NodeError> {
        let keys = self.store.data_keys().ok_or(NodeError::NoDataKeys)?.clone();
        self.manager = Some(Manager::open(inner, &self.record, &self.live, keys).await?);
        Ok(())
    }

    /// Takes over a certificate with its roots, and the role that it says.
    pub(crate) async fn install(
        &mut self,
        inner: &Inner,
        identity: Identity,
        version: u64,
    ) -> Result<(), NodeError> {
        if version < self.record.certificate_version {
            tracing::info!(version, "a certificate from before the one in use is passed over");
            return Ok(());
        }
        let (found, expected) = (identity.peer().clone(), self.live.current().peer().clone());
        if found.node_id != expected.node_id {
            let (found, expected) = (found.node_id, expected.node_id);
            return Err(LinkError::from(IdentityError::OtherNode { found, expected }).into());
        }
        let entropy = &mut SystemEntropy;
        if found.role == Role::Manager {
            // Before there is a log that needs them.
            if self.record.raft.is_none() {
                self.record.raft = Some(random_number()?);
            }
            if self.store.data_keys().is_none() {
                self.store
                    .set_data_keys(Some(DataKeys::generate(entropy)?), entropy)?;
            }
        }
        self.record.certificate_version = version;
        inner.files.save(&self.record)?;
        self.store.install(identity.clone(), entropy)?;
        self.live.replace(identity.clone())?;
        self.renew_at = renewal_moment(identity.certificate(), any_number());
        self.is_reported = false;
        if found.role == Role::Worker {
            if let Some(manager) = self.manager.take() {
                manager.close().await;
                tracing::info!("the node is a worker from now on");
            }
            self.tidy(inner)?;
        } else if self.manager.is_none() {
            tracing::info!("the node is a manager from now on");
            self.open_manager(inner).await?;
        }
        Ok(())
    }

    /// Encrypts the keys as the cluster asks, and seals the log with a new one where that changes.
    pub(crate) async fn follow_unlock_key(&mut self, view: &View) -> Result<(), NodeError> {
        let Some(manager) = self.manager.as_ref().filter(|_| view.cluster().is_some()) else {
            return Ok(());
        };
        let wanted = authority::unlock_key(view)?;
        let is_same = match (&wanted, self.store.unlock_key()) {
            (None, None) => true,
            (Some(wanted), Some(used)) => UnlockKey::is(wanted, used),
            (Some(_), None) | (None, Some(_)) => false,
        };
        if is_same {
            return Ok(());
        }
        let entropy = &mut SystemEntropy;
        tracing::info!(locks = wanted.is_some(), "the keys are encrypted anew");
        self.store.set_unlock_key(wanted, entropy)?;
        let mut keys = self.store.data_keys().ok_or(NodeError::NoDataKeys)?.clone();
        keys.begin_rotation(entropy)?;
        self.store.set_data_keys(Some(keys.clone()), entropy)?;
        keys.complete_rotation();
        self.store.set_data_keys(Some(keys.clone()), entropy)?;
        manager.sealer.set_keys(keys);
        // The state is written anew with the new key; the entries before it go in time.
        if let Err(error) = manager.replica.raft().make_snapshot().await {
            tracing::warn!(%error, "no snapshot with the new key yet");
        }
        Ok(())
    }

    pub(crate) async fn close(mut self: Box<Self>) {
        if let Some(keeper) = self.keeper.take() {
            keeper.abort();
        }
        if let Some(manager) = self.manager.take() {
            manager.close().await;
        }
    }
}
