//! Managers in one process on the disk of the temporary directory, in real time.
//!
//! `cargo bench -p essaim-raft` prints medians of five runs; `TMPDIR` chooses the disk. With three managers, a message
//! takes a tick of tokio's timer, 1 to 2 ms, each way.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark fails by panicking"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use essaim_raft::memory::MemoryNetwork;
use essaim_raft::{
    ClusterId, Member, NodeId, RaftHandle, Seal, Settings, SnapshotView, Started, StateDirectory,
    StateMachine, Timestamp,
};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::TestSeal;
use tempfile::TempDir;

const RUNS: usize = 5;
const COMMAND: usize = 1024;

/// Holds nothing but a state of a given size.
struct Weight(Arc<Vec<u8>>);

impl StateMachine for Weight {
    fn apply(&mut self, _index: u64, _at: Timestamp, _command: &[u8]) -> Vec<u8> {
        Vec::new()
    }

    fn snapshot(&self) -> SnapshotView {
        let state = Arc::clone(&self.0);
        Box::new(move || state.to_vec())
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        self.0 = Arc::new(snapshot.to_vec());
        Ok(())
    }
}

fn member(node: NodeId) -> Member {
    Member {
        node: node.to_string(),
        address: node.to_string(),
    }
}

async fn start(path: &Path, node: NodeId, network: &MemoryNetwork, state: usize) -> RaftHandle<Weight> {
    let seal: Arc<dyn Seal> = Arc::new(TestSeal::new(1));
    let handle = RaftHandle::start(Started {
        node,
        disk: Arc::new(StateDirectory::open(path).unwrap()),
        seal,
        transport: network.transport(node),
        state: Weight(Arc::new(vec![7; state])),
        settings: Settings::default(),
    })
    .await
    .unwrap();
    network.attach(&handle);
    handle
}

async fn leads(handle: &RaftHandle<Weight>) {
    let mut status = handle.watch();
    status
        .wait_for(|status| status.leader == Some(status.node))
        .await
        .unwrap();
}

/// A cluster, whose first manager leads.
async fn cluster(size: u64, state: usize) -> (Vec<TempDir>, Vec<RaftHandle<Weight>>) {
    let network = MemoryNetwork::new(1);
    let mut directories = Vec::new();
    let mut handles = Vec::new();
    for number in 1..=size {
        let node = NodeId::new(number);
        let directory = tempfile::tempdir().unwrap();
        handles.push(start(directory.path(), node, &network, state).await);
        directories.push(directory);
    }
    let first = handles.first().unwrap();
    first
        .init(ClusterId::new(1), member(NodeId::new(1)))
        .await
        .unwrap();
    leads(first).await;
    for number in 2..=size {
        let node = NodeId::new(number);
        first.add_learner(node, member(node)).await.unwrap();
        first.promote(node).await.unwrap();
    }
    (directories, handles)
}

fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|one, other| one.partial_cmp(other).unwrap());
    values[values.len() / 2]
}

/// How long each proposal took, with so many under way at a time; and all of them together.
async fn propose(leader: &RaftHandle<Weight>, in_flight: usize, each: usize) -> (Vec<Duration>, Duration) {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let leader = leader.clone();
            tokio::spawn(async move {
                let mut took = Vec::with_capacity(each);
                for _ in 0..each {
                    let begun = Instant::now();
                    leader.propose(vec![1; COMMAND]).await.unwrap();
                    took.push(begun.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.append(&mut task.await.unwrap());
    }
    (took, begun.elapsed())
}

async fn commits(size: u64) {
    let (_directories, handles) = cluster(size, 0).await;
    let leader = handles.first().unwrap();
    propose(leader, 16, 20).await;
    for (in_flight, each) in [(1, 200), (16, 60), (256, 12)] {
        let (mut half, mut most, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let (mut took, all) = propose(leader, in_flight, each).await;
            took.sort();
            half.push(took[took.len() / 2]);
            most.push(took[took.len() * 99 / 100]);
            rates.push(took.len() as f64 / all.as_secs_f64());
        }
        println!(
            "commit/{size} managers/{in_flight} in flight: p50 {:.2?}, p99 {:.2?}, {:.0} proposals/s",
            median(half),
            median(most),
            median(rates)
        );
    }
    for handle in handles {
        handle.shutdown().await;
    }
}

async fn snapshot() {
    let state = 100 << 20;
    let (directories, handles) = cluster(1, state).await;
    let leader = handles.first().unwrap();
    let mut took = Vec::new();
    for _ in 0..RUNS {
        let index = leader.propose(Vec::new()).await.unwrap().index;
        let mut status = leader.watch();
        let begun = Instant::now();
        leader.make_snapshot().await.unwrap();
        status
            .wait_for(|status| status.snapshot >= Some(index))
            .await
            .unwrap();
        took.push(begun.elapsed());
    }
    println!("snapshot/100 MiB/written: {:.2?}", median(took));
    leader.shutdown().await;
    let mut took = Vec::new();
    for _ in 0..RUNS {
        let network = MemoryNetwork::new(1);
        let begun = Instant::now();
        let handle = start(directories.first().unwrap().path(), NodeId::new(1), &network, 0).await;
        leads(&handle).await;
        took.push(begun.elapsed());
        handle.shutdown().await;
    }
    println!("snapshot/100 MiB/restart until it leads: {:.2?}", median(took));
}

async fn restart() {
    let (directories, handles) = cluster(1, 0).await;
    let leader = handles.first().unwrap();
    propose(leader, 256, 38).await;
    let entries = leader.metrics().log_entries;
    leader.shutdown().await;
    let (mut opened, mut led) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let network = MemoryNetwork::new(1);
        let begun = Instant::now();
        let handle = start(directories.first().unwrap().path(), NodeId::new(1), &network, 0).await;
        opened.push(begun.elapsed());
        leads(&handle).await;
        handle.read_barrier().await.unwrap();
        led.push(begun.elapsed());
        handle.shutdown().await;
    }
    println!(
        "restart/{entries} entries of 1 KiB: started {:.2?}, leads and has applied all {:.2?}",
        median(opened),
        median(led)
    );
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        commits(1).await;
        commits(3).await;
        restart().await;
        snapshot().await;
    });
}
