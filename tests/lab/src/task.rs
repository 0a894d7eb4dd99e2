//! The tasks of a cluster: real processes in namespaces of their own.

use crate::agent::end;
use crate::cluster::{Cluster, Task};
use crate::spawn::{self, Room};
use crate::wait::eventually;
use crate::{cgroup, netns};
use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::Signal;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

/// How long an agent may take to give a task its interface.
const INTERFACE_DEADLINE: Duration = Duration::from_secs(20);

/// The interface of a task's default route.
const INTERFACE: &str = "eth0";

impl Cluster {
    /// Makes a task's namespace on a node, for the agent to put interfaces into. Its name for the catalog is handed out.
    ///
    /// # Errors
    /// When it exists.
    pub fn add_task(&self, node: &str, task: &str) -> anyhow::Result<String> {
        let names = self.state_dir(node).join("tasks").join(task).join("resolv.conf");
        self.make_room(node, task, names)
    }

    /// Makes the namespace of a container of some runtime's own on a node, which asks for names at 127.0.0.11. Its name is
    /// handed out; to the lab, it is as a task.
    ///
    /// # Errors
    /// When it exists.
    pub fn add_container(&self, node: &str, name: &str) -> anyhow::Result<String> {
        let names = self.files(node).join(format!("{name}.resolv.conf"));
        std::fs::write(&names, "nameserver 127.0.0.11\n")
            .with_context(|| format!("failed to write {}", names.display()))?;
        self.make_room(node, name, names)
    }

    fn make_room(&self, node: &str, task: &str, resolv_conf: PathBuf) -> anyhow::Result<String> {
        ensure!(
            !self.state().tasks.contains_key(task),
            "there is a task {task} already"
        );
        let room = Room {
            netns: self.netns(task),
            cgroup: self.task_cgroup(node, task)?,
            resolv_conf: Some(resolv_conf),
        };
        netns::create(&room.netns)?;
        std::fs::create_dir_all(&room.cgroup)
            .with_context(|| format!("failed to make {}", room.cgroup.display()))?;
        let name = room.netns.clone();
        self.state()
            .tasks
            .insert(task.to_owned(), Task { room, child: None });
        Ok(name)
    }

    /// Starts a task's process, as soon as the agent has given its namespace an interface.
    ///
    /// # Errors
    /// When there is no such task, it has a process, or gets no interface.
    pub fn start_task(&self, task: &str, argv: &[&str]) -> anyhow::Result<()> {
        ensure!(self.task_pid(task).is_none(), "task {task} runs already");
        let room = self.room(task)?;
        eventually(
            INTERFACE_DEADLINE,
            &format!("task {task} has {INTERFACE}"),
            || {
                ensure!(
                    netns::has_interface(&room.netns, INTERFACE)?,
                    "no {INTERFACE} in {}",
                    room.netns
                );
                Ok(())
            },
        )?;
        let (program, arguments) = argv.split_first().context("no command given")?;
        let log = self.open_log(task)?;
        let child = spawn::command(&room, program)?
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("failed to share a log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to start {}", argv.join(" ")))?;
        match self.state().tasks.get_mut(task) {
            Some(entry) => entry.child = Some(child),
            None => bail!("task {task} was removed while it started"),
        }
        Ok(())
    }

    /// Starts `essaim-peer whoami` as a task's process: HTTP on port 80, a UDP and a TCP echo on port 7.
    ///
    /// # Errors
    /// As [`Cluster::start_task`], and when it does not listen in time.
    pub fn start_whoami(&self, task: &str) -> anyhow::Result<()> {
        let program = self.binary("essaim-peer").display().to_string();
        self.start_task(
            task,
            &[
                &program,
                "whoami",
                "--name",
                task,
                "--udp",
                "7",
                "--tcp-echo",
                "7",
            ],
        )?;
        eventually(INTERFACE_DEADLINE, &format!("task {task} answers"), || {
            self.curl(task, "http://127.0.0.1/").map(drop)
        })
        .with_context(|| format!("log of {task}:\n{}", self.log_tail(task)))
    }

    /// The process of a task.
    pub fn task_pid(&self, task: &str) -> Option<u32> {
        self.state().tasks.get(task)?.child.as_ref().map(Child::id)
    }

    /// Ends a task's process with a signal and waits for it; its namespace stays.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn stop_task(&self, task: &str, signal: Signal) -> anyhow::Result<()> {
        let child = self
            .state()
            .tasks
            .get_mut(task)
            .and_then(|task| task.child.take());
        let mut child = child.with_context(|| format!("task {task} does not run"))?;
        end(&mut child, signal).with_context(|| format!("task {task}"))
    }

    /// Removes a task with its process, namespace and control group.
    ///
    /// # Errors
    /// When there is no such task, or something of it stays.
    pub fn remove_task(&self, task: &str) -> anyhow::Result<()> {
        let removed = self
            .state()
            .tasks
            .remove(task)
            .with_context(|| format!("there is no task {task}"))?;
        cgroup::kill(&removed.room.cgroup)?;
        if let Some(mut child) = removed.child {
            child
                .wait()
                .with_context(|| format!("failed to wait for task {task}"))?;
        }
        netns::delete(&removed.room.netns)?;
        cgroup::remove(&removed.room.cgroup)
    }
}
