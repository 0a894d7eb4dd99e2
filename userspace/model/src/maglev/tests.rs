use super::*;
use crate::{NetworkName, TaskId};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn backend(number: usize) -> BackendKey {
    BackendKey {
        task: TaskId::new(&format!("web.{number}")).unwrap(),
        network: NetworkName::new("app").unwrap(),
    }
}

fn backends(numbers: impl IntoIterator<Item = usize>) -> Vec<BackendKey> {
    numbers.into_iter().map(backend).collect()
}

fn of(active: Vec<BackendKey>) -> MaglevTable {
    MaglevTable::new(&Membership {
        active,
        ..Membership::default()
    })
}

fn with_history(active: Vec<BackendKey>, generations: Vec<Vec<BackendKey>>) -> MaglevTable {
    MaglevTable::new(&Membership {
        active,
        draining: Vec::new(),
        generations,
    })
}

/// Hashes spread over the whole range.
fn hashes() -> impl Iterator<Item = u32> + Clone {
    (0..50_000_u32).map(|n| n.wrapping_mul(0x9e37_79b1))
}

fn owner(table: &MaglevTable, hash: u32) -> BackendKey {
    table.candidates(hash).next().unwrap().clone()
}

/// The share of the hashes for which the condition holds.
fn share(condition: impl Fn(u32) -> bool) -> f64 {
    let count = |n: usize| f64::from(u32::try_from(n).unwrap());
    count(hashes().filter(|hash| condition(*hash)).count()) / count(hashes().count())
}

#[test]
fn sizes_are_the_largest_primes_below_doubling_limits() {
    let is_prime = |n: u32| (2..n).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
    for (size, doublings) in TABLE_SIZES.into_iter().zip(0_u32..) {
        assert!(is_prime(size), "{size}");
        assert!(!(size + 1..1500 << doublings).any(is_prime), "{size}");
    }
}

#[test]
fn a_table_has_at_least_100_slots_for_each_backend() {
    assert_eq!(
        [0, 1, 10, 14, 15, 29, 30].map(table_size),
        [1499, 1499, 1499, 1499, 2999, 2999, 5987]
    );
    assert!((1..=usize::from(u16::MAX)).all(|n| table_size(n) as usize >= n * 100));
    assert_eq!(table_size(usize::MAX), TABLE_SIZES[13]);
}

#[test]
fn nobody_alive_is_an_empty_table() {
    let table = with_history(Vec::new(), vec![backends(0..3)]);
    assert_eq!(table, MaglevTable::default());
    assert_eq!(table.candidates(7).count(), 0);
}

#[test]
fn flows_of_draining_backends_are_kept_when_nobody_is_active() {
    let draining = backends(0..1);
    let generations = vec![draining.clone()];
    let table = MaglevTable::new(&Membership {
        active: Vec::new(),
        draining,
        generations,
    });
    assert!(table.owners.iter().all(|owner| *owner == 0));
    assert!(hashes().all(|hash| owner(&table, hash) == backend(0)));
}

#[test]
fn ten_backends_share_the_slots_within_15_percent() {
    for first in [0, 100, 2000] {
        let table = of(backends(first..first + 10));
        for number in first..first + 10 {
            let share = share(|hash| owner(&table, hash) == backend(number)) * 10.0;
            assert!((0.85..1.15).contains(&share), "{number}: {share}");
        }
    }
}

#[test]
fn slots_differ_by_few() {
    let table = of(backends(0..10));
    let mut counts = vec![0_u32; 11];
    table
        .owners
        .iter()
        .for_each(|owner| counts[usize::from(*owner)] += 1);
    assert_eq!(counts[0], 0);
    assert!(
        counts[1..].iter().all(|count| (149..=150).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn a_removed_backend_moves_less_than_twice_its_share() {
    for n in [3, 5, 10, 20] {
        let (before, after) = (of(backends(0..n)), of(backends(1..n)));
        let limit = 2.0 / f64::from(u32::try_from(n).unwrap());
        let moved = share(|hash| owner(&before, hash) != owner(&after, hash));
        assert!(moved < limit, "{n}: {moved}");
    }
}

#[test]
fn without_history_there_are_no_earlier_owners() {
    assert_eq!(of(backends(0..10)).earlier, None);
    assert_eq!(
        with_history(backends(0..10), vec![backends((0..10).rev())]).earlier,
        None
    );
}

#[test]
fn earlier_owners_are_others_that_live_newest_first() {
    let generations = vec![backends(0..4), backends(3..8), backends([9])];
    let table = with_history(backends(0..5), generations.clone());
    let slots = table
        .owners
        .iter()
        .zip(table.earlier.as_ref().unwrap())
        .enumerate();
    for (slot, (owner, earlier)) in slots {
        let expected = generations
            .iter()
            .map(|generation| of(generation.clone()))
            .map(|table| table.member(table.owners[slot]).unwrap().clone());
        let mut seen = BTreeSet::from([table.member(*owner).unwrap().clone()]);
        let expected: Vec<BackendKey> = expected
            .filter(|key| table.members.contains(key) && seen.insert(key.clone()))
            .collect();
        let found: Vec<BackendKey> = earlier
            .iter()
            .filter_map(|number| table.member(*number))
            .cloned()
            .collect();
        assert_eq!(found, expected, "slot {slot}");
    }
}

/// The share of the flows whose backend lives but is no candidate any more; a flow is opened by each generation of the
/// memberships, oldest first.
fn lost(memberships: &[Vec<BackendKey>]) -> f64 {
    let (now, before) = memberships.split_last().unwrap();
    let generations: Vec<Vec<BackendKey>> = before.iter().rev().take(8).cloned().collect();
    let table = with_history(now.clone(), generations);
    let tables: Vec<MaglevTable> = before.iter().map(|members| of(members.clone())).collect();
    let worst = tables.iter().map(|old| {
        share(|hash| {
            let backend = owner(old, hash);
            now.contains(&backend) && !table.candidates(hash).any(|candidate| *candidate == backend)
        })
    });
    worst.fold(0.0, f64::max)
}

#[test]
fn growing_from_5_to_10_one_by_one_loses_no_flow() {
    for first in [0, 50, 700] {
        let growth: Vec<_> = (5..=10).map(|n| backends(first..first + n)).collect();
        let lost = lost(&growth);
        assert!(lost <= 0.001, "{lost}");
    }
}

#[test]
fn growing_past_the_size_of_the_table_loses_few_flows() {
    for (from, to) in [(10, 15), (14, 15), (28, 31), (59, 60)] {
        let growth: Vec<_> = (from..=to).map(|n| backends(0..n)).collect();
        let lost = lost(&growth);
        assert!(lost <= 0.003, "{from} to {to}: {lost}");
    }
}

#[test]
fn shrinking_below_the_size_of_the_table_loses_few_flows() {
    for (from, to) in [(15, 14), (17, 12), (30, 28)] {
        let shrinking: Vec<_> = (to..=from).rev().map(|n| backends(0..n)).collect();
        let lost = lost(&shrinking);
        assert!(lost <= 0.001, "{from} to {to}: {lost}");
    }
}

#[test]
fn a_rolling_replacement_of_5_of_10_loses_no_flow() {
    // One stops as one starts, start first and stop first.
    let both: Vec<_> = (0..=5).map(|n| backends(n..n + 10)).collect();
    let start_first: Vec<_> = (0..5)
        .flat_map(|n| [backends(n..n + 10), backends(n..n + 11)])
        .collect();
    let stop_first: Vec<_> = (0..5)
        .flat_map(|n| [backends(n..n + 10), backends(n + 1..n + 10)])
        .collect();
    for (name, rolling) in [
        ("both", both),
        ("start first", start_first),
        ("stop first", stop_first),
    ] {
        let steps = rolling.len().min(9);
        let lost = lost(&rolling[rolling.len() - steps..]);
        assert!(lost <= 0.001, "{name}: {lost}");
    }
}

proptest! {
    #[test]
    fn the_table_does_not_depend_on_the_order_of_its_members(
        mut numbers in prop::collection::btree_set(0_usize..500, 1..20),
        drained in 0_usize..5,
        generations in prop::collection::vec(prop::collection::btree_set(0_usize..500, 1..20), 0..4),
    ) {
        let draining: Vec<usize> = (0..drained).filter_map(|_| numbers.pop_first()).collect();
        let forward = Membership {
            active: backends(numbers.iter().copied()),
            draining: backends(draining.iter().copied()),
            generations: generations.iter().map(|set| backends(set.iter().copied())).collect(),
        };
        let backward = Membership {
            active: backends(numbers.iter().rev().copied()),
            draining: backends(draining.iter().rev().copied()),
            generations: generations.iter().map(|set| backends(set.iter().rev().copied())).collect(),
        };
        prop_assert_eq!(MaglevTable::new(&forward), MaglevTable::new(&backward));
    }

    #[test]
    fn every_slot_has_an_active_owner_and_every_number_a_member(
        numbers in prop::collection::btree_set(0_usize..500, 1..40),
        earlier in prop::collection::vec(prop::collection::btree_set(0_usize..500, 1..40), 0..4),
    ) {
        let active = backends(numbers);
        let table = with_history(active.clone(), earlier.into_iter().map(backends).collect());
        prop_assert_eq!(table.owners.len(), table_size(active.len()) as usize);
        prop_assert!(table.owners.iter().all(|owner| active.contains(table.member(*owner).unwrap())));
        for earlier in table.earlier.iter().flatten().flatten() {
            prop_assert!(*earlier == 0 || table.member(*earlier).is_some());
        }
    }

    #[test]
    fn slots_of_other_sizes_overlap_where_they_share_a_hash(
        size in prop::sample::select(&TABLE_SIZES[..8]),
        other in prop::sample::select(&TABLE_SIZES[..8]),
        hash: u32,
    ) {
        let slot = |size: u32| usize::try_from((u64::from(hash) * u64::from(size)) >> 32).unwrap();
        let overlaps: Vec<(usize, u64)> = overlaps(slot(size), size as usize, other as usize).collect();
        prop_assert!(overlaps.iter().any(|(theirs, _)| *theirs == slot(other)), "{overlaps:?}");
        prop_assert!(overlaps.iter().all(|(theirs, hashes)| *theirs < other as usize && *hashes > 0), "{overlaps:?}");
        let hashes: u64 = overlaps.iter().map(|(_, hashes)| hashes).sum();
        prop_assert!(hashes.abs_diff((1 << 32) / u64::from(size)) <= 1, "{overlaps:?}");
    }
}
