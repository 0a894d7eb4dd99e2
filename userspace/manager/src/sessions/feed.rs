//! The catalog, made when something changed that it shows, and not more often than it can be made.

use super::CatalogOf;
use crate::Touched;
use crate::attachments::is_attachment;
use bytes::Bytes;
use essaim_model::{Catalog, CatalogDelta};
use essaim_objects::{Node, Service, Task, TaskState};
use essaim_protocol::{CatalogUpdate, LONGEST, ToNode, encode};
use essaim_store::{Event, Object, View};
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The first change is shown at once, and what comes meanwhile after so long, or four times what the last one cost.
const GATHER: Duration = Duration::from_millis(20);

/// So many changes are remembered for nodes that come back. A node's messages must all find a place in its queue.
const CHANGES: usize = 64;
/// So many bytes of them: what they save is a whole catalog.
const CHANGED_BYTES: usize = 1 << 20;

/// The differences that led to a catalog, each with the revision that it builds on, the oldest first.
type Changes = VecDeque<(u64, Bytes)>;

/// A catalog, as nodes are sent it.
#[derive(Debug)]
pub(super) struct Issue {
    pub(super) revision: u64,
    catalog: Arc<Catalog>,
    whole: OnceLock<Bytes>,
    /// For nodes that have one of those before.
    changes: Changes,
}

impl Issue {
    fn new(revision: u64, catalog: Arc<Catalog>, before: Option<Before>) -> Self {
        let changes = before.map(|before| before.changes_to(revision, &catalog));
        let issue = Self {
            revision,
            catalog,
            whole: OnceLock::new(),
            changes: changes.unwrap_or_default(),
        };
        if issue.changes.is_empty() {
            // Everybody will want it.
            issue.whole();
        }
        issue
    }

    /// What leads a node here that holds this, in order.
    pub(super) fn from(&self, holds: Option<u64>) -> Vec<Bytes> {
        if holds == Some(self.revision) {
            return Vec::new();
        }
        let known = self.changes.iter().skip_while(|(basis, _)| Some(*basis) != holds);
        let changes: Vec<Bytes> = known.map(|(_, change)| change.clone()).collect();
        if changes.is_empty() {
            vec![self.whole()]
        } else {
            changes
        }
    }

    fn whole(&self) -> Bytes {
        let write = || {
            let whole = encode(&ToNode::Catalog(CatalogUpdate {
                revision: self.revision,
                basis: None,
                text: self.catalog.to_toml(),
            }));
            if whole.len() > LONGEST {
                tracing::error!(
                    bytes = whole.len(),
                    most = LONGEST,
                    "the catalog is longer than nodes take; those that have none get none until services are removed"
                );
            }
            whole
        };
        self.whole.get_or_init(write).clone()
    }
}

/// The catalog before.
#[derive(Debug)]
struct Before {
    revision: u64,
    catalog: Arc<Catalog>,
    changes: Changes,
}

impl Before {
    /// What led to it, and from it to the next.
    fn changes_to(self, revision: u64, next: &Catalog) -> Changes {
        let update = CatalogUpdate {
            revision,
            basis: Some(self.revision),
            text: CatalogDelta::between(&self.catalog, next).to_toml(),
        };
        let mut changes = self.changes;
        changes.push_back((self.revision, encode(&ToNode::Catalog(update))));
        let mut bytes: usize = changes.iter().map(|(_, change)| change.len()).sum();
        while changes.len() > 1 && (changes.len() > CHANGES || bytes > CHANGED_BYTES) {
            bytes -= changes.pop_front().map_or(0, |(_, change)| change.len());
        }
        changes
    }
}

/// What is made at the moment.
#[derive(Debug)]
struct Made {
    /// None where the store does not hold enough for a data plane yet: no ingress network.
    issue: Option<Issue>,
    cost: Duration,
}

pub(super) struct Feed {
    catalog_of: CatalogOf,
    current: Option<Issue>,
    /// Whether the newest view made none.
    is_wanting: bool,
    /// Whether something changed since the view that the newest was, or is being, made of.
    is_stale: bool,
    /// What happened since the newest was made.
    touched: Touched,
    making: Option<JoinHandle<Made>>,
    not_before: Instant,
}

impl Feed {
    pub(super) fn new(catalog_of: CatalogOf) -> Self {
        Self {
            catalog_of,
            current: None,
            is_wanting: false,
            is_stale: true,
            touched: Touched::everything(),
            making: None,
            not_before: Instant::now(),
        }
    }

    /// Notes what happened.
    pub(super) fn note(&mut self, events: &[Event]) {
        for event in events {
            self.touched.note(event);
        }
        self.is_stale = self.is_stale || events.iter().any(shows);
    }

    /// Notes that anything may have happened.
    pub(super) fn note_all(&mut self) {
        self.touched = Touched::everything();
        self.is_stale = true;
    }

    pub(super) const fn current(&self) -> Option<&Issue> {
        self.current.as_ref()
    }

    /// Whether the store held enough for one at last.
    pub(super) const fn can_be_made(&self) -> bool {
        !self.is_wanting
    }

    /// How new a catalog must be for what is decided from `view`; where none can be made, nothing waits for it.
    pub(super) fn needs(&self, view: &View) -> Option<u64> {
        match &self.current {
            _ if self.is_stale || self.making.is_some() => Some(view.index()),
            Some(current) if !self.is_wanting => Some(current.revision),
            Some(_) | None => None,
        }
    }

    /// When one is to be made, where that is so.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.is_stale && self.making.is_none()).then_some(self.not_before)
    }

    /// Begins to make one, if it is time.
    pub(super) fn make(&mut self, view: &View) {
        if self.due().is_none_or(|due| Instant::now() < due) {
            return;
        }
        self.is_stale = false;
        let (catalog_of, view) = (self.catalog_of.clone(), view.clone());
        let touched = std::mem::take(&mut self.touched);
        let before = self.current.as_ref().map(|issue| Before {
            revision: issue.revision,
            catalog: issue.catalog.clone(),
            changes: issue.changes.clone(),
        });
        // A large one takes long, and heartbeats should not wait for it.
        self.making = Some(tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let since = before.as_ref().map(|before| (&*before.catalog, &touched));
            let catalog = catalog_of(&view, since);
            let is_usable = !catalog.cluster.ingress_subnets.is_empty();
            let issue = is_usable.then(|| Issue::new(view.index(), catalog, before));
            let cost = begun.elapsed();
            Made { issue, cost }
        }));
    }

    /// Waits for the one that is being made; for ever, where there is none.
    pub(super) async fn made(&mut self) {
        let Some(making) = &mut self.making else {
            return std::future::pending().await;
        };
        let made = making.await;
        self.making = None;
        match made {
            Ok(Made { issue, cost }) => {
                self.is_wanting = issue.is_none();
                if self.is_wanting {
                    // What was held is older than what was looked at.
                    self.touched = Touched::everything();
                }
                self.current = issue.or(self.current.take());
                self.not_before = Instant::now() + GATHER.max(cost * 4);
            }
            Err(error) => {
                tracing::error!(%error, "the catalog could not be made");
                self.note_all();
                self.not_before = Instant::now() + Duration::from_secs(1);
            }
        }
    }
}

/// Whether a catalog shows the difference.
fn shows(event: &Event) -> bool {
    match event {
        Event::Created(object) | Event::Removed(object) => match object {
            Object::Node(_) | Object::Network(_) | Object::Service(_) | Object::Cluster(_) => true,
            Object::Task(task) => task.node_id.is_some(),
            Object::Secret(_) | Object::Config(_) => false,
        },
        Event::Updated { old, new } => match (old, new) {
            (Object::Node(old), Object::Node(new)) => node(old) != node(new),
            (Object::Service(old), Object::Service(new)) => service(old) != service(new),
            (Object::Task(old), Object::Task(new)) => task(old) != task(new),
            (
                Object::Cluster(_)
                | Object::Network(_)
                | Object::Node(_)
                | Object::Service(_)
                | Object::Task(_),
                _,
            ) => true,
            (Object::Secret(_) | Object::Config(_), _) => false,
        },
    }
}

fn node(node: &Node) -> impl PartialEq + '_ {
    (&node.spec, &node.description, &node.status, &node.attachments)
}

fn service(service: &Service) -> impl PartialEq + '_ {
    (&service.spec, &service.endpoint)
}

fn task(task: &Task) -> impl PartialEq + '_ {
    let state = task.status.state;
    (
        task.node_id,
        &task.networks_attachments,
        task.desired_state,
        (
            state >= TaskState::Assigned,
            state >= TaskState::Running,
            state.is_over(),
        ),
        &task.status.port_status,
        task.status
            .container_status
            .as_ref()
            .and_then(|it| it.container_id.as_ref()),
        // Of a node's own container, which has no service, its names stand there.
        is_attachment(task).then_some(&task.spec),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::{Cluster, ServiceName};
    use essaim_protocol::decode;

    /// A catalog with a service of that name and so long a list of aliases.
    fn catalog(revision: u64, names: usize) -> Arc<Catalog> {
        let name = |number| ServiceName::new(&format!("s{revision}-{number:06}")).unwrap();
        Arc::new(Catalog {
            revision,
            cluster: Cluster::new(vec!["10.0.0.0/16".parse().unwrap()]),
            nodes: Vec::new(),
            networks: Vec::new(),
            services: (0..names)
                .map(|number| essaim_model::Service::new(name(number)))
                .collect(),
        })
    }

    /// One after the other, each with so many services of its own.
    fn issued(names: impl IntoIterator<Item = usize>) -> (Issue, Vec<Arc<Catalog>>) {
        let (mut issue, mut all): (Option<Issue>, Vec<_>) = (None, Vec::new());
        for (revision, names) in (1..).zip(names) {
            let next = catalog(revision, names);
            all.push(next.clone());
            let before = issue.map(|issue| Before {
                revision: issue.revision,
                catalog: issue.catalog,
                changes: issue.changes,
            });
            issue = Some(Issue::new(revision, next, before));
        }
        (issue.unwrap(), all)
    }

    /// What a node has once it has taken the messages, as it takes them.
    fn taken(held: Option<&Arc<Catalog>>, messages: &[Bytes]) -> Catalog {
        let mut held = held.map(|held| Catalog::clone(held));
        for message in messages {
            let ToNode::Catalog(update) = decode(message).unwrap() else {
                unreachable!("a catalog")
            };
            held = Some(if update.basis.is_none() {
                Catalog::parse(&update.text).unwrap()
            } else {
                let delta = CatalogDelta::parse(&update.text).unwrap();
                delta.apply(&held.unwrap()).unwrap()
            });
        }
        held.unwrap()
    }

    #[test]
    fn names_count_where_a_task_has_no_service() {
        let named = |runtime: &str, name: &str| {
            let networks = serde_json::json!([{"Target": "app", "Aliases": [name]}]);
            let spec = serde_json::json!({"Runtime": runtime, "Networks": networks});
            let spec = Arc::new(serde_json::from_value(spec).unwrap());
            Object::from(Task::new(essaim_objects::TaskId::from_bits(1), None, spec))
        };
        for (runtime, expected) in [("attachment", true), ("container", false)] {
            let [old, new] = ["old", "new"].map(|name| named(runtime, name));
            assert_eq!(shows(&Event::Updated { old, new }), expected, "{runtime}");
        }
    }

    #[test]
    fn whatever_a_node_holds_leads_to_the_newest() {
        let (issue, all) = issued((0..100).map(|number| number % 3));
        for held in &all {
            let messages = issue.from(Some(held.revision));
            assert_eq!(&taken(Some(held), &messages), &*issue.catalog);
            let behind = usize::try_from(100 - held.revision).unwrap();
            let expected = if behind <= CHANGES { behind } else { 1 };
            assert_eq!(messages.len(), expected, "of revision {}", held.revision);
        }
        for unknown in [None, Some(0), Some(101)] {
            let messages = issue.from(unknown);
            assert_eq!((messages.len(), &taken(None, &messages)), (1, &*issue.catalog));
        }
    }

    #[test]
    fn changes_are_remembered_up_to_a_bound() {
        let (issue, _) = issued([0, 20_000, 20_000, 1, 2]);
        let bytes: usize = issue.changes.iter().map(|(_, change)| change.len()).sum();
        assert!(bytes <= CHANGED_BYTES, "{bytes}");
        assert_eq!(issue.from(Some(4)).len(), 1);
        assert!(matches!(issue.changes.front(), Some((basis, _)) if *basis > 1));
        // The newest is there however long it is.
        let (issue, _) = issued([0, 60_000]);
        assert!(
            issue.changes[0].1.len() > CHANGED_BYTES,
            "{}",
            issue.changes[0].1.len()
        );
    }
}
