//! `essaim check`.

use crate::args::{CheckArgs, Format};
use crate::output::{Exit, print, print_json};
use anyhow::Context;
use essaim_model::Catalog;
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;

/// The result, for programs.
#[derive(Serialize)]
struct Report {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<Summary>,
    errors: Vec<ErrorReport>,
}

/// What a valid catalog holds.
#[derive(Serialize)]
struct Summary {
    revision: u64,
    nodes: usize,
    networks: usize,
    services: usize,
    tasks: usize,
    published_ports: usize,
}

/// One error, for programs.
#[derive(Serialize)]
struct ErrorReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    path: String,
    message: String,
}

/// Validates the file and prints what was found.
pub(crate) fn check(args: &CheckArgs) -> anyhow::Result<Exit> {
    let text = std::fs::read_to_string(&args.file)
        .with_context(|| format!("failed to read the catalog {}", args.file.display()))?;
    let parsed = Catalog::parse(&text);
    let exit = if parsed.is_ok() { Exit::Done } else { Exit::Failed };
    match (args.format, parsed) {
        (Format::Text, Ok(catalog)) => print(&sentence(&args.file, &Summary::of(&catalog))),
        (Format::Text, Err(errors)) => {
            let mut lines = String::new();
            for error in &errors {
                let separator = if error.place.is_some() { "" } else { " " };
                // Writing to a string does not fail.
                let _ = writeln!(lines, "{}:{separator}{error}", args.file.display());
            }
            print(&lines);
        }
        (Format::Json, Ok(catalog)) => {
            print_json(&Report {
                valid: true,
                summary: Some(Summary::of(&catalog)),
                errors: Vec::new(),
            })?;
        }
        (Format::Json, Err(errors)) => {
            let errors = errors.iter().map(|error| ErrorReport {
                line: error.place.map(|place| place.line),
                column: error.place.map(|place| place.column),
                path: error.path.clone(),
                message: error.problem.to_string(),
            });
            print_json(&Report {
                valid: false,
                summary: None,
                errors: errors.collect(),
            })?;
        }
    }
    Ok(exit)
}

impl Summary {
    fn of(catalog: &Catalog) -> Self {
        Self {
            revision: catalog.revision,
            nodes: catalog.nodes.len(),
            networks: catalog.networks.len(),
            services: catalog.services.len(),
            tasks: catalog.services.iter().map(|service| service.tasks.len()).sum(),
            published_ports: catalog.services.iter().map(|service| service.ports.len()).sum(),
        }
    }
}

fn sentence(file: &Path, summary: &Summary) -> String {
    let Summary {
        revision,
        nodes,
        networks,
        services,
        tasks,
        published_ports,
    } = summary;
    let counted = |count: &usize, what: &str| format!("{count} {what}{}", if *count == 1 { "" } else { "s" });
    format!(
        "{}: valid, revision {revision}: {}, {}, {}, {}, {}\n",
        file.display(),
        counted(nodes, "node"),
        counted(networks, "network"),
        counted(services, "service"),
        counted(tasks, "task"),
        counted(published_ports, "published port"),
    )
}
