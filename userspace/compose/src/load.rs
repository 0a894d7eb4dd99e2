//! From the text of files to what they ask for.

mod deploy;
mod env_file;
mod mount;
mod service;

pub use env_file::{EnvFileError, env_file};

use crate::interpolate::fill_tree;
use crate::model::{FileObject, Network, Stack, Volume};
use crate::place::{At, Findings, Problem, Problems};
use crate::read::{Cursor, Fields};
use crate::yaml::{self, Node, Value, float_text};
use essaim_objects::Labels;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

/// A file of a stack.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name, as messages have it.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// What files are read in.
pub struct Surroundings<'a> {
    /// The folder that paths in the files start at: that of the first file.
    pub directory: &'a Path,
    /// A variable of the operator's environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The content of a file that a stack's file names.
    pub read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// What was read, and what the operator should hear about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the files ask for.
    pub stack: Stack,
    /// Keys that the cluster has no use for, in order.
    pub unsupported: Vec<String>,
    /// Keys that newer files do without, and why.
    pub deprecated: Vec<(String, String)>,
    /// What is taken, but not as it may have been meant.
    pub words: Vec<Problem>,
}

/// Keys of services that are read over: docker's own list, and what docker reads over without a word.
const UNSUPPORTED: &[&str] = &[
    "build",
    "cgroup_parent",
    "cgroupns_mode",
    "depends_on",
    "devices",
    "domainname",
    "external_links",
    "ipc",
    "links",
    "mac_address",
    "network_mode",
    "pid",
    "privileged",
    "security_opt",
    "shm_size",
    "userns_mode",
];

const DEPRECATED: &[(&str, &str)] = &[
    ("container_name", "Setting the container name is not supported."),
    (
        "expose",
        "Exposing ports is unnecessary - services on the same network can access each other's containers on any port.",
    ),
];

const RESOURCES: &str = "set resource limits with deploy.resources";
const FORBIDDEN: &[(&str, &str)] = &[
    (
        "extends",
        "extends is not supported; anchors and several files are",
    ),
    (
        "volume_driver",
        "define a volume under the top-level volumes, with its driver there",
    ),
    (
        "volumes_from",
        "define a volume under the top-level volumes, and mount it in each service",
    ),
    ("cpu_quota", RESOURCES),
    ("cpu_shares", RESOURCES),
    ("cpuset", RESOURCES),
    ("mem_limit", RESOURCES),
    ("memswap_limit", RESOURCES),
    ("credential_spec", "it is of Windows"),
];

/// What is being read, and what was found on the way.
pub(crate) struct Loader<'a> {
    pub(crate) around: &'a Surroundings<'a>,
    pub(crate) findings: Findings,
    unsupported: BTreeSet<String>,
    deprecated: BTreeMap<String, String>,
}

/// Reads a stack's files; of what several ask for, later ones go before earlier ones.
///
/// # Errors
/// Everything that is wrong in them.
pub fn load(sources: &[Source], around: &Surroundings<'_>) -> Result<Loaded, Problems> {
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    let mut loader = Loader {
        around,
        findings: Findings::of(names.clone()),
        unsupported: BTreeSet::new(),
        deprecated: BTreeMap::new(),
    };
    let mut stack: Option<Stack> = None;
    for (file, source) in sources.iter().enumerate() {
        let Some(mut root) = yaml::read(file, &source.text, &mut loader.findings) else {
            continue;
        };
        fill_tree(&mut root, "", around.variable, &mut loader.findings);
        let next = loader.file(&root);
        stack = Some(match stack {
            None => next,
            Some(earlier) => {
                if earlier.version != next.version {
                    let said = |version: &Option<String>| {
                        version
                            .as_ref()
                            .map_or("no version".to_owned(), |version| format!("version {version}"))
                    };
                    loader.findings.problem(
                        root.at,
                        "version",
                        format!(
                            "{}, but the first file has {}",
                            said(&next.version),
                            said(&earlier.version)
                        ),
                    );
                }
                earlier.merge(next)
            }
        });
    }
    let Loader {
        findings,
        unsupported,
        deprecated,
        ..
    } = loader;
    let words = findings.finish()?;
    Ok(Loaded {
        stack: Stack {
            files: names,
            ..stack.unwrap_or_default()
        },
        unsupported: unsupported.into_iter().collect(),
        deprecated: deprecated.into_iter().collect(),
        words,
    })
}

impl Loader<'_> {
    fn file(&mut self, root: &Node) -> Stack {
        let root = Cursor::root(root);
        let known = ["version", "services", "networks", "volumes", "secrets", "configs"];
        let fields = root.fields(&mut self.findings, &known, true);
        let mut stack = Stack {
            version: fields.get("version").and_then(|version| self.version(version)),
            own: own(&root),
            ..Stack::default()
        };
        for (name, cursor) in self.section(&fields, "services") {
            if let Some(service) = self.service(&cursor) {
                stack.services.insert(name, service);
            }
        }
        for (name, cursor) in self.section(&fields, "networks") {
            let network = self.network(&name, &cursor);
            stack.networks.insert(name, network);
        }
        for (name, cursor) in self.section(&fields, "volumes") {
            let volume = self.volume(&name, &cursor);
            stack.volumes.insert(name, volume);
        }
        for (name, cursor) in self.section(&fields, "secrets") {
            let secret = self.file_object(&name, &cursor, true);
            stack.secrets.insert(name, secret);
        }
        for (name, cursor) in self.section(&fields, "configs") {
            let config = self.file_object(&name, &cursor, false);
            stack.configs.insert(name, config);
        }
        stack
    }

    /// `3` or `3.0` to `3.13`; what they differ in is not told apart.
    fn version(&mut self, cursor: &Cursor<'_>) -> Option<String> {
        let version = cursor.text(&mut self.findings)?;
        let minor = version.strip_prefix("3.").map(str::parse::<u8>);
        if version != "3" && !matches!(minor, Some(Ok(0..=13))) {
            cursor.refuse(&mut self.findings, "a version of 3.0 to 3.13");
        }
        Some(version)
    }

    /// The entries of a section, whose names are the operator's.
    fn section<'a>(&mut self, fields: &Fields<'a>, name: &str) -> Vec<(String, Cursor<'a>)> {
        let Some(section) = fields.get(name) else {
            return Vec::new();
        };
        let mut entries = Vec::new();
        for (key, cursor) in section.entries(&mut self.findings) {
            let name = &key.name;
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if name.is_empty() || !name.chars().all(fits) {
                self.findings.problem(
                    key.at,
                    &cursor.path,
                    format!("the name {name:?} has other characters than letters, digits, '.', '_' and '-'"),
                );
            }
            entries.push((name.clone(), cursor));
        }
        entries
    }

    fn network(&mut self, name: &str, cursor: &Cursor<'_>) -> Network {
        let mut network = Network {
            at: cursor.at(),
            name: None,
            external: false,
            driver: None,
            driver_opts: Labels::new(),
            ipam_driver: None,
            subnets: Vec::new(),
            internal: None,
            attachable: None,
            labels: Labels::new(),
        };
        if cursor.is_null() {
            return network;
        }
        let known = [
            "name",
            "driver",
            "driver_opts",
            "ipam",
            "external",
            "internal",
            "attachable",
            "labels",
        ];
        let fields = cursor.fields(&mut self.findings, &known, true);
        network.name = fields.text("name", &mut self.findings);
        network.driver = fields.text("driver", &mut self.findings);
        network.driver_opts = self.options(&fields, "driver_opts");
        network.internal = fields.truth("internal", &mut self.findings);
        network.attachable = fields.truth("attachable", &mut self.findings);
        network.labels = fields.labels("labels", &mut self.findings);
        if let Some(ipam) = fields.get("ipam") {
            let fields = ipam.fields(&mut self.findings, &["driver", "config"], false);
            network.ipam_driver = fields.text("driver", &mut self.findings);
            for pool in fields.items("config", &mut self.findings) {
                let fields = pool.fields(&mut self.findings, &["subnet"], false);
                network.subnets.extend(fields.get("subnet").and_then(|subnet| {
                    let text = subnet.text(&mut self.findings)?;
                    if text.parse::<ipnet::IpNet>().is_err() {
                        subnet.refuse(&mut self.findings, "a subnet such as 10.1.0.0/24");
                    }
                    Some(text)
                }));
            }
        }
        self.external(name, &fields, &mut network.external, &mut network.name);
        network
    }

    fn volume(&mut self, name: &str, cursor: &Cursor<'_>) -> Volume {
        let mut volume = Volume {
            name: None,
            external: false,
            driver: None,
            driver_opts: Labels::new(),
            labels: Labels::new(),
        };
        if cursor.is_null() {
            return volume;
        }
        let known = ["name", "driver", "driver_opts", "external", "labels"];
        let fields = cursor.fields(&mut self.findings, &known, true);
        volume.name = fields.text("name", &mut self.findings);
        volume.driver = fields.text("driver", &mut self.findings);
        volume.driver_opts = self.options(&fields, "driver_opts");
        volume.labels = fields.labels("labels", &mut self.findings);
        self.external(name, &fields, &mut volume.external, &mut volume.name);
        if volume.external {
            self.only_external(&fields, &["driver", "driver_opts", "labels"]);
        }
        volume
    }

    fn file_object(&mut self, name: &str, cursor: &Cursor<'_>, secret: bool) -> FileObject {
        let all = [
            "name",
            "file",
            "external",
            "labels",
            "template_driver",
            "driver",
            "driver_opts",
        ];
        let known = if secret { &all[..] } else { &all[..5] };
        let fields = cursor.fields(&mut self.findings, known, true);
        let mut object = FileObject {
            at: fields.get("file").map_or(cursor.at(), Cursor::at),
            name: fields.text("name", &mut self.findings),
            external: false,
            file: None,
            driver: fields.text("driver", &mut self.findings),
            driver_opts: self.options(&fields, "driver_opts"),
            template_driver: fields.text("template_driver", &mut self.findings),
            labels: fields.labels("labels", &mut self.findings),
        };
        let file = fields.text("file", &mut self.findings);
        self.external(name, &fields, &mut object.external, &mut object.name);
        if object.external {
            self.only_external(
                &fields,
                &["file", "driver", "driver_opts", "labels", "template_driver"],
            );
        } else if object.driver.is_some() {
            self.exclude(&fields, "driver", "file");
        } else if file.is_none() && !fields.has("file") {
            let expected = if secret {
                "file, driver or external"
            } else {
                "file or external"
            };
            cursor.problem(
                &mut self.findings,
                format!("nothing says what is in it, expected {expected}"),
            );
        }
        object.file = file.map(|file| self.absolute(&file));
        object
    }

    /// `external: true`, or `external: {name: X}` of old files.
    fn external(&mut self, key: &str, fields: &Fields<'_>, external: &mut bool, name: &mut Option<String>) {
        let Some(cursor) = fields.get("external") else {
            return;
        };
        if matches!(cursor.value(), Value::Map(_)) {
            *external = true;
            let old = cursor.fields(&mut self.findings, &["name"], false);
            if let Some(old) = old.text("name", &mut self.findings) {
                if name.is_some() {
                    cursor.problem(
                        &mut self.findings,
                        "external.name and name are both given, expected only name",
                    );
                }
                cursor.word(&mut self.findings, "external.name is deprecated in favor of name");
                *name = Some(old);
            }
        } else {
            *external = cursor.truth(&mut self.findings) == Some(true);
        }
        if *external {
            name.get_or_insert_with(|| key.to_owned());
        }
    }

    /// What is external is made elsewhere.
    fn only_external(&mut self, fields: &Fields<'_>, others: &[&str]) {
        for other in others {
            if let Some(cursor) = fields.get(other) {
                cursor.problem(
                    &mut self.findings,
                    format!("external and {other} are both given, expected only one of them"),
                );
            }
        }
    }

    fn exclude(&mut self, fields: &Fields<'_>, one: &str, other: &str) {
        if let (Some(_), Some(cursor)) = (fields.get(one), fields.get(other)) {
            cursor.problem(
                &mut self.findings,
                format!("{one} and {other} are both given, expected only one of them"),
            );
        }
    }

    /// Options of a driver: a mapping to text and numbers.
    fn options(&mut self, fields: &Fields<'_>, name: &str) -> Labels {
        let Some(cursor) = fields.get(name) else {
            return Labels::new();
        };
        let mut options = Labels::new();
        for (key, cursor) in cursor.entries(&mut self.findings) {
            if let Some(value) = cursor.written(&mut self.findings) {
                options.insert(key.name.clone(), value.unwrap_or_default());
            }
        }
        options
    }

    /// A path from the files' folder, without `.` and `..`.
    fn absolute(&self, path: &str) -> String {
        clean(&self.around.directory.join(path))
            .to_string_lossy()
            .into_owned()
    }

    fn unreadable(&mut self, at: At, path: &str, file: &str, error: &io::Error) {
        self.findings
            .problem(at, path, format!("the file {file} cannot be read: {error}"));
    }
}

/// A path without `.`, and without `..` where there is a folder to leave.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => match clean.components().next_back() {
                Some(Component::Normal(_)) => drop(clean.pop()),
                Some(Component::RootDir) => {}
                None | Some(Component::ParentDir | Component::CurDir | Component::Prefix(_)) => {
                    clean.push("..");
                }
            },
            Component::Normal(_) | Component::RootDir | Component::Prefix(_) => clean.push(component),
        }
    }
    clean
}

/// The operator's own keys of the top.
fn own(root: &Cursor<'_>) -> BTreeMap<String, serde_json::Value> {
    let Value::Map(entries) = root.value() else {
        return BTreeMap::new();
    };
    let own = entries.iter().filter(|(key, _)| key.name.starts_with("x-"));
    own.map(|(key, node)| (key.name.clone(), json(node))).collect()
}

fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Integer(number) => i64::try_from(*number)
            .map_or_else(|_| u64::try_from(*number).unwrap_or_default().into(), Into::into),
        Value::Float(number) => {
            serde_json::Number::from_f64(*number).map_or_else(|| float_text(*number).into(), Into::into)
        }
        Value::Text(text) | Value::Filled(text) => text.clone().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|(key, node)| (key.name.clone(), json(node)))
            .collect(),
    }
}
