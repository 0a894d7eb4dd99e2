//! The fields of the catalog file.

mod service;

use super::errors::{CatalogError, CatalogErrors, Place, Problem};
use super::path::{At, Path, Step, render};
use super::read::{Finding, Reader, Table, list, table};
use super::values::{address, boolean, mtu, name, node_state, number, port, subnet, vni};
use super::{Catalog, CatalogDelta, Changes, Cluster, Network, Node, check};
use service::service;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

impl Catalog {
    /// Reads a catalog file and checks every rule.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place in the file. Where the text is no TOML, only what makes it so.
    pub fn parse(text: &str) -> Result<Self, CatalogErrors> {
        let (document, syntax) = DeTable::parse_recoverable(text);
        let places = Places::new(text, document.get_ref());
        if !syntax.is_empty() {
            // What a parser makes of broken text is no ground for further complaints.
            let mut errors: Vec<CatalogError> = syntax.iter().map(|error| places.syntax(error)).collect();
            errors.sort_by_key(|error| error.place);
            return Err(CatalogErrors(errors));
        }
        let mut reader = Reader::default();
        let root = Table {
            fields: document.get_ref(),
            span: (0, 0),
            at: &At::ROOT,
        };
        let catalog = catalog(&mut reader, root);
        let mut findings = std::mem::take(&mut reader.findings);
        findings.extend(
            check::findings(&catalog, &reader.broken)
                .into_iter()
                .map(|(path, problem)| {
                    let path = in_document(&path, &reader);
                    let span = places.span_of(&path);
                    Finding { path, span, problem }
                }),
        );
        if findings.is_empty() {
            Ok(catalog)
        } else {
            Err(places.errors(findings))
        }
    }
}

impl CatalogDelta {
    /// Reads a difference; whether it goes with a catalog is for [`CatalogDelta::apply`].
    ///
    /// # Errors
    /// Everything that cannot be read, each with its place in the text.
    pub fn parse(text: &str) -> Result<Self, CatalogErrors> {
        let (document, syntax) = DeTable::parse_recoverable(text);
        let places = Places::new(text, document.get_ref());
        if !syntax.is_empty() {
            return Err(CatalogErrors(
                syntax.iter().map(|error| places.syntax(error)).collect(),
            ));
        }
        let mut reader = Reader::default();
        let root = Table {
            fields: document.get_ref(),
            span: (0, 0),
            at: &At::ROOT,
        };
        let delta = delta(&mut reader, root);
        if reader.findings.is_empty() {
            Ok(delta)
        } else {
            Err(places.errors(reader.findings))
        }
    }
}

fn delta(reader: &mut Reader, root: Table<'_>) -> CatalogDelta {
    root.only(
        reader,
        &[
            "basis",
            "revision",
            "removed_nodes",
            "removed_networks",
            "removed_services",
            "cluster",
            "nodes",
            "networks",
            "services",
        ],
    );
    let revision = number("revision", 0, i64::MAX.unsigned_abs());
    let basis = root.required(reader, "basis", revision);
    let leads_to = root.required(reader, "revision", revision);
    CatalogDelta {
        // What is missing is an error by now: no default reaches the caller.
        basis: basis.unwrap_or_default(),
        revision: leads_to.unwrap_or_default(),
        cluster: root.optional(reader, "cluster", |reader, value| {
            table(reader, value, |reader, table| Some(cluster(reader, table)))
        }),
        nodes: Changes {
            set: root.tables(reader, "nodes", node),
            removed: root.list(reader, "removed_nodes", name),
        },
        networks: Changes {
            set: root.tables(reader, "networks", network),
            removed: root.list(reader, "removed_networks", name),
        },
        services: Changes {
            set: root.tables(reader, "services", service),
            removed: root.list(reader, "removed_services", name),
        },
    }
}

/// Finds places in the text.
struct Places<'t> {
    text: &'t str,
    document: &'t DeTable<'t>,
    lines: Vec<usize>,
}

impl<'t> Places<'t> {
    fn new(text: &'t str, document: &'t DeTable<'t>) -> Self {
        let ends = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(at, _)| at + 1);
        Self {
            text,
            document,
            lines: std::iter::once(0).chain(ends).collect(),
        }
    }

    fn at(&self, offset: usize) -> Place {
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = line
            .checked_sub(1)
            .and_then(|line| self.lines.get(line))
            .copied()
            .unwrap_or(0);
        let column = self
            .text
            .get(start..offset)
            .map_or(0, |text| text.chars().count())
            + 1;
        Place { line, column }
    }

    fn syntax(&self, error: &toml::de::Error) -> CatalogError {
        CatalogError {
            place: Some(self.at(error.span().map_or(0, |span| span.start))),
            path: String::new(),
            problem: Problem::Syntax {
                message: error.message().to_owned(),
            },
        }
    }

    /// The span of the value, or of the nearest thing that holds it.
    fn span_of(&self, path: &[Step]) -> Range<usize> {
        let mut span = 0..0;
        let mut here: Option<&Spanned<DeValue<'_>>> = None;
        for step in path {
            let next = match (step, here) {
                (Step::Field(name), None) => self.document.get(name.as_str()),
                (Step::Field(name), Some(value)) => value.get_ref().get(name.as_str()),
                (Step::Index(index), Some(value)) => value.get_ref().get(*index),
                (Step::Index(_), None) => None,
            };
            let Some(next) = next else { break };
            span = next.span();
            here = Some(next);
        }
        span
    }

    fn name_of(&self, section: &str, index: usize) -> Option<String> {
        let item = self.document.get(section)?.get_ref().get(index)?;
        Some(item.get_ref().get("name")?.get_ref().as_str()?.to_owned())
    }

    fn errors(&self, mut findings: Vec<Finding>) -> CatalogErrors {
        findings.sort_by_key(|finding| finding.span.start);
        let errors = findings.into_iter().map(|finding| CatalogError {
            place: Some(self.at(finding.span.start)),
            path: render(&finding.path, |section, index| self.name_of(section, index)),
            problem: finding.problem,
        });
        CatalogErrors(errors.collect())
    }
}

/// Counts the items that were dropped back in.
fn in_document(path: &[Step], reader: &Reader) -> Path {
    let mut found = Path::new();
    for step in path {
        match step {
            Step::Field(_) => found.push(step.clone()),
            Step::Index(index) => {
                found.push(Step::Index(0));
                let mut before = *index;
                let mut at = 0;
                while let Some(last) = found.last_mut() {
                    *last = Step::Index(at);
                    if !reader.dropped.contains(&found) {
                        if before == 0 {
                            break;
                        }
                        before -= 1;
                    }
                    at += 1;
                }
            }
        }
    }
    found
}

fn catalog(reader: &mut Reader, root: Table<'_>) -> Catalog {
    root.only(reader, &["revision", "cluster", "nodes", "networks", "services"]);
    // TOML integers are signed.
    let revision = root.required(reader, "revision", number("revision", 0, i64::MAX.unsigned_abs()));
    let cluster = root.required(reader, "cluster", |reader, value| {
        table(reader, value, |reader, table| Some(cluster(reader, table)))
    });
    let nodes = root.tables(reader, "nodes", node);
    let networks = root.tables(reader, "networks", network);
    let services = root.tables(reader, "services", service);
    // Without a revision or a cluster the rest can still be checked: neither default reaches the caller.
    let cluster = cluster.unwrap_or_else(|| {
        reader.broken.insert("ingress".to_owned());
        Cluster::new(Vec::new())
    });
    Catalog {
        revision: revision.unwrap_or(0),
        cluster,
        nodes,
        networks,
        services,
    }
}

fn cluster(reader: &mut Reader, of: Table<'_>) -> Cluster {
    of.only(
        reader,
        &[
            "vxlan_port",
            "gossip_port",
            "manager_port",
            "ingress_vni",
            "ingress_subnets",
            "ingress_gateways",
            "ingress_mtu",
        ],
    );
    let subnets = of.required(reader, "ingress_subnets", |reader, value| {
        list(reader, value, subnet)
    });
    let usual = Cluster::new(subnets.unwrap_or_default());
    let whole = of.is_whole("ingress_subnets", usual.ingress_subnets.len());
    if !whole || !of.fields.contains_key("ingress_subnets") {
        reader.broken.insert("ingress".to_owned());
    }
    Cluster {
        vxlan_port: of
            .optional(reader, "vxlan_port", port)
            .unwrap_or(usual.vxlan_port),
        gossip_port: of
            .optional(reader, "gossip_port", port)
            .unwrap_or(usual.gossip_port),
        manager_port: of
            .optional(reader, "manager_port", port)
            .unwrap_or(usual.manager_port),
        ingress_vni: of
            .optional(reader, "ingress_vni", vni)
            .unwrap_or(usual.ingress_vni),
        ingress_subnets: usual.ingress_subnets,
        ingress_gateways: of.list(reader, "ingress_gateways", address),
        ingress_mtu: of.optional(reader, "ingress_mtu", mtu),
    }
}

fn node(reader: &mut Reader, of: Table<'_>) -> Option<Node> {
    of.only(reader, &["name", "address", "overlay", "state"]);
    let name = of.required(reader, "name", name);
    let underlay = of.required(reader, "address", address);
    let overlay = of.required(reader, "overlay", |reader, value| list(reader, value, address));
    let state = of.optional(reader, "state", node_state).unwrap_or_default();
    match (name, underlay, overlay) {
        (Some(name), Some(address), Some(overlay)) if of.is_whole("overlay", overlay.len()) => Some(Node {
            name,
            address,
            overlay,
            state,
        }),
        _ => {
            reader.broken.extend(of.text("name").map(str::to_owned));
            None
        }
    }
}

fn network(reader: &mut Reader, of: Table<'_>) -> Option<Network> {
    of.only(
        reader,
        &[
            "name",
            "vni",
            "subnets",
            "gateways",
            "internal",
            "encrypted",
            "mtu",
        ],
    );
    let name = of.required(reader, "name", name);
    let vni = of.required(reader, "vni", vni);
    let subnets = of.required(reader, "subnets", |reader, value| list(reader, value, subnet));
    let gateways = of.list(reader, "gateways", address);
    let internal = of.optional(reader, "internal", boolean).unwrap_or(false);
    let encrypted = of.optional(reader, "encrypted", boolean).unwrap_or(false);
    let mtu = of.optional(reader, "mtu", mtu);
    match (name, vni, subnets) {
        // A network of which a subnet is unreadable would make its addresses look foreign.
        (Some(name), Some(vni), Some(subnets)) if of.is_whole("subnets", subnets.len()) => Some(Network {
            name,
            vni,
            subnets,
            gateways,
            internal,
            encrypted,
            mtu,
        }),
        _ => {
            reader.broken.extend(of.text("name").map(str::to_owned));
            None
        }
    }
}
