//! Podman for a node: Debian's, with networks by CNI and one container's files, busybox.

use crate::cluster::Cluster;
use crate::wait::eventually;
use crate::{busybox, cgroup};
use anyhow::Context as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long its groups may take to go: the kernel has a container's processes to end.
const END_DEADLINE: Duration = Duration::from_secs(20);

/// The network of the configuration that it is made with.
const NETWORK: &str = "app";

/// A node's podman, whose containers go with this. It has no process of its own.
#[derive(Debug)]
pub struct Podman<'c> {
    cluster: &'c Cluster,
    node: String,
    folder: PathBuf,
    /// The containers' group of version 2, and those of version 1.
    groups: Vec<PathBuf>,
}

impl Cluster {
    /// Podman of a node, for containers of a CNI network named `app`, which `conflist` configures.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn podman(&self, node: &str, conflist: &str) -> anyhow::Result<Podman<'_>> {
        let podman = Podman {
            cluster: self,
            node: node.to_owned(),
            folder: self.files(node).join("podman"),
            groups: cgroup::everywhere(&self.cgroup(node)?.join("podman"))?,
        };
        podman
            .prepare(conflist)
            .context("failed to write podman's files")?;
        Ok(podman)
    }
}

impl Podman<'_> {
    /// Runs a command of podman's on the node; what it prints.
    ///
    /// # Errors
    /// When it fails; then with what it says.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let [root, state, conf] =
            ["storage", "run", "containers.conf"].map(|name| self.path(name).display().to_string());
        let conf = format!("CONTAINERS_CONF={conf}");
        let line = [
            "env",
            &conf,
            "podman",
            "--root",
            &root,
            "--runroot",
            &state,
            "--tmpdir",
            &state,
            "--storage-driver",
            "vfs",
        ];
        self.cluster
            .exec(&self.node, &[&line[..], arguments].concat())?
            .ok()
    }

    /// Runs a shell's script in a new container on the network.
    ///
    /// # Errors
    /// When podman or the script fails; then with what they say.
    pub fn container(&self, options: &[&str], script: &str) -> anyhow::Result<String> {
        let root = self.path("root").display().to_string();
        let group = self.groups.first().context("no group")?;
        let group = cgroup::name(group)?.display().to_string();
        let first = ["run", "--network", NETWORK, "--cgroup-parent", &group];
        let last = ["--rootfs", &root, "sh", "-c", script];
        self.run(&[&first[..], options, &last[..]].concat())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn prepare(&self, conflist: &str) -> anyhow::Result<()> {
        busybox::root(&self.path("root"))?;
        let networks = self.path("networks");
        fs::create_dir(&networks)?;
        fs::write(networks.join("app.conflist"), conflist)?;
        let program = self.cluster.binary("essaim-cni");
        let plugins = program
            .parent()
            .map(Path::display)
            .context("a program without a folder")?;
        // Podman's own limits are more than some machines allow.
        let conf = format!(
            "[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"{plugins}\"]\nnetwork_config_dir = \"{}\"\n\
             [containers]\ndefault_ulimits = [\"nofile=1024:4096\", \"nproc=1024:4096\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\n",
            networks.display()
        );
        Ok(fs::write(self.path("containers.conf"), conf)?)
    }

    fn end(&self) -> anyhow::Result<()> {
        self.run(&["rm", "--all", "--force", "--time", "0"])?;
        for group in &self.groups {
            eventually(END_DEADLINE, "podman's groups go", || cgroup::remove(group))?;
        }
        Ok(())
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("podman of {} is not all gone: {error:#}", self.node);
        }
    }
}
