//! Row 52: what a container is made of, and what is refused of it; and the commands that need a Docker Engine.

use crate::stage::*;

#[test]
fn what_a_service_asks_of_its_containers_is_so_or_refused() {
    let docker = formed(1);
    let shared = tempfile::tempdir().unwrap();
    std::fs::write(shared.path().join("file"), "shared\n").unwrap();
    docker.ok(
        "n1",
        &format!(
            "docker service create --detach --name box --sysctl net.ipv4.ip_local_port_range='2000 3000' \
             --cap-add NET_ADMIN --cap-drop CHOWN --ulimit nofile=512:1024 --hostname boxed --user 1234:1235 --group 1236 \
             --workdir /tmp --env A=b --init --read-only --mount type=bind,source={},target=/shared,readonly \
             --mount type=tmpfs,target=/scratch,tmpfs-size=1048576,tmpfs-mode=1777 --log-driver json-file \
             --log-opt max-size=1m --log-opt max-file=2 --entrypoint sh host -c \
             'cat /proc/sys/net/ipv4/ip_local_port_range; ulimit -n; ulimit -Hn; hostname; id -u; id -g; id -G; pwd; \
              echo $A; cat /shared/file; touch /shared/x 2>/dev/null || echo closed; touch /scratch/x && echo open; \
              df -k /scratch | tail -n 1 | tr -s \" \" | cut -d \" \" -f 2; cat /proc/self/status | grep CapBnd; \
              touch /usr/x 2>/dev/null || echo readonly; cat /proc/1/comm; sleep 1000'",
            shared.path().display()
        ),
    );
    docker.runs("box", 1);
    let said = docker.logs("box", |found| found.lines().count() == 16);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["2000", "3000"]);
    assert_eq!(
        lines[1..13],
        [
            "512",
            "1024",
            "boxed",
            "1234",
            "1235",
            "1235 1236",
            "/tmp",
            "b",
            "shared",
            "closed",
            "open",
            "1024"
        ]
    );
    let bounding = u64::from_str_radix(lines[13].split_whitespace().nth(1).unwrap(), 16).unwrap();
    assert_eq!(
        (bounding >> 12 & 1, bounding & 1),
        (1, 0),
        "NET_ADMIN and not CHOWN: {said}"
    );
    assert_eq!(lines[14], "readonly");
    assert_ne!(lines[15], "sh", "an init reaps: {said}");

    // A task tells why it cannot be run as it is asked.
    for (name, options, field) in [
        (
            "volume",
            "--mount type=volume,source=v,target=/v",
            "ContainerSpec.Mounts[/v]: this node has no mounts of type",
        ),
        (
            "terminal",
            "--tty",
            "ContainerSpec.TTY: tasks of this node have no terminals",
        ),
        (
            "elsewhere",
            "--log-driver syslog",
            "LogDriver: this node has no log driver \"syslog\"",
        ),
        (
            "kernel",
            "--sysctl kernel.msgmax=1",
            "sysctl kernel.msgmax: only settings of the network namespace",
        ),
        ("signal", "--stop-signal SIGNONE", "ContainerSpec.StopSignal"),
    ] {
        docker.ok(
            "n1",
            &format!("docker service create --detach --name {name} --restart-condition none {options} host sleep 1000"),
        );
        docker.wait(
            "n1",
            &format!("docker service ps {name} --no-trunc --format '{{{{.CurrentState}}}} {{{{.Error}}}}'"),
            |found| found.starts_with("Rejected ") && found.contains(field),
        );
    }
    docker.ok(
        "n1",
        "docker service create --detach --name pulled --restart-condition none nginx:alpine",
    );
    docker.wait(
        "n1",
        "docker service ps pulled --no-trunc --format '{{.CurrentState}} {{.Error}}'",
        |found| found.starts_with("Rejected ") && found.contains("no Docker Engine answers at "),
    );
    docker.refused(
        "n1",
        "docker service create --hostname '{{.Nothing}}' host true",
        "unknown placeholder \".Nothing\"",
    );

    // What needs a Docker Engine.
    let none = "this node has no Docker Engine at ";
    for line in [
        "run host true",
        "create host true",
        "pull busybox",
        "volume create v",
        "plugin ls",
        "plugin install vieux/sshfs",
        "ps",
        "images",
        "system df",
    ] {
        docker.refused("n1", &format!("docker {line}"), none);
    }
    // The CLI looks for the container first, and says by itself that there is none.
    docker.refused("n1", "docker exec box true", "No such container: box");
    let version = docker.ok("n1", "docker version");
    assert!(version.contains("Server: Essaim"), "{version}");
}
