use crate::simulate;
use crate::support::{Journal, TestSeal};
use crate::world::{
    self, Shared, World, cluster, commands, crash, handle, heal_and_agree, id, member, seal, start,
    try_start, wait,
};
use essaim_raft::memory::{DiskFaults, MemoryDisk};
use essaim_raft::{
    ClusterId, LARGEST_PROPOSAL, NodeId, ProposeError, RaftHandle, Settings, StartError, Started,
    StorageError, Tuning, force_new_cluster,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn small() -> Settings {
    Settings {
        tuning: Tuning {
            snapshot_interval: 12,
            entries_kept: 3,
            snapshots_kept: 0,
        },
        ..Settings::default()
    }
}

/// One manager that has not begun.
fn blank(seed: u64) -> Shared {
    let world = Arc::new(Mutex::new(World::new(seed, small())));
    world.lock().unwrap().add_disk(id(1));
    world
}

fn disk(world: &Shared) -> MemoryDisk {
    world.lock().unwrap().nodes[&id(1)].disk.clone()
}

/// Starts, becomes a cluster if it is none, and proposes until something fails. What was acknowledged.
async fn run_until_it_fails(world: &Shared) -> Vec<Vec<u8>> {
    let mut acknowledged = Vec::new();
    let Ok(handle) = try_start(world, id(1)).await else {
        return acknowledged;
    };
    if handle.init(world::CLUSTER, member(id(1))).await.is_ok() {
        for number in 0..40 {
            let command = format!("command {number}").into_bytes();
            let mut tries = 0;
            let outcome = loop {
                match handle.propose(command.clone()).await {
                    Err(ProposeError::NotLeader { .. }) if tries < 20 && handle.failure().is_none() => {
                        tries += 1;
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    outcome => break outcome,
                }
            };
            if outcome.is_err() {
                break;
            }
            acknowledged.push(command);
        }
    }
    acknowledged
}

async fn leads(world: &Shared) -> RaftHandle<Journal> {
    wait(world, "it leads", |world| world.leader().is_some()).await;
    let handle = handle(world, id(1));
    wait(world, "everything is applied", |_| {
        handle.status().applied == handle.status().last_log
    })
    .await;
    handle
}

#[test]
fn a_full_disk_at_any_write_loses_nothing_acknowledged() {
    let writes = simulate(1, async {
        let world = blank(1);
        assert_eq!(run_until_it_fails(&world).await.len(), 40);
        disk(&world).writes()
    });
    assert!(writes > 100, "{writes}");
    let mut most = 0;
    for failing in 0..writes {
        simulate(1, async {
            let world = blank(1);
            disk(&world).set_faults(DiskFaults {
                fail_after: Some((failing, ErrorKind::StorageFull)),
                ..DiskFaults::default()
            });
            let acknowledged = run_until_it_fails(&world).await;
            most = most.max(acknowledged.len());
            let alive = world.lock().unwrap().nodes[&id(1)].handle.clone();
            if let Some(handle) = alive {
                match handle.failure().as_deref() {
                    Some(StorageError::Full { .. }) => {
                        assert!(
                            handle.propose(b"x".to_vec()).await.is_err(),
                            "write {failing}: it stopped"
                        );
                        assert!(handle.status().failure.is_some(), "write {failing}: it says why");
                    }
                    Some(other) => panic!("write {failing}: {other}"),
                    // Only the note of the last write failed, which costs nothing.
                    None => {}
                }
                handle.shutdown().await;
            }
            // Once with the process gone, once with the power.
            if failing % 2 == 0 {
                crash(&world, id(1));
            }
            disk(&world).set_faults(DiskFaults::default());
            let handle = start(&world, id(1)).await;
            if acknowledged.is_empty() && handle.status().members.is_empty() {
                return;
            }
            leads(&world).await;
            let found = commands(&world, id(1));
            assert!(
                found.starts_with(&acknowledged),
                "write {failing}: {} of {}",
                found.len(),
                acknowledged.len()
            );
            assert!(
                found.len() <= acknowledged.len() + 1,
                "write {failing}: one was under way at most"
            );
        });
    }
    assert!(most >= 39, "{most}");
}

#[test]
fn a_directory_that_may_not_be_written_is_a_clear_error() {
    for kind in [ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied] {
        simulate(1, async {
            let world = blank(1);
            disk(&world).set_faults(DiskFaults {
                fail_after: Some((0, kind)),
                ..DiskFaults::default()
            });
            match try_start(&world, id(1)).await.err() {
                Some(StartError::Storage(StorageError::ReadOnly { .. })) => {}
                other => panic!("{kind}: {other:?}"),
            }
        });
    }
}

/// A disk with a snapshot and a log after it, and what was acknowledged.
async fn written(seed: u64, cut: bool) -> (MemoryDisk, Vec<Vec<u8>>) {
    let world = blank(seed);
    let acknowledged = run_until_it_fails(&world).await;
    assert_eq!(acknowledged.len(), 40);
    let handle = handle(&world, id(1));
    wait(&world, "a snapshot", |_| handle.status().snapshot.is_some()).await;
    if cut {
        crash(&world, id(1));
    } else {
        handle.shutdown().await;
    }
    (disk(&world), acknowledged)
}

async fn start_on(
    disk: MemoryDisk,
    seal: TestSeal,
    node: NodeId,
) -> Result<(RaftHandle<Journal>, Shared), StartError> {
    let world = Arc::new(Mutex::new(World::new(1, small())));
    world.lock().unwrap().add_disk(id(1));
    let journal = Journal::default();
    world.lock().unwrap().nodes.get_mut(&id(1)).unwrap().journal = journal.clone();
    let started = Started {
        node,
        disk: Arc::new(disk),
        seal: Arc::new(seal),
        transport: world.lock().unwrap().network.transport(node),
        state: journal,
        settings: small(),
    };
    let handle = RaftHandle::start(started).await?;
    world.lock().unwrap().nodes.get_mut(&id(1)).unwrap().handle = Some(handle.clone());
    Ok((handle, world))
}

#[test]
fn a_corrupt_byte_anywhere_is_an_error_or_changes_nothing() {
    let mut refused = 0;
    let mut unharmed = 0;
    let mut shortened = 0;
    for cut in [false, true] {
        let (written, acknowledged) = simulate(1, written(1, cut));
        let files: Vec<(String, usize)> = written.files().into_iter().collect();
        assert!(files.len() >= 3, "log, note and snapshot: {files:?}");
        let mut random = StdRng::seed_from_u64(5);
        let mut places = Vec::new();
        for (name, length) in &files {
            // The beginning of each file, where little is little checked, and places all over it.
            places.extend((0..(*length).min(400)).step_by(3).map(|offset| (name, offset)));
            places.extend((0..150).map(|_| (name, random.random_range(0..*length))));
        }
        for (name, offset) in places {
            let bit = 1_u8 << random.random_range(0..8);
            simulate(1, async {
                let copy = written.copy();
                copy.damage(name, |content| content[offset] ^= bit);
                let place = format!("{name} byte {offset} bit {bit}, power cut: {cut}");
                match start_on(copy, TestSeal::new(7), id(1)).await {
                    Err(StartError::Storage(_)) => refused += 1,
                    Err(other) => panic!("{place}: {other}"),
                    Ok((_, world)) => {
                        leads(&world).await;
                        let found = commands(&world, id(1));
                        if found == acknowledged {
                            unharmed += 1;
                        } else {
                            // Two faults at once: the power cut took the note of the last write, and the damage is
                            // in that very write, so it looks like one that the power cut tore.
                            assert!(
                                cut && Some(found.as_slice())
                                    == acknowledged.split_last().map(|(_, rest)| rest),
                                "{place}"
                            );
                            shortened += 1;
                        }
                    }
                }
            });
        }
    }
    println!("{refused} refused, {unharmed} without effect, {shortened} where a power cut and damage met");
    assert!(refused > 100 && unharmed > 100, "{refused} {unharmed}");
}

#[test]
fn a_torn_snapshot_is_a_clear_error() {
    let (written, _) = simulate(1, written(1, false));
    let (name, length) = written
        .files()
        .into_iter()
        .find(|(name, _)| name.starts_with("snapshot"))
        .unwrap();
    for kept in (0..length).step_by(7) {
        simulate(1, async {
            let copy = written.copy();
            copy.damage(&name, |content| content.truncate(kept));
            match start_on(copy, TestSeal::new(7), id(1)).await.err() {
                Some(StartError::Storage(StorageError::SnapshotDamaged { file, .. })) => {
                    assert_eq!(file, name);
                }
                other => panic!("{kept} bytes kept: {other:?}"),
            }
        });
    }
}

#[test]
fn another_key_another_node_and_a_missing_snapshot_are_clear_errors() {
    let (written, _) = simulate(1, written(1, false));
    simulate(1, async {
        let refused = start_on(written.copy(), TestSeal::new(8), id(1)).await.err();
        assert!(
            matches!(
                refused,
                Some(StartError::Storage(StorageError::RecordDamaged { .. }))
            ),
            "{refused:?}"
        );
        let refused = start_on(written.copy(), TestSeal::new(7), id(2)).await.err();
        assert!(
            matches!(refused, Some(StartError::Storage(StorageError::OtherNode { .. }))),
            "{refused:?}"
        );
        let copy = written.copy();
        let name = copy
            .files()
            .into_keys()
            .find(|name| name.starts_with("snapshot"))
            .unwrap();
        essaim_raft::Disk::remove(&copy, &name).unwrap();
        let refused = start_on(copy, TestSeal::new(7), id(1)).await.err();
        assert!(
            matches!(
                refused,
                Some(StartError::Storage(StorageError::SnapshotMissing { .. }))
            ),
            "{refused:?}"
        );
    });
}

#[test]
fn a_log_that_went_back_is_refused() {
    simulate(1, async {
        let world = blank(1);
        let handle = start(&world, id(1)).await;
        handle.init(world::CLUSTER, member(id(1))).await.unwrap();
        leads(&world).await;
        handle.propose(b"old".to_vec()).await.unwrap();
        let old = disk(&world).copy();
        handle.propose(b"new".to_vec()).await.unwrap();
        handle.shutdown().await;
        let mut log = Vec::new();
        old.damage("log.redb", |content| log.clone_from(content));
        let newer = disk(&world).copy();
        newer.damage("log.redb", |content| *content = log);
        let refused = start_on(newer, TestSeal::new(7), id(1)).await.err();
        assert!(
            matches!(refused, Some(StartError::Storage(StorageError::WentBack { .. }))),
            "{refused:?}"
        );
    });
}

#[test]
fn a_copy_of_the_state_goes_on_where_it_was() {
    let (written, acknowledged) = simulate(1, written(1, false));
    simulate(1, async {
        let (handle, world) = start_on(written.copy(), TestSeal::new(7), id(1)).await.unwrap();
        leads(&world).await;
        assert_eq!(commands(&world, id(1)), acknowledged);
        assert!(handle.propose(b"more".to_vec()).await.is_ok());
        assert!(matches!(
            handle.init(ClusterId::new(5), member(id(1))).await,
            Err(StartError::AlreadyInitialised)
        ));
    });
}

#[test]
fn a_new_cluster_is_made_of_what_one_manager_has() {
    simulate(1, async {
        let world = cluster(1, 3, small()).await;
        let (_, leader) = world.lock().unwrap().leader().unwrap();
        for number in 0..50 {
            leader
                .propose(format!("kept {number}").into_bytes())
                .await
                .unwrap();
        }
        heal_and_agree(&world).await;
        let before = commands(&world, id(2));
        for node in [1, 2, 3].map(id) {
            crash(&world, node);
        }
        let disk: Arc<dyn essaim_raft::Disk> = Arc::new(world.lock().unwrap().nodes[&id(2)].disk.clone());
        let life = ClusterId::new(77);
        force_new_cluster(Arc::clone(&disk), seal(), id(2), life, member(id(2)))
            .await
            .unwrap();
        let survivor = start(&world, id(2)).await;
        wait(&world, "it leads alone", |world| {
            world.leader().is_some_and(|(leader, _)| leader == id(2))
        })
        .await;
        assert_eq!(survivor.status().voters(), BTreeSet::from([id(2)]));
        let committed = survivor.propose(b"alone".to_vec()).await.unwrap();
        assert!(commands(&world, id(2)).starts_with(&before), "all state is kept");
        // The others come back by mistake: they elect one of themselves, and cannot touch the survivor.
        start(&world, id(1)).await;
        start(&world, id(3)).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(survivor.status().voters(), BTreeSet::from([id(2)]));
        assert_eq!(survivor.status().leader, Some(id(2)));
        assert!(
            commands(&world, id(2))
                .last()
                .is_some_and(|last| last == b"alone")
        );
        assert_eq!(survivor.status().applied, Some(committed.index));
    });
}

#[test]
fn a_new_cluster_cannot_be_made_of_nothing() {
    simulate(1, async {
        let disk = Arc::new(MemoryDisk::new(1));
        let forced = force_new_cluster(disk, seal(), id(1), ClusterId::new(1), member(id(1))).await;
        assert!(matches!(forced, Err(StorageError::NoCluster)), "{forced:?}");
    });
}

#[test]
fn a_manager_becomes_a_cluster_once() {
    simulate(1, async {
        let world = blank(1);
        let handle = start(&world, id(1)).await;
        handle.init(ClusterId::new(3), member(id(1))).await.unwrap();
        for again in [3, 4].map(ClusterId::new) {
            let refused = handle.init(again, member(id(1))).await;
            assert!(
                matches!(refused, Err(StartError::AlreadyInitialised)),
                "{refused:?}"
            );
        }
        leads(&world).await;
        assert!(handle.propose(b"x".to_vec()).await.is_ok());
    });
}

#[test]
fn what_is_too_large_is_refused_and_what_is_not_travels() {
    simulate(1, async {
        let world = cluster(1, 3, Settings::default()).await;
        let (_, leader) = world.lock().unwrap().leader().unwrap();
        let refused = leader.propose(vec![0; LARGEST_PROPOSAL + 1]).await;
        assert!(matches!(refused, Err(ProposeError::TooLarge { .. })));
        assert!(leader.propose(vec![0; LARGEST_PROPOSAL]).await.is_ok());
        heal_and_agree(&world).await;
    });
}

#[test]
fn too_many_proposals_are_refused_as_overload() {
    simulate(1, async {
        let world = cluster(1, 1, Settings::default()).await;
        let leader = handle(&world, id(1));
        disk(&world).set_faults(DiskFaults {
            delay: Duration::from_millis(500),
            ..DiskFaults::default()
        });
        let proposals = (0..essaim_raft::PROPOSALS_UNDER_WAY + 10).map(|number| {
            let leader = leader.clone();
            tokio::spawn(async move { leader.propose(number.to_string().into_bytes()).await })
        });
        let mut refused = 0;
        let mut done = 0;
        for proposal in proposals.collect::<Vec<_>>() {
            match proposal.await.unwrap() {
                Ok(_) => done += 1,
                Err(ProposeError::Overloaded) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!((done, refused), (essaim_raft::PROPOSALS_UNDER_WAY, 10));
        assert_eq!(leader.metrics().commits.count() as usize, done);
    });
}

#[test]
fn proposals_that_come_together_share_a_sync() {
    simulate(1, async {
        let world = cluster(1, 1, Settings::default()).await;
        let leader = handle(&world, id(1));
        let disk = disk(&world);
        disk.set_faults(DiskFaults {
            delay: Duration::from_millis(5),
            ..DiskFaults::default()
        });
        let alone = {
            let before = disk.writes();
            leader.propose(b"alone".to_vec()).await.unwrap();
            disk.writes() - before
        };
        let before = disk.writes();
        let proposals: Vec<_> = (0..256_u64)
            .map(|number| {
                let leader = leader.clone();
                tokio::spawn(async move { leader.propose(number.to_be_bytes().to_vec()).await })
            })
            .collect();
        for proposal in proposals {
            proposal.await.unwrap().unwrap();
        }
        let together = disk.writes() - before;
        assert!(
            together < 20 * alone,
            "256 proposals took {together} writes, one takes {alone}"
        );
    });
}

#[test]
fn a_jump_of_the_wall_clock_changes_nothing_but_the_stamp() {
    simulate(1, async {
        let now = Arc::new(Mutex::new(1_000_000_u64));
        let clock = Arc::clone(&now);
        let settings = Settings::default();
        let world = cluster(1, 3, settings).await;
        // Managers take their clock when they start, so restart one alone with a clock of ours.
        let (_, leader) = world.lock().unwrap().leader().unwrap();
        let term = leader.status().term;
        world.lock().unwrap().settings.clock =
            Arc::new(move || essaim_raft::Timestamp::from_millis(*clock.lock().unwrap()));
        for node in [2, 3, 1].map(id) {
            crash(&world, node);
            start(&world, node).await;
            wait(&world, "a leader", |world| world.leader().is_some()).await;
        }
        let (_, leader) = world.lock().unwrap().leader().unwrap();
        let before = leader.status().term;
        assert!(before >= term);
        for jump in [1_000_000_u64, 500, 4_000_000_000_000, 0] {
            *now.lock().unwrap() = jump;
            leader.propose(format!("at {jump}").into_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        assert_eq!(leader.status().term, before, "no election");
        let world = world.lock().unwrap();
        let node = leader.node();
        let lines = world.nodes[&node].journal.lines();
        let stamps: Vec<u64> = lines.iter().rev().take(4).map(|line| line.at.millis()).collect();
        assert_eq!(stamps, [0, 4_000_000_000_000, 500, 1_000_000]);
    });
}
