//! Raft on a real directory, in real time.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

#[path = "support/mod.rs"]
mod support;

use essaim_raft::memory::MemoryNetwork;
use essaim_raft::{
    ClusterId, Member, NodeId, RaftHandle, Settings, StartError, Started, StateDirectory, StorageError,
};
use std::path::Path;
use std::sync::Arc;
use support::{Journal, TestSeal};

const NODE: NodeId = NodeId::new(1);

async fn start(path: &Path, journal: &Journal) -> Result<RaftHandle<Journal>, StartError> {
    RaftHandle::start(Started {
        node: NODE,
        disk: Arc::new(StateDirectory::open(path)?),
        seal: Arc::new(TestSeal::new(1)),
        transport: MemoryNetwork::new(1).transport(NODE),
        state: journal.clone(),
        settings: Settings::default(),
    })
    .await
}

async fn leads(handle: &RaftHandle<Journal>) {
    handle
        .watch()
        .wait_for(|status| status.leader == Some(NODE))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_manager_goes_on_after_a_restart_and_from_a_copy_of_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    let handle = start(directory.path(), &Journal::default()).await.unwrap();
    handle.init(ClusterId::new(1), Member::default()).await.unwrap();
    leads(&handle).await;
    for number in 0..20_u8 {
        handle.propose(vec![number]).await.unwrap();
    }
    handle.make_snapshot().await.unwrap();
    handle
        .watch()
        .wait_for(|status| status.snapshot.is_some())
        .await
        .unwrap();
    handle.propose(vec![20]).await.unwrap();
    let busy = start(directory.path(), &Journal::default()).await;
    assert!(matches!(
        busy.err(),
        Some(StartError::Storage(StorageError::InUse))
    ));
    handle.shutdown().await;

    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    for path in [directory.path(), copy.path()] {
        let journal = Journal::default();
        let handle = start(path, &journal).await.unwrap();
        leads(&handle).await;
        handle.read_barrier().await.unwrap();
        let commands: Vec<Vec<u8>> = journal.lines().iter().map(|line| line.command.clone()).collect();
        assert_eq!(
            commands,
            (0..=20_u8).map(|number| vec![number]).collect::<Vec<_>>()
        );
        handle.shutdown().await;
    }
}
