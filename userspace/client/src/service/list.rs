//! `service ls`.

use crate::human::{ports, short};
use crate::table::{List, ListArgs, row};
use crate::tasks::natural;
use essaim_objects::{Mode, Service};

/// What `service ls` takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServiceListArgs {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = crate::parse::key_value)]
    pub(crate) filter: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// The services by name.
pub(crate) fn list(mut services: Vec<Service>) -> List {
    services.sort_by(|a, b| natural(a.spec.name(), b.spec.name()));
    let rows = services.iter().map(|service| {
        let container = service.spec.task_template.container.as_ref();
        let image = container
            .and_then(|container| container.image.clone())
            .unwrap_or_default();
        let image = image
            .split_once("@sha256:")
            .map_or(image.clone(), |(name, _)| name.to_owned());
        let published = service
            .endpoint
            .as_ref()
            .map(essaim_objects::Endpoint::ports)
            .unwrap_or_default();
        row([
            ("ID", short(service.id.as_str()).into()),
            ("Name", service.spec.name().into()),
            ("Mode", mode_word(service.spec.mode()).into()),
            ("Replicas", replicas(service).into()),
            ("Image", image.into()),
            ("Ports", ports(published, false).into()),
        ])
    });
    List {
        columns: &[
            ("ID", "ID"),
            ("Name", "NAME"),
            ("Mode", "MODE"),
            ("Replicas", "REPLICAS"),
            ("Image", "IMAGE"),
            ("Ports", "PORTS"),
        ],
        table: &["ID", "Name", "Mode", "Replicas", "Image", "Ports"],
        quiet: "ID",
        rows: rows.collect(),
    }
}

pub(crate) fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Replicated { .. } => "replicated",
        Mode::Global => "global",
        Mode::ReplicatedJob { .. } => "replicated job",
        Mode::GlobalJob => "global job",
    }
}

fn replicas(service: &Service) -> String {
    let status = service.service_status.clone().unwrap_or_default();
    let (running, desired, completed) = (status.running_tasks, status.desired_tasks, status.completed_tasks);
    let most = service
        .spec
        .task_template
        .placement
        .as_ref()
        .and_then(|placement| placement.max_replicas)
        .unwrap_or_default();
    match service.spec.mode() {
        Mode::Replicated { .. } if most > 0 => format!("{running}/{desired} (max {most} per node)"),
        Mode::Replicated { .. } | Mode::Global => format!("{running}/{desired}"),
        Mode::ReplicatedJob {
            total_completions, ..
        } => format!("{running}/{desired} ({completed}/{total_completions} completed)"),
        Mode::GlobalJob => format!(
            "{running}/{desired} ({completed}/{} completed)",
            desired + completed
        ),
    }
}
