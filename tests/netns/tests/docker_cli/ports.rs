//! Rows 31 to 35: published ports and networks, as they are and as they change.

use crate::stage::*;
use essaim_lab::eventually;
use std::time::{Duration, Instant};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

#[test]
fn ports_are_published_and_changed_while_they_are_used() {
    let docker = formed(1);
    // Row 31: on every node, also those without a task.
    docker.serve(
        "web",
        "--constraint node.hostname==n2 -p 8080:80 --publish published=9007,target=7,protocol=udp,mode=ingress \
         --publish published=9008,target=7,protocol=tcp",
    );
    docker.runs("web", 1);
    for node in NODES {
        assert!(docker.answers(node, 8080).contains("Name: web.1"));
        let target = format!("{}:9007", docker.ip(node));
        eventually(SOON, &format!("UDP port 9007 of {node} answers"), || {
            let probe = docker
                .peer("c1", &["udp-probe", "--target", &target, "--count", "1"])?
                .ok()?;
            anyhow::ensure!(probe.contains("web.1"), "{probe}");
            Ok(())
        })
        .unwrap();
    }
    let columns = ["ID", "NAME", "MODE", "REPLICAS", "IMAGE", "PORTS"];
    let services = docker.table("n1", "docker service ls", &columns);
    assert_eq!(services[0][1..5], ["web", "replicated", "1/1", "host:latest"]);
    for port in ["*:8080->80/tcp", "*:9007->7/udp", "*:9008->7/tcp"] {
        assert!(services[0][5].contains(port), "{services:?}");
    }
    docker.refused(
        "n1",
        "docker service create --publish 8080:80 host sleep 1000",
        "port '8080' is already in use by service 'web'",
    );
    // SCTP is published, too.
    docker.ok(
        "n1",
        "docker service update --detach --publish-add published=9009,target=9009,protocol=sctp web",
    );
    docker.says(
        "n1",
        "docker service inspect -f '{{range .Endpoint.Ports}}{{.Protocol}}/{{.PublishedPort}} {{end}}' web",
        "tcp/8080 udp/9007 tcp/9008 sctp/9009",
    );

    // Row 33.
    docker.serve("auto", "-p 80");
    let port = "docker service inspect -f '{{(index .Endpoint.Ports 0).PublishedPort}}' auto";
    let chosen: u16 = docker.ok("n1", port).parse().unwrap();
    assert!((30_000..=32_767).contains(&chosen), "{chosen}");
    docker.runs("auto", 1);
    docker.ok("n1", "docker service update --detach --env-add A=b auto");
    docker.says("n1", port, &chosen.to_string());
    docker.answers("n3", chosen);
    docker.ok("n1", "docker service rm auto");

    // Row 34: what else is published is not touched.
    let load = docker
        .start_load("c1", &format!("http://{}:8080/", docker.ip("n1")), 2, 10, 110)
        .unwrap();
    docker.ok(
        "n1",
        "docker service update --detach --publish-add 8081:80 --publish-rm 7/udp web",
    );
    for node in NODES {
        docker.answers(node, 8081);
    }
    let report: essaim_lab::peer::LoadReport = load.stop().unwrap().json().unwrap();
    println!(
        "{} requests while ports came and went, {} failed",
        report.ok, report.failed
    );
    assert!(report.ok > 0 && report.failed == 0, "{:?}", report.failures);
    // The CLI removes by the target port, so both of it.
    docker.ok("n1", "docker service update --detach --publish-rm 80 web");
    for node in NODES {
        for port in [8080, 8081] {
            eventually(SOON, &format!("port {port} of {node} is closed"), || {
                let asked = Instant::now();
                anyhow::ensure!(docker.fetch(node, port).is_err(), "it answers");
                anyhow::ensure!(asked.elapsed() < Duration::from_secs(2), "it is silent");
                Ok(())
            })
            .unwrap();
        }
    }
    docker.ok("n1", "docker service rm web");

    // Row 32.
    docker.serve(
        "edge",
        "--constraint node.hostname!=n1 --mode global --publish published=8082,target=80,mode=host",
    );
    docker.runs("edge", 2);
    for node in ["n2", "n3"] {
        let page = docker.answers(node, 8082);
        assert!(
            page.contains(&format!("RemoteAddr: {}:", docker.ip("c1"))),
            "{page}"
        );
    }
    assert!(docker.fetch("n1", 8082).is_err());
    let ports = docker.lines(
        "n1",
        "docker service ps edge --filter desired-state=running --format '{{.Ports}}'",
    );
    assert_eq!(ports, ["*:8082->80/tcp", "*:8082->80/tcp"]);
    docker.sleep(
        "second",
        "--constraint node.hostname==n2 --publish published=8082,target=80,mode=host",
    );
    docker.wait(
        "n1",
        "docker service ps second --no-trunc --format '{{.CurrentState}} {{.Error}}'",
        |found| found.starts_with("Pending ") && found.contains("host-mode port already in use"),
    );
}

#[test]
fn a_service_changes_its_networks_while_it_runs() {
    let docker = formed(1);
    for network in ["old", "new"] {
        docker.ok("n1", &format!("docker network create -d overlay {network}"));
    }
    docker.serve("web", "--replicas 2 --network old");
    docker.sleep("asker", "--network new");
    let asker = docker.runs("asker", 1).remove(0);
    let first = docker.runs("web", 2);
    let vips = "docker service inspect -f '{{len .Endpoint.VirtualIPs}}' web";
    docker.says("n1", vips, "1");
    let rolled = |from: &[essaim_lab::PlacedTask]| {
        eventually(SOON, "both tasks are new", || {
            let tasks = docker.running("n1", "web")?;
            let new = tasks
                .iter()
                .filter(|task| from.iter().all(|old| old.id != task.id))
                .count();
            anyhow::ensure!(new == 2 && tasks.len() == 2, "{tasks:?}");
            Ok(tasks)
        })
        .unwrap()
    };
    docker.ok(
        "n1",
        "docker service update --detach --network-add name=new,alias=site web",
    );
    let both = rolled(&first);
    assert!(both.iter().all(|task| task.addresses.len() == 2), "{both:?}");
    docker.says("n1", vips, "2");
    for name in ["web", "site"] {
        eventually(SOON, &format!("{name} answers on the new network"), || {
            docker.curl(&asker.name, &format!("http://{name}/"))
        })
        .unwrap();
    }
    docker.ok("n1", "docker service update --detach --network-rm old web");
    let last = rolled(&both);
    assert!(last.iter().all(|task| task.addresses.len() == 1), "{last:?}");
    docker.says("n1", vips, "1");
    docker.wait("n1", "docker network rm old", |found| found == "old");
    docker.refused("n1", "docker network rm new", "is in use");
}
