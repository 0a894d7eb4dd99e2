//! The docker CLI at the nodes of a lab.

use essaim_lab::{Cluster, ClusterBuilder, Family, PlacedTask, Ran, eventually};
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

/// How long the cluster may take to do what it was asked.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// Names a program to be used in place of Debian's.
const VARIABLE: &str = "ESSAIM_TEST_DOCKER";
/// Debian's.
const DEBIANS: &str = "/usr/bin/docker";

/// A lab with the docker CLI at each node.
pub(crate) struct Docker {
    lab: Cluster,
    program: String,
}

impl Deref for Docker {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.lab
    }
}

/// A lab of three daemons in no cluster.
pub(crate) fn empty() -> Docker {
    let lab = ClusterBuilder::new().build().unwrap();
    lab.spawn_nodes().unwrap();
    with_cli(lab)
}

/// A lab whose daemons may be started later.
pub(crate) fn with_cli(lab: Cluster) -> Docker {
    let debians = || {
        let found = Path::new(DEBIANS).exists();
        if found { DEBIANS } else { "docker" }.to_owned()
    };
    let program = std::env::var(VARIABLE).unwrap_or_else(|_| debians());
    Docker { lab, program }
}

/// A cluster of three nodes that the CLI has made, the first so many of them managers.
pub(crate) fn formed(managers: usize) -> Docker {
    let docker = empty();
    docker.form(managers);
    docker
}

impl Docker {
    /// The program of the CLI.
    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    /// Types a line at a node's shell. `docker` asks the node's daemon.
    pub(crate) fn shell(&self, node: &str, line: &str) -> Ran {
        self.shell_at(node, &self.api_socket(node), line)
    }

    /// Types a line at a node's shell. `docker` asks whoever listens there.
    pub(crate) fn shell_at(&self, node: &str, socket: &Path, line: &str) -> Ran {
        let script = format!(
            "docker() {{ {} -H unix://{} \"$@\"; }}\n{line}",
            self.program,
            socket.display()
        );
        // None of the user's settings.
        let home = format!("HOME={}", self.state_dir(node).display());
        let config = format!("DOCKER_CONFIG={}/docker", self.state_dir(node).display());
        let mut ran = self
            .exec(node, &["env", &home, &config, "sh", "-c", &script])
            .unwrap();
        line.clone_into(&mut ran.line);
        assert_ne!(
            ran.status.code(),
            Some(127),
            "{}: is docker.io installed?",
            ran.stderr
        );
        ran
    }

    /// Types a line that must do what it says; what it prints, without the last line's end.
    #[track_caller]
    pub(crate) fn ok(&self, node: &str, line: &str) -> String {
        let ran = self.shell(node, line);
        assert!(
            ran.status.success(),
            "{node}$ {line}\n{}{}",
            ran.stdout,
            ran.stderr
        );
        ran.stdout.trim_end().to_owned()
    }

    /// Types a line that must print just this.
    #[track_caller]
    pub(crate) fn says(&self, node: &str, line: &str, expected: &str) {
        assert_eq!(self.ok(node, line), expected, "{node}$ {line}");
    }

    /// Types a line that must be refused in these words.
    #[track_caller]
    pub(crate) fn refused(&self, node: &str, line: &str, words: &str) {
        let ran = self.shell(node, line);
        assert!(
            !ran.status.success(),
            "{node}$ {line}\nis not refused: {}",
            ran.stdout
        );
        assert!(
            ran.stderr.contains(words),
            "{node}$ {line}\nsays {:?}, expected {words:?}",
            ran.stderr
        );
    }

    /// Types a line until it prints what is looked for.
    #[track_caller]
    pub(crate) fn wait(&self, node: &str, line: &str, found: impl Fn(&str) -> bool) -> String {
        let what = format!("{node}$ {line}");
        let text = eventually(SOON, &what, || {
            let ran = self.shell(node, line);
            let text = ran.stdout.trim_end();
            anyhow::ensure!(
                ran.status.success() && found(text),
                "it prints {text:?} {}",
                ran.stderr
            );
            Ok(text.to_owned())
        });
        text.unwrap()
    }

    /// Types a line until it prints just this.
    #[track_caller]
    pub(crate) fn wait_says(&self, node: &str, line: &str, expected: &str) {
        self.wait(node, line, |found| found == expected);
    }

    /// A table that the CLI prints: its columns must be these. The cells of each row that is there.
    #[track_caller]
    pub(crate) fn table(&self, node: &str, line: &str, columns: &[&str]) -> Vec<Vec<String>> {
        let text = self.ok(node, line);
        let mut lines = text.lines();
        let head = lines.next().unwrap_or_default();
        let starts: Vec<usize> = columns
            .iter()
            .scan(0, |from, column| {
                let at = head.get(*from..).and_then(|rest| rest.find(column));
                let at = at.unwrap_or_else(|| panic!("{node}$ {line}\nhas no column {column}: {head:?}"));
                let start = *from + at;
                *from = start + column.len();
                Some(start)
            })
            .collect();
        let found: Vec<&str> = head
            .split("  ")
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .collect();
        assert_eq!(found, columns, "{node}$ {line}");
        let cell = |row: &str, at: usize| {
            let end = starts.get(at + 1).copied();
            let chars = row.chars().skip(starts[at]);
            let text: String = match end {
                Some(end) => chars.take(end - starts[at]).collect(),
                None => chars.collect(),
            };
            text.trim().to_owned()
        };
        lines
            .map(|row| (0..columns.len()).map(|at| cell(row, at)).collect())
            .collect()
    }

    /// One line of a listing by its format, for each object, in the order of the text.
    #[track_caller]
    pub(crate) fn lines(&self, node: &str, line: &str) -> Vec<String> {
        let mut lines: Vec<_> = self.ok(node, line).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// A node's underlay address.
    pub(crate) fn ip(&self, machine: &str) -> String {
        self.address(machine, Family::V4).unwrap().to_string()
    }

    /// Makes a cluster of the three nodes, each joining with the line that `join-token` shows.
    pub(crate) fn form(&self, managers: usize) {
        self.ok(
            "n1",
            &format!("docker swarm init --advertise-addr {}", self.ip("n1")),
        );
        for (at, node) in ["n2", "n3"].into_iter().enumerate() {
            let role = if at + 1 < managers { "manager" } else { "worker" };
            self.join(node, "n1", role, "");
        }
        self.wait_ready(3);
    }

    /// Has a node join with the line that another's `join-token` shows, and these options.
    #[track_caller]
    pub(crate) fn join(&self, node: &str, manager: &str, role: &str, options: &str) {
        let shown = self.ok(manager, &format!("docker swarm join-token {role}"));
        let line = join_line(&shown);
        let line = line.replacen("join ", &format!("join {options} "), 1);
        self.says(node, &line, &format!("This node joined a swarm as a {role}."));
    }

    /// Waits until so many nodes are ready.
    #[track_caller]
    pub(crate) fn wait_ready(&self, count: usize) {
        self.wait(
            "n1",
            "docker node ls --format '{{.Hostname}} {{.Status}}'",
            |found| found.lines().filter(|line| line.ends_with(" Ready")).count() == count,
        );
    }

    /// Waits until so many tasks of a service run.
    #[track_caller]
    pub(crate) fn runs(&self, service: &str, count: usize) -> Vec<PlacedTask> {
        self.wait_running("n1", service, count).unwrap()
    }

    /// The server of the lab, as the command of a task.
    pub(crate) fn server(&self) -> String {
        let program = self.binary("essaim-peer");
        format!("{} whoami --udp 7 --tcp-echo 7", program.display())
    }

    /// Makes a service of the lab's server, which names itself by service and slot, with these options.
    #[track_caller]
    pub(crate) fn serve(&self, name: &str, options: &str) {
        let line = format!(
            "docker service create --detach --name {name} --hostname '{{{{.Service.Name}}}}.{{{{.Task.Slot}}}}' {options} \
             host {}",
            self.server()
        );
        self.ok("n1", &line);
    }

    /// Makes a service that sleeps, with these options.
    #[track_caller]
    pub(crate) fn sleep(&self, name: &str, options: &str) {
        self.ok(
            "n1",
            &format!("docker service create --detach --name {name} {options} host sleep 100000"),
        );
    }

    /// Fetches a page of what is published at a node, from outside; `GET` answers with the server's name.
    pub(crate) fn fetch(&self, node: &str, port: u16) -> anyhow::Result<String> {
        self.curl("c1", &format!("http://{}:{port}/", self.ip(node)))
    }

    /// Waits until what is published at a node answers.
    #[track_caller]
    pub(crate) fn answers(&self, node: &str, port: u16) -> String {
        eventually(SOON, &format!("port {port} of {node} answers"), || {
            self.fetch(node, port)
        })
        .unwrap()
    }

    /// What a task says, once that is what is looked for.
    #[track_caller]
    pub(crate) fn logs(&self, service: &str, found: impl Fn(&str) -> bool) -> String {
        self.wait("n1", &format!("docker service logs --raw {service}"), found)
    }

    /// Runs a command in the namespace of a task.
    #[track_caller]
    pub(crate) fn inside(&self, task: &PlacedTask, line: &str) -> String {
        let ran = self.exec(&task.name, &["sh", "-c", line]).unwrap();
        ran.ok().unwrap()
    }
}

/// The line that a node joins with, of what `init` or `join-token` print.
#[track_caller]
pub(crate) fn join_line(shown: &str) -> String {
    let line = shown
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("docker swarm join "));
    line.unwrap_or_else(|| panic!("no line to join with: {shown}"))
        .to_owned()
}

/// The nodes of tasks.
pub(crate) fn nodes_of(tasks: &[PlacedTask]) -> Vec<&str> {
    tasks.iter().map(|task| task.node.as_str()).collect()
}
