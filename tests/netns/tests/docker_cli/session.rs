//! One session from `swarm init` to `stack rm`, typed at Essaim and at Docker's own engine in swarm mode, side by side: what
//! the CLI prints is the same, columns and messages, once what is of a cluster's own (identities, addresses, times) has names.

use crate::stage::*;
use essaim_lab::{ClusterBuilder, Ran, eventually};
use regex::Regex;
use serde_json::Value;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// A line of the session.
enum Step {
    /// Both print the same.
    Same(&'static str),
    /// Typed until it prints this.
    Until(&'static str, &'static str),
}

use Step::{Same, Until};

/// The image in the lines below: of a registry that refuses at once, so that the engines take their own. Docker's own would be
/// looked for by its name, which lasts ten seconds for each task.
const IMAGE: &str = "127.0.0.1:1/box:1";

/// A stack as people have them.
const STACK: &str = r#"version: "3.8"
services:
  web:
    image: 127.0.0.1:1/box:1
    command: sleep 100000
    stop_grace_period: 1s
    networks: [front]
    configs: [page]
    secrets: [word]
    labels: {colour: red}
    deploy:
      replicas: 2
      labels: {tier: front}
      resources:
        limits: {cpus: "0.5", memory: 64M}
  once:
    image: 127.0.0.1:1/box:1
    command: "true"
    deploy:
      restart_policy: {condition: none}
networks:
  front: {driver: overlay, attachable: true}
configs:
  page: {file: ./page}
secrets:
  word: {file: ./word}
"#;

const SESSION: &[Step] = &[
    Same("docker node ls"),
    Same("docker service ls"),
    Same("docker swarm leave"),
    Same("docker swarm init --advertise-addr {ip}"),
    Same("docker swarm init --advertise-addr {ip}"),
    Same("docker node ls"),
    Same(
        "docker node ls --format '{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}} {{.Self}}'",
    ),
    Same("docker node ps"),
    Same("docker node inspect nope"),
    Same("docker node update --label-add zone=a self"),
    Same("docker node update --label-add zone=a {node}"),
    Same("docker node inspect --format '{{json .Spec}}' self"),
    Same("docker node demote {node}"),
    Same("docker node rm {node}"),
    Same("docker swarm join-token worker"),
    Same("docker swarm join-token --rotate manager"),
    Same("docker swarm join-token nobody"),
    Same("docker swarm update --task-history-limit 3 --cert-expiry 48h"),
    Same("docker swarm update --autolock"),
    Same("docker swarm unlock-key"),
    Same("docker swarm update --autolock=false"),
    Same("docker swarm unlock-key"),
    Same("docker swarm unlock < /dev/null"),
    Same("docker network create --driver overlay --attachable --subnet 10.77.0.0/24 --label side=front app"),
    Same("docker network create --driver overlay app"),
    Same("docker network ls --filter driver=overlay"),
    Same("docker network ls --filter nope=1"),
    Same("docker network inspect app"),
    Same("docker network inspect nope"),
    Same("docker network rm nope"),
    Same("echo hunter2 | docker secret create --label a=b key -"),
    Same("echo hunter2 | docker secret create key -"),
    Same("echo hunter2 | docker secret create 'no name' -"),
    Same("docker secret ls"),
    Same("docker secret ls --filter label=a=b --quiet"),
    Same("docker secret inspect key"),
    Same("docker secret inspect --pretty key"),
    Same("docker secret inspect nope"),
    Same("echo on | docker config create conf -"),
    Same("docker config ls"),
    Same("docker config inspect conf"),
    Same("docker config inspect --pretty conf"),
    Same("docker config rm nope"),
    Same(
        "docker service create --detach --quiet --no-resolve-image --name web --network app --replicas 2 --secret key \
         --config source=conf,target=/conf --label tier=front --container-label colour=red --env A=b --limit-memory 64M \
         --reserve-cpu 0.1 --stop-grace-period 1s --update-parallelism 0 --update-delay 0s --update-monitor 100ms --restart-delay 200ms \
         --constraint node.role==manager --mount type=tmpfs,target=/scratch --hostname w --publish 8080:80 \
         127.0.0.1:1/box:1 sleep 100000",
    ),
    Until("docker service ls --format '{{.Name}} {{.Replicas}}'", "web 2/2"),
    Same("docker service create --detach --no-resolve-image --name web 127.0.0.1:1/box:1"),
    Same("docker service create --detach --no-resolve-image --name 'no name' 127.0.0.1:1/box:1"),
    Same("docker service create --detach --no-resolve-image --name x --network nope 127.0.0.1:1/box:1"),
    Same("docker service create --detach --no-resolve-image --name x --secret nope 127.0.0.1:1/box:1"),
    Same("docker service create --detach --no-resolve-image --name x --publish 8080:81 127.0.0.1:1/box:1"),
    Same("docker service create --detach --no-resolve-image --name x --mode nope 127.0.0.1:1/box:1"),
    Same("docker service ls"),
    Same("docker service ls --filter name=we --quiet"),
    Same("docker service ls --filter nope=1"),
    Same("docker service ps web"),
    Same("docker service ps --no-trunc web"),
    Same("docker service ps --filter desired-state=shutdown web"),
    Same("docker service ps nope"),
    Same("docker service inspect --format '{{json .Spec}}' web"),
    Same("docker service inspect --format '{{json .Endpoint.Ports}}' web"),
    Same("docker service inspect --pretty web"),
    Same("docker service inspect nope"),
    Same("docker node ps"),
    Same("docker network ls --filter name=app"),
    Same("docker network rm app"),
    Same("docker secret rm key"),
    Same("docker config rm conf"),
    Same("docker service scale --detach web=3"),
    Until("docker service ls --format '{{.Name}} {{.Replicas}}'", "web 3/3"),
    Same("docker service scale --detach web=-1"),
    Same("docker service scale --detach nope=1"),
    Same("docker service update --detach --quiet --container-label-add size=big --label-rm tier web"),
    Until(
        "docker service inspect --format '{{.UpdateStatus.State}}' web",
        "completed",
    ),
    Same(
        "docker service inspect --format '{{json .Spec.TaskTemplate.ContainerSpec.Labels}} {{.UpdateStatus.Message}}' web",
    ),
    Same("docker service inspect --format '{{json .Spec}}' web"),
    Same("docker service inspect --format '{{json .Endpoint.Ports}}' web"),
    // What has ended is left out: now and then Docker's engine fails to take a task off its network, and says so.
    Same("docker service ps --filter desired-state=running web"),
    Same("docker service ls"),
    Same("docker service rollback --detach --quiet web"),
    Until(
        "docker service inspect --format '{{.UpdateStatus.State}}' web",
        "rollback_completed",
    ),
    Same(
        "docker service inspect --format '{{json .Spec.TaskTemplate.ContainerSpec.Labels}} {{.UpdateStatus.Message}}' web",
    ),
    Same("docker service inspect --pretty web"),
    Same("docker service update --detach --image nope:nope --replicas nope web"),
    Same("docker service update --detach nope"),
    Same(
        "docker service create --detach --quiet --no-resolve-image --name once --restart-condition none 127.0.0.1:1/box:1 sh -c \
         'echo out; echo err >&2; exit 3'",
    ),
    Until(
        "docker service ps --format '{{.CurrentState}}' once | cut -d ' ' -f 1",
        "Failed",
    ),
    Same("docker service ps once"),
    Same("docker service ls"),
    Same("docker service logs --raw once 2>&1 | sort"),
    Same("docker service logs --raw nope"),
    Same(
        "docker service create --detach --quiet --no-resolve-image --name job --mode replicated-job --replicas 3 \
         --max-concurrent 2 127.0.0.1:1/box:1 true",
    ),
    Until(
        "docker service ls --filter name=job --format '{{.Replicas}}'",
        "0/2 (3/3 completed)",
    ),
    Same("docker service ls"),
    // Docker inserts defaults of updates, and a restart at any end, both of which no job has.
    Same(
        "docker service inspect --format '{{json .Spec.Mode}} {{json .Spec.TaskTemplate.ContainerSpec}}' job",
    ),
    Same("docker service scale --detach job=2"),
    Same(
        "docker service create --detach --quiet --no-resolve-image --name everywhere --mode global 127.0.0.1:1/box:1 sleep 100000",
    ),
    Until(
        "docker service ls --filter name=everywhere --format '{{.Replicas}}'",
        "1/1",
    ),
    Same("docker service ls --filter mode=global"),
    Same("docker service scale --detach everywhere=2"),
    Same(
        "docker service create --detach --quiet --no-resolve-image --name each --mode global-job 127.0.0.1:1/box:1 true",
    ),
    Until(
        "docker service ls --filter name=each --format '{{.Replicas}}'",
        "0/0 (1/1 completed)",
    ),
    Same("docker service ls"),
    Same("docker service rm each"),
    Same("docker service ps everywhere"),
    Same("docker service rm once job everywhere nope"),
    Same("docker stack ls"),
    Same("cd {folder} && docker stack deploy --resolve-image never -c stack.yml shop | sort"),
    Until(
        "docker service ls --filter name=shop_web --format '{{.Replicas}}'",
        "2/2",
    ),
    Until(
        "docker service ps --format '{{.CurrentState}}' shop_once | cut -d ' ' -f 1",
        "Complete",
    ),
    Same("docker stack ls"),
    Same("docker stack services shop"),
    Same("docker stack services nope"),
    Same("docker stack ps shop"),
    Same("docker stack ps nope"),
    Same("docker service inspect --format '{{json .Spec}}' shop_web"),
    Same("docker config ls"),
    Same("docker network ls --filter label=com.docker.stack.namespace=shop"),
    Same("cd {folder} && docker stack deploy --resolve-image never -c stack.yml shop | sort"),
    Same("docker stack rm shop | sort"),
    Same("docker stack rm nope"),
    Until("docker network ls --quiet --filter name=shop", ""),
    Same("docker service rm web"),
    Until("docker ps --quiet", ""),
    Until("docker network rm app", "app"),
    Same("docker secret rm key"),
    Same("docker config rm conf"),
    Same("docker service ls"),
    Same("docker secret ls"),
    Same("docker config ls"),
    Same("docker stack ls"),
    Same("docker swarm leave"),
    Same("docker swarm leave --force"),
    Same("docker node ls"),
];

/// A step that takes longer is told.
const SLOW: Duration = Duration::from_secs(3);

/// How long a service may take to be what was asked for: the slower of the two counts.
const CONVERGED: Duration = Duration::from_mins(2);

/// Members that Docker's later versions have, too.
const LATER: [&str; 1] = ["EnableIPv4"];

/// What is a cluster's own, and the name it gets.
struct Names(Vec<(Regex, &'static str)>);

impl Names {
    fn new(node: &str, address: &str) -> Self {
        let node = format!(r"\b{}\b", regex::escape(node));
        let version = format!(
            r"\b(?:20\.10\.\d+(?:\+\w+)?|{})",
            regex::escape(env!("CARGO_PKG_VERSION"))
        );
        let address = regex::escape(address);
        let all = [
            (address.as_str(), "ADDRESS"),
            (&node, "NODE"),
            (&version, "VERSION"),
            (r"SWMTKN-1-[0-9a-z]+-[0-9a-z]+", "TOKEN"),
            (r"SWMKEY-1-[0-9A-Za-z+/]+", "KEY"),
            (r"\b[0-9a-f]{64}\b", "ID"),
            (r"\b[0-9a-z]{25}\b", "ID"),
            (r"(?m)^[0-9a-z]{12}\b", "ID"),
            (r"\d{4}-\d\d-\d\d[T ][0-9:.]+(?:Z| \+0000 utc)", "TIME"),
            (
                r"(?:\d+ (?:second|minute)s?|[Ll]ess than a second|[Aa]bout a minute) ago",
                "AGO",
            ),
            // Columns are as wide as what is in them.
            (r"  +", "  "),
            (r"(?m) +$", ""),
        ];
        Self(
            all.map(|(pattern, name)| (Regex::new(pattern).unwrap(), name))
                .into(),
        )
    }

    fn put(&self, text: &str) -> String {
        let put =
            |text: String, (pattern, name): &(Regex, &str)| pattern.replace_all(&text, *name).into_owned();
        self.0.iter().fold(text.to_owned(), put)
    }
}

/// What a line has printed, as it is compared.
#[derive(PartialEq)]
struct Said {
    out: String,
    err: String,
    code: Option<i32>,
}

impl Said {
    fn new(ran: &Ran, names: &Names) -> Self {
        let out = match serde_json::from_str::<Value>(&ran.stdout) {
            Ok(value) => format!("{:#}", plain(value)),
            Err(_) => ran.stdout.clone(),
        };
        let err = names.put(&ran.stderr);
        // Of an error that has a code, the words behind it may say more than Docker's.
        let code = err.split_once("desc = ").map_or(err.as_str(), |(code, _)| code);
        Self {
            out: names.put(&out),
            err: code.to_owned(),
            code: ran.status.code(),
        }
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}({:?})", self.out, self.err, self.code)
    }
}

/// A value without what means nothing: the order of its members, empty ones, and how often the store was written.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members
                .into_iter()
                .filter(|(name, _)| !LATER.contains(&name.as_str()));
            let plain = kept.map(|(name, value)| match name.as_str() {
                "Index" => (name, Value::from("INDEX")),
                _ => (name, plain(value)),
            });
            let is_empty = |value: &Value| match value {
                Value::Null => true,
                Value::Object(members) => members.is_empty(),
                Value::Array(items) => items.is_empty(),
                _ => false,
            };
            plain.filter(|(_, value)| !is_empty(value)).collect()
        }
        Value::Array(items) => items.into_iter().map(plain).collect(),
        other => other,
    }
}

#[test]
fn what_the_cli_prints_is_what_it_prints_of_dockers_own_engine() {
    let lab = ClusterBuilder::new().nodes(2).clients(0).build().unwrap();
    lab.spawn_node("n1").unwrap();
    let behind = lab.spawn_engine("n1").unwrap();
    let theirs = lab.spawn_engine("n2").unwrap();
    for engine in [&behind, &theirs] {
        engine.docker(&["tag", "busybox:latest", IMAGE]).unwrap();
    }
    let docker = with_cli(lab);
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("stack.yml", STACK), ("page", "a page"), ("word", "swordfish")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let folder = folder.path().display().to_string();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let sides = [
        ("n1", docker.api_socket("n1"), "n1"),
        ("n2", theirs.socket().to_owned(), host.trim()),
    ]
    .map(|(place, socket, name)| {
        let address = docker.ip(place);
        let names = Names::new(name, &address);
        (place, socket, name, address, names)
    });
    let typed = |line: &str| {
        sides.each_ref().map(|(place, socket, name, address, names)| {
            let line = line
                .replace("{ip}", address)
                .replace("{node}", name)
                .replace("{folder}", &folder);
            let ran = docker.shell_at(place, socket, &line);
            let said = Said::new(&ran, names);
            (ran, said)
        })
    };
    let mut differences = String::new();
    for step in SESSION {
        let begun = Instant::now();
        match step {
            Same(line) => {
                let [(_, ours), (_, theirs)] = typed(line);
                if ours != theirs {
                    writeln!(differences, "$ {line}\nEssaim:\n{ours}\nDocker:\n{theirs}\n").unwrap();
                }
            }
            Until(line, expected) => {
                let found = eventually(CONVERGED, line, || {
                    for (ran, said) in typed(line) {
                        anyhow::ensure!(ran.stdout.trim() == *expected, "{} says {said}", ran.line);
                    }
                    Ok(())
                });
                found.unwrap_or_else(|error| panic!("{differences}{error:#}"));
            }
        }
        let (Same(line) | Until(line, _)) = step;
        if begun.elapsed() > SLOW {
            println!("{:.1} s: {line}", begun.elapsed().as_secs_f64());
        }
    }
    assert!(differences.is_empty(), "{differences}");
}
