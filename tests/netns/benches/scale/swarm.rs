//! A cluster of three nodes, one of them a manager, as the bench sees it; and Docker's.

use crate::sandbox::{Sandbox, eventually, run};
use anyhow::{Context as _, ensure};
use essaim_lab::{Cluster, ClusterBuilder};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// All that a task needs here.
pub(crate) const BUSYBOX: &str = "/bin/busybox";
/// Docker's daemon.
pub(crate) const DOCKERD: &str = "/usr/sbin/dockerd";
/// The argument that makes this program the client in a task.
pub(crate) const PROBE: &str = "--probe";
/// The image, of a registry that refuses at once: the daemons look there before they take their own.
const IMAGE: &str = "localhost:1/task:1";
const NODES: usize = 3;

/// A cluster with the service `web` on the network `front`, and a client on each node.
pub(crate) trait Swarm {
    fn name(&self) -> &'static str;

    /// The manager's API.
    fn socket(&self) -> PathBuf;

    /// Runs the operator's command at the manager, to its end.
    fn scale(&self, replicas: usize) -> anyhow::Result<()>;

    /// Starts this program as the client on each node; what they say is read from them.
    fn probes(&self) -> anyhow::Result<Vec<Lines>>;
}

/// What a client says; it runs until its cluster or the bench ends.
pub(crate) type Lines = Box<dyn Iterator<Item = String> + Send>;

fn this_program() -> anyhow::Result<String> {
    let program = std::env::current_exe().context("failed to find this program")?;
    Ok(program.display().to_string())
}

/// The slots of `web` whose tasks run, as the API says.
pub(crate) fn running(socket: &Path) -> anyhow::Result<Vec<u64>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // {"service":["web"]}
    let path = "/tasks?filters=%7B%22service%22%3A%5B%22web%22%5D%7D";
    write!(stream, "GET {path} HTTP/1.0\r\nHost: api\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer of HTTP")?;
    ensure!(head.contains(" 200 "), "{head}");
    let tasks: Vec<Value> = serde_json::from_str(body)?;
    let runs = |task: &&Value| task.pointer("/Status/State").and_then(Value::as_str) == Some("running");
    let slot = |task: &Value| task.get("Slot").and_then(Value::as_u64);
    Ok(tasks.iter().filter(runs).filter_map(slot).collect())
}

/// What says the host's name to whoever connects; the same program in both.
const SERVER: [&str; 7] = [BUSYBOX, "nc", "-ll", "-p", "80", "-e", "/bin/hostname"];
const SLEEPER: [&str; 3] = [BUSYBOX, "sleep", "86400"];
const WEB: [&str; 11] = [
    "service",
    "create",
    "--detach",
    "--name",
    "web",
    "--hostname",
    "{{.Service.Name}}.{{.Task.Slot}}",
    "--endpoint-mode",
    "dnsrr",
    "--network",
    "front",
];

/// Essaim, in the lab.
pub(crate) struct Ours(Cluster);

impl Ours {
    pub(crate) fn start(binaries: &Path) -> anyhow::Result<Self> {
        let cluster = ClusterBuilder::new()
            .nodes(NODES.try_into()?)
            .binaries(binaries)
            .build()?;
        cluster.spawn_nodes()?;
        cluster.form(1)?;
        let operate = |arguments: &[&str]| cluster.operate("n1", arguments);
        operate(&["network", "create", "--driver", "overlay", "front"])?;
        operate(&[&WEB[..], &["host"], &SERVER].concat())?;
        let probe = [
            "service", "create", "--detach", "--name", "probe", "--mode", "global",
        ];
        operate(&[&probe[..], &["--network", "front", "host"], &SLEEPER].concat())?;
        cluster.wait_running("n1", "web", 1)?;
        cluster.wait_running("n1", "probe", NODES)?;
        Ok(Self(cluster))
    }
}

impl Swarm for Ours {
    fn name(&self) -> &'static str {
        "essaim"
    }

    fn socket(&self) -> PathBuf {
        self.0.api_socket("n1")
    }

    fn scale(&self, replicas: usize) -> anyhow::Result<()> {
        let asked = format!("web={replicas}");
        self.0
            .operate("n1", &["service", "scale", "--detach", &asked])
            .map(drop)
    }

    fn probes(&self) -> anyhow::Result<Vec<Lines>> {
        let program = this_program()?;
        let start = |node: &str| {
            let line = [program.as_str(), PROBE, "tasks.web"];
            let mut client = self.0.start(&format!("probe.{node}"), &line)?;
            let lines = std::iter::from_fn(move || Some(client.next_line().ok()?.trim_end().to_owned()));
            Ok(Box::new(lines) as Lines)
        };
        self.0.nodes().map(start).collect()
    }
}

/// Docker's daemons, each in namespaces of its own, on one Ethernet.
pub(crate) struct Docker {
    folder: PathBuf,
    groups: String,
    nodes: Vec<Sandbox>,
    hub: Sandbox,
}

impl Docker {
    /// What is missing on this machine.
    pub(crate) fn missing() -> Option<&'static str> {
        let has_client = Command::new("docker").arg("--version").output().is_ok();
        [
            (Path::new(DOCKERD).exists() && has_client, "docker.io"),
            (Path::new(BUSYBOX).exists(), "busybox-static"),
        ]
        .iter()
        .find_map(|(is_there, package)| (!is_there).then_some(*package))
    }

    pub(crate) fn start(folder: &Path) -> anyhow::Result<Self> {
        let hub = "ip link add br0 type bridge; ip link set br0 up; exec sleep 86400";
        let hub = Sandbox::start(hub, &folder.join("hub.log"))?;
        let groups = format!("essaim-scale-{}", process::id());
        let mut docker = Self {
            folder: folder.to_owned(),
            groups,
            nodes: Vec::new(),
            hub,
        };
        for node in 1..=NODES {
            docker.add(node)?;
        }
        for node in 1..=NODES {
            docker.prepare(node)?;
        }
        docker.operate(
            1,
            &[
                "network",
                "create",
                "--driver",
                "overlay",
                "--attachable",
                "front",
            ],
        )?;
        let web = [&WEB[..], &["--no-resolve-image", IMAGE], &SERVER];
        docker.operate(1, &web.concat())?;
        let socket = docker.socket();
        eventually("the first task of Docker's runs", || {
            ensure!(running(&socket)?.len() == 1, "none does");
            Ok(())
        })?;
        for node in 1..=NODES {
            let probe = ["run", "--detach", "--network", "front", "--name", "probe", IMAGE];
            docker.operate(node, &[&probe[..], &SLEEPER].concat())?;
        }
        Ok(docker)
    }

    fn add(&mut self, node: usize) -> anyhow::Result<()> {
        let at = self.folder.join(node.to_string());
        fs::create_dir_all(&at).with_context(|| format!("failed to make {}", at.display()))?;
        let at = at.display();
        let script = format!(
            "until ip link show eth0; do sleep 0.02; done\n\
             ip link set lo up; ip addr add 192.0.2.{node}/24 dev eth0; ip link set eth0 up\n\
             exec {DOCKERD} --data-root {at}/data --exec-root {at}/exec --pidfile {at}/pid --host unix://{at}/socket \
             --bridge none --log-level error --cgroup-parent /{}",
            self.groups
        );
        let sandbox = Sandbox::start(&script, &self.folder.join(format!("{node}.log")))?;
        let port = format!("p{node}");
        let hub = self.hub.init();
        let link = format!(
            "link add eth0 netns {} type veth peer name {port} netns {hub}",
            sandbox.init()
        );
        run(Command::new("ip").args(link.split(' ')))?;
        let port = format!("ip link set {port} master br0 up");
        run(Command::new("nsenter")
            .args(["--target", &hub, "--net"])
            .args(port.split(' ')))?;
        self.nodes.push(sandbox);
        Ok(())
    }

    /// The node has the image, and is in the cluster.
    fn prepare(&self, node: usize) -> anyhow::Result<()> {
        let daemon = eventually("dockerd", || self.operate(node, &["info"]));
        daemon.with_context(|| {
            let log = self.folder.join(format!("{node}.log"));
            fs::read_to_string(log).unwrap_or_default()
        })?;
        let image = self.folder.join("image/bin");
        fs::create_dir_all(&image).with_context(|| format!("failed to make {}", image.display()))?;
        for name in ["busybox", "hostname"] {
            fs::copy(BUSYBOX, image.join(name)).context("failed to copy busybox")?;
        }
        let archive = self.folder.join("image.tar").display().to_string();
        let root = self.folder.join("image").display().to_string();
        run(Command::new("tar").args(["-cf", &archive, "-C", &root, "."]))?;
        self.operate(node, &["import", &archive, IMAGE])?;
        if node == 1 {
            self.operate(1, &["swarm", "init", "--advertise-addr", "192.0.2.1"])?;
        } else {
            let token = self.operate(1, &["swarm", "join-token", "--quiet", "worker"])?;
            self.operate(node, &["swarm", "join", "--token", &token, "192.0.2.1:2377"])?;
        }
        Ok(())
    }

    fn operate(&self, node: usize, arguments: &[&str]) -> anyhow::Result<String> {
        let host = format!("unix://{}/{node}/socket", self.folder.display());
        let mut command = Command::new("docker");
        command.env("DOCKER_CONFIG", &self.folder).args(["--host", &host]);
        run(command.args(arguments))
    }
}

impl Swarm for Docker {
    fn name(&self) -> &'static str {
        "docker.io"
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("1/socket")
    }

    fn scale(&self, replicas: usize) -> anyhow::Result<()> {
        self.operate(1, &["service", "scale", "--detach", &format!("web={replicas}")])
            .map(drop)
    }

    fn probes(&self) -> anyhow::Result<Vec<Lines>> {
        let program = this_program()?;
        let start = |(sandbox, node): (&Sandbox, usize)| {
            let pid = self.operate(node, &["inspect", "--format", "{{.State.Pid}}", "probe"])?;
            let netns = sandbox.netns_inside(&pid).display().to_string();
            let mut child = Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "nsenter", &format!("--net={netns}")])
                .args([&program, PROBE, "tasks.web"])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .context("failed to start setpriv (package util-linux)")?;
            let out = child.stdout.take().context("it has no output")?;
            Ok(Box::new(BufReader::new(out).lines().map_while(Result::ok)) as Lines)
        };
        self.nodes.iter().zip(1..).map(start).collect()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.nodes.clear();
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
        for group in hierarchies.map(|entry| entry.path()).chain([root.to_owned()]) {
            remove_groups(&group.join(&self.groups));
        }
    }
}

/// Removes a control group with those in it; the processes in it may take a moment to be gone.
fn remove_groups(group: &Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    for entry in fs::read_dir(group).into_iter().flatten().filter_map(Result::ok) {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    while group.exists() && fs::remove_dir(group).is_err() {
        if Instant::now() > deadline {
            eprintln!("failed to remove {}", group.display());
            return;
        }
        thread::park_timeout(Duration::from_millis(20));
    }
}
