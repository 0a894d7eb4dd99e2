//! Row 46: a stack from a compose file, in one session from `swarm init` to `swarm leave`.

use crate::stage::*;
use essaim_lab::eventually;
use serde_json::Value;

/// A compose file as people have them; `{server}` and `{colour}` are filled in.
const FILE: &str = r#"version: "3.8"
services:
  web:
    image: host
    command: {server}
    hostname: "{{.Service.Name}}.{{.Task.Slot}}"
    environment:
      COLOUR: {colour}
    ports:
      - "8080:80"
      - target: 7
        published: 9007
        protocol: udp
        mode: ingress
    networks:
      front:
        aliases: [site]
    configs:
      - source: page
        target: /page
        mode: 0440
    secrets: [password]
    healthcheck:
      test: ["CMD-SHELL", "curl -gsf --noproxy '*' -o /dev/null http://127.0.0.1/"]
      interval: 200ms
      start_period: 100s
    deploy:
      replicas: 2
      labels:
        tier: front
      update_config:
        parallelism: 1
        order: start-first
        monitor: 500ms
      restart_policy:
        condition: any
        delay: 100ms
      placement:
        constraints: ["node.platform.os == linux"]
        max_replicas_per_node: 2
      resources:
        limits: {cpus: "0.5", memory: 128M}
        reservations: {memory: 16M}
  worker:
    image: host
    command: ["sh", "-c", "cat /run/secrets/password; echo; sleep 100000"]
    networks: [front, default]
    secrets:
      - source: password
        target: password
        mode: 0400
    stop_grace_period: 2s
    deploy:
      mode: global
"#;

/// A service that is only in some versions of the file.
const EXTRA: &str = r"  extra:
    image: host
    command: sleep 100000
";

const REST: &str = r"networks:
  front:
    driver: overlay
    attachable: true
    labels:
      side: front
    ipam:
      config:
        - subnet: 10.44.0.0/24
configs:
  page:
    file: ./page
secrets:
  password:
    file: ./password
";

#[test]
fn a_stack_is_deployed_changed_and_removed() {
    let docker = empty();
    docker.refused("n1", "docker stack ls", "This node is not a swarm manager.");
    docker.form(1);
    let folder = tempfile::tempdir().unwrap();
    let write = |colour: &str, extra: &str| {
        let services = FILE
            .replace("{server}", &docker.server())
            .replace("{colour}", colour);
        std::fs::write(folder.path().join("stack.yml"), services + extra + REST).unwrap();
    };
    std::fs::write(folder.path().join("page"), "a page").unwrap();
    std::fs::write(folder.path().join("password"), "swordfish").unwrap();
    write("red", EXTRA);
    // What it does, in order; beside that the CLI remarks on its own options and on images without a registry.
    let deploy = |options: &str| -> Vec<String> {
        let line = format!(
            "cd {} && docker stack deploy -c stack.yml {options} shop 2>&1",
            folder.path().display()
        );
        let said = docker.ok("n1", &line);
        let done = said.lines().filter(|line| {
            ["Creating ", "Updating ", "Removing "]
                .iter()
                .any(|done| line.starts_with(done))
        });
        let mut done: Vec<_> = done.map(str::to_owned).collect();
        done.sort();
        done
    };
    assert_eq!(
        deploy(""),
        [
            "Creating config shop_page",
            "Creating network shop_default",
            "Creating network shop_front",
            "Creating secret shop_password",
            "Creating service shop_extra",
            "Creating service shop_web",
            "Creating service shop_worker",
        ]
    );
    let stacks = docker.table(
        "n1",
        "docker stack ls | sed 's/  *ORCHESTRATOR//; s/  *Swarm$//'",
        &["NAME", "SERVICES"],
    );
    assert_eq!(stacks, [["shop", "3"]]);
    let replicas = "docker stack services shop --format '{{.Name}} {{.Mode}} {{.Replicas}}'";
    docker.wait("n1", replicas, |found| {
        let mut lines: Vec<_> = found.lines().collect();
        lines.sort_unstable();
        lines
            == [
                "shop_extra replicated 1/1",
                "shop_web replicated 2/2 (max 2 per node)",
                "shop_worker global 3/3",
            ]
    });
    let columns = ["ID", "NAME", "MODE", "REPLICAS", "IMAGE", "PORTS"];
    let rows = docker.table("n1", "docker stack services shop", &columns);
    let web = rows.iter().find(|row| row[1] == "shop_web").unwrap();
    assert!(
        web[5].contains("*:8080->80/tcp") && web[5].contains("*:9007->7/udp"),
        "{rows:?}"
    );
    let columns = [
        "ID",
        "NAME",
        "IMAGE",
        "NODE",
        "DESIRED STATE",
        "CURRENT STATE",
        "ERROR",
        "PORTS",
    ];
    let rows = docker.table("n1", "docker stack ps shop", &columns);
    assert_eq!(rows.len(), 6, "{rows:?}");
    // What it says is so.
    for node in ["n1", "n2", "n3"] {
        assert!(docker.answers(node, 8080).contains("Name: shop_web."));
    }
    let workers = docker.runs("shop_worker", 3);
    assert!(
        workers.iter().all(|task| task.addresses.len() == 2),
        "{workers:?}"
    );
    assert!(
        workers[0]
            .addresses
            .iter()
            .any(|address| address.starts_with("10.44.0.")),
        "{workers:?}"
    );
    for name in ["web", "site", "shop_web"] {
        eventually(SOON, &format!("{name} answers a worker"), || {
            docker.curl(&workers[0].name, &format!("http://{name}/"))
        })
        .unwrap();
    }
    docker.logs("shop_worker", |found| found.matches("swordfish").count() == 3);
    let web = docker.runs("shop_web", 2);
    let inspected: Value = serde_json::from_str(&docker.ok("n1", "docker service inspect shop_web")).unwrap();
    let spec = &inspected[0]["Spec"];
    assert_eq!(spec["Labels"]["com.docker.stack.namespace"], "shop");
    assert_eq!(spec["Labels"]["tier"], "front");
    docker.says(
        "n1",
        "docker network inspect -f '{{.Attachable}} {{index .Labels \"side\"}} {{index .Labels \"com.docker.stack.namespace\"}}' shop_front",
        "true front shop",
    );

    // Again as it is: nothing is replaced.
    let said = deploy("");
    let services = ["shop_extra", "shop_web", "shop_worker"];
    assert_eq!(said.len(), services.len(), "{said:?}");
    for (line, name) in said.iter().zip(services) {
        assert!(
            line.starts_with(&format!("Updating service {name} (id: ")),
            "{said:?}"
        );
    }
    assert_eq!(docker.runs("shop_web", 2), web, "tasks were replaced");
    assert_eq!(docker.runs("shop_worker", 3), workers, "tasks were replaced");

    // Changed, and pruned.
    write("green", "");
    deploy("--resolve-image never");
    docker.wait_says(
        "n1",
        "docker service inspect -f '{{.UpdateStatus.State}}' shop_web",
        "completed",
    );
    docker.says(
        "n1",
        "docker service inspect -f '{{.Spec.TaskTemplate.ContainerSpec.Env}}' shop_web",
        "[COLOUR=green]",
    );
    assert!(docker.runs("shop_web", 2).iter().all(|task| !web.contains(task)));
    assert_eq!(docker.runs("shop_worker", 3), workers, "tasks were replaced");
    docker.runs("shop_extra", 1);
    let said = deploy("--prune");
    assert!(
        said.contains(&"Removing service shop_extra".to_owned()),
        "{said:?}"
    );
    docker.says("n1", "docker service ls -q --filter name=shop_extra", "");
    // Data of a config cannot change under its name.
    std::fs::write(folder.path().join("page"), "another page").unwrap();
    docker.refused(
        "n1",
        &format!(
            "cd {} && docker stack deploy -c stack.yml shop",
            folder.path().display()
        ),
        "only updates to Labels are allowed",
    );
    docker.refused(
        "n1",
        "echo 'version: \"3.8\"\nservices: {web: {image: host, nonsense: 1}}' | docker stack deploy -c - bad",
        "nonsense",
    );

    let said = docker.shell("n1", "docker stack rm shop");
    assert!(said.status.success(), "{said:?}");
    let mut lines: Vec<&str> = said.stdout.lines().chain(said.stderr.lines()).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "Removing config shop_page",
            "Removing network shop_default",
            "Removing network shop_front",
            "Removing secret shop_password",
            "Removing service shop_web",
            "Removing service shop_worker",
        ]
    );
    docker.says("n1", "docker stack ls --format '{{.Name}}'", "");
    docker.says(
        "n1",
        "docker service ls -q; docker secret ls -q; docker config ls -q",
        "",
    );
    docker.says("n1", "docker network ls --format '{{.Name}}'", "ingress");
    docker.shell("n1", "docker stack rm shop");

    for node in ["n3", "n2"] {
        docker.says(node, "docker swarm leave", "Node left the swarm.");
    }
    docker.says("n1", "docker swarm leave --force", "Node left the swarm.");
    for node in ["n1", "n2", "n3"] {
        docker.left(node).unwrap();
    }
}
