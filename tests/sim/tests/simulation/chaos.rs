//! Whatever happens, no old fact comes back, no acknowledgement lies, and once it is over all nodes agree.
//!
//! A seed that ever failed stays in its list, with what it found.

use essaim_sim::{Chaos, Network, Setup, World};

fn survives(seed: u64, nodes: usize, loss: f64, steps: usize) {
    println!("seed {seed}");
    let mut world = World::new(Setup::new(seed, nodes).on(Network::lossy(loss)));
    Chaos::new().run(&mut world, steps);
}

#[test]
fn three_nodes_survive_chaos() {
    for seed in 0..30 {
        survives(seed, 3, 0.2, 150);
    }
}

#[test]
fn ten_nodes_survive_chaos() {
    for seed in 1_000..1_006 {
        survives(seed, 10, 0.1, 150);
    }
}

#[test]
fn twenty_five_nodes_survive_chaos() {
    survives(2_000, 25, 0.1, 120);
}

#[test]
fn a_hundred_nodes_survive_chaos() {
    survives(3_000, 100, 0.05, 25);
}
