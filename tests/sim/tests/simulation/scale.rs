//! A large cluster; `cargo bench -p essaim-sim --bench scale` does the same with a thousand nodes.

use essaim_sim::life;
use std::time::Duration;

#[test]
fn a_hundred_and_fifty_nodes_find_each_other_hear_of_a_task_and_notice_a_death() {
    let life = life(1, 150);
    assert!(life.found < Duration::from_secs(5), "{life:?}");
    assert!(life.spread < Duration::from_millis(250), "{life:?}");
    assert!(life.noticed < Duration::from_secs(3), "{life:?}");
}
