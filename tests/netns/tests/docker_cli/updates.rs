//! Rows 37 and 38: what rolls, and what rolls back.

use crate::stage::*;
use essaim_lab::eventually;
use essaim_lab::peer::LoadReport;

const STATE: &str = "docker service inspect -f '{{.UpdateStatus.State}}' web";

#[test]
fn updates_roll_without_a_failed_request_and_back() {
    let docker = formed(1);
    docker.serve(
        "web",
        "--replicas 4 --publish 8080:80 --env VERSION=1 --update-parallelism 2 --update-delay 100ms \
         --update-order start-first --update-monitor 1s --update-failure-action rollback \
         --update-max-failure-ratio 0 --rollback-parallelism 2 --rollback-monitor 1s --rollback-order start-first \
         --rollback-failure-action continue --rollback-delay 0s --rollback-max-failure-ratio 0.5 \
         --health-cmd \"curl -gsf --noproxy '*' -o /dev/null http://127.0.0.1/\" --health-interval 200ms",
    );
    let first = docker.runs("web", 4);
    docker.says(
        "n1",
        "docker service inspect -f '{{with .Spec.UpdateConfig}}{{.Parallelism}} {{.Delay}} {{.Order}} {{.FailureAction}}{{end}} \
         {{with .Spec.RollbackConfig}}{{.Parallelism}} {{.Order}} {{.FailureAction}} {{.MaxFailureRatio}}{{end}}' web",
        "2 100ms start-first rollback 2 start-first continue 0.5",
    );
    docker.answers("n2", 8080);
    let target = format!("http://{}:8080/", docker.ip("n2"));
    let load = docker.start_load("c1", &target, 4, 2, 110).unwrap();
    // Row 37: the CLI follows it to its end.
    let updated = docker.ok(
        "n1",
        "docker service update --env-add VERSION=2 --label-add v=2 web",
    );
    assert!(
        updated.starts_with("web\n") && updated.contains("overall progress: 4 out of 4 tasks"),
        "{updated}"
    );
    docker.says("n1", STATE, "completed");
    let second = docker.runs("web", 4);
    assert!(second.iter().all(|task| !first.contains(task)), "{second:?}");
    // A change of nothing replaces nothing.
    docker.ok("n1", "docker service update --detach --env-add VERSION=2 web");
    assert_eq!(docker.runs("web", 4), second);

    // Row 38: what fails comes back by itself, and the CLI says so.
    let failed = docker.shell("n1", "docker service update --args nonsense web");
    assert!(
        failed.stdout.contains("rollback: ") || failed.stdout.contains("rolled back"),
        "{failed:?}"
    );
    docker.wait_says("n1", STATE, "rollback_completed");
    docker.runs("web", 4);
    let env = "docker service inspect -f '{{.Spec.TaskTemplate.ContainerSpec.Env}}' web";
    docker.says("n1", env, "[VERSION=2]");
    docker.ok("n1", "docker service update --detach --env-add VERSION=3 web");
    docker.wait_says("n1", STATE, "completed");
    docker.ok("n1", "docker service rollback --detach web");
    docker.says("n1", env, "[VERSION=2]");
    docker.wait_says("n1", STATE, "rollback_completed");
    let report: LoadReport = load.stop().unwrap().json().unwrap();
    println!("{} requests meanwhile, {} failed", report.ok, report.failed);
    assert!(report.ok > 100, "{report:?}");
    assert_eq!(report.failed, 0, "{:?}", report.failures);

    // It stops where it is told to, and goes on when it is told to.
    docker.ok(
        "n1",
        "docker service update --detach --update-failure-action pause --args nonsense web",
    );
    docker.wait_says("n1", STATE, "paused");
    docker.ok("n1", "docker service rollback --detach web");
    docker.wait_says("n1", STATE, "rollback_completed");
    docker.runs("web", 4);
    docker.refused("n1", "docker service rollback nobody", "nobody");
    docker.refused(
        "n1",
        "docker service update --update-order sideways web",
        "sideways",
    );
    docker.refused(
        "n1",
        "docker service update --rollback-failure-action rollback web",
        "RollbackConfig.FailureAction is rollback, expected pause or continue",
    );

    // Each change of a spec that an update can make.
    docker.ok(
        "n1",
        "docker service update --detach --force --replicas 1 --env-rm VERSION --container-label-add a=b \
         --constraint-add node.hostname==n3 --limit-memory 256m --reserve-memory 16m --stop-grace-period 3s \
         --restart-condition any --restart-delay 100ms --no-healthcheck --host-add db:10.1.1.1 --dns-add 192.0.2.9 \
         --hostname changed --user 0 --workdir /tmp --mount-add type=tmpfs,target=/scratch web",
    );
    eventually(SOON, "the one task is on n3", || {
        let tasks = docker.running("n1", "web")?;
        anyhow::ensure!(
            nodes_of(&tasks) == ["n3"] && !second.contains(&tasks[0]),
            "{tasks:?}"
        );
        Ok(())
    })
    .unwrap();
    // The one before it may still be answering.
    eventually(SOON, "the changed one answers", || {
        let page = docker.fetch("n1", 8080)?;
        anyhow::ensure!(page.contains("Name: changed"), "{page}");
        Ok(())
    })
    .unwrap();
}
