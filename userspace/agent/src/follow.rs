//! Follows the catalog: reads it, refuses what must be refused, and keeps the plan that holds.

use essaim_dns::Zone;
use essaim_model::{
    Catalog, CatalogErrors, DesiredState, Liveness, NodeName, PlanError, ServiceName, TaskId, plan, replan,
};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a catalog was not taken; the plan that held before holds on.
#[derive(Debug, thiserror::Error)]
pub enum CatalogRefused {
    /// The file could not be read.
    #[error("failed to read the catalog {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is no valid catalog.
    #[error("{}", prefixed(path, errors))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong with it.
        errors: CatalogErrors,
    },
    /// It is older than what runs.
    #[error("{}: revision {found} is lower than {applied}, which runs; raise it if this catalog is the newer one", path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its revision.
        found: u64,
        /// The revision that runs.
        applied: u64,
    },
    /// It does not have this node.
    #[error("{}: node {node} is not in the catalog, which has {known}; name one of them with --name, or add it", path.display())]
    UnknownNode {
        /// The file.
        path: PathBuf,
        /// This node.
        node: NodeName,
        /// The nodes that it has.
        known: String,
    },
    /// It cannot be planned.
    #[error("{}: no plan for node {node}", path.display())]
    Plan {
        /// The file.
        path: PathBuf,
        /// This node.
        node: NodeName,
        /// Why.
        source: PlanError,
    },
}

/// One error a line, each with the file.
fn prefixed(path: &Path, errors: &CatalogErrors) -> String {
    let lines = errors.iter().map(|error| {
        format!(
            "{}:{}{error}",
            path.display(),
            if error.place.is_some() { "" } else { " " }
        )
    });
    lines.collect::<Vec<String>>().join("\n")
}

/// In place of a file's name.
const OF_THE_MANAGERS: &str = "catalog of the managers";

/// A catalog with what follows from it for this node.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its text.
    pub text: String,
    /// The catalog.
    pub catalog: Arc<Catalog>,
    /// What is: what the catalog says, and what nodes have reported.
    pub liveness: Liveness,
    /// What this node's data plane should hold.
    pub desired: DesiredState,
    /// What names stand for.
    pub zone: Arc<Zone>,
}

/// The catalog that holds, for one node.
#[derive(Debug)]
pub struct Follower {
    node: NodeName,
    current: Option<Plan>,
    reported: Liveness,
}

impl Follower {
    /// Follows for this node; nothing holds yet.
    pub fn new(node: NodeName) -> Self {
        Self {
            node,
            current: None,
            reported: Liveness::default(),
        }
    }

    /// Goes on from the sets of ready tasks that an earlier agent has seen. Nothing holds yet.
    pub fn recall(&mut self, seen: BTreeMap<ServiceName, Vec<Vec<TaskId>>>) {
        self.reported.seen = seen;
    }

    /// What holds.
    pub fn current(&self) -> Option<&Plan> {
        self.current.as_ref()
    }

    /// What nodes have reported, as it was heard last.
    pub fn reported(&self) -> &Liveness {
        &self.reported
    }

    /// What nodes have reported, with the sets of ready tasks that this node has seen: what the next agent goes on from.
    pub fn to_keep(&self) -> Liveness {
        let Liveness {
            nodes_down, tasks, ..
        } = &self.reported;
        Liveness {
            nodes_down: nodes_down.clone(),
            tasks: tasks.clone(),
            seen: self.seen().clone(),
        }
    }

    fn seen(&self) -> &BTreeMap<ServiceName, Vec<Vec<TaskId>>> {
        let liveness = self.current.as_ref().map(|plan| &plan.liveness);
        &liveness.unwrap_or(&self.reported).seen
    }

    /// What holds, for good.
    pub fn into_current(self) -> Option<Plan> {
        self.current
    }

    /// Takes the text of the catalog at `path`; tells whether the plan changed.
    ///
    /// # Errors
    /// [`CatalogRefused`]; what held before holds on.
    pub fn take(&mut self, path: &Path, text: &str) -> Result<bool, CatalogRefused> {
        if self.current.as_ref().is_some_and(|current| current.text == text) {
            return Ok(false);
        }
        let invalid = |errors| CatalogRefused::Invalid {
            path: path.to_owned(),
            errors,
        };
        let catalog = Catalog::parse(text).map_err(invalid)?;
        if let Some(current) = &self.current
            && catalog.revision < current.catalog.revision
        {
            let (found, applied) = (catalog.revision, current.catalog.revision);
            return Err(CatalogRefused::Older {
                path: path.to_owned(),
                found,
                applied,
            });
        }
        self.current = Some(self.planned(path, Arc::new(catalog), text.to_owned())?);
        Ok(true)
    }

    /// Takes the managers' catalog; tells whether the plan changed. Its revision may be lower than what runs: managers that
    /// were restored from an older copy begin again where that ended.
    ///
    /// # Errors
    /// [`CatalogRefused`]; what held before holds on.
    pub fn follow(&mut self, catalog: &Arc<Catalog>) -> Result<bool, CatalogRefused> {
        // Asked in every round: the same one is told without a look at it.
        let is_same = |held: &Arc<Catalog>| Arc::ptr_eq(held, catalog) || held == catalog;
        if self
            .current
            .as_ref()
            .is_some_and(|current| is_same(&current.catalog))
        {
            return Ok(false);
        }
        let path = Path::new(OF_THE_MANAGERS);
        catalog.check().map_err(|errors| CatalogRefused::Invalid {
            path: path.to_owned(),
            errors,
        })?;
        self.current = Some(self.planned(path, Arc::clone(catalog), catalog.to_toml())?);
        Ok(true)
    }

    /// Takes what nodes, this one among them, have reported beside the catalog; tells whether the plan changed.
    ///
    /// # Errors
    /// [`PlanError`]; what held before holds on.
    pub fn hear(&mut self, reported: Liveness) -> Result<bool, PlanError> {
        self.reported = reported;
        let Some(before) = &self.current else {
            return Ok(false);
        };
        let liveness = self.liveness(&before.catalog);
        let Some(before) = &mut self.current else {
            return Ok(false);
        };
        if liveness == before.liveness {
            return Ok(false);
        }
        let (then, now) = (
            (&*before.catalog, &before.liveness),
            (&*before.catalog, &liveness),
        );
        before.desired = replan(&before.desired, then, now, &self.node)?;
        before.zone = Arc::new(before.zone.rebuild(then, now));
        before.liveness = liveness;
        Ok(true)
    }

    /// What is, by this catalog.
    fn liveness(&self, catalog: &Catalog) -> Liveness {
        let mut liveness = Liveness::of(catalog).and(&self.reported);
        liveness.seen.clone_from(self.seen());
        liveness.remember(catalog);
        liveness
    }

    fn planned(&self, path: &Path, catalog: Arc<Catalog>, text: String) -> Result<Plan, CatalogRefused> {
        if !catalog.nodes.iter().any(|node| node.name == self.node) {
            let known: Vec<&str> = catalog.nodes.iter().map(|node| node.name.as_str()).collect();
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            return Err(CatalogRefused::UnknownNode {
                path: path.to_owned(),
                node: self.node.clone(),
                known,
            });
        }
        let liveness = self.liveness(&catalog);
        let now = (&*catalog, &liveness);
        let (desired, zone) = match &self.current {
            Some(before) => {
                let then = (&*before.catalog, &before.liveness);
                let desired = replan(&before.desired, then, now, &self.node);
                (desired, before.zone.rebuild(then, now))
            }
            None => (
                plan(&catalog, &liveness, &self.node),
                Zone::new(&catalog, &liveness),
            ),
        };
        let no_plan = |source| CatalogRefused::Plan {
            path: path.to_owned(),
            node: self.node.clone(),
            source,
        };
        Ok(Plan {
            text,
            desired: desired.map_err(no_plan)?,
            zone: Arc::new(zone),
            catalog,
            liveness,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::example;

    fn follower() -> Follower {
        Follower::new(NodeName::new("n1").unwrap())
    }

    fn take(follower: &mut Follower, text: &str) -> Result<bool, CatalogRefused> {
        follower.take(Path::new("cluster.toml"), text)
    }

    /// The example at another revision.
    fn at_revision(revision: u64) -> String {
        let mut lines: Vec<String> = example().lines().map(str::to_owned).collect();
        let line = lines
            .iter_mut()
            .find(|line| line.starts_with("revision"))
            .unwrap();
        *line = format!("revision = {revision}");
        lines.join("\n") + "\n"
    }

    #[test]
    fn a_valid_catalog_holds_and_the_same_again_is_no_change() {
        let mut follower = follower();
        assert!(take(&mut follower, example()).unwrap());
        assert!(!take(&mut follower, example()).unwrap());
        assert!(follower.current().unwrap().desired.services.len() > 1);
    }

    #[test]
    fn an_invalid_catalog_is_refused_with_its_places_and_the_old_one_holds() {
        let mut follower = follower();
        take(&mut follower, &at_revision(5)).unwrap();
        let error = take(&mut follower, "revision = \"x\"\nnonsense = 1\n").unwrap_err();
        let text = error.to_string();
        assert!(
            text.lines().count() >= 2 && text.lines().all(|line| line.starts_with("cluster.toml:")),
            "{text}"
        );
        assert_eq!(follower.current().unwrap().catalog.revision, 5);
    }

    #[test]
    fn a_lower_revision_is_refused_and_a_higher_one_taken() {
        let mut follower = follower();
        take(&mut follower, &at_revision(5)).unwrap();
        let error = take(&mut follower, &at_revision(4)).unwrap_err().to_string();
        assert!(error.contains("revision 4") && error.contains('5'), "{error}");
        assert!(take(&mut follower, &at_revision(6)).unwrap());
        assert_eq!(follower.current().unwrap().desired.revision, 6);
    }

    #[test]
    fn the_managers_catalog_holds_whatever_its_revision() {
        let mut follower = follower();
        let at = |revision| Arc::new(Catalog::parse(&at_revision(revision)).unwrap());
        assert!(follower.follow(&at(5)).unwrap());
        assert!(!follower.follow(&at(5)).unwrap());
        assert!(follower.follow(&at(4)).unwrap());
        assert_eq!(follower.current().unwrap().catalog.revision, 4);
        let mut wrong = Catalog::parse(&at_revision(6)).unwrap();
        wrong.networks.clear();
        let error = follower.follow(&Arc::new(wrong)).unwrap_err().to_string();
        assert!(error.starts_with("catalog of the managers"), "{error}");
        assert_eq!(follower.current().unwrap().catalog.revision, 4);
        // What is kept for the next agent is read back as it is.
        assert!(!take(&mut follower, &at(4).to_toml()).unwrap());
    }

    #[test]
    fn what_nodes_report_changes_the_plan_and_outlives_a_catalog() {
        use essaim_model::TaskState;
        let mut follower = follower();
        let id = |text| essaim_model::TaskId::new(text).unwrap();
        let state = |follower: &Follower, task| {
            let plan = follower.current().unwrap();
            let backends = plan
                .desired
                .services
                .values()
                .flat_map(|service| &service.backends);
            let mut backends = backends.filter(|(key, _)| key.task == id(task));
            backends.next().map(|(_, backend)| backend.state)
        };
        let drained = Liveness {
            tasks: [(id("web.1"), TaskState::Draining)].into(),
            ..Liveness::default()
        };
        assert!(
            !follower.hear(drained.clone()).unwrap(),
            "there is no catalog yet"
        );
        take(&mut follower, &at_revision(5)).unwrap();
        assert_eq!(state(&follower, "web.1"), Some(TaskState::Draining));
        assert!(!follower.hear(drained).unwrap());
        take(&mut follower, &at_revision(6)).unwrap();
        assert_eq!(state(&follower, "web.1"), Some(TaskState::Draining));
        assert!(follower.hear(Liveness::default()).unwrap());
        assert_eq!(state(&follower, "web.1"), Some(TaskState::Ready));
    }

    #[test]
    fn an_unknown_node_is_refused_with_those_that_are_known() {
        let mut follower = Follower::new(NodeName::new("n9").unwrap());
        let error = take(&mut follower, example()).unwrap_err().to_string();
        assert!(error.contains("n9") && error.contains("n1, n2, n3"), "{error}");
        assert!(follower.current().is_none());
    }
}
