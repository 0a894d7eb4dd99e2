//! Commands end with their probe, and all that they started with them.

use crate::namespaces::Netns;
use crate::{eventually, only, pace, probe_once, watched};
use essaim_health::{FailureCause, HealthService, OUTPUT_KEPT, Pace, Probe, ProbeResult};
use std::path::Path;
use std::time::{Duration, Instant};

async fn shell(netns: &Netns, line: &str) -> ProbeResult {
    probe_once(Probe::shell(line).unwrap(), pace(), netns.place()).await
}

#[tokio::test]
async fn the_exit_status_decides_and_the_output_is_kept() {
    let netns = Netns::new();
    let passed = shell(&netns, "echo fine; echo too >&2").await.unwrap();
    assert_eq!(passed.to_string(), "fine\ntoo\n");
    let failure = shell(&netns, "echo no database; exit 3").await.unwrap_err();
    assert_eq!(failure.to_string(), "exit status 3: no database");
    let failure = shell(&netns, "kill -TERM $$").await.unwrap_err();
    assert_eq!(
        failure.cause,
        FailureCause::Signal {
            signal: libc::SIGTERM
        }
    );
}

#[tokio::test]
async fn a_command_runs_in_the_tasks_network_namespace() {
    let netns = Netns::new();
    let found = shell(&netns, "readlink /proc/self/ns/net")
        .await
        .unwrap()
        .to_string();
    let expected = netns.inside(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap());
    assert_eq!(Path::new(found.trim()), expected);
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(expected, own);
}

#[tokio::test]
async fn a_command_that_is_missing_fails_the_probe() {
    let netns = Netns::new();
    let probe = Probe::command(&["essaim-no-such-command".to_owned()]).unwrap();
    let failure = probe_once(probe, pace(), netns.place()).await.unwrap_err();
    assert!(matches!(failure.cause, FailureCause::NotRun { .. }), "{failure}");
    assert!(
        failure.to_string().contains("essaim-no-such-command"),
        "{failure}"
    );
}

#[tokio::test]
async fn the_timeout_kills_the_whole_group() {
    let netns = Netns::new();
    let impatient = Pace {
        timeout: Duration::from_secs(1),
        ..pace()
    };
    let line = "echo before; sleep 1000 & (sleep 1000; true) & sh -c 'trap \"\" TERM; sleep 1000; true'";
    let probe = Probe::shell(line).unwrap();
    let service = HealthService::start();
    service.set_tasks(only(watched(probe.clone(), impatient, netns.place())));
    eventually("the group is complete", || {
        (netns.pids().len() >= 5).then_some(())
    })
    .await;
    service.stop().await;
    eventually("the group has ended", || netns.pids().is_empty().then_some(())).await;
    let failure = probe_once(probe, impatient, netns.place()).await.unwrap_err();
    let after = impatient.timeout;
    assert_eq!(failure.cause, FailureCause::TimedOut { after });
    assert_eq!(
        failure.output.to_string(),
        "before\n",
        "what was said so far is kept"
    );
    eventually("the group has ended", || netns.pids().is_empty().then_some(())).await;
}

#[tokio::test]
async fn what_a_command_leaves_behind_ends_with_it() {
    let netns = Netns::new();
    let start = Instant::now();
    assert!(shell(&netns, "sleep 1000 & echo done").await.is_ok());
    assert!(start.elapsed() < Duration::from_secs(5), "it waited for the rest");
    eventually("nothing is left", || netns.pids().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_flood_of_output_is_cut_and_does_not_hold_the_command_up() {
    let netns = Netns::new();
    let output = shell(&netns, "head -c 10000000 /dev/zero | tr '\\0' x")
        .await
        .unwrap();
    assert!(output.is_cut());
    assert_eq!(output.to_string().len(), OUTPUT_KEPT + "...".len());
}

#[tokio::test]
async fn the_probe_of_a_task_that_is_no_longer_watched_is_ended_and_reaped() {
    let netns = Netns::new();
    for drop_service in [false, true] {
        let service = HealthService::start();
        service.set_tasks(only(watched(
            Probe::shell("sleep 1000; true").unwrap(),
            pace(),
            netns.place(),
        )));
        let pids = eventually("the probe runs", || {
            let pids = netns.pids();
            (pids.len() == 2).then_some(pids)
        })
        .await;
        if drop_service {
            drop(service);
        } else {
            service.set_tasks([].into());
        }
        eventually("its processes are gone from /proc", || {
            let gone = |pid: &u32| !Path::new("/proc").join(pid.to_string()).exists();
            pids.iter().all(gone).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_runtime_that_goes_takes_the_probes_with_it() {
    let netns = Netns::new();
    let place = netns.place();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let service = HealthService::start();
            service.set_tasks(only(watched(
                Probe::shell("sleep 1000; true").unwrap(),
                pace(),
                place,
            )));
            ended.await.unwrap();
        });
    });
    eventually("the probe runs", || (netns.pids().len() == 2).then_some(())).await;
    end.send(()).unwrap();
    thread.join().unwrap();
    eventually("its processes have ended", || {
        netns.pids().is_empty().then_some(())
    })
    .await;
}
