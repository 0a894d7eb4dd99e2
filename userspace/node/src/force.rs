//! A new cluster of one manager's state, where the others are lost.

use crate::address;
use crate::error::NodeError;
use crate::member::{Member, random_number};
use crate::node::Inner;
use crate::record::{Phase, Record};
use essaim_ca::{DataKeys, Sealer, SystemEntropy};
use essaim_objects::{InitRequest, NodeId};
use essaim_protocol::ManagerAddress;
use essaim_raft::{Seal, SealError, StateDirectory, force_new_cluster};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long the manager takes to lead, at most.
const LEAD_WITHIN: Duration = Duration::from_secs(10);

/// The log's records, opened and sealed with the data keys.
struct Sealed(Sealer);

impl Seal for Sealed {
    fn encrypt(&self, associated: &[u8], plain: &[u8]) -> Vec<u8> {
        self.0.encrypt(associated, plain)
    }

    fn decrypt(&self, associated: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        self.0.decrypt(associated, sealed).map_err(|error| match error {
            essaim_ca::OpenError::UnknownKey(_) => SealError::UnknownKey,
            essaim_ca::OpenError::Short(_)
            | essaim_ca::OpenError::Layout(_)
            | essaim_ca::OpenError::NotAuthentic => SealError::NotAuthentic,
        })
    }
}

impl Inner {
    /// Makes the member's state that of a new cluster.
    pub(crate) async fn force_member(
        &self,
        member: &mut Member,
        request: &InitRequest,
    ) -> Result<(), NodeError> {
        if !member.is_manager() {
            return Err(NodeError::Worker);
        }
        let keys = member.store.data_keys().ok_or(NodeError::NoDataKeys)?.clone();
        let interfaces = address::interfaces();
        let before = member.record.clone();
        let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        if given(&request.listen_addr) {
            member.record.listen = address::listen(request.listen_addr.as_deref(), &interfaces)?;
        }
        if given(&request.listen_addr) || given(&request.advertise_addr) {
            let asked = request.advertise_addr.as_deref();
            let listen = member.record.listen;
            member.record.advertise = address::advertise(asked, listen, None, &interfaces)?;
        }
        if given(&request.data_path_addr) {
            member.record.data_path = address::data_path(request.data_path_addr.as_deref(), &interfaces)?;
        }
        if let Some(manager) = member.manager.take() {
            manager.close().await;
        }
        let number = random_number()?;
        let forced = self.force(&mut member.record, &keys, number).await;
        if forced.is_err() {
            member.record = before;
            self.files.save(&member.record)?;
        }
        member.open_manager(self).await?;
        forced?;
        if let Some(manager) = &member.manager {
            let mut status = manager.replica.raft().watch();
            // It goes on by itself where that takes longer.
            let _ = timeout(LEAD_WITHIN, status.wait_for(|status| status.leader.is_some())).await;
        }
        Ok(())
    }

    /// Changes the log, which nobody may have open. Done again after a crash, it comes to the same.
    pub(crate) async fn force(
        &self,
        record: &mut Record,
        keys: &DataKeys,
        number: u64,
    ) -> Result<(), NodeError> {
        record.phase = Phase::ForcingNewCluster(number);
        self.files.save(record)?;
        let node = record.node.unwrap_or(NodeId::MIN);
        let address = record.advertise.to_string();
        let member = essaim_raft::Member {
            node: node.to_string(),
            address: address.clone(),
        };
        let sealer = Sealer::new(keys.clone(), &mut SystemEntropy)?;
        force_new_cluster(
            Arc::new(StateDirectory::open(self.files.raft())?),
            Arc::new(Sealed(sealer)),
            record.raft.unwrap_or_default().into(),
            essaim_raft::ClusterId::new(number),
            member,
        )
        .await?;
        record.managers = vec![ManagerAddress { node, address }];
        record.phase = Phase::Member;
        self.files.save(record)?;
        Ok(())
    }
}
