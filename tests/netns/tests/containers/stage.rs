//! Two nodes with a Docker Engine each, and what is asked of them.

use anyhow::{Context as _, ensure};
use essaim_lab::{Cluster, ClusterBuilder, Engine, EngineSettings, Family, PlacedTask, eventually};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long the cluster may take to do what it was asked.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// The nodes.
pub(crate) const NODES: [&str; 2] = ["n1", "n2"];

/// A cluster of two nodes, whose engines go before it does.
pub(crate) struct Stage {
    pub(crate) engines: BTreeMap<&'static str, Engine>,
    pub(crate) lab: Cluster,
}

/// A task as the managers know it.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) state: String,
    pub(crate) error: String,
}

impl Stage {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Self::with(&EngineSettings::default())
    }

    /// With engines of another kind.
    pub(crate) fn with(settings: &EngineSettings) -> anyhow::Result<Self> {
        let lab = ClusterBuilder::new().nodes(2).clients(2).build()?;
        let mut engines = BTreeMap::new();
        for node in NODES {
            engines.insert(node, lab.spawn_engine_with(node, settings.clone())?);
        }
        lab.spawn_nodes()?;
        lab.form(1)?;
        let stage = Self { engines, lab };
        stage.operate(&["network", "create", "--driver", "overlay", "app"])?;
        Ok(stage)
    }

    /// A node's engine.
    pub(crate) fn engine(&mut self, node: &str) -> anyhow::Result<&mut Engine> {
        let engine = self.engines.get_mut(node);
        engine.with_context(|| format!("{node} has no engine"))
    }

    /// Runs an operator's command.
    pub(crate) fn operate(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.lab.operate("n1", arguments)
    }

    /// Makes a service of the lab's server in containers, which names itself by service and slot.
    pub(crate) fn serve(&self, name: &str, options: &[&str]) -> anyhow::Result<()> {
        let mounts = self.lab.peer_mounts();
        let mut line = vec![
            "service",
            "create",
            "--detach",
            "--name",
            name,
            "--hostname",
            "{{.Service.Name}}.{{.Task.Slot}}",
            "--network",
            "app",
        ];
        line.extend(mounts.iter().map(String::as_str));
        line.extend(options);
        line.extend(["busybox:latest", "/peer", "whoami"]);
        self.operate(&line).map(drop)
    }

    /// Makes a service of a shell's script in containers.
    pub(crate) fn script(&self, name: &str, options: &[&str], script: &str) -> anyhow::Result<()> {
        let mut line = vec!["service", "create", "--detach", "--name", name];
        line.extend(options);
        line.extend(["busybox:latest", "sh", "-c", script]);
        self.operate(&line).map(drop)
    }

    /// Waits until so many tasks of a service run.
    pub(crate) fn runs(&self, service: &str, count: usize) -> anyhow::Result<Vec<PlacedTask>> {
        let running = self.lab.wait_running("n1", service, count);
        running.with_context(|| format!("{:?}", self.tasks(service)))
    }

    /// All tasks of a service.
    pub(crate) fn tasks(&self, service: &str) -> anyhow::Result<Vec<Known>> {
        let filters = format!("{{\"service\":[\"{service}\"]}}");
        let tasks = self.lab.api("n1", &format!("/tasks?filters={filters}"))?;
        let tasks = tasks.as_array().into_iter().flatten();
        let text = |task: &Value, path: &str| {
            let text = task.pointer(path).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let known = tasks.map(|task| Known {
            state: text(task, "/Status/State"),
            error: text(task, "/Status/Err"),
        });
        Ok(known.collect())
    }

    /// Waits until a task of a service ends so.
    pub(crate) fn ends(&self, service: &str, state: &str, error: &str) -> anyhow::Result<()> {
        eventually(SOON, &format!("a task of {service} is {state}: {error}"), || {
            let tasks = self.tasks(service)?;
            let mut tasks_seen = tasks.iter();
            ensure!(
                tasks_seen.any(|task| task.state == state && task.error == error),
                "{tasks:?}"
            );
            Ok(())
        })
    }

    /// The name of a task's container.
    pub(crate) fn container(task: &PlacedTask) -> String {
        format!("{}.{}", task.name, task.id)
    }

    /// Runs a command in a task's container.
    pub(crate) fn inside(&self, task: &PlacedTask, line: &[&str]) -> anyhow::Result<String> {
        let name = Self::container(task);
        self.docker(&task.node, &[&["exec", &name], line].concat())
    }

    /// Asks a node's engine itself.
    pub(crate) fn docker(&self, node: &str, line: &[&str]) -> anyhow::Result<String> {
        let engine = self.engines.get(node);
        engine
            .with_context(|| format!("{node} has no engine"))?
            .docker(line)
    }

    /// The page that is published at a node, as the client outside gets it.
    pub(crate) fn page(&self, node: &str, port: u16) -> anyhow::Result<String> {
        let node = self.lab.address(node, Family::V4)?;
        self.lab.curl("c1", &format!("http://{node}:{port}/"))
    }

    /// Waits until each node's engine has containers of just these tasks and their sandboxes, that no namespace, mount
    /// and directory is left of another, and that the data plane holds just what it should.
    pub(crate) fn has_just(&self, tasks: &[PlacedTask]) -> anyhow::Result<()> {
        eventually(SOON, "only what runs is there", || {
            for node in NODES {
                let here = tasks.iter().filter(|task| task.node == node);
                let mut expected: BTreeSet<String> = BTreeSet::new();
                for task in here.clone() {
                    expected.insert(Self::container(task));
                    expected.insert(format!("essaim-sandbox-{}", task.id));
                }
                let found = self.docker(node, &["ps", "--all", "--format", "{{.Names}}"])?;
                let found: BTreeSet<String> = found.lines().map(str::to_owned).collect();
                ensure!(found == expected, "{node} has {found:?}, expected {expected:?}");
                let ids: BTreeSet<String> = here.map(|task| task.id.clone()).collect();
                let kept = names(&self.lab.data_dir(node).join("containers"))?;
                ensure!(kept == ids, "{node} keeps {kept:?}, expected {ids:?}");
                let files = names(&self.lab.state_dir(node).join("containers"))?;
                ensure!(files.is_subset(&ids), "{node} has files of {files:?}");
                let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
                let state = self.lab.state_dir(node).join("containers/").display().to_string();
                let mounted = mounts
                    .lines()
                    .filter_map(|line| line.split(' ').nth(4)?.strip_prefix(&state));
                let mounted: BTreeSet<String> = mounted.map(str::to_owned).collect();
                ensure!(mounted.is_subset(&ids), "{node} has mounts of {mounted:?}");
            }
            Ok(())
        })?;
        self.verified()
    }

    /// Waits until the data plane of each node holds just what it should.
    pub(crate) fn verified(&self) -> anyhow::Result<()> {
        eventually(SOON, "kernel and maps are as they should be", || {
            NODES
                .into_iter()
                .try_for_each(|node| self.lab.essaim(node, &["verify"])?.ok().map(drop))
        })
    }

    /// The namespaces of tasks have their names, or none.
    pub(crate) fn namespaces(tasks: &[PlacedTask], there: bool) -> anyhow::Result<()> {
        for task in tasks {
            let name = format!("/run/netns/es-{}", task.id);
            ensure!(std::path::Path::new(&name).exists() == there, "{name}");
        }
        Ok(())
    }
}

/// The names in a folder; none where it is absent.
fn names(folder: &std::path::Path) -> anyhow::Result<BTreeSet<String>> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(BTreeSet::new());
    };
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}
