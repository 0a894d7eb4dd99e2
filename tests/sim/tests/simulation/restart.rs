//! A node that comes back counts anew: with its disk or without, whatever its clock says.

use essaim_model::TaskState;
use essaim_sim::{Disk, Setup, World, network, node, task};
use std::time::Duration;

fn cluster(seed: u64) -> World {
    let mut world = World::new(Setup::new(seed, 5));
    for number in 0..5 {
        world.set_interests(number, &[network("app")]);
    }
    world.set_task(0, task("old"), TaskState::Ready, &[network("app")]);
    world.run_for(Duration::from_millis(500));
    world.converge(Duration::from_secs(5));
    world
}

#[test]
fn a_run_that_kept_its_disk_has_a_later_epoch_though_the_clock_went_back() {
    let mut world = cluster(1);
    let before = world.epoch_of(0).unwrap();
    world.restart(0, Disk::Kept, -3_600_000);
    assert!(world.epoch_of(0).unwrap() > before);
    world.converge(Duration::from_secs(2));
}

#[test]
fn a_run_that_lost_its_disk_finds_out_and_counts_anew() {
    let mut world = cluster(2);
    let before = world.epoch_of(0).unwrap();
    world.remove_task(0, &task("old"));
    world.crash(0);
    world.set_task(0, task("new"), TaskState::Starting, &[network("app")]);
    world.restart(0, Disk::Lost, -3_600_000);
    assert!(world.epoch_of(0).unwrap() < before, "the run starts in the past");
    world.converge(Duration::from_secs(3));
    assert!(world.epoch_of(0).unwrap() > before);
    for number in 1..5 {
        let view = world.view(number);
        assert!(view.task(&node(0), &task("old")).is_none());
        assert!(view.task(&node(0), &task("new")).is_some());
    }
}

#[test]
fn the_task_of_a_node_that_comes_back_without_it_is_forgotten() {
    let mut world = cluster(3);
    world.crash(0);
    world.run_for(Duration::from_secs(5));
    world.remove_task(0, &task("old"));
    world.restart(0, Disk::Kept, 0);
    world.converge(Duration::from_secs(5));
    assert!(world.view(4).task(&node(0), &task("old")).is_none());
}

#[test]
fn all_nodes_restarted_at_once_find_each_other() {
    let mut world = cluster(4);
    for number in 0..5 {
        let disk = if number % 2 == 0 { Disk::Kept } else { Disk::Lost };
        world.restart(number, disk, -60_000);
    }
    world.converge(Duration::from_secs(5));
}
