//! Keys are changed without a lost message, and what no key opens is dropped and counted.

use essaim_gossip::{DropReason, Key, KeyRing};
use essaim_model::TaskState;
use essaim_sim::{Network, Setup, World, network, task};
use rand::RngExt;
use std::time::Duration;

fn key(byte: u8) -> Key {
    Key::new([byte; 32])
}

fn dropped(world: &World, reason: DropReason) -> u64 {
    world
        .counters()
        .iter()
        .map(|counters| counters.dropped(reason))
        .sum()
}

#[test]
fn a_rotation_loses_no_message() {
    let mut world = World::new(Setup::new(1, 10).on(Network::lossy(0.0)));
    world.run_for(Duration::from_secs(1));
    let mut revision = 0;
    for number in 1..20_u8 {
        let (old, new) = (key(number), key(number + 1));
        let steps = [
            KeyRing::new(old.clone()).with_next(new.clone()),
            KeyRing::new(new.clone()).with_previous(old),
            KeyRing::new(new),
        ];
        for ring in steps {
            for node in 0..world.size() {
                world.set_keys(node, ring.clone());
                revision += 1;
                world.set_catalog_applied(node, revision);
                world.set_task(
                    node,
                    task(&format!("t{node}")),
                    TaskState::Ready,
                    &[network("ingress")],
                );
                let pause = world.random().random_range(0..30);
                world.run_for(Duration::from_millis(pause));
            }
            // Nothing that was sealed a step ago is on its way any more.
            world.run_for(Duration::from_millis(100));
        }
    }
    world.converge(Duration::from_secs(1));
    assert_eq!(dropped(&world, DropReason::Sealed), 0);
}

#[test]
fn a_node_with_another_key_is_shut_out_and_counted() {
    let mut world = World::new(Setup::new(2, 4));
    world.run_for(Duration::from_secs(1));
    world.set_keys(3, KeyRing::new(key(99)));
    world.run_for(Duration::from_secs(4));
    assert!(dropped(&world, DropReason::Sealed) > 0);
    assert!(!world.told_down().is_empty());
    world.set_keys(3, KeyRing::new(key(1)));
    world.converge(Duration::from_secs(3));
}

#[test]
fn rubbish_changes_nothing() {
    let mut world = World::new(Setup::new(3, 3));
    world.run_for(Duration::from_secs(1));
    for _ in 0..2_000 {
        let length = world.random().random_range(0..200);
        let mut rubbish: Vec<u8> = (0..length).map(|_| world.random().random()).collect();
        if world.random().random_bool(0.8) {
            // As if from a member.
            let header = [1, 1, 2, b'n', b'1'];
            let start = header.len().min(rubbish.len());
            rubbish[..start].copy_from_slice(&header[..start]);
        }
        world.inject(0, rubbish);
        world.run_for(Duration::from_millis(1));
    }
    let drops: u64 = DropReason::ALL
        .into_iter()
        .map(|reason| dropped(&world, reason))
        .sum();
    assert_eq!(drops, 2_000);
    assert_eq!(world.first_difference(), None);
}
