//! Starting an agent: what must hold, what it opens, in which order.

use crate::agent::{Agent, Parts, Signals, read_catalog};
use crate::checks::Checks;
use crate::control::{self, ControlError};
use crate::follow::{CatalogRefused, Follower};
use crate::holder::HolderLauncher;
use crate::keeper::PortKeeper;
use crate::members::{GossipOptions, Members, MembersError};
use crate::orders::Source;
use crate::plane::{Plane, sizing_for};
use crate::resolver::Resolver;
use crate::startup::{self, StartupError};
use crate::state_dir::{AgentLock, NodeRecord, StateDir, StateDirError, pin_dir};
use crate::tasks::OwnTasks;
use crate::watch::{FileWatch, WatchError};
use essaim_datapath::{DatapathError, DatapathOptions};
use essaim_dns::ServerError;
use essaim_model::{Liveness, NodeName};
use essaim_netlink::{HostOptions, LinkReconciler, NetlinkError};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How an agent is to run.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// This node.
    pub node: NodeName,
    /// The interfaces to the other nodes and to clients.
    pub uplinks: Vec<String>,
    /// The folder of bpffs that holds the nodes' folders.
    pub bpf_root: PathBuf,
    /// The cgroup for the socket programs; the root of the hierarchy where none is named.
    pub cgroup: Option<PathBuf>,
    /// Where the agent keeps its lock, its sockets and a copy of the catalog.
    pub state_dir: StateDir,
    /// Starts the holder.
    pub holder: HolderLauncher,
    /// Its part in gossip. Without one the catalog alone says who is up.
    pub gossip: Option<GossipOptions>,
}

/// Why an agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The machine is not ready for it; nothing was changed.
    #[error(transparent)]
    Startup(#[from] StartupError),
    /// Its state directory does not serve; nothing was changed.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// There is no catalog to start with; nothing was changed.
    #[error(transparent)]
    Catalog(#[from] CatalogRefused),
    /// Changes of files cannot be followed; nothing was changed.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// Its control socket does not serve; nothing was changed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// It cannot take part in gossip; nothing was changed.
    #[error("this node cannot take part in gossip")]
    Members(#[from] MembersError),
    /// The resolver of the tasks does not start; nothing was changed.
    #[error("failed to start the resolver of the tasks")]
    Resolver(#[from] ServerError),
    /// Links cannot be managed; nothing was changed.
    #[error(transparent)]
    Links(#[from] NetlinkError),
    /// The data plane cannot be opened; what ran before goes on.
    #[error("failed to open the data plane in {}", path.display())]
    Datapath {
        /// Its folder of pins.
        path: PathBuf,
        /// Why.
        source: DatapathError,
    },
    /// Signals cannot be waited for; nothing was changed.
    #[error("failed to wait for signals")]
    Signals(#[source] std::io::Error),
}

/// Runs the agent until SIGTERM or SIGINT, or until nobody is left to give it orders. What it made stays and works on.
///
/// # Errors
/// [`AgentError`] where it could not start. Once it runs, what fails is said and tried again.
pub async fn run_agent(options: AgentOptions, source: Source) -> Result<(), AgentError> {
    startup::check_capabilities()?;
    startup::check_kernel()?;
    startup::check_bpffs(&options.bpf_root)?;
    let cgroup = match &options.cgroup {
        Some(cgroup) => cgroup.clone(),
        None => startup::cgroup2_mount()?,
    };
    startup::check_cgroup(&cgroup)?;
    startup::check_uplinks(&options.uplinks)?;
    options.state_dir.create()?;
    let _lock = lock(&options.state_dir).await?;
    let files = FileWatch::new(match &source {
        Source::File(path) => Some(path),
        Source::Managers(_) => None,
    })?;
    let follower = first_catalog(&options, &source)?;
    let links = LinkReconciler::open(HostOptions {
        node: options.node.clone(),
        uplinks: options.uplinks.clone(),
    })?;
    let pin_dir = pin_dir(&options.bpf_root, options.node.as_str());
    options.state_dir.write_record(&NodeRecord {
        node: options.node.to_string(),
        catalog: source.place(&options.state_dir),
        uplinks: options.uplinks.clone(),
        bpf_root: options.bpf_root.clone(),
        cgroup: cgroup.clone(),
        pid: std::process::id(),
    })?;
    let are_announced = matches!(source, Source::Managers(_));
    let tasks = OwnTasks::new(
        are_announced,
        options.state_dir.heard().unwrap_or_else(|error| {
            // Nothing of it is worth not starting for: at worst a task that was drained takes traffic again.
            tracing::error!(
                error = crate::chain(&error),
                "what was heard of this node's tasks is lost"
            );
            BTreeMap::new()
        }),
    );
    let members = members(&options, &follower)?;
    let resolver = Resolver::start()?;
    let listener = control::listen(&options.state_dir)?;
    let signals = Signals::new().map_err(AgentError::Signals)?;
    let sizing = follower
        .current()
        .map(|plan| sizing_for(&plan.desired))
        .unwrap_or_default();
    let datapath = DatapathOptions {
        pin_dir: pin_dir.clone(),
        cgroup,
        sizing,
    };
    let plane = Plane::open(&datapath).map_err(|source| AgentError::Datapath {
        path: pin_dir.clone(),
        source,
    })?;
    let answers = plane.datapath().answers();
    resolver.answer_in_kernel(answers.map_err(|source| AgentError::Datapath {
        path: pin_dir,
        source,
    })?);
    let ports = PortKeeper::new(options.holder.clone(), options.state_dir.clone());
    let (agent, stops) = Agent::new(Parts {
        options,
        source,
        follower,
        links,
        plane,
        ports,
        tasks,
        members,
        resolver,
        checks: Checks::start(),
    });
    agent.run(stops, files, &listener, signals).await;
    Ok(())
}

/// Gossip, where there are keys for it.
fn members(options: &AgentOptions, follower: &Follower) -> Result<Option<Members>, MembersError> {
    let (Some(gossip), Some(plan)) = (&options.gossip, follower.current()) else {
        tracing::info!(
            "without keys there is no gossip: the catalog alone says which nodes and tasks are up"
        );
        return Ok(None);
    };
    Members::start(&options.node, &plan.catalog, gossip, &options.state_dir).map(Some)
}

/// How long a predecessor may take to end.
const PREDECESSOR: Duration = Duration::from_secs(3);

/// Makes this process the agent. A predecessor that was killed a moment ago still has the lock until the kernel has taken
/// it apart, maps and all.
async fn lock(state_dir: &StateDir) -> Result<AgentLock, StateDirError> {
    let deadline = Instant::now() + PREDECESSOR;
    loop {
        match state_dir.lock() {
            Err(StateDirError::Busy { .. }) if Instant::now() < deadline => {
                sleep(Duration::from_millis(10)).await;
            }
            outcome => return outcome,
        }
    }
}

/// The catalog to start with: the file, else the copy of what was applied last, so that a file that was broken
/// meanwhile does not keep a node from being looked after.
fn first_catalog(options: &AgentOptions, source: &Source) -> Result<Follower, AgentError> {
    let mut follower = Follower::new(options.node.clone());
    match options.state_dir.reported() {
        Ok(Liveness { seen, .. }) => follower.recall(seen),
        Err(error) => tracing::warn!(
            error = crate::chain(&error),
            "earlier sets of tasks are not known"
        ),
    }
    let Err(refused) = read_catalog(source, &mut follower) else {
        return Ok(follower);
    };
    let copy = options.state_dir.catalog()?;
    match copy.map(|(path, text)| follower.take(&path, &text)) {
        Some(Ok(_)) => {
            tracing::warn!("starting with the catalog that was applied last: the file is refused");
            Ok(follower)
        }
        Some(Err(_)) | None => Err(refused.into()),
    }
}
