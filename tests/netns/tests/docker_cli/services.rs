//! Rows 24 to 26, 36, 39, 40, 42 and 43: services, how many tasks they have and where.

use crate::stage::*;
use essaim_lab::{ClusterBuilder, eventually};
use std::time::Instant;

const TASK_COLUMNS: [&str; 8] = [
    "ID",
    "NAME",
    "IMAGE",
    "NODE",
    "DESIRED STATE",
    "CURRENT STATE",
    "ERROR",
    "PORTS",
];

#[test]
fn services_are_made_scaled_and_placed() {
    let docker = formed(1);
    // Row 24: the CLI waits and tells how far it is.
    let made = docker.ok(
        "n1",
        "docker service create --name web --replicas 3 --label tier=front --update-monitor 1s host sleep 100000",
    );
    let id = docker.ok("n1", "docker service inspect -f '{{.ID}}' web");
    assert!(
        made.starts_with(&id) && made.contains("overall progress: 3 out of 3 tasks"),
        "{made}"
    );
    assert!(
        made.contains("verify: Service converged") || made.contains("converged"),
        "{made}"
    );
    docker.refused(
        "n1",
        "docker service create --name web host sleep 1000",
        "rpc error: code = AlreadyExists desc = name conflicts with an existing object",
    );
    let rows = docker.table("n1", "docker service ps web", &TASK_COLUMNS);
    let mut names: Vec<_> = rows.iter().map(|row| row[1].clone()).collect();
    names.sort();
    assert_eq!(names, ["web.1", "web.2", "web.3"]);
    let mut nodes: Vec<_> = rows.iter().map(|row| row[3].clone()).collect();
    nodes.sort();
    assert_eq!(nodes, ["n1", "n2", "n3"], "they are spread");
    assert!(
        rows.iter()
            .all(|row| row[4] == "Running" && row[5].starts_with("Running ")),
        "{rows:?}"
    );
    let pretty = docker.ok("n1", "docker service inspect --pretty web");
    for expected in [
        "Name:\t\tweb",
        "Service Mode:\tReplicated",
        " Replicas:\t3",
        " tier=front",
        "Endpoint Mode:\tvip",
    ] {
        assert!(pretty.contains(expected), "{expected}: {pretty}");
    }
    docker.says(
        "n1",
        "docker service ls -q --filter label=tier=front --filter mode=replicated",
        &id[..12],
    );
    docker.says(
        "n1",
        &format!("docker inspect -f '{{{{.Spec.Name}}}}' {id}"),
        "web",
    );

    docker.ok(
        "n1",
        "docker service create --detach --name agent --mode global host sleep 100000",
    );
    docker.runs("agent", 3);
    docker.says(
        "n1",
        "docker service ls --filter name=agent --format '{{.Mode}} {{.Replicas}}'",
        "global 3/3",
    );
    docker.ok("n1", "docker node update --availability drain n3");
    docker.wait_says(
        "n1",
        "docker service ls --filter name=agent --format '{{.Replicas}}'",
        "2/2",
    );
    docker.ok("n1", "docker node update --availability active n3");
    docker.wait_says(
        "n1",
        "docker service ls --filter name=agent --format '{{.Replicas}}'",
        "3/3",
    );

    // Row 36.
    let scaled = docker.ok(
        "n1",
        "docker service scale web=5 agent=2 2>&1; docker service scale --detach web=4",
    );
    assert!(scaled.contains("web scaled to 5"), "{scaled}");
    assert!(
        scaled.contains("agent: scale can only be used with replicated or replicated-job mode"),
        "{scaled}"
    );
    docker.runs("web", 4);
    docker.says("n1", "docker service rm web agent", "web\nagent");
    docker.refused("n1", "docker service rm web", "web");
    docker.refused("n1", "docker service ps web", "no such service: web");

    // Row 25.
    let job = docker.ok(
        "n1",
        "docker service create --name job --mode replicated-job --replicas 5 --max-concurrent 2 host true",
    );
    assert!(job.contains("job complete"), "{job}");
    docker.says(
        "n1",
        "docker service ls --filter name=job --format '{{.Mode}} {{.Replicas}}'",
        "replicated job 0/2 (5/5 completed)",
    );
    let states = "docker service ps job --format '{{.CurrentState}}'";
    assert!(
        docker
            .ok("n1", states)
            .lines()
            .all(|state| state.starts_with("Complete "))
    );
    docker.ok("n1", "docker service update --detach --force job");
    docker.wait(
        "n1",
        "docker service inspect -f '{{.JobStatus.JobIteration.Index}}' job",
        |found| found != "0",
    );
    docker.wait_says(
        "n1",
        "docker service ls --filter name=job --format '{{.Replicas}}'",
        "0/2 (5/5 completed)",
    );
    docker.ok(
        "n1",
        "docker service create --detach --name everywhere --mode global-job host true",
    );
    docker.wait_says(
        "n1",
        "docker service ls --filter name=everywhere --format '{{.Mode}} {{.Replicas}}'",
        "global job 0/0 (3/3 completed)",
    );
    docker.refused(
        "n1",
        "docker service create --mode replicated-job --update-delay 1s host true",
        "",
    );

    // Row 42.
    docker.ok("n1", "docker node update --label-add zone=a n1");
    docker.ok("n1", "docker node update --label-add zone=b n2");
    docker.ok("n1", "docker node update --label-add zone=b n3");
    docker.sleep("spread", "--replicas 4 --placement-pref spread=node.labels.zone");
    let spread = docker.runs("spread", 4);
    let on_n1 = nodes_of(&spread).iter().filter(|node| **node == "n1").count();
    assert_eq!(on_n1, 2, "{spread:?}");
    docker.sleep(
        "only",
        "--replicas 2 --constraint node.labels.zone==b --constraint node.hostname!=n2",
    );
    assert_eq!(nodes_of(&docker.runs("only", 2)), ["n3", "n3"]);
    docker.sleep("few", "--replicas 4 --replicas-max-per-node 1");
    docker.wait(
        "n1",
        "docker service ls --filter name=few --format '{{.Replicas}}'",
        |found| found == "3/4 (max 1 per node)",
    );
    let pending = "--no-trunc --format '{{.CurrentState}} {{.Error}}'";
    docker.wait("n1", &format!("docker service ps few {pending}"), |found| {
        found
            .lines()
            .any(|line| line.starts_with("Pending ") && line.contains("max replicas per node"))
    });
    docker.sleep("nowhere", "--constraint node.labels.zone==z");
    docker.wait("n1", &format!("docker service ps nowhere {pending}"), |found| {
        found.starts_with("Pending ")
            && found.contains("no suitable node (scheduling constraints not satisfied on 3 nodes)")
    });
    docker.refused(
        "n1",
        "docker service create --constraint node.size==1 host true",
        "Constraints[0] is \"node.size==1\"",
    );
    docker.refused(
        "n1",
        "docker service create --placement-pref spread=zone host true",
        "Preferences[0].Spread.SpreadDescriptor is \"zone\"",
    );

    // Row 43.
    docker.sleep("big", "--reserve-memory 4000g");
    docker.wait("n1", &format!("docker service ps big {pending}"), |found| {
        found.starts_with("Pending ") && found.contains("insufficient resources on 3 nodes")
    });
    docker.sleep("fast", "--reserve-cpu 4000");
    docker.wait("n1", &format!("docker service ps fast {pending}"), |found| {
        found.starts_with("Pending ") && found.contains("insufficient resources on 3 nodes")
    });
    // Where the limits stand depends on the version of the machine's control groups.
    docker.ok(
        "n1",
        "docker service create --detach --name bounded --reserve-cpu 0.05 --reserve-memory 32m --limit-cpu 0.5 \
         --limit-memory 64m --limit-pids 50 host sh -c 'cd /sys/fs/cgroup; \
         cat memory.max memory/memory.limit_in_bytes 2>/dev/null; cat pids.max pids/pids.max 2>/dev/null; \
         cat cpu.max cpu/cpu.cfs_quota_us 2>/dev/null; sleep 100000'",
    );
    let limits = docker.logs("bounded", |found| found.lines().count() == 3);
    assert!(
        matches!(
            limits.as_str(),
            "67108864\n50\n50000 100000" | "67108864\n50\n50000"
        ),
        "{limits}"
    );
}

#[test]
fn a_nodes_own_resources_are_reserved() {
    let docker = with_cli(ClusterBuilder::new().build().unwrap());
    docker.spawn_node("n1").unwrap();
    docker
        .spawn_node_with("n2", &["--generic-resource", "gpu=2", "--label", "made=new"])
        .unwrap();
    docker
        .spawn_node_with(
            "n3",
            &["--generic-resource", "card=one", "--generic-resource", "card=two"],
        )
        .unwrap();
    docker.form(1);
    // Row 43.
    docker.says(
        "n1",
        "docker node inspect -f '{{json .Description.Resources.GenericResources}}' n2",
        r#"[{"DiscreteResourceSpec":{"Kind":"gpu","Value":2}}]"#,
    );
    docker.ok(
        "n1",
        "docker service create --detach --name seer --replicas 3 --generic-resource gpu=1 --restart-condition none host \
         sh -c 'echo has $DOCKER_RESOURCE_GPU; sleep 100000'",
    );
    docker.wait(
        "n1",
        "docker service ps seer --no-trunc --format '{{.Node}} {{.CurrentState}} {{.Error}}'",
        |found| {
            found
                .lines()
                .filter(|line| line.starts_with("n2 Running "))
                .count()
                == 2
                && found.contains("insufficient resources on 3 nodes")
        },
    );
    docker.logs("seer", |found| found == "has 1\nhas 1");
    docker.ok(
        "n1",
        "docker service create --detach --name player --generic-resource card=1 --restart-condition none host \
         sh -c 'echo has $DOCKER_RESOURCE_CARD; sleep 100000'",
    );
    docker.logs("player", |found| matches!(found, "has one" | "has two"));
    docker.sleep("made", "--constraint engine.labels.made==new");
    assert_eq!(nodes_of(&docker.runs("made", 1)), ["n2"]);
}

#[test]
fn tasks_are_begun_again_checked_and_stopped_as_asked() {
    let docker = formed(1);
    // Row 39.
    for (name, options, program, expected) in [
        ("never", "--restart-condition none", "false", "Failed"),
        ("done", "--restart-condition on-failure", "true", "Complete"),
    ] {
        docker.ok(
            "n1",
            &format!("docker service create --detach --name {name} {options} host {program}"),
        );
        docker.wait(
            "n1",
            &format!("docker service ps {name} --format '{{{{.CurrentState}}}}'"),
            |found| found.lines().count() == 1 && found.starts_with(expected),
        );
    }
    docker.ok(
        "n1",
        "docker service create --detach --name thrice --restart-condition any --restart-delay 50ms \
         --restart-max-attempts 2 --restart-window 1m host false",
    );
    let history =
        "docker service ps thrice --no-trunc --format '{{.DesiredState}} {{.CurrentState}} {{.Error}}'";
    let ended = docker.wait("n1", history, |found| {
        found
            .lines()
            .filter(|line| line.starts_with("Shutdown Failed "))
            .count()
            == 3
    });
    assert!(ended.contains("task: non-zero exit (1)"), "{ended}");

    // Row 40: a task has no traffic before it is healthy; afterwards it is replaced.
    let directory = tempfile::tempdir().unwrap();
    let healthy = directory.path().join("healthy");
    docker.serve(
        "web",
        &format!(
            "--publish 8080:80 --restart-delay 50ms --health-cmd 'test -e {}' --health-interval 100ms \
             --health-timeout 5s --health-retries 2 --health-start-period 100s",
            healthy.display()
        ),
    );
    docker.wait(
        "n1",
        "docker service ps web --format '{{.CurrentState}}'",
        |found| found.starts_with("Starting "),
    );
    assert!(docker.fetch("n2", 8080).is_err());
    std::fs::write(&healthy, "").unwrap();
    let begun = Instant::now();
    docker.answers("n2", 8080);
    println!("a healthy task is sent requests after {:.1?}", begun.elapsed());
    let first = docker.runs("web", 1);
    std::fs::remove_file(&healthy).unwrap();
    eventually(SOON, "no request goes to what is not healthy", || {
        anyhow::ensure!(docker.fetch("n2", 8080).is_err(), "it answers");
        Ok(())
    })
    .unwrap();
    docker.wait(
        "n1",
        "docker service ps web --no-trunc --filter desired-state=shutdown --format '{{.Error}}'",
        |found| found.contains("unhealthy"),
    );
    std::fs::write(&healthy, "").unwrap();
    docker.answers("n2", 8080);
    assert_ne!(docker.runs("web", 1), first);
    docker.refused(
        "n1",
        "docker service create --health-interval 1us host true",
        "Healthcheck.Interval is 1000 ns",
    );

    // Row 41.
    let said = directory.path().join("said");
    let script = format!(
        "trap \"echo usr1 > {}; exit 0\" USR1; while :; do sleep 0.05; done",
        said.display()
    );
    docker.ok(
        "n1",
        &format!("docker service create --detach --name told --stop-signal SIGUSR1 host sh -c '{script}'"),
    );
    docker.ok(
        "n1",
        "docker service create --detach --name deaf --stop-grace-period 2s host \
         sh -c 'trap \"\" TERM; while :; do sleep 0.05; done'",
    );
    for name in ["told", "deaf"] {
        docker.runs(name, 1);
    }
    let deaf = docker.runs("deaf", 1).remove(0);
    docker.ok("n1", "docker service rm told deaf");
    let begun = Instant::now();
    eventually(SOON, "the signal arrives", || {
        anyhow::ensure!(std::fs::read_to_string(&said)? == "usr1\n");
        Ok(())
    })
    .unwrap();
    eventually(SOON, "the deaf one is gone", || {
        let pids = essaim_lab::run_here(&["ip", "netns", "list"])?;
        anyhow::ensure!(!pids.contains(&deaf.id), "it is there");
        Ok(())
    })
    .unwrap();
    assert!(begun.elapsed().as_secs_f64() > 1.5, "{:?}", begun.elapsed());
}
