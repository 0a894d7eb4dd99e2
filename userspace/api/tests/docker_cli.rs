//! The real docker CLI as a client. It fails where there is no `docker`: install the CLI, no daemon is needed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the test"
)]

mod support;

use serde_json::{Value, json};
use std::path::Path;
use support::{Server, TestEngine};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

/// The CLI against a server.
struct Docker<'a> {
    server: &'a Server,
    /// Its settings, none of the user's.
    home: TempDir,
}

struct Output {
    ok: bool,
    out: String,
    err: String,
}

impl Docker<'_> {
    async fn run(&self, arguments: &str) -> Output {
        let arguments: Vec<_> = arguments.split_whitespace().collect();
        self.run_in(self.home.path(), &arguments).await
    }

    async fn run_in(&self, directory: &Path, arguments: &[&str]) -> Output {
        let run = Command::new("docker")
            .args(arguments)
            .current_dir(directory)
            .env("DOCKER_HOST", format!("unix://{}", self.server.path.display()))
            .env("DOCKER_CONFIG", self.home.path())
            .env("HOME", self.home.path())
            .kill_on_drop(true)
            .output();
        let output = timeout(support::SOON, run).await;
        let output = output
            .unwrap_or_else(|_| panic!("docker {arguments:?} does not end"))
            .expect("the docker CLI must be installed for this suite");
        Output {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            err: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }
    }

    /// What a command that succeeds says.
    async fn ok(&self, arguments: &str) -> String {
        let output = self.run(arguments).await;
        assert!(output.ok, "docker {arguments}: {} {}", output.out, output.err);
        output.out
    }

    /// A command that fails, and says this.
    async fn fails(&self, arguments: &str, says: &str) {
        let output = self.run(arguments).await;
        assert!(!output.ok, "docker {arguments}: {}", output.out);
        assert!(
            output.err.contains(says),
            "docker {arguments}: {:?} does not say {says:?}",
            output.err
        );
    }

    async fn inspect(&self, arguments: &str) -> Value {
        let text = self.ok(arguments).await;
        let shown: Value = serde_json::from_str(&text).unwrap();
        shown[0].clone()
    }
}

fn docker(server: &Server) -> Docker<'_> {
    Docker {
        server,
        home: TempDir::new().unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swarm_commands() {
    let server = Server::start(TestEngine::inactive());
    let docker = docker(&server);
    docker
        .fails(
            "node ls",
            "This node is not a swarm manager. Use \"docker swarm init\"",
        )
        .await;
    docker
        .fails("swarm leave", "This node is not part of a swarm")
        .await;
    let init = docker.ok("swarm init --advertise-addr 127.0.0.1").await;
    assert!(
        init.contains("is now a manager") && init.contains("SWMTKN-1-worker"),
        "{init}"
    );
    docker
        .fails("swarm init", "This node is already part of a swarm")
        .await;
    assert_eq!(docker.ok("swarm join-token -q worker").await, "SWMTKN-1-worker");
    assert!(
        docker
            .ok("swarm join-token manager")
            .await
            .contains("SWMTKN-1-manager 127.0.0.1:2377")
    );
    docker.ok("swarm join-token --rotate -q worker").await;
    assert!(
        server
            .engine
            .state()
            .calls
            .last()
            .unwrap()
            .contains("worker_token: true")
    );
    docker
        .ok("swarm update --task-history-limit 7 --autolock=true")
        .await;
    let info = docker.ok("info").await;
    for line in [
        "Swarm: active",
        "Is Manager: true",
        "Task History Retention Limit: 7",
        "Heartbeat Period: 5 seconds",
    ] {
        assert!(info.contains(line), "{info}");
    }
    assert!(info.contains("Autolock Managers: true"), "{info}");
    assert!(docker.ok("swarm unlock-key").await.contains(support::KEY));
    assert!(
        docker
            .ok("swarm ca")
            .await
            .starts_with("-----BEGIN CERTIFICATE-----")
    );
    assert!(docker.ok("version").await.contains("Essaim"));
    docker
        .fails(
            "swarm leave",
            "Removing the last manager erases all current state of the swarm",
        )
        .await;
    docker.ok("swarm leave --force").await;
    assert!(docker.ok("info").await.contains("Swarm: inactive"));
    let joined = docker.ok("swarm join --token SWMTKN-1-x 127.0.0.1:2377").await;
    assert!(
        joined.contains("This node joined a swarm as a worker"),
        "{joined}"
    );
    docker
        .fails(
            "service ls",
            "Worker nodes can't be used to view or modify cluster state",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_commands() {
    let server = Server::start(TestEngine::manager().await);
    let docker = docker(&server);
    let listed = docker.ok("node ls").await;
    assert!(
        listed.contains("* ") && listed.contains("n1") && listed.contains("Leader"),
        "{listed}"
    );
    assert_eq!(
        docker.inspect("node inspect self").await["Description"]["Hostname"],
        json!("n1")
    );
    docker
        .ok("node update --label-add zone=a --availability drain n1")
        .await;
    let node = docker.inspect("node inspect n1").await;
    assert_eq!(node["Spec"]["Labels"], json!({"zone": "a"}));
    assert_eq!(node["Spec"]["Availability"], json!("drain"));
    assert!(docker.ok("node inspect --pretty n1").await.contains("zone=a"));
    assert!(docker.ok("node ps").await.contains("NAME"));
    assert!(
        docker
            .ok("node ls --filter node.label=zone=a")
            .await
            .contains("n1")
    );
    docker
        .fails(
            "node demote n1",
            "attempting to demote the last manager of the swarm",
        )
        .await;
    docker
        .fails("node rm n1", "It must be demoted to worker before removal")
        .await;
    docker.fails("node rm nosuch", "node nosuch not found").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_commands() {
    let server = Server::start(TestEngine::manager().await);
    let docker = docker(&server);
    docker
        .ok("network create -d overlay --attachable --subnet 10.9.0.0/24 back")
        .await;
    docker
        .ok(
            "service create -d --name web --network back --replicas 2 -p 8080:80 --env A=1 --label tier=x \
             --constraint node.role==manager --limit-memory 64M --update-delay 1s alpine:3.10 sleep 60",
        )
        .await;
    docker
        .fails(
            "service create -d --name web alpine",
            "name conflicts with an existing object",
        )
        .await;
    let listed = docker.ok("service ls").await;
    assert!(
        listed.contains("web") && listed.contains("0/2") && listed.contains("*:8080->80/tcp"),
        "{listed}"
    );
    let pretty = docker.ok("service inspect --pretty web").await;
    assert!(
        pretty.contains("Networks: back") && pretty.contains("PublishedPort = 8080"),
        "{pretty}"
    );
    assert!(docker.ok("service ps web").await.contains("NAME"));
    docker.ok("service scale -d web=3").await;
    docker
        .ok("service update -d --image alpine:3.11 --env-add B=2 --update-parallelism 2 web")
        .await;
    let service = docker.inspect("service inspect web").await;
    assert_eq!(service["Spec"]["Mode"], json!({"Replicated": {"Replicas": 3}}));
    // The CLI sends them in any order.
    let environment = service["Spec"]["TaskTemplate"]["ContainerSpec"]["Env"].to_string();
    assert!(
        environment.contains("A=1") && environment.contains("B=2"),
        "{environment}"
    );
    docker.ok("service rollback -d web").await;
    let service = docker.inspect("service inspect web").await;
    assert_eq!(
        service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"],
        json!("alpine:3.10")
    );
    assert_eq!(service["UpdateStatus"]["State"], json!("rollback_started"));
    // Whatever the kind, the CLI finds it.
    assert_eq!(docker.inspect("inspect web").await["ID"], service["ID"]);
    docker
        .ok("service create -d --mode global --name everywhere alpine")
        .await;
    docker
        .ok("service create -d --mode replicated-job --replicas 3 --max-concurrent 2 --name job alpine true")
        .await;
    let listed = docker.ok("service ls --filter mode=replicated-job").await;
    assert!(listed.contains("0/2 (0/3 completed)"), "{listed}");
    assert_eq!(docker.ok("service logs web").await, "");
    docker
        .fails(
            "service create -d --name bad --network nosuch alpine",
            "network nosuch not found",
        )
        .await;
    docker
        .fails(
            "service create -d --name bad -p 8080:80 alpine",
            "port '8080' is already in use by service 'web'",
        )
        .await;
    docker.fails("network rm back", "is in use by service").await;
    assert_eq!(
        docker.ok("service rm web everywhere job").await,
        "web\neverywhere\njob"
    );
    docker.ok("network rm back").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn network_secret_and_config_commands() {
    let server = Server::start(TestEngine::manager().await);
    let docker = docker(&server);
    docker
        .ok("network create -d overlay --internal --label a=1 --subnet 10.9.0.0/24 back")
        .await;
    let listed = docker.ok("network ls").await;
    assert!(
        listed.contains("back") && listed.contains("ingress") && listed.contains("swarm"),
        "{listed}"
    );
    assert_eq!(
        docker.inspect("network inspect -v back").await["Internal"],
        json!(true)
    );
    docker
        .fails(
            "network create -d overlay back",
            "network with name back already exists",
        )
        .await;
    docker
        .fails(
            "network create mine",
            "a network of driver \"bridge\" is of one node",
        )
        .await;
    docker
        .fails("network connect back c", "containers cannot be connected")
        .await;
    assert!(docker.ok("network prune -f").await.contains("back"));
    std::fs::write(docker.home.path().join("data"), "s3cr3t").unwrap();
    for kind in ["secret", "config"] {
        docker.ok(&format!("{kind} create -l a=1 mine data")).await;
        docker
            .fails(&format!("{kind} create mine data"), "already exists")
            .await;
        assert!(
            docker
                .ok(&format!("{kind} ls --filter label=a=1"))
                .await
                .contains("mine")
        );
        assert_eq!(
            docker.inspect(&format!("{kind} inspect mine")).await["Spec"]["Labels"],
            json!({"a": "1"})
        );
        docker
            .ok(&format!(
                "service create -d --name uses-{kind} --{kind} mine alpine"
            ))
            .await;
        docker
            .fails(
                &format!("{kind} rm mine"),
                "is in use by the following service: uses-",
            )
            .await;
        docker.ok(&format!("service rm uses-{kind}")).await;
        docker.ok(&format!("{kind} rm mine")).await;
        docker.fails(&format!("{kind} inspect mine"), "mine").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stack_commands() {
    const STACK: &str = "
services:
  web:
    image: alpine:3.10
    command: sleep 60
    networks: {back: {aliases: [front]}}
    secrets: [s1]
    configs: [{source: c1, target: /etc/c1}]
    deploy: {replicas: 2, labels: {a: '1'}}
networks: {back: {}}
secrets: {s1: {file: ./data}}
configs: {c1: {file: ./data}}
";
    let server = Server::start(TestEngine::manager().await);
    let docker = docker(&server);
    std::fs::write(docker.home.path().join("data"), "s3cr3t").unwrap();
    std::fs::write(docker.home.path().join("stack.yml"), STACK).unwrap();
    docker.ok("stack deploy --detach=true -c stack.yml app").await;
    // Again: updates of everything.
    docker.ok("stack deploy --detach=true -c stack.yml app").await;
    let stacks = docker.ok("stack ls").await;
    assert!(stacks.contains("app") && stacks.contains('1'), "{stacks}");
    assert!(docker.ok("stack services app").await.contains("app_web"));
    let service = docker.inspect("service inspect app_web").await;
    let network = docker.inspect("network inspect app_back").await;
    let template = &service["Spec"]["TaskTemplate"];
    assert_eq!(template["Networks"][0]["Target"], network["Id"]);
    assert_eq!(
        template["ContainerSpec"]["Secrets"][0]["SecretName"],
        json!("app_s1")
    );
    let nothing = docker.run("stack ps app").await;
    assert!(
        nothing.err.contains("nothing found in stack: app"),
        "{}",
        nothing.err
    );
    docker.ok("stack rm app").await;
    assert_eq!(docker.ok("service ls -q").await, "");
    assert_eq!(docker.ok("secret ls -q").await, "");
    assert!(!docker.ok("network ls").await.contains("app_back"));
}
