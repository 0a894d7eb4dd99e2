//! What is the node's own Docker Engine's, typed at Essaim's socket: containers, images, volumes, networks of the node;
//! and what both have a say in.

use crate::stage::*;
use essaim_lab::Running;

/// A cluster of two nodes, in which the first has an engine.
fn stage() -> (Docker, essaim_lab::Engine) {
    let lab = essaim_lab::ClusterBuilder::new()
        .nodes(2)
        .clients(0)
        .build()
        .unwrap();
    lab.spawn_nodes().unwrap();
    lab.form(1).unwrap();
    let engine = lab.spawn_engine("n1").unwrap();
    (with_cli(lab), engine)
}

/// Types a line that goes on; what it prints is read from it.
fn begin(docker: &Docker, node: &str, line: &str) -> Running {
    let host = format!("DOCKER_HOST=unix://{}", docker.api_socket(node).display());
    let config = format!("DOCKER_CONFIG={}/docker", docker.state_dir(node).display());
    let line = line.replacen("docker", docker.program(), 1);
    docker
        .start(
            node,
            &["env", &host, &config, "sh", "-c", &format!("exec {line}")],
        )
        .unwrap()
}

#[track_caller]
fn ends_with(docker: &Docker, line: &str, code: i32) {
    let ran = docker.shell("n1", line);
    assert_eq!(
        ran.status.code(),
        Some(code),
        "{line}: {} {}",
        ran.stdout,
        ran.stderr
    );
}

#[test]
fn containers_are_run_by_the_nodes_engine() {
    let (docker, engine) = stage();
    // Once to its end, with its words and its exit code.
    docker.says("n1", "docker run --rm --network none busybox echo hello", "hello");
    ends_with(
        &docker,
        "docker run --rm --network none busybox sh -c 'exit 7'",
        7,
    );
    docker.says(
        "n1",
        "echo piped | docker run --rm -i --network none busybox cat",
        "piped",
    );
    // 4 MiB is the most that is read of a body here; this is passed on.
    docker.says(
        "n1",
        "head -c 20000000 /dev/zero | docker run --rm -i --network none busybox sh -c 'cat > /tmp/x; ls -l /tmp/x' | grep -o 20000000",
        "20000000",
    );
    let terminal = format!(
        "DOCKER_HOST=unix://{} script -qec '{} run --rm -it --network none busybox sh -c \"test -t 0 && echo a terminal\"' /dev/null",
        docker.api_socket("n1").display(),
        docker.program()
    );
    // What the terminal echoes may stand before it.
    let said = docker.ok("n1", &terminal);
    assert!(said.trim_end().ends_with("a terminal"), "{said:?}");

    // In the background.
    docker.ok(
        "n1",
        "docker run -d --name box --label a=b --network none busybox sh -c 'while true; do echo tick; sleep 0.1; done'",
    );
    docker.says(
        "n1",
        "docker ps --filter label=a=b --format '{{.Names}} {{.Image}}'",
        "box busybox",
    );
    docker.says("n1", "docker ps -q --filter label=a=c", "");
    docker.says("n1", "docker exec box echo within", "within");
    docker.says("n1", "echo piped | docker exec -i box cat", "piped");
    ends_with(&docker, "docker exec box false", 1);
    docker.says("n1", "docker inspect --format '{{.State.Status}}' box", "running");
    let mut streams = [
        begin(&docker, "n1", "docker logs -f box"),
        begin(&docker, "n1", "docker attach --no-stdin --sig-proxy=false box"),
    ];
    for stream in &mut streams {
        for _ in 0..3 {
            assert_eq!(stream.next_line().unwrap(), "tick\n");
        }
    }

    // Files both ways, larger than what is read here.
    let folder = docker.state_dir("n1").display().to_string();
    docker.ok("n1", &format!("head -c 20000000 /dev/urandom > {folder}/there"));
    docker.ok("n1", &format!("docker cp {folder}/there box:/tmp/file"));
    docker.ok("n1", &format!("docker cp box:/tmp/file {folder}/back"));
    docker.ok("n1", &format!("cmp {folder}/there {folder}/back"));

    // Its end ends the streams.
    docker.says("n1", "docker kill box", "box");
    docker.says("n1", "docker wait box", "137");
    let [logs, attached] = streams;
    assert!(logs.finish().unwrap().status.success());
    assert_eq!(attached.finish().unwrap().status.code(), Some(137));
    docker.says("n1", "docker rm box", "box");
    docker.refused("n1", "docker inspect box", "No such object: box");

    // Images and volumes.
    docker.ok(
        "n1",
        &format!("mkdir {folder}/context && echo built > {folder}/context/file"),
    );
    docker.ok(
        "n1",
        &format!("printf 'FROM busybox\\nCOPY file /file\\nRUN cat /file > /copy\\nCMD cat /copy\\n' > {folder}/context/Dockerfile"),
    );
    docker.ok(
        "n1",
        &format!(
            "DOCKER_BUILDKIT=0; export DOCKER_BUILDKIT; docker build --network none -t own:1 {folder}/context"
        ),
    );
    docker.says("n1", "docker run --rm --network none own:1", "built");
    assert_eq!(
        docker.lines("n1", "docker images --format '{{.Repository}}:{{.Tag}}'"),
        ["busybox:latest", "own:1"]
    );
    docker.ok(
        "n1",
        &format!("docker save own:1 -o {folder}/image && docker rmi own:1"),
    );
    docker.says(
        "n1",
        &format!("docker load -q -i {folder}/image"),
        "Loaded image: own:1",
    );
    docker.says("n1", "docker volume create kept", "kept");
    docker.ok(
        "n1",
        "docker run --rm --network none -v kept:/kept busybox sh -c 'echo kept > /kept/file'",
    );
    docker.says(
        "n1",
        "docker run --rm --network none -v kept:/kept busybox cat /kept/file",
        "kept",
    );
    docker.ok("n1", "docker system df");

    // Another node has none, and this one has none any more when it goes.
    let none = "this node has no Docker Engine at ";
    docker.refused("n2", "docker run busybox", none);
    drop(engine);
    docker.refused("n1", "docker ps", none);
    docker.ok("n1", "docker node ls");
}

#[test]
fn what_both_have_a_say_in_is_said_of_both() {
    let (docker, engine) = stage();
    let since = docker.ok("n1", "date +%s");
    docker.sleep("web", "");
    docker.runs("web", 1);
    docker.ok("n1", "docker run --name box --network none busybox true");

    // Events, those that were and those that come.
    let format = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}";
    let mut events = begin(
        &docker,
        "n1",
        &format!("docker events --since {since} --format '{format}'"),
    );
    let mut told = |expected: &[&str]| {
        let mut missing = expected.to_vec();
        while !missing.is_empty() {
            let line = events.next_line().unwrap();
            missing.retain(|event| *event != line.trim_end());
        }
    };
    told(&["service create web", "container create box", "container die box"]);
    docker.ok("n1", "docker run --rm --name bag --network none busybox true");
    told(&["container destroy bag"]);
    docker.sleep("api", "");
    told(&["service create api"]);
    drop(events);

    // Networks.
    docker.ok("n1", "docker network create -d overlay front");
    docker.ok("n1", "docker network create own");
    docker.ok("n1", "docker network create -d bridge --internal flat");
    docker.refused(
        "n1",
        "docker network create front",
        "network with name front already exists",
    );
    let networks = docker.lines(
        "n1",
        "docker network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'",
    );
    assert_eq!(
        networks,
        [
            "flat bridge local",
            "front overlay swarm",
            "host host local",
            "ingress overlay swarm",
            "none null local",
            "own bridge local",
        ]
    );
    docker.says("n1", "docker network ls -q --filter scope=swarm | wc -l", "2");
    docker.says(
        "n1",
        "docker network inspect -f '{{.Driver}}' own front host",
        "bridge\noverlay\nhost",
    );
    docker.says(
        "n1",
        "docker run --rm --network own busybox sh -c 'ip -o link show eth0 | grep -c eth0'",
        "1",
    );
    docker.says("n1", "docker run -d --name at --network own busybox sleep 1000 > /dev/null && docker network disconnect own at", "");
    docker.ok("n1", "docker network connect own at && docker rm -f at");
    docker.says("n1", "docker network rm own front", "own\nfront");
    docker.ok("n1", "docker network prune -f");
    docker.says("n1", "docker network ls -q --filter driver=bridge", "");

    // The node.
    let format = "{{.Name}} {{.Containers}} {{.Driver}} {{.Swarm.LocalNodeState}} {{.Swarm.Nodes}}";
    docker.says(
        "n1",
        &format!("docker info -f '{format}'"),
        "n1 1 overlay2 active 2",
    );
    let info = docker.ok("n1", "docker info");
    assert!(
        info.contains("Storage Driver: overlay2") && info.contains("Is Manager: true"),
        "{info}"
    );
    let version = docker.ok("n1", "docker version");
    for part in ["Server: Essaim", "Docker Engine:", "containerd:", "runc:"] {
        assert!(version.contains(part), "{part}: {version}");
    }
    // Objects of both are found by their names alone.
    docker.says("n1", "docker inspect -f '{{.State.Status}}' box", "exited");
    docker.says("n1", "docker inspect -f '{{.Spec.Name}}' web", "web");
    docker.says(
        "n2",
        "docker info -f '{{.Driver}} {{.Swarm.LocalNodeState}}'",
        "essaim active",
    );
    // The engine itself is in no cluster, whatever is asked here.
    docker.refused("n1", "docker swarm init", "already part of a swarm");
    let state = engine.docker(&["info", "-f", "{{.Swarm.LocalNodeState}}"]);
    assert_eq!(state.unwrap().trim(), "inactive");
}
