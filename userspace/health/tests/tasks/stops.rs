//! Stops of real processes: drained, asked, killed; those of other namespaces untouched.

use crate::namespaces::Netns;
use crate::{DEADLINE, eventually};
use essaim_health::{StopPhase, StopReport, StopSettings, StopSignal, stop_task};
use essaim_model::NodeName;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

type Pending = Option<BTreeSet<NodeName>>;

const QUICK: StopSettings = StopSettings {
    drain_deadline: Duration::from_millis(200),
    signal: StopSignal::TERM,
    grace: Duration::from_millis(200),
};

/// Longer than any test waits.
const NEVER: Duration = Duration::from_mins(10);

fn nodes(names: &[&str]) -> BTreeSet<NodeName> {
    names.iter().map(|name| NodeName::new(name).unwrap()).collect()
}

async fn stop(netns: &Netns, settings: StopSettings, pending: Pending) -> (StopReport, Vec<StopPhase>) {
    let (_sender, pending) = watch::channel(pending);
    let mut phases = Vec::new();
    let processes = netns.processes();
    let stopped = stop_task(&processes, settings, pending, |phase| phases.push(phase));
    let report = timeout(DEADLINE, stopped)
        .await
        .expect("the stop does not end")
        .unwrap();
    assert!(netns.pids().is_empty());
    (report, phases)
}

/// Waits until a namespace has as many processes, all of them past what sets them up.
async fn running(netns: &Netns, count: usize) {
    let name = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    eventually("the task runs", || {
        let pids = netns.pids();
        let sleeps = pids.iter().filter(|pid| name(pid) == "sleep\n").count();
        (pids.len() == count && sleeps > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_task_that_obeys_is_asked_once_and_not_killed() {
    let netns = Netns::new();
    let _task = netns.shell("exec sleep 1000");
    running(&netns, 1).await;
    let settings = StopSettings {
        grace: NEVER,
        ..QUICK
    };
    let (report, phases) = stop(&netns, settings, Some(nodes(&[]))).await;
    assert_eq!(report.reached, StopPhase::Signalled);
    assert_eq!(report.undrained, Some(nodes(&[])));
    assert_eq!(
        phases,
        [StopPhase::Draining, StopPhase::Signalled, StopPhase::Gone]
    );
}

#[tokio::test]
async fn a_task_that_ignores_the_signal_is_killed_with_all_its_processes() {
    let netns = Netns::new();
    // One of them has left session and group.
    let _task = netns.shell("trap '' TERM; setsid sleep 1000 & sleep 1000 & wait");
    running(&netns, 3).await;
    let (report, phases) = stop(&netns, QUICK, Some(nodes(&[]))).await;
    assert_eq!(report.reached, StopPhase::Killed);
    assert!(report.took >= QUICK.grace, "{:?}", report.took);
    let expected = [
        StopPhase::Draining,
        StopPhase::Signalled,
        StopPhase::Killed,
        StopPhase::Gone,
    ];
    assert_eq!(phases, expected);
}

#[tokio::test]
async fn the_signal_is_the_one_that_was_asked_for() {
    let netns = Netns::new();
    let _task = netns.shell("trap '' TERM; trap 'exit 0' USR1; while true; do sleep 0.05; done");
    running(&netns, 2).await;
    let settings = StopSettings {
        signal: "SIGUSR1".parse().unwrap(),
        grace: NEVER,
        ..QUICK
    };
    let (report, _) = stop(&netns, settings, Some(nodes(&[]))).await;
    assert_eq!(report.reached, StopPhase::Signalled);
}

#[tokio::test]
async fn a_real_time_signal_can_be_sent() {
    let netns = Netns::new();
    let _task = netns.shell("exec sleep 1000");
    running(&netns, 1).await;
    let settings = StopSettings {
        signal: "RTMIN+3".parse().unwrap(),
        grace: NEVER,
        ..QUICK
    };
    let (report, _) = stop(&netns, settings, Some(nodes(&[]))).await;
    assert_eq!(report.reached, StopPhase::Signalled);
}

#[tokio::test]
async fn the_task_runs_on_until_the_last_node_has_applied_the_drain() {
    let netns = Netns::new();
    let _task = netns.shell("exec sleep 1000");
    running(&netns, 1).await;
    let settings = StopSettings {
        drain_deadline: NEVER,
        grace: NEVER,
        ..QUICK
    };
    let (sender, pending) = watch::channel(None);
    let processes = netns.processes();
    let mut stopped = Box::pin(stop_task(&processes, settings, pending, |_| {}));
    for waiting in [None, Some(nodes(&["n1", "n2"])), Some(nodes(&["n2"]))] {
        sender.send_replace(waiting);
        let early = timeout(Duration::from_millis(100), &mut stopped).await;
        assert!(early.is_err(), "{early:?}");
        assert_eq!(netns.pids().len(), 1);
    }
    sender.send_replace(Some(nodes(&[])));
    let report = timeout(DEADLINE, stopped).await.unwrap().unwrap();
    assert_eq!(report.reached, StopPhase::Signalled);
}

#[tokio::test]
async fn a_node_that_does_not_answer_holds_a_stop_up_no_longer_than_the_deadline() {
    let netns = Netns::new();
    let _task = netns.shell("exec sleep 1000");
    running(&netns, 1).await;
    let (report, _) = stop(&netns, QUICK, Some(nodes(&["n2"]))).await;
    assert_eq!(report.undrained, Some(nodes(&["n2"])));
    assert!(report.took >= QUICK.drain_deadline, "{:?}", report.took);
}

#[tokio::test]
async fn a_task_that_ends_while_it_drains_is_gone_at_once() {
    let netns = Netns::new();
    let mut task = netns.shell("exec sleep 1000");
    running(&netns, 1).await;
    let settings = StopSettings {
        drain_deadline: NEVER,
        ..QUICK
    };
    let (_sender, pending) = watch::channel(Some(nodes(&["n2"])));
    let processes = netns.processes();
    let mut phases = Vec::new();
    let stopped = stop_task(&processes, settings, pending, |phase| {
        // It ends once the drain has begun; that nobody waited for it yet does not matter.
        if phase == StopPhase::Draining {
            task.0.kill().unwrap();
        }
        phases.push(phase);
    });
    let report = timeout(DEADLINE, stopped).await.unwrap().unwrap();
    assert_eq!(report.reached, StopPhase::Draining);
    assert_eq!(report.undrained, None);
    assert_eq!(phases, [StopPhase::Draining, StopPhase::Gone]);
}

#[tokio::test]
async fn processes_of_other_namespaces_are_neither_found_nor_signalled() {
    let (netns, other) = (Netns::new(), Netns::new());
    let _task = netns.shell("exec sleep 1000");
    let stranger = other.shell("exec sleep 1000");
    running(&netns, 1).await;
    running(&other, 1).await;
    assert_eq!(other.pids(), [stranger.pid()]);
    stop(&netns, QUICK, Some(nodes(&[]))).await;
    assert_eq!(other.pids(), [stranger.pid()]);
    assert_eq!(netns.processes().signal(StopSignal::TERM).unwrap(), 0);
    assert!(Path::new("/proc").join(stranger.pid().to_string()).exists());
}
