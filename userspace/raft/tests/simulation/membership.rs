use crate::simulate;
use crate::world::{World, cluster, crash, handle, heal_and_agree, id, member, start, wait};
use essaim_raft::{ChangeError, ProposeError, Reachability, Settings, Tuning};
use std::collections::BTreeSet;

#[test]
fn members_are_told_with_their_addresses_and_reachability() {
    simulate(1, async {
        let world = cluster(1, 3, Settings::default()).await;
        let (_, leader) = world.lock().unwrap().leader().unwrap();
        wait(&world, "all are reachable", |_| {
            leader
                .status()
                .members
                .values()
                .all(|member| member.reachability == Reachability::Reachable)
        })
        .await;
        let status = leader.status();
        assert_eq!(status.voters(), BTreeSet::from([id(1), id(2), id(3)]));
        assert_eq!(status.members[&id(2)].member, member(id(2)));
        crash(&world, id(3));
        wait(&world, "the dead one is unreachable", |_| {
            leader.status().members[&id(3)].reachability == Reachability::Unreachable
        })
        .await;
        let told = leader.watch().borrow().members[&id(2)].clone();
        assert_eq!(told.reachability, Reachability::Reachable);
    });
}

#[test]
fn a_follower_names_the_leader_to_forward_to() {
    simulate(1, async {
        let world = cluster(1, 3, Settings::default()).await;
        let (leader, _) = world.lock().unwrap().leader().unwrap();
        let follower = handle(&world, id(if leader == id(3) { 2 } else { 3 }));
        wait(&world, "the follower knows", |_| {
            follower.status().leader.is_some()
        })
        .await;
        match follower.propose(b"x".to_vec()).await {
            Err(ProposeError::NotLeader {
                leader: Some(address),
            }) => assert_eq!((address.id, address.member), (leader, member(leader))),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_change_that_would_lose_the_quorum_is_refused_unless_forced() {
    simulate(1, async {
        let world = cluster(1, 3, Settings::default()).await;
        let (leader, handle) = world.lock().unwrap().leader().unwrap();
        let others: Vec<_> = [1, 2, 3]
            .map(id)
            .into_iter()
            .filter(|other| *other != leader)
            .collect();
        crash(&world, others[0]);
        wait(&world, "the dead one is unreachable", |_| {
            handle.status().members[&others[0]].reachability == Reachability::Unreachable
        })
        .await;
        assert!(matches!(
            handle.demote(others[1], false).await,
            Err(ChangeError::QuorumLoss(_))
        ));
        assert!(matches!(
            handle.remove(others[1], false).await,
            Err(ChangeError::QuorumLoss(_))
        ));
        assert_eq!(handle.status().voters().len(), 3, "nothing was changed");
        handle.remove(others[0], false).await.unwrap();
        assert_eq!(handle.status().voters(), BTreeSet::from([leader, others[1]]));
        crash(&world, others[1]);
        start(&world, others[1]).await;
        handle.remove(others[1], true).await.unwrap();
        assert!(
            matches!(handle.demote(leader, true).await, Err(ChangeError::QuorumLoss(_))),
            "the last one stays"
        );
        assert!(handle.propose(b"alone".to_vec()).await.is_ok());
    });
}

#[test]
fn a_manager_joins_is_promoted_demoted_and_removed() {
    simulate(1, async {
        let world = cluster(1, 1, Settings::default()).await;
        let first = handle(&world, id(1));
        for number in 0..300 {
            first
                .propose(format!("before {number}").into_bytes())
                .await
                .unwrap();
        }
        world.lock().unwrap().add_disk(id(2));
        let second = start(&world, id(2)).await;
        first.add_learner(id(2), member(id(2))).await.unwrap();
        assert!(!first.status().members[&id(2)].voter);
        first.promote(id(2)).await.unwrap();
        assert!(first.status().members[&id(2)].voter);
        wait(&world, "the second has it all", |_| {
            second.status().applied == first.status().applied
        })
        .await;
        wait(&world, "it is reachable", |_| {
            first.status().members[&id(2)].reachability == Reachability::Reachable
        })
        .await;
        first.demote(id(2), false).await.unwrap();
        assert!(!first.status().members[&id(2)].voter);
        first.remove(id(2), false).await.unwrap();
        assert!(!first.status().members.contains_key(&id(2)));
        assert!(matches!(
            first.remove(id(2), false).await,
            Err(ChangeError::NotMember(_))
        ));
        assert!(matches!(
            first.promote(id(9)).await,
            Err(ChangeError::NotMember(_))
        ));
        heal_and_agree(&world).await;
    });
}

#[test]
fn a_leader_hands_over_steps_down_and_leaves() {
    simulate(1, async {
        let world = cluster(1, 3, Settings::default()).await;
        let first = handle(&world, id(1));
        first.transfer_leadership(id(3)).await.unwrap();
        wait(&world, "the third leads", |world| {
            world.leader().is_some_and(|(leader, _)| leader == id(3))
        })
        .await;
        let third = handle(&world, id(3));
        wait(&world, "it hears from the others", |_| {
            third
                .status()
                .members
                .values()
                .all(|member| member.reachability == Reachability::Reachable)
        })
        .await;
        third.step_down().await.unwrap();
        wait(&world, "another leads", |world| {
            world.leader().is_some_and(|(leader, _)| leader != id(3))
        })
        .await;
        let (leaving, leader) = world.lock().unwrap().leader().unwrap();
        leader.remove(leaving, false).await.unwrap();
        wait(&world, "one of the others leads", |world| {
            world.leader().is_some_and(|(leader, _)| leader != leaving)
        })
        .await;
        let (_, leader) = world.lock().unwrap().leader().unwrap();
        assert!(!leader.status().members.contains_key(&leaving));
        assert!(leader.propose(b"without it".to_vec()).await.is_ok());
    });
}

#[test]
fn a_slow_follower_gets_a_snapshot_when_the_log_is_gone() {
    simulate(1, async {
        let settings = Settings {
            tuning: Tuning {
                snapshot_interval: 50,
                entries_kept: 10,
                snapshots_kept: 0,
            },
            ..Settings::default()
        };
        let world = cluster(1, 3, settings).await;
        let (leading, leader) = world.lock().unwrap().leader().unwrap();
        let slow = id(if leading == id(3) { 2 } else { 3 });
        crash(&world, slow);
        for number in 0..400 {
            let command = vec![b'x'; 5_000 + number];
            leader.propose(command).await.unwrap();
        }
        wait(&world, "the log is short", |_| leader.metrics().log_entries < 200).await;
        start(&world, slow).await;
        heal_and_agree(&world).await;
        assert!(handle(&world, slow).status().snapshot.is_some());
    });
}

#[test]
fn a_change_of_the_tuning_counts_at_once_and_on_the_manager_that_is_told() {
    simulate(1, async {
        let world = cluster(1, 3, Settings::default()).await;
        let (leading, leader) = world.lock().unwrap().leader().unwrap();
        for number in 0..200_u8 {
            leader.propose(vec![number]).await.unwrap();
        }
        assert_eq!(leader.status().snapshot, None, "10,000 entries are far away");
        let tuning = Tuning {
            snapshot_interval: 50,
            entries_kept: 20,
            snapshots_kept: 2,
        };
        leader.tune(tuning);
        assert_eq!(leader.tuning(), tuning);
        wait(&world, "a snapshot is made without another entry", |_| {
            leader.status().snapshot.is_some()
        })
        .await;
        for number in 0..200_u8 {
            leader.propose(vec![number]).await.unwrap();
        }
        wait(&world, "the log is short", |_| {
            leader.metrics().log_entries < 20 + 2 * 50
        })
        .await;
        let snapshots = |world: &World| {
            let names = world.nodes[&leading].disk.files();
            names.keys().filter(|name| name.starts_with("snapshot-")).count()
        };
        wait(&world, "two stay beside the newest", |world| {
            snapshots(world) == 3
        })
        .await;
        let other = id(if leading == id(3) { 2 } else { 3 });
        assert_eq!(handle(&world, other).status().snapshot, None, "it was not told");
        // None of it is lost on a manager that begins anew.
        crash(&world, leading);
        start(&world, leading).await;
        heal_and_agree(&world).await;
    });
}
