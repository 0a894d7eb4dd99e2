//! `node`: the nodes of the cluster.

use crate::api::{Filters, decode, encode, filtered};
use crate::console::{Exit, Session};
use crate::error::Error;
use crate::human::{bytes, capital, time};
use crate::inspect::InspectArgs;
use crate::parse::{key_value, word};
use crate::table::{List, ListArgs, row};
use crate::tasks::{TaskListArgs, host_name, natural};
use bytes::Bytes;
use essaim_objects::{Availability, Node, NodeDescription, NodeId, NodeRole, NodeSpec, Reachability};
use std::fmt::Write;

/// What can be done with nodes.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum NodeCommand {
    /// Demote one or more nodes from manager in the swarm
    Demote {
        /// Names or IDs
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Display detailed information on one or more nodes
    Inspect {
        /// How they are shown
        #[command(flatten)]
        show: InspectArgs,
        /// Print the information in a human friendly format
        #[arg(long, conflicts_with = "format")]
        pretty: bool,
        /// Names or IDs, or self for this node
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// List nodes in the swarm
    #[command(alias = "list")]
    Ls {
        /// Filter output based on conditions provided
        #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value)]
        filter: Vec<(String, String)>,
        /// How they are shown
        #[command(flatten)]
        show: ListArgs,
    },
    /// Promote one or more nodes to manager in the swarm
    Promote {
        /// Names or IDs
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// List tasks running on one or more nodes, defaults to current node
    Ps {
        /// How they are shown
        #[command(flatten)]
        show: TaskListArgs,
        /// Names or IDs, or self for this node
        #[arg(value_name = "NODE", default_value = "self")]
        nodes: Vec<String>,
    },
    /// Remove one or more nodes from the swarm
    #[command(alias = "remove")]
    Rm {
        /// Force remove a node from the swarm
        #[arg(short, long)]
        force: bool,
        /// Names or IDs
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Update a node
    Update {
        /// What is changed
        #[command(flatten)]
        change: NodeChange,
        /// Its name or ID, or self for this node
        node: String,
    },
}

/// The flags that change a node.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct NodeChange {
    /// Availability of the node (active, pause, drain)
    #[arg(long, value_parser = word::<Availability>)]
    availability: Option<Availability>,
    /// Role of the node (worker, manager)
    #[arg(long, value_parser = word::<NodeRole>)]
    role: Option<NodeRole>,
    /// Add or update a node label
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    label_add: Vec<(String, String)>,
    /// Remove a node label if it exists
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
}

impl NodeChange {
    /// The changed spec.
    ///
    /// # Errors
    /// A label to remove is not there.
    pub(crate) fn apply(&self, spec: &NodeSpec) -> Result<NodeSpec, Error> {
        let mut changed = spec.clone();
        changed.availability = self.availability.or(spec.availability);
        changed.role = self.role.or(spec.role);
        let labels = changed.labels.get_or_insert_default();
        for key in &self.label_rm {
            if labels.remove(key).is_none() {
                return Err(Error::Usage(format!("--label-rm: the node has no label {key}")));
            }
        }
        labels.extend(self.label_add.iter().cloned());
        Ok(changed)
    }
}

/// The part of `/info` that is about the cluster.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(crate) struct Info {
    #[serde(rename = "Swarm", default)]
    pub(crate) swarm: SwarmInfo,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct SwarmInfo {
    #[serde(rename = "NodeID")]
    pub(crate) node_id: String,
    pub(crate) local_node_state: String,
    pub(crate) control_available: bool,
}

/// The nodes by name.
pub(crate) fn list(mut nodes: Vec<Node>, own: &str) -> List {
    nodes.sort_by(|a, b| natural(&host_name(a), &host_name(b)).then_with(|| a.id.cmp(&b.id)));
    let root = |node: &Node| {
        node.description
            .as_ref()
            .and_then(|description| description.tls_info.as_ref()?.trust_root.clone())
    };
    let rows = nodes.iter().map(|node| {
        let description = node.description.as_ref();
        let is_own = node.id.as_str() == own;
        let manager =
            node.manager_status
                .as_ref()
                .map_or("", |manager| match (manager.leader, manager.reachability) {
                    (Some(true), _) => "Leader",
                    (_, Reachability::Reachable) => "Reachable",
                    (_, Reachability::Unreachable) => "Unreachable",
                    (_, Reachability::Unknown) => "Unknown",
                });
        let engine = description
            .and_then(|description| description.engine.as_ref()?.engine_version.clone())
            .unwrap_or_default();
        row([
            ("ID", node.id.as_str().into()),
            ("Self", is_own.into()),
            (
                "Hostname",
                description
                    .and_then(|description| description.hostname.clone())
                    .unwrap_or_default()
                    .into(),
            ),
            ("Status", capital(node.status.state.as_str()).into()),
            ("Availability", capital(node.spec.availability().as_str()).into()),
            ("ManagerStatus", manager.into()),
            ("EngineVersion", engine.into()),
            (
                "TLSStatus",
                if root(node).is_some() { "Ready" } else { "Unknown" }.into(),
            ),
        ])
    });
    List {
        columns: &[
            ("ID", "ID"),
            ("Self", ""),
            ("Hostname", "HOSTNAME"),
            ("Status", "STATUS"),
            ("Availability", "AVAILABILITY"),
            ("ManagerStatus", "MANAGER STATUS"),
            ("EngineVersion", "ENGINE VERSION"),
            ("TLSStatus", "TLS STATUS"),
        ],
        table: &[
            "ID",
            "Hostname",
            "Status",
            "Availability",
            "ManagerStatus",
            "EngineVersion",
        ],
        quiet: "ID",
        rows: rows.collect(),
    }
}

impl Session<'_, '_> {
    pub(crate) async fn node(&mut self, command: &NodeCommand) -> Result<Exit, Error> {
        match command {
            NodeCommand::Ls { filter, show } => {
                let filters = Filters::of(filter).to_query();
                let query = filtered(filters.as_deref());
                let nodes: Vec<Node> = self.client.get("/nodes", &query).await?;
                let own = if show.quiet {
                    String::new()
                } else {
                    self.info().await?.swarm.node_id
                };
                let mut show = show.clone();
                // The node itself has a star, in the column of the identities.
                if show
                    .format
                    .as_deref()
                    .is_none_or(|format| format.is_empty() || format == "table")
                    && !show.quiet
                {
                    let star = r#"{{.ID}}{{if eq (print .Self) "true"}} *{{else if eq (print .Self) "false"}}  {{end}}"#;
                    show.format = Some(format!(
                        "table {star}\t{{{{.Hostname}}}}\t{{{{.Status}}}}\t{{{{.Availability}}}}\t{{{{.ManagerStatus}}}}\t{{{{.EngineVersion}}}}"
                    ));
                }
                let text = list(nodes, &own).render(&show)?;
                self.print(&text)?;
                Ok(Exit::Done)
            }
            NodeCommand::Inspect { show, pretty, nodes } => {
                let mut ids = Vec::new();
                for node in nodes {
                    ids.push(self.node_reference(node).await?);
                }
                let render = async |_: &Self, objects: &[Bytes]| match pretty {
                    true => objects
                        .iter()
                        .map(|object| decode("GET /nodes", object).map(|node| pretty_node(&node)))
                        .collect(),
                    false => show.render(objects),
                };
                self.inspect("node", "/nodes", &ids, &[], render).await
            }
            NodeCommand::Ps { show, nodes } => {
                let mut filters = Filters::default();
                for node in nodes {
                    filters.add("node", self.find_node(node).await?.id.as_str());
                }
                self.list_tasks(filters, show).await?;
                Ok(Exit::Done)
            }
            NodeCommand::Update { change, node } => {
                let node_found = self.find_node(node).await?;
                let spec = change.apply(&node_found.spec)?;
                self.post_node(&node_found, &spec).await?;
                self.line(node)?;
                Ok(Exit::Done)
            }
            NodeCommand::Promote { nodes } => self.change_roles(nodes, NodeRole::Manager).await,
            NodeCommand::Demote { nodes } => self.change_roles(nodes, NodeRole::Worker).await,
            NodeCommand::Rm { force, nodes } => {
                let query: &[(&str, &str)] = if *force { &[("force", "1")] } else { &[] };
                let mut exit = Exit::Done;
                for node in nodes {
                    let done = self
                        .client
                        .delete(&format!("/nodes/{}", encode(node)), query)
                        .await;
                    exit = exit.and(self.tally(node, done, node)?);
                }
                Ok(exit)
            }
        }
    }

    pub(crate) async fn info(&self) -> Result<Info, Error> {
        self.client.get("/info", &[]).await
    }

    /// What a node is asked for by: `self` stands for this one.
    pub(crate) async fn node_reference(&self, node: &str) -> Result<String, Error> {
        if node != "self" {
            return Ok(node.to_owned());
        }
        let id = self.info().await?.swarm.node_id;
        if id.is_empty() {
            return Err(Error::Usage(
                "this node is not part of a swarm, so there is no self".to_owned(),
            ));
        }
        Ok(id)
    }

    pub(crate) async fn find_node(&self, node: &str) -> Result<Node, Error> {
        let node = self.node_reference(node).await?;
        self.client.get(&format!("/nodes/{}", encode(&node)), &[]).await
    }

    async fn post_node(&self, node: &Node, spec: &NodeSpec) -> Result<(), Error> {
        let id: NodeId = node.id;
        let version = node.version.to_string();
        self.client
            .post(&format!("/nodes/{id}/update"), &[("version", &version)], spec)
            .await
            .map(drop)
    }

    async fn change_roles(&mut self, nodes: &[String], role: NodeRole) -> Result<Exit, Error> {
        let mut exit = Exit::Done;
        for name in nodes {
            let (done, said) = match self.change_role(name, role).await {
                Ok(said) => (Ok(()), said),
                Err(error) => (Err(error), String::new()),
            };
            exit = exit.and(self.tally(name, done, &said)?);
        }
        Ok(exit)
    }

    async fn change_role(&self, name: &str, role: NodeRole) -> Result<String, Error> {
        let node = self.find_node(name).await?;
        if node.spec.role() == role {
            return Ok(format!("Node {name} is already a {role}."));
        }
        let spec = NodeSpec {
            role: Some(role),
            ..node.spec.clone()
        };
        self.post_node(&node, &spec).await?;
        Ok(match role {
            NodeRole::Manager => format!("Node {name} promoted to a manager in the swarm."),
            NodeRole::Worker => format!("Manager {name} demoted in the swarm."),
        })
    }
}

/// Writing to a string does not fail.
macro_rules! line {
    ($text:expr, $($part:tt)*) => { let _ = writeln!($text, $($part)*); };
}

fn pretty_node(node: &Node) -> String {
    let mut text = String::new();
    line!(text, "ID:\t\t\t{}", node.id);
    if let Some(name) = node.spec.name.as_deref().filter(|name| !name.is_empty()) {
        line!(text, "Name:\t\t\t{name}");
    }
    if let Some(labels) = node.spec.labels.as_ref().filter(|labels| !labels.is_empty()) {
        line!(text, "Labels:");
        for (name, value) in labels {
            line!(text, " - {name}={value}");
        }
    }
    let description = node.description.clone().unwrap_or_default();
    line!(
        text,
        "Hostname:              \t{}",
        description.hostname.as_deref().unwrap_or_default()
    );
    line!(
        text,
        "Joined at:             \t{}",
        time(node.created_at).to_lowercase()
    );
    line!(text, "Status:");
    line!(text, " State:\t\t\t{}", capital(node.status.state.as_str()));
    if let Some(message) = node
        .status
        .message
        .as_deref()
        .filter(|message| !message.is_empty())
    {
        line!(text, " Message:\t\t{message}");
    }
    line!(
        text,
        " Availability:         \t{}",
        capital(node.spec.availability().as_str())
    );
    line!(
        text,
        " Address:\t\t{}",
        node.status.addr.as_deref().unwrap_or_default()
    );
    if let Some(manager) = &node.manager_status {
        line!(text, "Manager Status:");
        line!(
            text,
            " Address:\t\t{}",
            manager.addr.as_deref().unwrap_or_default()
        );
        line!(
            text,
            " Raft Status:\t\t{}",
            capital(manager.reachability.as_str())
        );
        line!(
            text,
            " Leader:\t\t{}",
            if manager.leader == Some(true) { "Yes" } else { "No" }
        );
    }
    machine(&mut text, description);
    text
}

/// What a node says of its machine.
fn machine(text: &mut String, description: NodeDescription) {
    let platform = description.platform.unwrap_or_default();
    line!(text, "Platform:");
    line!(text, " Operating System:\t{}", platform.os.unwrap_or_default());
    line!(
        text,
        " Architecture:\t\t{}",
        platform.architecture.unwrap_or_default()
    );
    let resources = description.resources.unwrap_or_default();
    line!(text, "Resources:");
    line!(
        text,
        " CPUs:\t\t\t{}",
        resources.nano_cpus.unwrap_or_default() / 1_000_000_000
    );
    line!(
        text,
        " Memory:\t\t{}",
        bytes(resources.memory_bytes.unwrap_or_default())
    );
    let engine = description.engine.unwrap_or_default();
    line!(
        text,
        "Engine Version:\t\t{}",
        engine.engine_version.unwrap_or_default()
    );
    if let Some(labels) = engine.labels.filter(|labels| !labels.is_empty()) {
        line!(text, "Engine Labels:");
        for (name, value) in labels {
            line!(text, " - {name}={value}");
        }
    }
    let tls = description.tls_info.unwrap_or_default();
    if let Some(root) = tls.trust_root {
        line!(text, "TLS Info:");
        line!(text, " TrustRoot:\n{root}");
        line!(
            text,
            " Issuer Subject:\t{}",
            tls.cert_issuer_subject.unwrap_or_default()
        );
        line!(
            text,
            " Issuer Public Key:\t{}",
            tls.cert_issuer_public_key.unwrap_or_default()
        );
    }
}
