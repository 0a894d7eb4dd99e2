//! A large plan reaches the maps in time, and a small change of it in no time. Needs root.
//!
//! A test binary of its own: nothing else runs beside it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

use essaim_datapath::{ApplyReport, Datapath, Sizing};
use essaim_model::{DesiredState, TaskState};
use std::sync::Arc;
use std::time::Duration;

mod plans;

fn first(desired: &DesiredState) -> (Datapath, ApplyReport) {
    let sizing = Sizing {
        backends: 16_384,
        endpoints: 16_384,
        services: 2048,
        ..Sizing::default()
    };
    let mut datapath = Datapath::load_unattached(sizing).unwrap();
    let report = datapath.apply(desired, &plans::facts(desired)).unwrap();
    (datapath, report)
}

#[test]
fn a_thousand_services_are_applied_within_a_second_and_one_change_within_five_milliseconds() {
    let mut desired = plans::many(1000, 10);
    let facts = plans::facts(&desired);
    // The machine may be busy with other things: the best of a few counts.
    let mut attempts = (0..3).map(|_| first(&desired));
    let (mut datapath, report) = attempts
        .find(|(_, report)| report.duration < Duration::from_secs(1))
        .expect("three first plans took a second");
    assert!(report.written > 20_000, "{report:?}");
    assert!(datapath.apply(&desired, &facts).unwrap().is_unchanged());

    let mut times = Vec::new();
    for service in 0..40 {
        let mut tasks = plans::ready(10);
        tasks[3].1 = TaskState::Draining;
        let plan = plans::service(service, &tasks, service % 10 == 0);
        desired
            .services
            .insert(plans::service_name(service), Arc::new(plan));
        let report = datapath.apply(&desired, &facts).unwrap();
        assert!((2..=6).contains(&(report.written + report.lists)), "{report:?}");
        times.push(report.duration);
    }
    times.sort_unstable();
    println!("first {report:?}, one change {:?}", times[times.len() / 2]);
    assert!(times[times.len() / 2] < Duration::from_millis(5), "{times:?}");
}
