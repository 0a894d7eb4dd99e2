use super::{Cache, CacheKey, FAILURE, Known, LONGEST_ANSWER, LONGEST_DENIAL};
use crate::upstream::{Accepted, Sent, Stored, accept};
use crate::wire::{Name, Question, Reader, encode};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn key(name: &str, kind: u16, header: u16, dnssec_ok: bool, servers: u32) -> CacheKey {
    let asked = encode(name).unwrap();
    let name = Name::read(&mut Reader::new(&asked, 0)).unwrap();
    CacheKey::new(
        &Question {
            asked: &asked,
            name,
            kind,
            class: 1,
        },
        header,
        dnssec_ok,
        servers,
    )
}

fn simple(name: &str) -> CacheKey {
    key(name, 1, 0, false, 1)
}

/// An answer with this TTL, or a denial.
fn stored(ttl: u32, denial: bool) -> Arc<Stored> {
    let mut message = b"\0\x01\x81\x80\0\x01\0\x01\0\0\0\0\x01a\0\0\x01\0\x01".to_vec();
    if denial {
        (message[7], message[9]) = (0, 1);
        message.extend(*b"\0\0\x06\0\x01");
        message.extend(ttl.to_be_bytes());
        message.extend(*b"\0\x16\0\0");
        message.extend([0; 16]);
        message.extend(ttl.to_be_bytes());
    } else {
        message.extend(*b"\xc0\x0c\0\x01\0\x01");
        message.extend(ttl.to_be_bytes());
        message.extend(*b"\0\x04\x01\x02\x03\x04");
    }
    let sent = Sent {
        id: 1,
        name: (*b"\x01a\0").into(),
        kind: 1,
    };
    match accept(&sent, &message) {
        Accepted::Answer(stored) => Arc::new(stored),
        other => panic!("{other:?}"),
    }
}

fn age(known: Option<Known>) -> Option<u32> {
    match known? {
        Known::Answer(_, age) => Some(age),
        Known::Failure => None,
    }
}

#[test]
fn an_answer_is_kept_for_its_ttl() {
    let (mut cache, start) = (Cache::new(10_000), Instant::now());
    let after = |seconds| start + Duration::from_secs(seconds);
    cache.insert(&simple("a"), stored(30, false), start);
    assert_eq!(age(cache.get(&simple("a"), start)), Some(0));
    assert_eq!(age(cache.get(&simple("a"), after(29))), Some(29));
    assert_eq!(age(cache.get(&simple("a"), after(30))), None);
    assert_eq!(cache.len(), 0);
}

#[test]
fn nothing_is_kept_for_longer_than_its_bound() {
    let (mut cache, start) = (Cache::new(10_000), Instant::now());
    cache.insert(&simple("answer"), stored(86_400, false), start);
    cache.insert(&simple("denial"), stored(86_400, true), start);
    cache.insert_failure(&simple("failure"), start);
    let just_before = |bound: Duration| start + bound.saturating_sub(Duration::from_millis(1));
    for (name, bound) in [
        ("answer", LONGEST_ANSWER),
        ("denial", LONGEST_DENIAL),
        ("failure", FAILURE),
    ] {
        assert!(cache.get(&simple(name), just_before(bound)).is_some(), "{name}");
        assert!(cache.get(&simple(name), start + bound).is_none(), "{name}");
    }
}

#[test]
fn what_has_no_time_to_live_is_not_kept() {
    let (mut cache, start) = (Cache::new(10_000), Instant::now());
    cache.insert(&simple("a"), stored(0, false), start);
    assert!(cache.get(&simple("a"), start).is_none());
}

#[test]
fn questions_that_may_have_other_answers_are_others() {
    let (mut cache, start) = (Cache::new(10_000), Instant::now());
    cache.insert(&key("a", 1, 0, false, 1), stored(30, false), start);
    for other in [
        key("b", 1, 0, false, 1),
        key("a", 28, 0, false, 1),
        key("a", 1, 0x10, false, 1),
        key("a", 1, 0, true, 1),
        key("a", 1, 0, false, 2),
    ] {
        assert!(cache.get(&other, start).is_none(), "{other:?}");
    }
    assert!(cache.get(&key("A", 1, 0x100, false, 1), start).is_some());
}

#[test]
fn an_answer_takes_the_place_of_a_failure() {
    let (mut cache, start) = (Cache::new(10_000), Instant::now());
    cache.insert_failure(&simple("a"), start);
    assert!(matches!(cache.get(&simple("a"), start), Some(Known::Failure)));
    cache.insert(&simple("a"), stored(30, false), start);
    assert_eq!(age(cache.get(&simple("a"), start)), Some(0));
    assert_eq!(cache.len(), 1);
}

#[test]
fn what_is_used_outlives_what_is_not_within_the_bound() {
    let (mut cache, start) = (Cache::new(20_000), Instant::now());
    cache.insert(&simple("used"), stored(30, false), start);
    for number in 0..5000 {
        cache.insert(&simple(&format!("n{number}")), stored(30, false), start);
        assert!(cache.get(&simple("used"), start).is_some(), "{number}");
    }
    // Some 200 bytes each.
    assert!((30..110).contains(&cache.len()), "{}", cache.len());
    assert!(cache.get(&simple("n0"), start).is_none());
    assert!(cache.get(&simple("n4999"), start).is_some());
}

proptest! {
    #[test]
    fn the_cache_never_gives_out_what_it_should_not(
        steps in prop::collection::vec((0_u8..12, 0_u32..8, 0_u64..3, any::<bool>()), 1..200),
        bound in 500_usize..5000,
    ) {
        let mut cache = Cache::new(bound);
        let mut model: HashMap<u8, (Instant, u32)> = HashMap::new();
        let mut now = Instant::now();
        for (name, ttl, pause, write) in steps {
            now += Duration::from_secs(pause);
            let key = simple(&format!("n{name}"));
            if write {
                cache.insert(&key, stored(ttl, false), now);
                if ttl > 0 {
                    model.insert(name, (now, ttl));
                }
            } else if let Some(Known::Answer(found, age)) = cache.get(&key, now) {
                // It may have forgotten, but what it gives out was put there and still holds.
                let (since, ttl) = model[&name];
                prop_assert_eq!(u64::from(age), now.duration_since(since).as_secs());
                prop_assert!(age < ttl && found.ttl() == ttl);
            }
            let size: usize = cache.young.iter().map(|(key, entry)| entry.size(key)).sum();
            prop_assert_eq!(size, cache.young_size);
            prop_assert!(size <= bound / 2);
        }
    }
}
