//! A node's real data plane, pinned and attached, for as long as the value lives.

use crate::netns::Netns;
use anyhow::Context as _;
use essaim_datapath::{Datapath, DatapathOptions, Sizing, clean};
use essaim_model::{DesiredState, NodeFacts};
use std::fs;
use std::path::{Path, PathBuf};

/// The data plane, with the folder of pins and the control group of its own.
#[derive(Debug)]
pub struct Node {
    options: DatapathOptions,
    datapath: Option<Datapath>,
}

impl Node {
    /// Opens a data plane; nothing is attached yet.
    ///
    /// # Errors
    /// When a file system is missing or the kernel refuses.
    pub fn open(name: &str) -> anyhow::Result<Self> {
        let unique = format!("essaim-bench-{}-{name}", std::process::id());
        let options = DatapathOptions {
            pin_dir: Path::new("/sys/fs/bpf").join(&unique),
            cgroup: cgroup_root()?.join(&unique),
            sizing: Sizing {
                flows: 1 << 17,
                ..Sizing::default()
            },
        };
        fs::create_dir(&options.cgroup)
            .with_context(|| format!("failed to make the control group {}", options.cgroup.display()))?;
        let mut node = Self {
            options,
            datapath: None,
        };
        node.datapath = Some(Datapath::open(&node.options)?);
        Ok(node)
    }

    /// Writes a plan into the maps and hangs the programs in, in the node's namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn apply(
        &mut self,
        namespace: &Netns,
        desired: &DesiredState,
        facts: &NodeFacts,
    ) -> anyhow::Result<()> {
        let datapath = self.datapath_mut()?;
        datapath.apply(desired, facts)?;
        namespace.inside(|| Ok(datapath.attach(facts)?)).map(|_| ())
    }

    /// The data plane.
    ///
    /// # Errors
    /// Never: it is there until the value is dropped.
    pub fn datapath_mut(&mut self) -> anyhow::Result<&mut Datapath> {
        self.datapath.as_mut().context("the data plane is closed")
    }

    /// Its control group.
    pub fn cgroup(&self) -> &Path {
        &self.options.cgroup
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.datapath = None;
        for error in clean(&self.options.pin_dir).err().into_iter().flatten() {
            eprintln!("left over in {}: {error}", self.options.pin_dir.display());
        }
        if let Err(error) = fs::remove_dir(&self.options.cgroup) {
            eprintln!(
                "control group {} is left over: {error}",
                self.options.cgroup.display()
            );
        }
    }
}

/// Where control groups of version 2 are mounted.
///
/// # Errors
/// When they are not.
pub fn cgroup_root() -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("failed to read the mounts")?;
    let mut points = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let point = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(point))
    });
    points
        .next()
        .context("no cgroup v2 is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified (make it first)")
}
