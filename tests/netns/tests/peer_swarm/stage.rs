//! A manager and two workers with an engine each, a client outside, a service on the workers and a container that asks for it
//! on the manager.

use anyhow::{Context as _, ensure};
use essaim_lab::peer::LoadReport;
use essaim_lab::{Cluster, ClusterBuilder, Engine, EngineSettings, Family, PlacedTask, Running, eventually};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long the cluster may take to do what it was asked.
const SOON: Duration = Duration::from_secs(20);

/// The manager, which has no task of the services.
pub(crate) const MANAGER: &str = "n1";
/// The client outside.
pub(crate) const CLIENT: &str = "c1";
/// Ports that are published: of HTTP, of the echoes of TCP and UDP, of a service without tasks, and of one that is on a network
/// with IPv6, too.
pub(crate) const HTTP: u16 = 8080;
pub(crate) const TCP_ECHO: u16 = 8081;
pub(crate) const UDP_ECHO: u16 = 8082;
pub(crate) const NOBODY: u16 = 8090;
pub(crate) const SIX: u16 = 8083;

/// Whose cluster it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// The engines' own.
    Swarm,
    /// Essaim's daemons, with the engines behind them.
    Essaim,
}

/// The cluster, whose engines go before it does.
pub(crate) struct Stage {
    engines: BTreeMap<String, Engine>,
    pub(crate) lab: Cluster,
}

impl Stage {
    /// Brings it up: `web` answers HTTP, and ends as soon as it is told to and has answered what it was asked; `echo` keeps
    /// its connections until it is killed, 20 s after it was told; `none` is a service of no tasks; `user` asks.
    pub(crate) fn new(system: System) -> anyhow::Result<Self> {
        let lab = ClusterBuilder::new().build()?;
        let settings = EngineSettings {
            swarm: system == System::Swarm,
            ..EngineSettings::default()
        };
        // One after the other: under emulation they are given up for dead if they start together.
        let start = |node: &str| Ok((node.to_owned(), lab.spawn_engine_with(node, settings.clone())?));
        let engines = lab.nodes().map(start).collect::<anyhow::Result<_>>()?;
        println!("engines are up");
        if system == System::Essaim {
            lab.spawn_nodes()?;
        }
        lab.form_by(1, &|node, line| lab.docker_cli(node, line))?;
        println!("the cluster is formed");
        let stage = Self { engines, lab };
        stage.docker(&["network", "create", "--driver", "overlay", "app"])?;
        let worker = "node.role==worker";
        let web = format!(
            "--replicas 2 --publish {HTTP}:80 --publish {UDP_ECHO}:7/udp --constraint {worker} \
             --update-order start-first --update-monitor 1s --health-interval 15s --health-timeout 100s --health-retries 10"
        );
        let mut web: Vec<&str> = web.split_whitespace().collect();
        web.extend(["--health-cmd", "wget -q -O /dev/null http://127.0.0.1/"]);
        stage.serve("web", &web, "whoami --udp 7")?;
        // Each service once the one before it runs: an emulated machine has enough to do with one.
        stage.runs("web", 2)?;
        let echo = format!(
            "--replicas 2 --publish {TCP_ECHO}:7 --constraint {worker} --stop-signal SIGWINCH --stop-grace-period 20s"
        );
        let echo: Vec<&str> = echo.split_whitespace().collect();
        stage.serve("echo", &echo, "echo --tcp-echo 7")?;
        stage.runs("echo", 2)?;
        println!("services run");
        let publish = format!("{NOBODY}:80");
        stage.serve("none", &["--replicas", "0", "--publish", &publish], "whoami")?;
        stage.serve(
            "user",
            &["--constraint", "node.role==manager"],
            "echo --tcp-echo 7",
        )?;
        stage.runs("user", 1)?;
        stage.answers(HTTP, 2)?;
        Ok(stage)
    }

    /// Makes a service of one of the lab's servers.
    pub(crate) fn serve(&self, name: &str, options: &[&str], server: &str) -> anyhow::Result<()> {
        let mounts = self.lab.peer_mounts();
        let mut line = vec![
            "service",
            "create",
            "--detach",
            "--no-resolve-image",
            "--name",
            name,
            "--network",
            "app",
        ];
        line.extend(["--hostname", "{{.Service.Name}}.{{.Task.Slot}}"]);
        line.extend(mounts.iter().map(String::as_str));
        line.extend(options);
        line.extend(["busybox:latest", "/peer"]);
        line.extend(server.split(' '));
        self.docker(&line).map(drop)
    }

    /// Types a line of the docker CLI at the manager.
    pub(crate) fn docker(&self, line: &[&str]) -> anyhow::Result<String> {
        self.lab.docker_cli(MANAGER, line)
    }

    /// Waits until each task of a published port answers, at the manager's IPv4 address.
    pub(crate) fn answers(&self, port: u16, tasks: usize) -> anyhow::Result<()> {
        eventually(SOON, &format!("port {port} answers"), || {
            let report = self.ask(CLIENT, self.at(MANAGER, Family::V4, port)?, 20)?;
            ensure!(report.failed == 0 && report.by_name.len() == tasks, "{report:?}");
            Ok(())
        })
    }

    /// Waits until so many tasks of a service run.
    pub(crate) fn runs(&self, service: &str, count: usize) -> anyhow::Result<Vec<PlacedTask>> {
        self.until(service, |tasks| tasks.len() == count)
    }

    /// Waits until those tasks of a service that run are as they should be.
    pub(crate) fn until(
        &self,
        service: &str,
        so: impl Fn(&[PlacedTask]) -> bool,
    ) -> anyhow::Result<Vec<PlacedTask>> {
        let tasks = eventually(SOON, &format!("{service} runs"), || {
            let tasks = self.lab.running(MANAGER, service)?;
            ensure!(so(&tasks), "{tasks:?}");
            Ok(tasks)
        });
        tasks.with_context(|| {
            self.docker(&["service", "ps", "--no-trunc", service])
                .unwrap_or_default()
        })
    }

    /// Waits until the engine of a node has as many running containers of a service.
    pub(crate) fn has(&self, node: &str, service: &str, count: usize) -> anyhow::Result<()> {
        let filter = format!("name=^{service}\\.");
        eventually(SOON, &format!("{node} has {count} of {service}"), || {
            let found = self
                .engine(node)?
                .docker(&["ps", "--quiet", "--filter", &filter])?;
            ensure!(found.lines().count() == count, "{found}");
            Ok(())
        })
    }

    /// Has one task of a service of two on each worker.
    pub(crate) fn balance(&self, service: &str) -> anyhow::Result<()> {
        for count in [0, 2] {
            self.docker(&["service", "scale", "--detach", &format!("{service}={count}")])?;
            self.runs(service, count)?;
            for node in ["n2", "n3"] {
                self.has(node, service, count / 2)?;
            }
        }
        Ok(())
    }

    fn engine(&self, node: &str) -> anyhow::Result<&Engine> {
        self.engines
            .get(node)
            .with_context(|| format!("{node} has no engine"))
    }

    /// The command line that runs a command in the container that asks, as one of the manager.
    fn inside<'a>(user: &'a str, socket: &'a str) -> Vec<&'a str> {
        vec!["docker", "--host", socket, "exec", user]
    }

    /// The name of the container that asks, and the engine's socket.
    fn user(&self) -> anyhow::Result<(String, String)> {
        let tasks = self.runs("user", 1)?;
        let socket = format!("unix://{}", self.engine(MANAGER)?.socket().display());
        Ok((format!("{}.{}", tasks[0].name, tasks[0].id), socket))
    }

    /// Runs a command in the container that asks; whatever it prints, and whether it succeeds.
    pub(crate) fn in_user(&self, line: &[&str]) -> anyhow::Result<(bool, String)> {
        let (user, socket) = self.user()?;
        let ran = self
            .lab
            .exec(MANAGER, &[&Self::inside(&user, &socket)[..], line].concat())?;
        Ok((ran.status.success(), format!("{}{}", ran.stdout, ran.stderr)))
    }

    /// Tells those of the lab's clients to end that run in the container that asks: `load` or `hold`.
    pub(crate) fn end_in_user(&self, client: &str) -> anyhow::Result<()> {
        let script = format!(
            "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline | grep -q '^/peer {client} ' && kill ${{p#/proc/}} && n=1; done; [ $n ]"
        );
        let (ended, said) = self.in_user(&["sh", "-c", &script])?;
        ensure!(ended, "no {client} runs there: {said}");
        Ok(())
    }

    /// An address of a node, with a port.
    pub(crate) fn at(&self, node: &str, family: Family, port: u16) -> anyhow::Result<SocketAddr> {
        Ok(SocketAddr::new(self.lab.address(node, family)?, port))
    }

    /// The address that the client outside has.
    pub(crate) fn client(&self, family: Family) -> anyhow::Result<String> {
        Ok(self.lab.address(CLIENT, family)?.to_string())
    }

    /// The address of a service on the network.
    pub(crate) fn vip(&self, service: &str) -> anyhow::Result<IpAddr> {
        self.lab.virtual_address(MANAGER, service, "app", Family::V4)
    }

    /// Sends so many requests, a new connection each: from the client outside, or from the container.
    pub(crate) fn ask(&self, from: &str, target: SocketAddr, requests: u32) -> anyhow::Result<LoadReport> {
        let (target, requests) = (format!("http://{target}/"), requests.to_string());
        let line = [
            "load",
            "--target",
            &target,
            "--requests",
            &requests,
            "--seconds",
            "100",
            "--timeout-ms",
            "5000",
        ];
        if from == CLIENT {
            return self.lab.peer(CLIENT, &line)?.json();
        }
        let (_, said) = self.in_user(&[&["/peer"], &line[..]].concat())?;
        serde_json::from_str(said.trim()).with_context(|| said)
    }

    /// Starts one of the lab's clients in the background: outside, or in the container.
    pub(crate) fn start(&self, from: &str, line: &[&str]) -> anyhow::Result<Running> {
        if from == CLIENT {
            return self.lab.start_peer(CLIENT, line);
        }
        let (user, socket) = self.user()?;
        let line = [&Self::inside(&user, &socket)[..], &["/peer"], line].concat();
        self.lab.start(MANAGER, &line)
    }
}
