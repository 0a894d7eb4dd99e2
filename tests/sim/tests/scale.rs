//! A thousand nodes.

use essaim_gossip::MemberState;
use essaim_model::TaskState;
use essaim_sim::{Setup, World, network, node, task};
use std::time::Duration;

#[test]
fn a_thousand_nodes_find_each_other_hear_of_a_task_and_notice_a_death() {
    const NODES: usize = 1_000;
    let mut world = World::new(Setup {
        check_one_in: 50,
        ..Setup::new(1, NODES)
    });
    let all_heard = |world: &World| {
        (0..NODES).all(|number| {
            let view = world.view(number);
            view.members.len() == NODES && view.members.values().all(|member| member.epoch.is_heard())
        })
    };
    for _ in 0..20 {
        world.run_for(Duration::from_millis(500));
        if all_heard(&world) {
            break;
        }
    }
    assert!(all_heard(&world), "after {:?}", world.now());

    world.set_task(0, task("web"), TaskState::Ready, &[network("ingress")]);
    world.run_for(Duration::from_millis(500));
    let lacking = (0..NODES).filter(|number| world.view(*number).task(&node(0), &task("web")).is_none());
    assert_eq!(lacking.count(), 0);

    world.crash(NODES - 1);
    world.run_for(Duration::from_secs(3));
    let told = |number: &usize| world.view(*number).members[&node(NODES - 1)].state == MemberState::Down;
    assert_eq!((0..NODES - 1).filter(told).count(), NODES - 1);
    assert!(world.told_down().is_empty());
}
