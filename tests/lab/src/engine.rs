//! A Docker Engine for a node: Debian's (`docker.io`), with one image and without networks of its own.

use crate::cgroup;
use crate::cluster::Cluster;
use crate::run::run_here;
use crate::spawn::{self, Room};
use crate::wait::eventually;
use anyhow::{Context as _, ensure};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// How long the engine may take until it answers.
const START_DEADLINE: Duration = Duration::from_mins(1);

/// How long its groups and folders may take to go: the kernel takes its mounts down after its last process.
const END_DEADLINE: Duration = Duration::from_secs(20);

/// Where an engine looks for plugins.
const PLUGINS: &str = "/run/docker/plugins";

/// The image that it has.
const IMAGE: &str = "busybox:latest";

/// All that is in the image; of Debian's `busybox-static`.
const BUSYBOX: &str = "/bin/busybox";

/// The names under which busybox stands there.
const APPLETS: [&str; 22] = [
    "sh", "sleep", "cat", "echo", "hostname", "nc", "wget", "httpd", "nslookup", "true", "false", "ip", "ls",
    "mkdir", "rm", "ps", "kill", "head", "grep", "env", "id", "stty",
];

/// A node's Docker Engine, which ends, with all its containers, when this goes.
///
/// It stands in the node's network namespace and control group, its containers too. It shares the processes' numbers with
/// the machine, as on a machine of its own: `State.Pid` of a container is what `/proc` knows. What it mounts is
/// seen by itself only, and goes with its last process.
#[derive(Debug)]
pub struct Engine {
    /// What is mounted in here the engine sees, too, as it does where systemd has made all mounts shared.
    shared: PathBuf,
    child: Child,
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
        let socket = self.docker_socket(node);
        let folder = socket.parent().context("a socket without a folder")?.to_owned();
        ensure!(!folder.exists(), "the engine of {node} runs already");
        fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        let group = self.cgroup(node)?.join("engine");
        let inside = group.strip_prefix(cgroup::mount_point()?)?;
        let mut groups = vec![group.clone()];
        groups.extend(cgroup::others().iter().map(|hierarchy| hierarchy.join(inside)));
        let shared = self.state_dir(node);
        share(&shared)?;
        let child = self.start_engine(node, &folder)?;
        let engine = Engine {
            shared,
            child,
            socket,
            folder,
            groups,
        };
        engine.prepare().with_context(|| {
            let log = fs::read_to_string(engine.folder.join("log")).unwrap_or_default();
            format!("engine of {node}:\n{log}")
        })?;
        Ok(engine)
    }

    fn start_engine(&self, node: &str, folder: &Path) -> anyhow::Result<Child> {
        let group = self.cgroup(node)?.join("engine");
        let inside = group.strip_prefix(cgroup::mount_point()?)?;
        let socket = self.docker_socket(node);
        let room = Room {
            netns: self.netns(node),
            cgroup: group.join("own"),
            resolv_conf: None,
        };
        let log_file = folder.join("log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(log_file)
            .context("failed to make the engine's log")?;
        // The engine looks for plugins in one folder only, which the machine's other engines have, too.
        let plugins = self.plugins(node);
        fs::create_dir_all(&plugins).with_context(|| format!("failed to make {}", plugins.display()))?;
        fs::create_dir_all(PLUGINS).with_context(|| format!("failed to make {PLUGINS}"))?;
        let script = format!("mount --bind \"$1\" {PLUGINS} && shift && exec \"$@\"");
        spawn::command(&room, "unshare")?
            .args(["--mount", "--propagation", "slave", "sh", "-c", &script, "sh"])
            .arg(&plugins)
            .arg("dockerd")
            .arg("--host")
            .arg(format!("unix://{}", socket.display()))
            .arg("--data-root")
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .arg("--cgroup-parent")
            .arg(Path::new("/").join(inside).join("containers"))
            .args(["--bridge", "none", "--iptables=false", "--ip6tables=false"])
            .args(["--log-level", "warn"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("failed to share a log")?)
            .stderr(log)
            .spawn()
            .context("failed to start unshare (package util-linux)")
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

    fn prepare(&self) -> anyhow::Result<()> {
        eventually(START_DEADLINE, "the engine answers", || self.docker(&["info"]))?;
        let root = self.folder.join("image");
        let programs = root.join("bin");
        for folder in [&programs, &root.join("tmp")] {
            fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
        }
        fs::copy(BUSYBOX, programs.join("busybox"))
            .with_context(|| format!("failed to copy {BUSYBOX} (package busybox-static)"))?;
        for applet in APPLETS {
            symlink("busybox", programs.join(applet)).context("failed to name an applet")?;
        }
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
        self.child.wait().context("failed to wait for the engine")?;
        for group in &self.groups {
            eventually(END_DEADLINE, "the engine's groups go", || cgroup::remove(group))?;
        }
        match umount2(&self.shared, MntFlags::MNT_DETACH) {
            // The lab has gone before, and taken it along.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("failed to unmount {}", self.shared.display()));
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
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            eprintln!("---- log of the engine at {}:\n{log}", self.socket.display());
        }
        if let Err(error) = self.end() {
            eprintln!(
                "the engine at {} is not all gone: {error:#}",
                self.socket.display()
            );
        }
    }
}
