use super::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::time::Duration;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

/// A node `a` among `b` and `c`.
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn among_three() -> (Membership, StdRng, Instant) {
    let (mut random, now) = (StdRng::from_seed([3; 32]), Instant::now());
    let mut members = Membership::new(
        name("a"),
        Epoch::from_number(5),
        Config::default(),
        &mut random,
        now,
    );
    let peers = ["a", "b", "c"].map(|peer| (name(peer), ([127, 0, 0, 1], 1).into()));
    members.set_peers(&peers.into());
    (members, random, now)
}

fn claim(epoch: u64, incarnation: u32, state: MemberState) -> Claim {
    Claim {
        epoch: Epoch::from_number(epoch),
        incarnation: Incarnation::from_number(incarnation),
        state,
    }
}

/// Runs its timers, without an answer from anyone.
fn run_for(members: &mut Membership, random: &mut StdRng, now: &mut Instant, time: Duration) {
    let end = *now + time;
    while let Some(due) = members.poll_timeout().filter(|due| *due <= end) {
        *now = due.max(*now);
        members.handle_timeout(random, *now);
    }
    *now = end;
}

#[test]
fn a_claim_about_this_node_is_contradicted_if_it_is_of_now() {
    for (claim, expected) in [
        (
            claim(4, 9, MemberState::Down),
            Heard::Outdone(claim(5, 0, MemberState::Alive)),
        ),
        (claim(5, 0, MemberState::Alive), Heard::Known),
        (claim(5, 0, MemberState::Suspect), Heard::Contradicted),
        (claim(5, 3, MemberState::Down), Heard::Contradicted),
        (
            claim(6, 0, MemberState::Alive),
            Heard::LaterRun(Epoch::from_number(6)),
        ),
    ] {
        let (mut members, mut random, now) = among_three();
        assert_eq!(
            members.hear(&name("a"), claim, &mut random, now),
            expected,
            "{claim:?}"
        );
        if expected == Heard::Contradicted {
            assert!(members.own_claim() > claim);
        }
    }
}

#[test]
fn a_claim_about_no_member_is_foreign() {
    let (mut members, mut random, now) = among_three();
    let heard = members.hear(&name("x"), claim(1, 0, MemberState::Alive), &mut random, now);
    assert_eq!(heard, Heard::Foreign);
}

#[test]
fn who_never_answers_is_suspected_then_down() {
    let (mut members, mut random, mut now) = among_three();
    run_for(&mut members, &mut random, &mut now, Duration::from_secs(5));
    let states: Vec<MemberState> = std::iter::from_fn(|| members.poll_change())
        .filter(|change| change.about == name("b"))
        .map(|change| change.after.state)
        .collect();
    assert_eq!(states, [MemberState::Suspect, MemberState::Down]);
    assert_eq!(members.reachable().count(), 0);
}

#[test]
fn a_suspect_is_asked_until_it_contradicts() {
    let (mut members, mut random, mut now) = among_three();
    members.hear(&name("b"), claim(1, 0, MemberState::Suspect), &mut random, now);
    run_for(&mut members, &mut random, &mut now, Duration::from_millis(350));
    let asked = std::iter::from_fn(|| members.poll_send())
        .filter(|(to, part)| *to == name("b") && matches!(part, Part::Ping { .. }));
    assert_eq!(asked.count(), 4);
    let heard = members.hear(&name("b"), claim(1, 1, MemberState::Alive), &mut random, now);
    assert_eq!(heard, Heard::News);
    assert_eq!(members.claim(&name("b")).unwrap().state, MemberState::Alive);
}

#[test]
fn an_old_answer_is_none() {
    let (mut members, mut random, mut now) = among_three();
    run_for(&mut members, &mut random, &mut now, Duration::from_millis(400));
    for number in 0..100 {
        members.acknowledged(number);
    }
    assert!(!members.probes.is_empty());
    let asked: Vec<u64> = std::iter::from_fn(|| members.poll_send())
        .filter_map(|(_, part)| match part {
            Part::Ping { number } => Some(number),
            _ => None,
        })
        .collect();
    for number in asked {
        members.acknowledged(number);
    }
    assert!(members.probes.is_empty());
}

#[test]
fn a_core_that_was_stopped_does_not_blame_the_others() {
    let (mut members, mut random, mut now) = among_three();
    members.hear(&name("b"), claim(1, 0, MemberState::Suspect), &mut random, now);
    run_for(&mut members, &mut random, &mut now, Duration::from_millis(150));
    now += Duration::from_mins(1);
    members.handle_timeout(&mut random, now);
    assert_eq!(members.claim(&name("b")).unwrap().state, MemberState::Suspect);
    run_for(&mut members, &mut random, &mut now, Duration::from_secs(3));
    assert_eq!(members.claim(&name("b")).unwrap().state, MemberState::Down);
}
