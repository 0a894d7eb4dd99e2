//! The three servers, each with the same names.

use crate::sandbox::{Sandbox, inside, run};
use crate::upstream;
use anyhow::Context as _;
use essaim_abi::{DnsAnswer, DnsKey};
use essaim_datapath::{AnswerStore, Datapath, Sizing};
use essaim_dns::{AskerId, AskerInfo, DnsServer, KernelAnswers, Zone, open_sockets};
use essaim_model::{Catalog, Liveness};
use nix::unistd::Pid;
use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Docker's daemon, whose embedded resolver is measured.
pub(crate) const DOCKERD: &str = "/usr/sbin/dockerd";
/// Its client, of the same package: others may speak another API.
pub(crate) const DOCKER: &str = "/usr/bin/docker";
/// Podman's resolver.
pub(crate) const AARDVARK: &str = "/usr/lib/podman/aardvark-dns";
/// All that a container needs here.
pub(crate) const BUSYBOX: &str = "/bin/busybox";
/// The argument that makes this program our server.
pub(crate) const SERVE: &str = "--serve";
/// Our server as the agent has it: the kernel answers what was asked before.
pub(crate) const OURS: &str = "essaim";
/// Our server by itself.
pub(crate) const OURS_ALONE: &str = "essaim, no BPF";

/// The cluster's names that are asked for.
pub(crate) const NAMES: [&str; 4] = ["web", "api", "db", "cache"];
/// Names of the outside.
pub(crate) const OUTSIDE: [&str; 4] = [
    "www.example.org",
    "deb.example.org",
    "api.example.net",
    "example.com",
];

/// The same names as a catalog.
const CATALOG: &str = r#"
revision = 1
cluster = { ingress_subnets = ["10.255.0.0/16"] }
nodes = [{ name = "n1", address = "192.0.2.11", overlay = ["10.255.0.11"] }]
networks = [{ name = "app", vni = 100, subnets = ["10.0.1.0/24"] }]

[[services]]
name = "web"
networks = [{ name = "app", vips = ["10.0.1.2"] }]
tasks = [{ id = "web.1", node = "n1", netns = "x", endpoints = [{ network = "app", addresses = ["10.0.1.12"] }] }]

[[services]]
name = "api"
networks = [{ name = "app", vips = ["10.0.1.3"] }]

[[services]]
name = "db"
networks = [{ name = "app", vips = ["10.0.1.4"] }]

[[services]]
name = "cache"
networks = [{ name = "app", vips = ["10.0.1.5"] }]
"#;

/// A server that can be asked and measured.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    /// Whose CPU time counts: all threads of it.
    pub(crate) process: Pid,
    /// Where it is asked from.
    pub(crate) netns: PathBuf,
    pub(crate) address: SocketAddr,
    /// The asker's address, where the server looks at it.
    pub(crate) asker: Ipv4Addr,
    sandbox: Sandbox,
    /// Goes after the sandbox.
    _groups: Option<ControlGroups>,
}

impl Server {
    /// Waits until it has an address for every name.
    pub(crate) fn wait_ready(&self) -> anyhow::Result<()> {
        inside(&self.netns, || {
            let socket = UdpSocket::bind((self.asker, 0)).context("failed to open a socket")?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            for name in NAMES.iter().chain(&OUTSIDE) {
                let what = format!("{name} at {}", self.name);
                self.sandbox
                    .wait(&what, || has_address(&socket, self.address, name).then_some(()))?;
            }
            Ok(())
        })
    }
}

/// A question for a name's IPv4 addresses, without EDNS, with the number 1.
pub(crate) fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.extend(u8::try_from(label.len()));
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Asks once: whether there was no error and an answer.
fn has_address(socket: &UdpSocket, server: SocketAddr, name: &str) -> bool {
    let mut answer = [0; 512];
    socket.send_to(&question(name), server).is_ok()
        && socket.recv(&mut answer).is_ok()
        && matches!(answer, [_, _, _, flags, _, _, high, low, ..] if flags % 16 == 0 && (high, low) != (0, 0))
}

/// The beginning of every script: loopback with the upstream server's address and others.
fn loopback(addresses: &[Ipv4Addr]) -> String {
    let mut script = "ip link set lo up\n".to_owned();
    for address in [upstream::ADDRESS].iter().chain(addresses) {
        let _ = writeln!(script, "ip addr add {address}/32 dev lo");
    }
    script
}

/// This crate's server, on sockets opened as the agent opens a task's.
pub(crate) fn ours(folder: &Path, name: &'static str) -> anyhow::Result<Server> {
    let program = env::current_exe().context("failed to find this program")?;
    let in_kernel = name == OURS;
    let address_file = folder.join(if in_kernel { "address" } else { "address-alone" });
    let script = format!(
        "{}exec taskset -c 0 {} {SERVE} {} {in_kernel}",
        loopback(&[]),
        program.display(),
        address_file.display()
    );
    let sandbox = Sandbox::start(&script, address_file.with_extension("log"))?;
    let address = sandbox.wait("our server", || {
        fs::read_to_string(&address_file).ok()?.trim_end().parse().ok()
    })?;
    let netns = sandbox.netns();
    upstream::start(&netns)?;
    Ok(Server {
        name,
        process: sandbox.init(),
        netns,
        address,
        asker: Ipv4Addr::LOCALHOST,
        sandbox,
        _groups: None,
    })
}

/// Serves the names to the one task of the catalog in this namespace, and writes down where.
pub(crate) fn serve(address_file: &Path, in_kernel: bool) -> anyhow::Result<()> {
    let catalog = Catalog::parse(CATALOG).context("the catalog has errors")?;
    let tasks = catalog
        .services
        .iter()
        .flat_map(|service| service.tasks.iter().map(move |task| (service, task)));
    let (service, task) = tasks.last().context("the catalog has no task")?;
    let server = DnsServer::start()?;
    let datapath = if in_kernel {
        let datapath = Datapath::load_unattached(Sizing::default()).context("failed to load the programs")?;
        server.answer_in_kernel(Arc::new(InKernel(datapath.answers()?)));
        Some(datapath)
    } else {
        None
    };
    server.set_zone(Arc::new(Zone::new(&catalog, &Liveness::of(&catalog))));
    server.set_upstreams(vec![(upstream::ADDRESS, 53).into()]);
    let netns = File::open("/proc/self/ns/net").context("failed to open the network namespace")?;
    let (udp, tcp) = open_sockets(netns.as_fd())?;
    let address = udp.local_addr().context("the socket has no address")?;
    let _link = match &datapath {
        Some(datapath) => Some(datapath.answer_unpinned(0, netns.as_fd(), udp.as_fd())?),
        None => None,
    };
    server.add_asker(AskerId(0), AskerInfo::of(&catalog, service, task), udp, tcp)?;
    let unfinished = address_file.with_extension("new");
    fs::write(&unfinished, address.to_string())
        .and_then(|()| fs::rename(&unfinished, address_file))
        .context("failed to write the address")?;
    loop {
        thread::park();
    }
}

/// The kernel's answers, as the agent fills them.
#[derive(Debug)]
struct InKernel(AnswerStore);

impl KernelAnswers for InKernel {
    fn generation(&self) -> io::Result<u64> {
        self.0.generation().map_err(io::Error::other)
    }

    fn set_generation(&self, generation: u64) -> io::Result<()> {
        self.0.set_generation(generation).map_err(io::Error::other)
    }

    fn renew(&self, lease: Duration) -> io::Result<()> {
        self.0.renew(lease).map_err(io::Error::other)
    }

    fn insert(&self, key: &DnsKey, answer: &DnsAnswer) -> io::Result<()> {
        self.0.insert(key, answer).map_err(io::Error::other)
    }
}

/// Docker's daemon with a container for each name on a network; asked from inside one of them.
pub(crate) fn docker(folder: &Path) -> anyhow::Result<Server> {
    let root = folder.join("docker");
    let image = root.join("image/bin");
    fs::create_dir_all(&image).with_context(|| format!("failed to make {}", image.display()))?;
    fs::copy(BUSYBOX, image.join("busybox")).context("failed to copy busybox")?;
    let groups = ControlGroups(format!("essaim-peers-{}", process::id()));
    let at = root.display();
    let script = format!(
        "{}exec taskset -c 0 {DOCKERD} --data-root {at}/data --exec-root {at}/exec --pidfile {at}/pid \
         --host unix://{at}/socket --storage-driver vfs --userland-proxy=false --log-level error \
         --cgroup-parent /{}",
        loopback(&[]),
        groups.0
    );
    let sandbox = Sandbox::start(&script, folder.join("docker.log"))?;
    let docker = |arguments: &[&str]| {
        let host = format!("unix://{at}/socket");
        let mut command = Command::new(DOCKER);
        command.env("DOCKER_CONFIG", &root).args(["--host", &host]);
        run(command.args(arguments))
    };
    sandbox.wait("dockerd", || docker(&["info"]).ok())?;
    let archive = root.join("image.tar");
    run(Command::new("tar")
        .arg("-cf")
        .arg(&archive)
        .arg("-C")
        .arg(root.join("image"))
        .arg("."))?;
    docker(&["import", &archive.to_string_lossy(), "task"])?;
    docker(&["network", "create", "app"])?;
    let outside = upstream::ADDRESS.to_string();
    for name in NAMES {
        let task = ["task", "/bin/busybox", "sleep", "86400"];
        let options = [
            "run",
            "--detach",
            "--network",
            "app",
            "--dns",
            &outside,
            "--name",
            name,
        ];
        docker(&[&options[..], &task].concat())?;
    }
    upstream::start(&sandbox.netns())?;
    let container = docker(&["inspect", "--format", "{{.State.Pid}}", "web"])?;
    Ok(Server {
        name: "docker",
        process: sandbox.init(),
        netns: sandbox.netns_inside(&container),
        address: (Ipv4Addr::new(127, 0, 0, 11), 53).into(),
        asker: Ipv4Addr::UNSPECIFIED,
        sandbox,
        _groups: Some(groups),
    })
}

/// aardvark-dns with the file that netavark would write. It is asked over loopback, which spares it the bridge and
/// the veth of a real container.
pub(crate) fn aardvark(folder: &Path) -> anyhow::Result<Server> {
    let config = folder.join("aardvark");
    fs::create_dir_all(&config).with_context(|| format!("failed to make {}", config.display()))?;
    let address = Ipv4Addr::new(10, 89, 0, 1);
    let containers: Vec<Ipv4Addr> = (2..)
        .map(|low| Ipv4Addr::new(10, 89, 0, low))
        .take(NAMES.len())
        .collect();
    let mut file = format!("{address}\n");
    for (name, container) in NAMES.iter().zip(&containers) {
        let _ = writeln!(
            file,
            "{name}0123456789ab {container}  {name} {}",
            upstream::ADDRESS
        );
    }
    fs::write(config.join("app"), file).context("failed to write aardvark's file")?;
    let asker = *containers.first().context("there are no names")?;
    // It goes into the background once it serves.
    let script = format!(
        "{}taskset -c 0 {AARDVARK} --config {} --port 53 run\nexec sleep infinity",
        loopback(&[address, asker]),
        config.display()
    );
    let sandbox = Sandbox::start(&script, folder.join("aardvark.log"))?;
    let process = sandbox.wait("aardvark-dns", || {
        // The first process has waited for the one that started it.
        sandbox.find("sleep").and_then(|_| sandbox.find("aardvark-dns"))
    })?;
    let netns = sandbox.netns();
    upstream::start(&netns)?;
    Ok(Server {
        name: "aardvark",
        process,
        netns,
        address: (IpAddr::V4(address), 53).into(),
        asker,
        sandbox,
        _groups: None,
    })
}

/// The control groups that Docker makes for its containers and leaves behind.
#[derive(Debug)]
struct ControlGroups(String);

impl Drop for ControlGroups {
    fn drop(&mut self) {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
        for group in hierarchies.map(|entry| entry.path()).chain([root.to_owned()]) {
            remove_groups(&group.join(&self.0));
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
