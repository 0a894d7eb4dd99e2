//! A Docker Engine for a node: Debian's (`docker.io`), with one image and without networks of its own.
//!
//! It can be stopped, killed and started again. Its mounts outlive it, as on a machine of its own.

use crate::cluster::Cluster;
use crate::run::run_here;
use crate::spawn::{self, Room};
use crate::wait::eventually;
use crate::{busybox, cgroup};
use anyhow::{Context as _, ensure};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long the engine may take until it answers. One that was killed gives containers 10 s to end first.
const START_DEADLINE: Duration = Duration::from_mins(1);

/// How long it may take to end when told to: it gives its containers 15 s.
const STOP_DEADLINE: Duration = Duration::from_secs(40);

/// How long its groups and folders may take to go: the kernel takes its mounts down after its last process.
const END_DEADLINE: Duration = Duration::from_secs(20);

/// Where an engine looks for plugins.
const PLUGINS: &str = "/run/docker/plugins";

/// The image that it has.
const IMAGE: &str = "busybox:latest";

/// How an engine differs from the usual one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineSettings {
    /// More arguments of `dockerd`.
    pub arguments: Vec<String>,
    /// Whether it has its own bridge, on which containers are that ask for no network.
    pub bridge: bool,
    /// The size of its disk, in MiB; the machine's where there is none given.
    pub disk_mib: Option<u32>,
    /// Whether it is to be a node of Docker's own Swarm: it writes rules of iptables, its host has the node's name, and it is
    /// asked where the node's API is looked for else.
    pub swarm: bool,
}

/// A node's Docker Engine, which ends, with all its containers, when this goes.
///
/// It stands in the node's network namespace and control group, its containers too. It shares the processes' numbers with
/// the machine, as on a machine of its own: `State.Pid` of a container is what `/proc` knows. What it mounts is
/// seen by itself and its successors only, and goes with this.
#[derive(Debug)]
pub struct Engine {
    /// What is mounted in here the engine sees, too, as it does where systemd has made all mounts shared.
    shared: PathBuf,
    settings: EngineSettings,
    netns: String,
    /// Keeps what is mounted while no engine runs.
    keeper: Child,
    /// None where it was ended.
    child: Option<Child>,
    socket: PathBuf,
    folder: PathBuf,
    /// Its group of version 2, and those of version 1, in which its containers are limited.
    groups: Vec<PathBuf>,
}

impl Cluster {
    /// Starts a node's Docker Engine, which listens at [`Cluster::docker_socket`], and waits until it answers and has the
    /// image `busybox:latest`.
    ///
    /// # Errors
    /// When it cannot be started, or does not answer; then with its log.
    pub fn spawn_engine(&self, node: &str) -> anyhow::Result<Engine> {
        self.spawn_engine_with(node, EngineSettings::default())
    }

    /// As [`Cluster::spawn_engine`], of another kind than the usual one.
    ///
    /// # Errors
    /// As [`Cluster::spawn_engine`].
    pub fn spawn_engine_with(&self, node: &str, settings: EngineSettings) -> anyhow::Result<Engine> {
        let socket = self.docker_socket(node);
        let folder = socket.parent().context("a socket without a folder")?.to_owned();
        ensure!(!folder.exists(), "the engine of {node} runs already");
        let data = folder.join("data");
        fs::create_dir_all(&data).with_context(|| format!("failed to make {}", data.display()))?;
        if let Some(size) = settings.disk_mib {
            let size = format!("size={size}m");
            mount(
                Some("tmpfs"),
                &data,
                Some("tmpfs"),
                MsFlags::empty(),
                Some(size.as_str()),
            )
            .with_context(|| format!("failed to mount a disk at {}", data.display()))?;
        }
        let group = self.cgroup(node)?.join("engine");
        let groups = cgroup::everywhere(&group)?;
        let shared = self.state_dir(node);
        share(&shared)?;
        let netns = self.netns(node);
        // The engine looks for plugins in one folder only, which the machine's other engines have, too.
        let plugins = self.plugins(node);
        for place in [plugins.as_path(), Path::new(PLUGINS)] {
            fs::create_dir_all(place).with_context(|| format!("failed to make {}", place.display()))?;
        }
        let name = if settings.swarm { "hostname \"$2\" &&" } else { "" };
        let script = format!("{name} mount --bind \"$1\" {PLUGINS} && echo && exec sleep infinity");
        let keeper = command_in(&netns, &group, "unshare")?
            .args([
                "--mount",
                "--uts",
                "--propagation",
                "slave",
                "sh",
                "-c",
                &script,
                "sh",
            ])
            .arg(&plugins)
            .arg(node)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start unshare (package util-linux)")?;
        let mut engine = Engine {
            shared,
            settings,
            netns,
            keeper,
            child: None,
            socket,
            folder,
            groups,
        };
        let started = engine.await_keeper().and_then(|()| engine.start());
        let prepared = started.and_then(|()| engine.prepare());
        prepared.with_context(|| format!("engine of {node}:\n{}", engine.log()))?;
        if engine.settings.swarm {
            symlink(&engine.socket, self.api_socket(node)).context("failed to name the engine's socket")?;
        }
        Ok(engine)
    }
}

impl Engine {
    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Runs a command of the docker CLI at the engine itself; what it prints.
    ///
    /// # Errors
    /// When it fails; then with what it says.
    pub fn docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let host = format!("unix://{}", self.socket.display());
        let config = self.folder.join("config").display().to_string();
        let line = ["docker", "--config", &config, "--host", &host];
        run_here(&[&line[..], arguments].concat())
    }

    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    /// When it runs already, cannot be started, or does not answer in time.
    pub fn start(&mut self) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "it runs already");
        self.forget_containerd()?;
        let group = self.group()?;
        let log_file = self.folder.join("log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(log_file)
            .context("failed to make the engine's log")?;
        let mut command = command_in(&self.netns, group, "nsenter")?;
        command
            .arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.id()))
            .arg(format!("--uts=/proc/{}/ns/uts", self.keeper.id()))
            .args(["dockerd", "--host"])
            .arg(format!("unix://{}", self.socket.display()))
            .arg("--data-root")
            .arg(self.folder.join("data"))
            .arg("--exec-root")
            .arg(self.folder.join("exec"))
            .arg("--pidfile")
            .arg(self.folder.join("pid"))
            .arg("--cgroup-parent")
            .arg(cgroup::name(group)?.join("containers"))
            .args(["--log-level", "warn"])
            .args(&self.settings.arguments);
        if !self.settings.swarm {
            command.args(["--iptables=false", "--ip6tables=false"]);
        }
        if !self.settings.bridge {
            command.args(["--bridge", "none"]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("failed to share a log")?)
            .stderr(log)
            .spawn()
            .context("failed to start nsenter (package util-linux)")?;
        self.child = Some(child);
        let answers = eventually(START_DEADLINE, "the engine answers", || self.docker(&["info"]));
        answers.map(drop).with_context(|| self.log())
    }

    /// A killed engine takes its `containerd` along, and the next one looks for that by its number: until the machine's
    /// first process has taken it off the process table, which may last, it counts as one that runs, and is waited for
    /// in vain.
    fn forget_containerd(&self) -> anyhow::Result<()> {
        let file = self.folder.join("exec/containerd/containerd.pid");
        let Ok(pid) = fs::read_to_string(&file) else {
            return Ok(());
        };
        let stat = Path::new("/proc").join(pid.trim()).join("stat");
        eventually(STOP_DEADLINE, "the last engine's containerd has ended", || {
            let stat = fs::read_to_string(&stat).unwrap_or_default();
            // Behind the program's name: it may hold anything.
            let state = stat.rsplit(") ").next().unwrap_or_default();
            ensure!(state.is_empty() || state.starts_with('Z'), "it runs: {stat}");
            Ok(())
        })?;
        fs::remove_file(&file).with_context(|| format!("failed to remove {}", file.display()))
    }

    /// Tells it to end, and waits for that; it ends its containers before, unless it was started with `--live-restore`.
    ///
    /// # Errors
    /// When it does not run, or does not end in time.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Kills it as `kill -9` does; its containers run on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// Ends it, and takes it off the process table: the next one does not start while its number is taken.
    fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        let child = self.child.as_mut().context("it does not run")?;
        let pid = i32::try_from(child.id()).context("a process of no such number")?;
        nix::sys::signal::kill(Pid::from_raw(pid), signal).context("failed to signal the engine")?;
        eventually(STOP_DEADLINE, "the engine has ended", || {
            let ended = child.try_wait().context("failed to ask for the engine")?;
            ended.map(drop).context("it runs")
        })?;
        self.child = None;
        Ok(())
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Where it keeps everything: its disk.
    pub fn data_root(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Its group of version 2.
    fn group(&self) -> anyhow::Result<&Path> {
        let group = self.groups.first().context("an engine without a group")?;
        Ok(group)
    }

    /// It writes a line once it is in a mount namespace of its own.
    fn await_keeper(&mut self) -> anyhow::Result<()> {
        let stdout = self.keeper.stdout.as_mut().context("the keeper has no output")?;
        let mut line = [0];
        stdout.read_exact(&mut line).context("the keeper of mounts ended")
    }

    fn prepare(&self) -> anyhow::Result<()> {
        let root = self.folder.join("image");
        busybox::root(&root)?;
        let archive = self.folder.join("image.tar").display().to_string();
        let root = root.display().to_string();
        run_here(&["tar", "-cf", &archive, "-C", &root, "."])?;
        self.docker(&["import", "--change", "CMD [\"sh\"]", &archive, IMAGE])
            .map(drop)
    }

    fn end(&mut self) -> anyhow::Result<()> {
        for group in &self.groups {
            // Only version 2 can end what is in a group; a container is in its group of version 2, too.
            if group.join("cgroup.kill").exists() {
                cgroup::kill(group)?;
            }
        }
        for child in self.child.iter_mut().chain([&mut self.keeper]) {
            // What is in no group of version 2 is ended here.
            let _ = child.kill();
            child.wait().context("failed to wait for the engine")?;
        }
        for group in &self.groups {
            eventually(END_DEADLINE, "the engine's groups go", || cgroup::remove(group))?;
        }
        for place in [&self.shared, &self.folder.join("data")] {
            match umount2(place, MntFlags::MNT_DETACH) {
                // Nothing is mounted there, or the lab has gone before and taken it along.
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("failed to unmount {}", place.display()));
                }
            }
        }
        eventually(
            END_DEADLINE,
            "the engine's folder goes",
            || match fs::remove_dir_all(&self.folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                Ok(()) | Err(_) => Ok(()),
            },
        )
    }
}

/// A command in the engine's room.
fn command_in(netns: &str, group: &Path, program: &str) -> anyhow::Result<Command> {
    let room = Room {
        netns: netns.to_owned(),
        cgroup: group.join("own"),
        resolv_conf: None,
    };
    spawn::command(&room, program)
}

/// Makes a mount of a folder, which passes on what is mounted in it.
fn share(folder: &Path) -> anyhow::Result<()> {
    const NONE: Option<&str> = None;
    mount(Some(folder), folder, NONE, MsFlags::MS_BIND, NONE)
        .and_then(|()| mount(NONE, folder, NONE, MsFlags::MS_SHARED, NONE))
        .with_context(|| format!("failed to share {}", folder.display()))
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "---- log of the engine at {}:\n{}",
                self.socket.display(),
                self.log()
            );
        }
        if let Err(error) = self.end() {
            eprintln!(
                "the engine at {} is not all gone: {error:#}",
                self.socket.display()
            );
        }
    }
}
