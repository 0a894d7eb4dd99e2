//! Rows 44, 45 and 47: secrets, configs, logs and events.

use crate::stage::*;

#[test]
fn secrets_and_configs_are_read_by_the_tasks_that_have_them() {
    let docker = formed(1);
    // Row 44.
    let id = docker.ok(
        "n1",
        "printf swordfish-7351 | docker secret create --label kind=word word -",
    );
    docker.refused(
        "n1",
        "printf x | docker secret create word -",
        "rpc error: code = AlreadyExists desc = secret word already exists",
    );
    docker.refused(
        "n1",
        "printf '' | docker secret create empty -",
        "Data is 0 bytes",
    );
    docker.refused(
        "n1",
        "docker secret create --driver vault other",
        "Driver.Name is \"vault\", expected none",
    );
    let rows = docker.table(
        "n1",
        "docker secret ls",
        &["ID", "NAME", "DRIVER", "CREATED", "UPDATED"],
    );
    assert_eq!([&*rows[0][0], &*rows[0][1]], [&*id, "word"]);
    docker.says("n1", "docker secret ls -q --filter label=kind=word", &id);
    docker.says(
        "n1",
        "docker secret inspect -f '{{.Spec.Name}} {{json .Spec.Data}}' word",
        "word null",
    );
    // Row 45.
    docker.ok("n1", "printf plain | docker config create setting -");
    docker.ok(
        "n1",
        "printf '{{.Service.Name}} on {{.Node.Hostname}} is {{env \"COLOUR\"}}' \
         | docker config create --template-driver golang filled -",
    );
    docker.refused(
        "n1",
        "printf '{{secret \"word\"}}' | docker config create --template-driver golang other -",
        "Data is unknown placeholder",
    );
    let rows = docker.table("n1", "docker config ls", &["ID", "NAME", "CREATED", "UPDATED"]);
    assert_eq!(rows.len(), 2, "{rows:?}");
    docker.says(
        "n1",
        "docker config inspect -f '{{json .Spec.Data}}' setting",
        "\"cGxhaW4=\"",
    );
    assert!(
        docker
            .ok("n1", "docker config inspect --pretty setting")
            .ends_with("plain")
    );
    docker.ok(
        "n1",
        "docker service create --detach --name reader --constraint node.hostname==n2 \
         --secret source=word,target=key,uid=7,gid=8,mode=0400 --secret word \
         --config source=setting,target=/setting,mode=0440 --config source=filled,target=/filled \
         --env COLOUR=blue --env 'WHO={{.Service.Name}}.{{.Task.Slot}}' host \
         sh -c 'cat /run/secrets/key /run/secrets/word /setting /filled; echo; \
         stat -c %a:%u:%g /run/secrets/key /run/secrets/word /setting; stat -f -c %T /run/secrets; echo $WHO; sleep 1000'",
    );
    docker.logs("reader", |found| found.ends_with("reader.1"));
    let read = docker.logs("reader", |found| found.lines().count() == 6);
    let lines: Vec<&str> = read.lines().collect();
    assert_eq!(lines[0], "swordfish-7351swordfish-7351plainreader on n2 is blue");
    assert_eq!(lines[1..], ["400:7:8", "444:0:0", "440:0:0", "tmpfs", "reader.1"]);
    docker.refused(
        "n1",
        "docker secret rm word",
        "secret 'word' is in use by the following service: reader",
    );
    docker.refused(
        "n1",
        "docker config rm setting",
        "config 'setting' is in use by the following service: reader",
    );
    docker.refused(
        "n1",
        "docker service create --secret nothing host true",
        "secret not found: nothing",
    );
    docker.ok(
        "n1",
        "docker service update --detach --secret-rm word --config-rm setting --config-rm filled reader",
    );
    docker.ok("n1", "docker service rm reader");
    docker.wait("n1", "docker secret rm word", |found| found == "word");
    docker.says("n1", "docker config rm setting filled", "setting\nfilled");
    docker.refused("n1", "docker secret rm word", "word");
}

#[test]
fn logs_and_events_tell_what_happens_on_all_nodes() {
    let docker = formed(1);
    // Row 47.
    docker.ok(
        "n1",
        "docker service create --detach --name talker --mode global --hostname '{{.Node.Hostname}}' host \
         sh -c 'echo out of $(hostname); echo err of $(hostname) >&2; sleep 1000'",
    );
    docker.runs("talker", 3);
    let said = docker.wait("n1", "docker service logs talker 2>&1", |found| {
        found.lines().count() == 6
    });
    for node in ["n1", "n2", "n3"] {
        for stream in ["out", "err"] {
            let line = said
                .lines()
                .find(|line| line.ends_with(&format!("| {stream} of {node}")));
            let line = line.unwrap_or_else(|| panic!("{stream} of {node}: {said}"));
            assert!(
                line.starts_with("talker.0.") && line.contains(&format!("@{node} ")),
                "{line}"
            );
        }
    }
    assert_eq!(
        docker
            .ok("n1", "docker service logs --raw talker")
            .lines()
            .count(),
        3
    );
    let task = docker.ok(
        "n1",
        "docker service ps talker --filter node=n2 --filter desired-state=running -q --no-trunc",
    );
    docker.says(
        "n1",
        &format!("docker service logs --raw {task} 2>/dev/null"),
        "out of n2",
    );
    let last = docker.ok("n1", &format!("docker service logs --raw --tail 1 {task} 2>&1"));
    assert!(last == "err of n2" || last == "out of n2", "{last}");
    let with_time = docker.ok(
        "n1",
        &format!("docker service logs --raw --timestamps {task} 2>/dev/null"),
    );
    assert!(
        with_time.starts_with("20") && with_time.ends_with("Z out of n2"),
        "{with_time}"
    );
    docker.says(
        "n1",
        &format!("docker service logs --since 2999-01-01T00:00:00Z {task}"),
        "",
    );
    docker.refused("n1", "docker service logs nobody", "nobody");
    docker.ok(
        "n1",
        "docker service create --detach --name ticker host sh -c 'i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.1; done'",
    );
    docker.runs("ticker", 1);
    let followed = docker.ok("n1", "docker service logs -f --raw ticker | head -n 20");
    let numbers: Vec<String> = (1..=20).map(|number| format!("tick {number}")).collect();
    assert_eq!(followed.lines().collect::<Vec<_>>(), numbers);

    // What was, and what is from now on.
    let past = docker.ok(
        "n1",
        "docker events --since 10m --until 0s --filter type=service --format '{{.Type}} {{.Action}} {{.Actor.Attributes.name}}'",
    );
    assert!(
        past.contains("service create talker") && past.contains("service create ticker"),
        "{past}"
    );
    let socket = format!("unix://{}", docker.api_socket("n1").display());
    let format = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}";
    let line = [
        docker.program(),
        "-H",
        &socket,
        "events",
        "--since",
        "0s",
        "--filter",
        "scope=swarm",
        "--format",
        format,
    ];
    let mut events = docker.start("n1", &line).unwrap();
    let mut seen = Vec::new();
    docker.ok("n1", "docker service update --detach --label-add a=b ticker");
    docker.ok(
        "n1",
        "printf x | docker secret create shown -; docker secret rm shown",
    );
    docker.ok("n1", "docker node update --availability drain n3");
    docker.ok("n1", "docker service rm ticker");
    for expected in [
        "service update ticker",
        "secret create shown",
        "secret remove shown",
        "node update n3",
        "service remove ticker",
    ] {
        while seen.last().is_none_or(|line: &String| line.trim() != expected) {
            seen.push(
                events
                    .next_line()
                    .unwrap_or_else(|_| panic!("{expected}: {seen:?}")),
            );
        }
    }
    drop(events);
}
