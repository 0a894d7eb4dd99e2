//! Network namespaces without names, and processes in them: both end with their values, whatever else happens.

use essaim_health::{TaskPlace, TaskProcesses};
use essaim_netlink::{NetnsRef, in_netns};
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::process::{Child, Command, Stdio};
use std::thread;

/// A network namespace with its loopback interface up.
pub(crate) struct Netns(File);

impl Netns {
    pub(crate) fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("cannot make a network namespace: these tests must run as root");
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.unwrap().success());
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        Self(thread::spawn(make).join().unwrap())
    }

    /// A path that leads to it from every thread of this process.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    pub(crate) fn open(&self) -> NetnsRef {
        NetnsRef::open(&self.path()).unwrap()
    }

    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_netns(&self.open(), work).unwrap()
    }

    /// For probes of a task that has nothing but this namespace.
    pub(crate) fn place(&self) -> TaskPlace {
        TaskPlace {
            netns: self.path(),
            process: None,
            addresses: Vec::new(),
        }
    }

    pub(crate) fn processes(&self) -> TaskProcesses {
        TaskProcesses::new(self.open()).unwrap()
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.processes().pids().unwrap()
    }

    /// Starts a process inside.
    pub(crate) fn spawn(&self, command: &mut Command) -> Running {
        command.stdin(Stdio::null());
        Running(self.inside(|| command.spawn().unwrap()))
    }

    /// Starts a shell inside.
    pub(crate) fn shell(&self, line: &str) -> Running {
        self.spawn(Command::new("/bin/sh").args(["-c", line]))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // What a test that failed has left.
        if let Ok(processes) = TaskProcesses::new(self.open()) {
            let _ = processes.signal(essaim_health::StopSignal::KILL);
        }
    }
}

/// A child of this process.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
