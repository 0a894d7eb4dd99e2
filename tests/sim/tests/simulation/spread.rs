//! A change is on every node in time: the peer's perturbations, a few runs of each (the bench runs them all).

use essaim_sim::{Churn, Perturbation, Samples, Setup};
use std::time::Duration;

fn setup(nodes: usize) -> Setup {
    Setup {
        check_one_in: nodes,
        ..Setup::new(1, nodes)
    }
}

#[test]
fn a_change_reaches_twenty_five_nodes_within_two_hundred_milliseconds() {
    for perturbation in Perturbation::ALL {
        let slowest = perturbation.samples(&setup(25), 10).max();
        assert!(
            slowest < Duration::from_millis(200),
            "{perturbation}: {slowest:?}"
        );
    }
}

#[test]
fn a_change_under_churn_reaches_twenty_five_nodes_within_a_second() {
    let mut samples = Samples::default();
    for seed in 0..4 {
        let (took, _) = Churn::sample(Setup { seed, ..setup(25) });
        samples.add(took);
    }
    assert!(samples.max() < Duration::from_secs(1), "{:?}", samples.max());
}
