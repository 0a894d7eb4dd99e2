//! Network namespaces of a bench's own; gone with their values.

use anyhow::{Context as _, ensure};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::process::Command;

/// A namespace.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes one, its loopback interface up; `role` tells it from the bench's others.
    ///
    /// # Errors
    /// When the kernel refuses: this needs root.
    pub fn new(world: &str, role: &str) -> anyhow::Result<Self> {
        let name = format!("essaim-bench-{}-{world}-{role}", std::process::id());
        run("ip", &["netns", "add", &name])?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Runs `ip` in it; the arguments are separated by spaces.
    ///
    /// # Errors
    /// When it fails.
    pub fn ip(&self, arguments: &str) -> anyhow::Result<()> {
        let mut all = vec!["-n", &self.name];
        all.extend(arguments.split_ascii_whitespace());
        run("ip", &all)
    }

    /// Runs a command in it.
    ///
    /// # Errors
    /// When it fails.
    pub fn command(&self, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        // Not `ip netns exec`: that hides control groups and the BPF file system.
        let namespace = format!("--net=/run/netns/{}", self.name);
        let mut all = vec![namespace.as_str(), program];
        all.extend(arguments);
        run("nsenter", &all)
    }

    /// A pair of interfaces, one here and one there, both up.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn veth(&self, here: &str, there: &Self, other: &str) -> anyhow::Result<()> {
        self.ip(&format!(
            "link add {here} type veth peer name {other} netns {}",
            there.name
        ))?;
        self.ip(&format!("link set {here} up"))?;
        there.ip(&format!("link set {other} up"))
    }

    /// Runs a function in it, on a thread of its own.
    ///
    /// # Errors
    /// When it cannot be entered, and those of the function.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        let path = format!("/run/netns/{}", self.name);
        let file = File::open(&path).with_context(|| format!("no network namespace at {path}"))?;
        let enter = || {
            setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("failed to enter {path}"))?;
            work()
        };
        std::thread::scope(|scope| scope.spawn(enter).join())
            .map_err(|_| anyhow::anyhow!("the work inside {path} panicked"))?
    }

    /// The index of an interface in it.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn ifindex(&self, interface: &str) -> anyhow::Result<u32> {
        self.inside(|| {
            nix::net::if_::if_nametoindex(interface)
                .with_context(|| format!("no interface {interface} in {}", self.name))
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(error) = run("ip", &["netns", "del", &self.name]) {
            eprintln!("network namespace {} is left over: {error}", self.name);
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("failed to start {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        said.trim()
    );
    Ok(())
}
