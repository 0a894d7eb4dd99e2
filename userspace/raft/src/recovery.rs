use crate::disk::{self, Disk};
use crate::error::StorageError;
use crate::log::{Change, LogDatabase};
use crate::seal::Seal;
use crate::snapshot::SnapshotStore;
use crate::types::{ClusterId, Entry, LogId, Member, Membership, NodeId, Vote};
use openraft::entry::RaftEntry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Makes the state of a stopped manager that of a new cluster, of this manager alone: what is left to do when the
/// others are lost for good (Swarm's `--force-new-cluster`).
///
/// All state is kept, also entries that were not known to be committed: some may have been. The old managers' messages
/// are refused from then on, since they are of another [`ClusterId`]; `cluster` must be a new random one.
///
/// # Errors
/// [`StorageError`]; the state is what it was.
pub async fn force_new_cluster(
    disk: Arc<dyn Disk>,
    seal: Arc<dyn Seal>,
    node: NodeId,
    cluster: ClusterId,
    member: Member,
) -> Result<(), StorageError> {
    let opening = Arc::clone(&disk);
    disk::run(&*disk, move || force(opening, seal, node, cluster, member))
        .await
        .unwrap_or_else(|| Err(StorageError::Stopped("the runtime ended".to_owned())))
}

fn force(
    disk: Arc<dyn Disk>,
    seal: Arc<dyn Seal>,
    node: NodeId,
    cluster: ClusterId,
    member: Member,
) -> Result<(), StorageError> {
    let snapshot = SnapshotStore::new(Arc::clone(&disk), Arc::clone(&seal)).recover()?;
    let mut opened = LogDatabase::open(disk, seal, node)?;
    let header = opened.database.header();
    let in_snapshot = snapshot.and_then(|(meta, _)| meta.last_log_id);
    if header.purged > in_snapshot {
        let purged = header.purged.map_or(0, |purged| purged.index);
        return Err(StorageError::SnapshotMissing { purged });
    }
    let logged = opened
        .entries
        .last()
        .map(|(entry, _)| entry.log_id())
        .max(header.purged);
    let (Some(last), Some(_)) = (logged.max(in_snapshot), header.cluster) else {
        return Err(StorageError::NoCluster);
    };
    let voted = header.vote.map_or(0, |vote| vote.leader_id.term);
    let term = voted.max(last.leader_id.term) + 1;
    let alone =
        Membership::new(vec![BTreeSet::from([node])], BTreeMap::from([(node, member)])).map_err(|error| {
            StorageError::DatabaseDamaged {
                detail: format!("the new membership is refused: {error}"),
            }
        })?;
    let entry = Entry::new_membership(LogId::new_term_index(term, last.index + 1), alone);
    let plain = postcard::to_stdvec(&entry).map_err(|source| StorageError::RecordMalformed {
        record: "the new membership".to_owned(),
        source,
    })?;
    let mut changes = vec![Change::Cluster(cluster), Change::Vote(Vote::new(term, node))];
    if in_snapshot > logged {
        // A crash came between a snapshot of the leader's and the removal of the log before it.
        changes.push(Change::RemoveUpTo(last));
    }
    changes.push(Change::Append {
        index: last.index + 1,
        plain,
    });
    opened.database.write(&changes, None)
}
