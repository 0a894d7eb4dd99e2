//! The same seed gives the same run.

use essaim_sim::{Chaos, Network, Setup, World};

fn run(seed: u64) -> (Vec<String>, u64) {
    let mut world = World::new(Setup::new(seed, 5).on(Network::lossy(0.2)));
    Chaos::new().run(&mut world, 60);
    let events = world.take_events();
    let events = events.into_iter().map(|event| format!("{event:?}")).collect();
    (events, world.bytes_sent())
}

#[test]
fn a_seed_says_all() {
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
