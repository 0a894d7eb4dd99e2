//! Rows 14 to 23: networks, and what is known on them (26 to 30).

use crate::stage::*;
use essaim_lab::{Family, eventually};

/// The line that shows a member of a network.
fn inspect(format: &str, network: &str) -> String {
    format!("docker network inspect -f '{{{{{format}}}}}' {network}")
}

#[test]
fn networks_are_made_with_their_options_and_tasks_meet_on_them() {
    let docker = formed(1);
    // Row 14.
    let id = docker.ok("n1", "docker network create -d overlay --label tier=front N");
    docker.says("n1", &inspect(".Id", "N"), &id);
    docker.says(
        "n1",
        "docker network ls -q --no-trunc --filter label=tier=front",
        &id,
    );
    docker.refused(
        "n1",
        "docker network create -d overlay N",
        "network with name N already exists",
    );
    docker.serve("web", "--mode global --network N");
    let tasks = docker.runs("web", 3);
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        for name in [&tasks[to].addresses[0], &"web".to_owned()] {
            eventually(SOON, &format!("{name} answers {}", tasks[from].name), || {
                docker.curl(&tasks[from].name, &format!("http://{name}/"))
            })
            .unwrap();
        }
    }

    // Row 15.
    docker.ok(
        "n1",
        "docker network create -d overlay --subnet 10.77.0.0/24 --gateway 10.77.0.9 --ip-range 10.77.0.128/25 \
         --aux-address printer=10.77.0.129 given",
    );
    docker.says(
        "n1",
        "docker network inspect -f '{{with index .IPAM.Config 0}}{{.Subnet}} {{.IPRange}} {{.Gateway}} {{.AuxiliaryAddresses}}{{end}}' given",
        "10.77.0.0/24 10.77.0.128/25 10.77.0.9 map[printer:10.77.0.129]",
    );
    docker.serve("ranged", "--replicas 2 --network given");
    let ranged = docker.runs("ranged", 2);
    for task in &ranged {
        let address: std::net::Ipv4Addr = task.addresses[0].parse().unwrap();
        assert!(
            address.octets()[3] >= 128 && address.octets()[3] != 129,
            "{task:?}"
        );
    }
    assert!(
        docker
            .inside(&ranged[0], "ip neigh; ip route")
            .contains("10.77.0.0/24"),
        "the subnet is not routed"
    );
    docker.refused(
        "n1",
        "docker network create -d overlay --subnet 10.77.0.128/25 other",
        "it overlaps 10.77.0.0/24 of network given; choose another subnet",
    );
    docker.refused(
        "n1",
        "docker network create -d overlay --subnet 10.78.0.0/24 --gateway 10.79.0.1 other",
        "",
    );
    docker.refused(
        "n1",
        "docker network create -d overlay --ipam-opt a=b other",
        "IPAMOptions.Driver.Options is \"a\", expected none",
    );
    docker.refused(
        "n1",
        "docker network create -d overlay --ipam-driver dhcp other",
        "IPAMOptions.Driver.Name is \"dhcp\", expected default",
    );
    docker.ok(
        "n1",
        "docker network create -d overlay --ipv6 --subnet fd00:77::/64 six",
    );
    docker.serve("sixth", "--network six");
    let sixth = docker.runs("sixth", 1);
    assert!(
        sixth[0]
            .addresses
            .iter()
            .any(|address| address.starts_with("fd00:77::")),
        "{sixth:?}"
    );

    // Row 16: the network can be made; without a Docker Engine there are no containers.
    docker.ok("n1", "docker network create -d overlay --attachable open");
    docker.says("n1", &inspect(".Attachable", "open"), "true");
    let ran = docker.shell("n1", "docker run --rm --network open busybox true");
    assert_eq!(ran.status.code(), Some(125), "{ran:?}");
    assert!(
        ran.stderr.contains("this node has no Docker Engine at "),
        "{ran:?}"
    );
    docker.refused(
        "n1",
        "docker network connect open box",
        "this node has no Docker Engine at ",
    );

    // Row 17.
    docker.ok("n1", "docker network create -d overlay --internal inner");
    docker.says("n1", &inspect(".Internal", "inner"), "true");
    docker.serve("inside", "--mode global --network inner");
    let inside = docker.runs("inside", 3);
    eventually(SOON, "tasks inside meet", || {
        docker.curl(&inside[0].name, &format!("http://{}/", inside[1].addresses[0]))
    })
    .unwrap();
    let world = format!("http://{}/", essaim_lab::WORLD_V4);
    let out = docker
        .exec(&inside[0].name, &["curl", "-sS", "--max-time", "2", &world])
        .unwrap();
    assert!(!out.status.success(), "there is a way out: {out:?}");

    // Row 18. That it is encrypted is shown where the kernel has ESP (tests/netns/tests/encrypted).
    docker.ok("n1", "docker network create -d overlay --opt encrypted hidden");
    let shown = docker.ok("n1", "docker network inspect hidden");
    assert!(shown.contains("\"encrypted\": \"\""), "{shown}");

    // Row 19: the option is the underlay's MTU, the tasks have what VXLAN leaves of it.
    docker.ok(
        "n1",
        "docker network create -d overlay --opt com.docker.network.driver.mtu=1400 narrow",
    );
    docker.serve("narrowed", "--mode global --network narrow");
    let narrow = docker.runs("narrowed", 3);
    assert!(
        docker
            .inside(&narrow[0], "ip link show eth0")
            .contains("mtu 1350")
    );
    let ping = format!("ping -c 1 -W 2 -M do -s 1322 {}", narrow[1].addresses[0]);
    eventually(SOON, "a full packet that may not be cut arrives", || {
        docker.exec(&narrow[0].name, &["sh", "-c", &ping])?.ok()
    })
    .unwrap();
    // Less than IPv6 can have (1280): IPv4 has it.
    docker.ok(
        "n1",
        "docker network create -d overlay --opt com.docker.network.driver.mtu=1050 slim",
    );
    docker.serve("slimmed", "--network slim");
    assert!(
        docker
            .inside(&docker.runs("slimmed", 1)[0], "ip link show eth0")
            .contains("mtu 1000")
    );
    docker.ok(
        "n1",
        "docker network create -d overlay --opt com.docker.network.driver.mtu=9000 wide",
    );
    docker.serve("widened", "--network wide");
    assert!(
        docker
            .inside(&docker.runs("widened", 1)[0], "ip link show eth0")
            .contains("mtu 8950")
    );
    docker.refused(
        "n1",
        "docker network create -d overlay --opt com.docker.network.driver.mtu=x bad",
        "com.docker.network.driver.mtu is \"x\", expected a number from 626 to 65515",
    );
    docker.refused(
        "n1",
        "docker network create -d overlay --opt parent=eth0 bad",
        "Options is \"parent\", expected one of com.docker.network.driver.mtu",
    );

    // Row 20: it is always so.
    docker.ok("n1", "docker network create -d overlay --opt dsr direct");
    docker.serve("seen", "--mode global --network direct");
    let seen = docker.runs("seen", 3);
    let page = eventually(SOON, "the VIP answers", || {
        docker.curl(&seen[0].name, "http://seen/")
    })
    .unwrap();
    assert!(
        page.contains(&format!("RemoteAddr: {}:", seen[0].addresses[0])),
        "{seen:?}: {page}"
    );

    // Row 23.
    let verbose = docker.ok("n1", "docker network inspect -v N");
    let verbose: serde_json::Value = serde_json::from_str(&verbose).unwrap();
    let services = &verbose[0]["Services"]["web"];
    assert!(
        services["VIP"].as_str().unwrap().starts_with("10.0."),
        "{verbose}"
    );
    assert_eq!(services["Tasks"].as_array().unwrap().len(), 3, "{verbose}");
    assert_eq!(verbose[0]["Peers"].as_array().unwrap().len(), 3, "{verbose}");
    docker.refused("n1", "docker network rm N", "is in use");
    docker.ok("n1", "docker service rm web");
    docker.says("n1", "docker network rm N", "N");
    docker.refused("n1", "docker network rm N", "N");
    docker.ok("n1", "docker network rm hidden");
    docker.says("n1", "docker network prune -f", "Deleted Networks:\nopen");
}

#[test]
fn the_ingress_network_is_replaced_and_configuration_is_shared() {
    let docker = formed(1);
    // Row 21.
    docker.serve("web", "--replicas 2 --publish 8080:80");
    docker.runs("web", 2);
    docker.refused(
        "n1",
        "echo y | docker network rm ingress",
        "ingress network cannot be removed because service",
    );
    docker.ok("n1", "docker service rm web");
    docker.ok("n1", "echo y | docker network rm ingress");
    docker.refused(
        "n1",
        "docker service create --detach --publish 8080:80 host sleep 1000",
        "ingress",
    );
    docker.ok(
        "n1",
        "docker network create -d overlay --ingress --subnet 10.11.0.0/16 --gateway 10.11.0.2 \
         --ipv6 --subnet fd11::/64 --opt com.docker.network.driver.mtu=1400 mesh",
    );
    docker.refused(
        "n1",
        "docker network create -d overlay --ingress again",
        "is already present",
    );
    docker.serve("web", "--replicas 2 --publish 8080:80");
    let tasks = docker.runs("web", 2);
    for task in &tasks {
        assert!(task.addresses[0].starts_with("10.11."), "{task:?}");
        let shown = docker.inside(task, "ip link show eth0; ip route");
        assert!(
            shown.contains("mtu 1350") && shown.contains("default via 10.11.0.2"),
            "{shown}"
        );
    }
    for node in ["n1", "n2", "n3"] {
        docker.answers(node, 8080);
        let six = docker.address(node, Family::V6).unwrap();
        eventually(SOON, &format!("web answers at {six}"), || {
            docker.curl("c1", &format!("http://[{six}]:8080/")).map(drop)
        })
        .unwrap();
        eventually(SOON, &format!("kernel and maps of {node} are as asked"), || {
            docker.essaim(node, &["verify"])?.ok().map(drop)
        })
        .unwrap();
    }

    // Row 22.
    docker.ok(
        "n1",
        "docker network create --config-only --subnet 10.88.0.0/24 --gateway 10.88.0.7 \
         -o com.docker.network.driver.mtu=1450 plan",
    );
    docker.says("n1", &inspect(".ConfigOnly", "plan"), "true");
    docker.ok(
        "n1",
        "docker network create -d overlay --config-from plan --scope swarm built",
    );
    docker.says(
        "n1",
        "docker network inspect -f '{{with index .IPAM.Config 0}}{{.Subnet}} {{.Gateway}}{{end}} {{.ConfigFrom.Network}}' built",
        "10.88.0.0/24 10.88.0.7 plan",
    );
    docker.serve("planned", "--network built");
    let planned = docker.runs("planned", 1);
    assert!(planned[0].addresses[0].starts_with("10.88.0."), "{planned:?}");
    assert!(
        docker
            .inside(&planned[0], "ip link show eth0")
            .contains("mtu 1400")
    );
    docker.refused(
        "n1",
        "docker service create --detach --network plan host sleep 1000",
        "network plan only holds configuration",
    );
    docker.refused(
        "n1",
        "docker network create -d macvlan --config-from plan --scope swarm vlan",
        "plugin \"macvlan\" not found: the driver of a network is \"overlay\"",
    );
    docker.refused(
        "n1",
        "docker network create -d bridge --scope swarm local",
        "plugin \"bridge\" not found",
    );
    docker.refused(
        "n1",
        "docker network create local",
        "a network of driver \"bridge\" is of one node: this node has no Docker Engine",
    );
}

#[test]
fn names_are_known_as_they_are_asked_for() {
    let docker = formed(1);
    for network in ["app", "back"] {
        docker.ok("n1", &format!("docker network create -d overlay {network}"));
    }
    docker.serve("web", "--replicas 4 --network name=app,alias=front,alias=site");
    docker.serve("shop", "--network name=app,alias=site");
    docker.sleep(
        "asker",
        "--network app --dns 192.0.2.53 --dns-search shop.example --dns-option timeout:3 --host db:10.9.9.9 \
         --hostname asking",
    );
    let asker = docker.runs("asker", 1).remove(0);
    let web = docker.runs("web", 4);
    docker.runs("shop", 1);
    let lookup = |name: &str| -> Vec<String> {
        let line = format!("getent ahostsv4 {name}. | awk '$2 == \"STREAM\" {{ print $1 }}'");
        let mut found: Vec<_> = docker.inside(&asker, &line).lines().map(str::to_owned).collect();
        found.sort();
        found
    };
    let finds = |name: &str, expected: &[String]| {
        let mut expected = expected.to_vec();
        expected.sort();
        eventually(SOON, &format!("{name} is {expected:?}"), || {
            let found = lookup(name);
            anyhow::ensure!(found == expected, "it is {found:?}");
            Ok(())
        })
        .unwrap();
    };
    let vip = |service: &str| -> String {
        let line =
            format!("docker service inspect -f '{{{{(index .Endpoint.VirtualIPs 0).Addr}}}}' {service}");
        let text = docker.ok("n1", &line);
        text.split('/').next().unwrap().to_owned()
    };
    let addresses: Vec<_> = web.iter().map(|task| task.addresses[0].clone()).collect();
    // Rows 26, 28 and 29.
    finds("web", &[vip("web")]);
    finds("front", &[vip("web")]);
    finds("tasks.web", &addresses);
    finds("tasks.front", &addresses);
    finds("site", &[vip("shop"), vip("web")]);
    finds("web.app", &[vip("web")]);
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    let pages = docker.inside(
        &asker,
        "for i in $(seq 100); do curl -gsS --noproxy '*' --max-time 5 http://web/ || exit 1; done",
    );
    for line in pages.lines().filter_map(|line| line.strip_prefix("Name: ")) {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    assert_eq!(counts.len(), 4, "{counts:?}");
    assert!(
        counts.values().all(|count| (22..=28).contains(count)),
        "{counts:?}"
    );
    // Row 30.
    let resolv = docker.inside(&asker, "cat /etc/resolv.conf");
    for expected in ["nameserver 127.0.0.11", "search shop.example", "timeout:3"] {
        assert!(resolv.contains(expected), "{expected}: {resolv}");
    }
    docker.sleep("hosted", "--host db:10.9.9.9 --hostname hosting --network app");
    docker.runs("hosted", 1);
    docker.ok(
        "n1",
        "docker service create --detach --name told --host db:10.9.9.9 --host cache:10.9.9.8 --hostname telling \
         --network app --restart-condition none host sh -c 'cat /etc/hosts; hostname'",
    );
    let told = docker.logs("told", |found| found.ends_with("telling"));
    for expected in ["10.9.9.9\tdb", "10.9.9.8\tcache"] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    docker.refused(
        "n1",
        "docker service update --detach --dns-search-add -- -x asker",
        "",
    );
    docker.refused(
        "n1",
        "docker service create --network name=app,alias=a..b host sleep 1000",
        "Aliases[0] is \"a..b\", expected a DNS name",
    );
    // Taken as with Swarm, and remarked on.
    let ran = docker.shell(
        "n1",
        "docker service create --detach --name opted --network name=app,driver-opt=a=b host sleep 1000",
    );
    assert!(
        ran.status.success() && ran.stderr.contains("DriverOpts is \"a\", expected none"),
        "{ran:?}"
    );
    docker.ok("n1", "docker service rm opted");
    docker.refused(
        "n1",
        "docker service create --dns-option ndots:x host sleep 1000",
        "Options[0] is \"ndots:x\", expected an option of resolv.conf",
    );
    docker.refused(
        "n1",
        "docker service create --network host host sleep 1000",
        "network host is a node's own, expected an overlay network",
    );
    // Row 27, and back.
    docker.ok("n1", "docker service update --detach --endpoint-mode dnsrr web");
    let to = |count: usize| {
        eventually(SOON, "web is so many addresses", || {
            let found = lookup("web");
            anyhow::ensure!(found.len() == count, "it is {found:?}");
            Ok(found)
        })
        .unwrap()
    };
    let now: Vec<_> = docker
        .runs("web", 4)
        .iter()
        .map(|task| task.addresses[0].clone())
        .collect();
    finds("web", &now);
    docker.ok("n1", "docker service update --detach --endpoint-mode vip web");
    assert_eq!(to(1), [vip("web")]);
    docker.refused(
        "n1",
        "docker service create --endpoint-mode dnsrr --publish 8080:80 host sleep 1000",
        "endpoint mode dnsrr has no virtual address for ingress",
    );
}
