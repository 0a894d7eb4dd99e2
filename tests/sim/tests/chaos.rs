//! Whatever happens, no old fact comes back, no acknowledgement lies, and once it is over all nodes agree.

use essaim_sim::{Chaos, Network, Setup, World};

fn survives(seed: u64, nodes: usize, loss: f64, steps: usize) {
    println!("seed {seed}");
    let mut world = World::new(Setup::new(seed, nodes).on(Network::lossy(loss)));
    Chaos::new().run(&mut world, steps);
}

#[test]
fn three_nodes_survive_chaos() {
    for seed in 0..20 {
        survives(seed, 3, 0.1, 200);
    }
}

#[test]
fn twenty_five_nodes_survive_chaos() {
    for seed in 100..103 {
        survives(seed, 25, 0.1, 200);
    }
}
