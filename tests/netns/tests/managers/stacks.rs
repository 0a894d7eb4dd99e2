//! Stacks by `essaim stack`, which needs no docker CLI.

use crate::services::edge;
use crate::stage::*;
use essaim_lab::eventually;

const FILE: &str = r#"services:
  web:
    image: host
    command: ${SERVER} whoami --udp 7 --tcp-echo 7
    hostname: "{{.Service.Name}}.{{.Task.Slot}}"
    environment: {COLOUR: "${COLOUR:-red}"}
    ports: ["8080:80"]
    networks: {front: {aliases: [site]}}
    configs: [page]
    secrets: [password]
    deploy:
      replicas: 2
      update_config: {order: start-first}
  reader:
    image: host
    command: ["sh", "-c", "cat /page /run/secrets/password; echo; sleep 100000"]
    networks: [front]
    configs: [page]
    secrets: [password]
networks:
  front: {ipam: {config: [{subnet: 10.44.0.0/24}]}}
configs:
  page: {file: ./page}
secrets:
  password: {file: ./password}
"#;

#[test]
fn a_stack_is_deployed_changed_and_removed() {
    let cluster = formed(3, 1);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let file = folder.path().join("stack.yml").display().to_string();
    write("stack.yml", FILE);
    write("page", "a page, ");
    write("password", "swordfish");
    let essaim = cluster.binary("essaim").display().to_string();
    let host = format!("ESSAIM_HOST=unix://{}", cluster.api_socket("n1").display());
    let server = format!("SERVER={}", cluster.binary("essaim-peer").display());
    // What it does, in order.
    let deploy = |colour: &str, options: &str| -> Vec<String> {
        let environment = format!("{host} {server} COLOUR={colour}");
        let line = format!("env {environment} {essaim} stack deploy --detach=false -c {file} {options} shop");
        let line: Vec<&str> = line.split_whitespace().collect();
        let said = cluster.exec("n1", &line).unwrap().ok().unwrap();
        let done = said.lines().filter(|line| line.starts_with(char::is_uppercase));
        let done = done.map(|line| line.split_once(" (id: ").map_or(line, |(done, _)| done));
        let mut done: Vec<String> = done.map(str::to_owned).collect();
        done.sort();
        done
    };
    assert_eq!(
        deploy("", ""),
        [
            "Creating config shop_page",
            "Creating network shop_front",
            "Creating secret shop_password",
            "Creating service shop_reader",
            "Creating service shop_web",
        ]
    );
    // It has waited until they run.
    let ls = cluster.operate("n1", &["stack", "ls"]).unwrap();
    let rows: Vec<Vec<&str>> = ls.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows, [["NAME", "SERVICES"], ["shop", "2"]]);
    let format = "{{.Name}} {{.Mode}} {{.Replicas}} {{.Ports}}";
    let services = cluster
        .operate("n1", &["stack", "services", "--format", format, "shop"])
        .unwrap();
    assert_eq!(
        services.lines().collect::<Vec<_>>(),
        [
            "shop_reader replicated 1/1 ",
            "shop_web replicated 2/2 *:8080->80/tcp"
        ]
    );
    let tasks = cluster.operate("n1", &["stack", "ps", "-q", "shop"]).unwrap();
    assert_eq!(tasks.lines().count(), 3, "{tasks}");
    for node in ["n1", "n2", "n3"] {
        let url = edge(&cluster, node);
        eventually(SOON, &format!("{node} answers"), || {
            let seen = cluster.curl("c1", &url)?;
            anyhow::ensure!(seen.contains("Name: shop_web."), "{seen}");
            Ok(())
        })
        .unwrap();
    }
    let reader = cluster.wait_running("n1", "shop_reader", 1).unwrap().remove(0);
    for name in ["web", "site", "shop_web"] {
        eventually(SOON, &format!("{name} answers the reader"), || {
            cluster.curl(&reader.name, &format!("http://{name}/"))
        })
        .unwrap();
    }
    eventually(SOON, "the reader has read", || {
        let logs = cluster.operate("n1", &["service", "logs", "--raw", "shop_reader"])?;
        anyhow::ensure!(logs.contains("a page, swordfish"), "{logs:?}");
        Ok(())
    })
    .unwrap();

    // Again as it is, then with another colour: only what has changed is replaced.
    let web = cluster.wait_running("n1", "shop_web", 2).unwrap();
    let updated = ["Updating service shop_reader", "Updating service shop_web"];
    assert_eq!(deploy("", ""), updated);
    assert_eq!(cluster.wait_running("n1", "shop_web", 2).unwrap(), web);
    assert_eq!(deploy("green", ""), updated);
    let green = cluster.wait_running("n1", "shop_web", 2).unwrap();
    assert!(green.iter().all(|task| !web.contains(task)), "{green:?}");
    assert_eq!(cluster.wait_running("n1", "shop_reader", 1).unwrap(), [reader]);

    // What is wrong is told with its place, and changes nothing.
    write("bad.yml", &FILE.replace("replicas: 2", "replicas: two"));
    let bad = folder.path().join("bad.yml").display().to_string();
    refused(
        &cluster,
        "n1",
        &["stack", "deploy", "-c", &bad, "shop"],
        "services.web.deploy.replicas: found \"two\"",
    );

    // Without one of its services.
    let (start, end) = (
        FILE.find("  reader:").unwrap(),
        FILE.find("networks:\n  front").unwrap(),
    );
    write("stack.yml", &format!("{}{}", &FILE[..start], &FILE[end..]));
    let said = deploy("green", "--prune");
    assert!(
        said.contains(&"Removing service shop_reader".to_owned()),
        "{said:?}"
    );
    cluster
        .operate("n1", &["stack", "rm", "--detach=false", "shop"])
        .unwrap();
    for kind in ["service", "secret", "config"] {
        assert_eq!(cluster.operate("n1", &[kind, "ls", "-q"]).unwrap(), "", "{kind}");
    }
    let networks = cluster
        .operate("n1", &["network", "ls", "--format", "{{.Name}}"])
        .unwrap();
    assert_eq!(networks.trim(), "ingress");
    refused(
        &cluster,
        "n1",
        &["stack", "ps", "shop"],
        "nothing found in stack: shop",
    );
}
