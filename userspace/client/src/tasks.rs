//! Lists of tasks, for `service ps` and `node ps`.

use crate::api::Filters;
use crate::console::Session;
use crate::error::Error;
use crate::human::{ago, capital, ports, short};
use crate::table::{List, ListArgs, row};
use essaim_objects::{Node, NodeId, Service, ServiceId, Task, Timestamp};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// How tasks are to be listed.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TaskListArgs {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = crate::parse::key_value)]
    pub(crate) filter: Vec<(String, String)>,
    /// Do not map IDs to names
    #[arg(long)]
    pub(crate) no_resolve: bool,
    /// Do not truncate output
    #[arg(long)]
    pub(crate) no_trunc: bool,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// Names of what tasks belong to; an identity without one stands for itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskNames {
    pub(crate) services: BTreeMap<ServiceId, String>,
    pub(crate) nodes: BTreeMap<NodeId, String>,
}

impl TaskNames {
    pub(crate) fn service(&self, id: Option<ServiceId>) -> String {
        id.map_or_else(String::new, |id| {
            self.services.get(&id).cloned().unwrap_or_else(|| id.to_string())
        })
    }

    pub(crate) fn node(&self, id: Option<NodeId>) -> String {
        id.map_or_else(String::new, |id| {
            self.nodes.get(&id).cloned().unwrap_or_else(|| id.to_string())
        })
    }

    /// `web.1`, or `web.NODE` where every node has one.
    pub(crate) fn task(&self, task: &Task) -> String {
        match (task.service_id, task.slot) {
            (None, _) => task.id.to_string(),
            (service, Some(slot)) if slot != 0 => format!("{}.{slot}", self.service(service)),
            (service, _) => format!(
                "{}.{}",
                self.service(service),
                task.node_id.map(|id| id.to_string()).unwrap_or_default()
            ),
        }
    }
}

const LONGEST_ERROR: usize = 30;

/// The tasks by name, the newest of a slot first.
pub(crate) fn list(mut tasks: Vec<Task>, names: &TaskNames, args: &TaskListArgs, now: Timestamp) -> List {
    tasks.sort_by(|a, b| {
        natural(&names.task(a), &names.task(b))
            .then_with(|| b.created_at.cmp(&a.created_at))
            .then_with(|| a.id.cmp(&b.id))
    });
    let mut before = String::new();
    let as_table = args
        .list
        .format
        .as_deref()
        .is_none_or(|format| format.is_empty() || format.starts_with("table"));
    let mut rows = Vec::new();
    for task in &tasks {
        let name = names.task(task);
        let shown = if as_table && name == before {
            format!(" \\_ {name}")
        } else {
            name.clone()
        };
        before = name;
        let image = task
            .spec
            .container
            .as_ref()
            .and_then(|container| container.image.clone())
            .unwrap_or_default();
        let image = match image.split_once("@sha256:") {
            Some((name, _)) if !args.no_trunc => name.to_owned(),
            _ => image,
        };
        let status = &task.status;
        let error = status.err.as_deref().filter(|error| !error.is_empty());
        let error = error.map_or_else(String::new, |error| {
            if !args.no_trunc && error.chars().count() > LONGEST_ERROR {
                format!(
                    "\"{}…\"",
                    error.chars().take(LONGEST_ERROR - 1).collect::<String>()
                )
            } else {
                format!("\"{error}\"")
            }
        });
        let published = status
            .port_status
            .as_ref()
            .and_then(|ports| ports.ports.as_deref())
            .unwrap_or_default();
        let full = args.no_trunc || args.list.quiet;
        let id = task.id.to_string();
        rows.push(row([
            ("ID", if full { id } else { short(&id) }.into()),
            ("Name", shown.into()),
            ("Image", image.into()),
            ("Node", names.node(task.node_id).into()),
            ("DesiredState", capital(task.desired_state.as_str()).into()),
            (
                "CurrentState",
                format!(
                    "{} {}",
                    capital(status.state.as_str()),
                    ago(status.timestamp, now).to_lowercase()
                )
                .into(),
            ),
            ("Error", error.into()),
            ("Ports", ports(published, true).into()),
        ]));
    }
    List {
        columns: &[
            ("ID", "ID"),
            ("Name", "NAME"),
            ("Image", "IMAGE"),
            ("Node", "NODE"),
            ("DesiredState", "DESIRED STATE"),
            ("CurrentState", "CURRENT STATE"),
            ("Error", "ERROR"),
            ("Ports", "PORTS"),
        ],
        table: &[
            "ID",
            "Name",
            "Image",
            "Node",
            "DesiredState",
            "CurrentState",
            "Error",
            "Ports",
        ],
        quiet: "ID",
        rows,
    }
}

/// Numbers in names by their value, so that `web.10` comes after `web.2`.
pub(crate) fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (digits_a, digits_b) = (leading_digits(a), leading_digits(b));
        if digits_a > 0 && digits_b > 0 {
            let (number_a, rest_a) = a.split_at(digits_a);
            let (number_b, rest_b) = b.split_at(digits_b);
            let (plain_a, plain_b) = (number_a.trim_start_matches('0'), number_b.trim_start_matches('0'));
            let order = plain_a
                .len()
                .cmp(&plain_b.len())
                .then_with(|| plain_a.cmp(plain_b))
                .then_with(|| number_a.cmp(number_b));
            if order.is_ne() {
                return order;
            }
            (a, b) = (rest_a, rest_b);
            continue;
        }
        let (mut rest_a, mut rest_b) = (a.chars(), b.chars());
        match (rest_a.next(), rest_b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) if x != y => return x.cmp(&y),
            _ => (a, b) = (rest_a.as_str(), rest_b.as_str()),
        }
    }
}

fn leading_digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

impl Session<'_, '_> {
    /// The names of what these tasks belong to. What is gone has none.
    pub(crate) async fn task_names(&mut self, tasks: &[Task]) -> Result<TaskNames, Error> {
        let mut names = TaskNames::default();
        for task in tasks {
            if let Some(id) = task.service_id
                && !names.services.contains_key(&id)
            {
                match self.client.get::<Service>(&format!("/services/{id}"), &[]).await {
                    Ok(service) => names.services.insert(id, service.spec.name().to_owned()),
                    Err(error) if error.is_missing() => names.services.insert(id, id.to_string()),
                    Err(error) => return Err(error),
                };
            }
            if let Some(id) = task.node_id
                && !names.nodes.contains_key(&id)
            {
                match self.client.get::<Node>(&format!("/nodes/{id}"), &[]).await {
                    Ok(node) => names.nodes.insert(id, host_name(&node)),
                    Err(error) if error.is_missing() => names.nodes.insert(id, id.to_string()),
                    Err(error) => return Err(error),
                };
            }
        }
        Ok(names)
    }

    /// Lists the tasks that the filters let through.
    pub(crate) async fn list_tasks(&mut self, filters: Filters, args: &TaskListArgs) -> Result<(), Error> {
        let tasks = self.filtered_tasks(filters, args).await?;
        self.show_tasks(tasks, args).await
    }

    /// The tasks that the filters let through.
    pub(crate) async fn filtered_tasks(
        &mut self,
        mut filters: Filters,
        args: &TaskListArgs,
    ) -> Result<Vec<Task>, Error> {
        for (key, value) in &args.filter {
            // A node may be given by name, which the daemon resolves; `self` is this one.
            let value = if key == "node" {
                self.node_reference(value).await?
            } else {
                value.clone()
            };
            filters.add(key, &value);
        }
        let filters = filters.to_query().unwrap_or_default();
        self.client.get("/tasks", &[("filters", &filters)]).await
    }

    /// Prints tasks.
    pub(crate) async fn show_tasks(&mut self, tasks: Vec<Task>, args: &TaskListArgs) -> Result<(), Error> {
        let names = if args.no_resolve || args.list.quiet {
            TaskNames::default()
        } else {
            self.task_names(&tasks).await?
        };
        let text = list(tasks, &names, args, self.now()).render(&args.list)?;
        self.print(&text)
    }
}

/// A node's name: its own, else that of its machine.
pub(crate) fn host_name(node: &Node) -> String {
    let own = node.spec.name.clone().filter(|name| !name.is_empty());
    own.or_else(|| {
        node.description
            .as_ref()
            .and_then(|description| description.hostname.clone())
    })
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn task(id: u128, slot: u64, created: &str, error: &str) -> Task {
        let id = essaim_objects::TaskId::from_bits(id);
        let service = ServiceId::from_bits(7);
        serde_json::from_value(json!({
            "ID": id, "CreatedAt": created, "ServiceID": service, "Slot": slot, "NodeID": NodeId::from_bits(3),
            "Spec": {"ContainerSpec": {"Image": "host@sha256:abc"}},
            "Status": {"State": "running", "Timestamp": "2026-01-01T00:00:00Z", "Err": error,
                "PortStatus": {"Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}]}},
            "DesiredState": "running",
        }))
        .unwrap()
    }

    #[test]
    fn older_tasks_of_a_slot_hang_below_the_newest() {
        let names = TaskNames {
            services: [(ServiceId::from_bits(7), "web".to_owned())].into(),
            nodes: [(NodeId::from_bits(3), "n1".to_owned())].into(),
        };
        let tasks = vec![
            task(1, 2, "2026-01-01T00:00:00Z", ""),
            task(
                2,
                10,
                "2026-01-01T00:00:00Z",
                "an error that is longer than the column for errors",
            ),
            task(3, 2, "2026-01-02T00:00:00Z", "short"),
        ];
        let now = "2026-01-01T00:05:00Z".parse().unwrap();
        let text = list(tasks.clone(), &names, &TaskListArgs::default(), now)
            .render(&ListArgs::default())
            .unwrap();
        let expected = "\
ID             NAME        IMAGE     NODE      DESIRED STATE   CURRENT STATE           ERROR                              PORTS
000000000000   web.2       host      n1        Running         Running 5 minutes ago   \"short\"                            *:8080->80/tcp
000000000000    \\_ web.2   host      n1        Running         Running 5 minutes ago                                      *:8080->80/tcp
000000000000   web.10      host      n1        Running         Running 5 minutes ago   \"an error that is longer than …\"   *:8080->80/tcp
";
        assert_eq!(text, expected);
        let full = TaskListArgs {
            no_trunc: true,
            ..TaskListArgs::default()
        };
        let text = list(tasks, &names, &full, now).render(&full.list).unwrap();
        assert!(
            text.contains("host@sha256:abc")
                && text.contains("column for errors\"")
                && text.contains("0000000000000000000000003")
        );
    }

    #[test]
    fn numbers_in_names_are_ordered_by_value() {
        let mut names = vec![
            "web.10", "web.2", "web.02", "web", "a1b2", "a1b10", "b", "web.2.x",
        ];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            [
                "a1b2", "a1b10", "b", "web", "web.02", "web.2", "web.2.x", "web.10"
            ]
        );
    }
}
