use super::*;
use essaim_objects::{Config, ConfigId, NodeId, ServiceId, Task, TaskId};
use serde_json::json;

fn create(bits: u128, size: usize) -> Change {
    let spec = json!({"Name": format!("config{bits}"), "Labels": {"x": "y".repeat(size)}, "Data": "QUJD"});
    let config = Config::new(ConfigId::from_bits(bits), serde_json::from_value(spec).unwrap());
    Change::Create(config.into())
}

fn sizes(batch: &mut Batch) -> Vec<(usize, bool)> {
    std::iter::from_fn(|| batch.pop())
        .map(|(command, keys)| {
            let whole = command.as_deref().is_none_or(|command| {
                Transaction::decode(command).is_ok_and(|found| found.changes.len() == keys.len())
            });
            assert!(whole, "the command holds what the keys say");
            (keys.len(), command.is_some())
        })
        .collect()
}

#[test]
fn units_are_packed_up_to_what_the_log_takes_and_never_split() {
    let (mut batch, mut backoff) = (Batch::begin(View::default()), Backoff::default());
    for number in 0..5 {
        let unit = (0..90).map(|place| create(number * 100 + place, 0)).collect();
        batch.add(unit, &mut backoff, Duration::ZERO);
    }
    assert_eq!(sizes(&mut batch), [(180, true), (180, true), (90, true)]);
    // By their size: what is too large is halved until it is not.
    let mut batch = Batch::begin(View::default());
    for number in 0..4 {
        batch.add(vec![create(number, 1 << 19)], &mut backoff, Duration::ZERO);
    }
    batch.add(vec![create(9, 1 << 21)], &mut backoff, Duration::ZERO);
    assert_eq!(sizes(&mut batch), [(2, true), (1, true), (1, true), (1, false)]);
    assert!(batch.is_empty());
}

#[test]
fn what_does_not_apply_spoils_nothing_and_waits_longer() {
    let (mut batch, mut backoff) = (Batch::begin(View::default()), Backoff::default());
    let mut of_no_service = Task::new(
        TaskId::from_bits(1),
        Some(ServiceId::MIN),
        std::sync::Arc::default(),
    );
    of_no_service.slot = Some(3);
    let bad = |id| {
        let mut task = of_no_service.clone();
        task.id = TaskId::from_bits(id);
        vec![create(50 + id, 0), Change::Create(task.into())]
    };
    batch.add(bad(1), &mut backoff, Duration::ZERO);
    batch.add(vec![create(1, 0)], &mut backoff, Duration::ZERO);
    // Of the same object as one before: it is decided again.
    batch.add(vec![create(1, 0), create(2, 0)], &mut backoff, Duration::ZERO);
    assert_eq!(sizes(&mut batch), [(1, true)]);
    // Another task for the same slot has failed as well.
    assert!(backoff.holds(Key::Copy(ServiceId::MIN, Some(3), None), Duration::ZERO));
    assert!(!backoff.holds(Key::Copy(ServiceId::MIN, None, Some(NodeId::MIN)), Duration::ZERO));
    assert!(!backoff.holds(Key::Object(ConfigId::from_bits(2).into()), Duration::ZERO));
}

#[test]
fn of_a_copy_with_a_long_history_as_much_goes_as_one_transaction_holds() {
    let mut store = Store::default();
    for first in (0..300).step_by(100) {
        let changes = (first..first + 100).map(|bits| create(bits, 0)).collect();
        let index = store.view().index() + 1;
        store
            .apply(index, &Transaction { changes }, Timestamp::UNIX_EPOCH)
            .unwrap();
    }
    let (mut batch, mut backoff) = (Batch::begin(store.view().clone()), Backoff::default());
    let mut unit: Vec<_> = store.view().configs().cloned().map(Change::remove).collect();
    unit.push(create(1_000, 0));
    batch.add(unit, &mut backoff, Duration::ZERO);
    let (command, keys) = batch.pop().unwrap();
    assert_eq!(keys.len(), MAX_CHANGES);
    let found = Transaction::decode(&command.unwrap()).unwrap();
    assert!(
        matches!(found.changes[0], Change::Create(_)),
        "what is new is not left out"
    );
}
