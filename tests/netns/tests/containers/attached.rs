//! Containers of a node's own on networks of the cluster: `docker run --network`, `network connect`.

use crate::stage::{NODES, SOON, Stage};
use anyhow::{Context as _, ensure};
use essaim_lab::eventually;
use serde_json::Value;

impl Stage {
    /// Makes a network that containers can be on.
    pub(crate) fn open_network(&self, name: &str) -> anyhow::Result<()> {
        let line = ["network", "create", "--driver", "overlay", "--attachable", name];
        self.operate(&line).map(drop)
    }

    /// What a command of the CLI's says that must fail.
    fn refused(&self, node: &str, line: &[&str]) -> anyhow::Result<String> {
        match self.lab.docker_cli(node, line) {
            Ok(said) => anyhow::bail!("docker {line:?} was not refused: {said}"),
            Err(error) => Ok(format!("{error:#}")),
        }
    }

    /// The address of a container on a network, as the engine has it.
    fn address_on(&self, node: &str, container: &str, network: &str) -> anyhow::Result<String> {
        let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        let address = self
            .lab
            .docker_cli(node, &["inspect", "--format", &format, container])?;
        Ok(address.trim().to_owned())
    }

    /// The containers that the managers know of on a network of a node: their names and addresses.
    fn known_on(&self, network: &str) -> anyhow::Result<Vec<(String, String)>> {
        let found = self.lab.api("n1", &format!("/networks/{network}"))?;
        let containers = found["Containers"]
            .as_object()
            .context("a network's containers")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut all: Vec<_> = containers
            .values()
            .map(|one| (text(&one["Name"]), text(&one["IPv4Address"])))
            .collect();
        all.sort();
        Ok(all)
    }

    /// Starts a container of a node's own, `box`, which serves a page that says `here`; its identity.
    pub(crate) fn serving_box(&self, node: &str, options: &[&str]) -> anyhow::Result<String> {
        let serve = "mkdir -p /www && echo here > /www/index.html && exec httpd -f -h /www";
        let line = [
            &["run", "-d", "--name", "box"],
            options,
            &["busybox", "sh", "-c", serve],
        ];
        self.lab.docker_cli(node, &line.concat())
    }

    /// A page, as a fresh container on a network gets it at its first try.
    pub(crate) fn fetched_at_once(&self, node: &str, network: &str, url: &str) -> anyhow::Result<String> {
        let line = [
            "run",
            "--rm",
            "--network",
            network,
            "busybox",
            "wget",
            "-q",
            "-O",
            "-",
            url,
        ];
        self.lab.docker_cli(node, &line)
    }

    /// A page, as a fresh container on a network gets it. It asks more than once: what it asks for may just have begun.
    fn fetched(&self, node: &str, network: &str, url: &str) -> anyhow::Result<String> {
        let script =
            format!("for i in 1 2 3 4 5 6; do wget -q -O - {url} 2>/dev/null && exit; sleep 1; done; exit 1");
        self.lab.docker_cli(
            node,
            &[
                "run",
                "--rm",
                "--network",
                network,
                "busybox",
                "sh",
                "-c",
                &script,
            ],
        )
    }
}

#[test]
fn a_container_of_a_node_reaches_services_and_is_reached_by_its_names() -> anyhow::Result<()> {
    let stage = Stage::new()?;
    stage.open_network("open")?;
    stage.serve("web", &["--network", "open", "--replicas", "2"])?;
    stage.script("user", &["--network", "open"], "sleep 100000")?;
    stage.runs("web", 2)?;
    let user = stage.runs("user", 1)?;

    // By name, by a worker's API, too.
    for node in ["n1", "n2", "n1", "n2"] {
        let page = stage.fetched_at_once(node, "open", "http://web/")?;
        ensure!(page.contains("Name: web."), "{node}: {page}");
    }

    // It has a name, an alias and its identity's beginning, everywhere on the network.
    let id = stage.serving_box("n1", &["--network", "open", "--network-alias", "pal"])?;
    let short = id.get(..12).context("a container's identity")?.to_owned();
    for name in ["box", "pal", short.as_str()] {
        let url = format!("http://{name}/");
        eventually(SOON, &format!("a task reaches {name}"), || {
            let page = stage.inside(&user[0], &["wget", "-q", "-O", "-", &url])?;
            ensure!(page.trim() == "here", "{page}");
            Ok(())
        })?;
        let page = stage.fetched("n2", "open", &url)?;
        ensure!(page.trim() == "here", "{name}: {page}");
    }
    let address = stage.address_on("n1", "box", "open")?;
    let known = stage.known_on("open")?;
    ensure!(
        known.contains(&("box".to_owned(), format!("{address}/24"))),
        "{address} in {known:?}"
    );
    // The way to the outside is the engine's own.
    let routes = stage.lab.docker_cli("n1", &["exec", "box", "ip", "route"])?;
    ensure!(
        routes
            .lines()
            .any(|line| line.starts_with("default") && line.contains("eth1")),
        "{routes}"
    );
    stage.verified()?;

    // The network is listed once, and in use.
    for node in NODES {
        let shown = "{{.Name}} {{.Driver}} {{.Scope}}";
        let line = ["network", "ls", "--filter", "name=open", "--format", shown];
        let listed = stage.lab.docker_cli(node, &line)?;
        ensure!(listed.trim() == "open overlay swarm", "{listed}");
    }
    stage.operate(&["service", "rm", "web", "user"])?;
    let refused = stage.refused("n1", &["network", "rm", "open"])?;
    ensure!(refused.contains("is in use"), "{refused}");

    // A daemon that is replaced takes nothing from it.
    stage.lab.restart_node("n1")?;
    eventually(
        SOON,
        "the container is reached after a restart of the daemon",
        || {
            let page = stage.fetched("n2", "open", "http://box/")?;
            ensure!(page.trim() == "here", "{page}");
            Ok(())
        },
    )?;
    ensure!(
        stage.address_on("n1", "box", "open")? == address,
        "another address"
    );
    stage.verified()?;

    // Stopped and started it is there again; gone, nothing is left of it.
    for _ in 0..3 {
        stage.lab.docker_cli("n1", &["restart", "--time", "0", "box"])?;
        let page = stage.fetched("n1", "open", "http://box/")?;
        ensure!(page.trim() == "here", "{page}");
    }
    stage.lab.docker_cli("n1", &["rm", "-f", "box"])?;
    eventually(SOON, "the network is free", || {
        stage.operate(&["network", "rm", "open"])
    })?;
    stage.verified()?;
    stage.has_just(&[])
}

#[test]
fn containers_join_and_leave_while_they_run_and_what_is_closed_stays_so() -> anyhow::Result<()> {
    let stage = Stage::new()?;
    stage.open_network("one")?;
    stage.open_network("two")?;
    let refused = stage.refused("n1", &["run", "--rm", "--network", "app", "busybox", "true"])?;
    ensure!(
        refused.contains("network app not manually attachable"),
        "{refused}"
    );
    let refused = stage.refused("n2", &["run", "--rm", "--network", "nowhere", "busybox", "true"])?;
    ensure!(refused.contains("network nowhere not found"), "{refused}");

    stage.serving_box("n1", &["--network", "one"])?;
    stage.lab.docker_cli(
        "n2",
        &[
            "run",
            "-d",
            "--name",
            "far",
            "--network",
            "two",
            "busybox",
            "sleep",
            "100000",
        ],
    )?;
    stage
        .lab
        .docker_cli("n1", &["network", "connect", "--alias", "second", "two", "box"])?;
    eventually(SOON, "box is reached on two by its alias there", || {
        let page = stage.fetched("n2", "two", "http://second/")?;
        ensure!(page.trim() == "here", "{page}");
        Ok(())
    })?;
    let links = stage.lab.docker_cli("n1", &["exec", "box", "ip", "-o", "addr"])?;
    let own = stage.address_on("n1", "box", "two")?;
    ensure!(links.contains(&format!("{own}/24")), "{own} in {links}");
    stage.verified()?;
    stage
        .lab
        .docker_cli("n1", &["network", "disconnect", "two", "box"])?;
    eventually(SOON, "box has left two", || {
        let known = stage.known_on("two")?;
        ensure!(known.iter().all(|(name, _)| name != "box"), "{known:?}");
        Ok(())
    })?;
    // What it had first works on.
    let page = stage.fetched("n2", "one", "http://box/")?;
    ensure!(page.trim() == "here", "{page}");

    // An address of one's own choosing, once.
    let network = stage.lab.api("n1", "/networks/one")?;
    let subnet = network
        .pointer("/IPAM/Config/0/Subnet")
        .and_then(Value::as_str)
        .context("a subnet")?;
    let chosen = format!("{}.77", subnet.rsplit_once('.').context("a v4 subnet")?.0);
    stage.lab.docker_cli(
        "n1",
        &[
            "run",
            "-d",
            "--name",
            "own",
            "--network",
            "one",
            "--ip",
            &chosen,
            "busybox",
            "sleep",
            "100000",
        ],
    )?;
    ensure!(
        stage.address_on("n1", "own", "one")? == chosen,
        "another address than {chosen}"
    );
    let refused = stage.refused(
        "n2",
        &[
            "run",
            "--rm",
            "--network",
            "one",
            "--ip",
            &chosen,
            "busybox",
            "true",
        ],
    )?;
    // The engine keeps the reason to itself; the daemon's log has it.
    ensure!(refused.contains("No address returned"), "{refused}");

    for (node, name) in [("n1", "box"), ("n1", "own"), ("n2", "far")] {
        stage.lab.docker_cli(node, &["rm", "-f", name])?;
    }
    for network in ["one", "two"] {
        eventually(SOON, &format!("{network} is free"), || {
            stage.operate(&["network", "rm", network])
        })?;
    }
    stage.verified()?;
    stage.has_just(&[])
}
