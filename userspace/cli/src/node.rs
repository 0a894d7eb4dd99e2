//! `essaim node` and `essaim clean`.

use crate::args::{CleanArgs, NodeArgs, Pace};
use crate::output::{Exit, print};
use anyhow::Context;
use essaim_agent::holder::HolderLauncher;
use essaim_agent::startup::cgroup2_mount;
use essaim_agent::{
    AgentOptions, CleanOptions, GossipOptions, GossipPace, Keys, Source, StateDir, chain, clean, fresh_keys,
    raise_descriptor_limit, run_agent,
};
use essaim_daemon::{DaemonOptions, TlsFiles, run_daemon};
use essaim_model::NodeName;
use std::net::SocketAddr;
use std::path::{Path, absolute};
use std::time::Duration;

/// Runs the node until it is told to end.
pub(crate) fn node(args: &NodeArgs) -> anyhow::Result<Exit> {
    raise_descriptor_limit();
    match &args.catalog {
        Some(catalog) => follow(args, catalog),
        None => join_in(args),
    }
}

/// As the data plane of a catalog in a file.
fn follow(args: &NodeArgs, catalog: &Path) -> anyhow::Result<Exit> {
    let name = args
        .name
        .as_deref()
        .context("--catalog needs --name, this node's in the catalog")?;
    let options = AgentOptions {
        node: NodeName::new(name)?,
        uplinks: args.uplink.clone(),
        bpf_root: absolute(&args.bpf_root)?,
        cgroup: args.cgroup.as_ref().map(absolute).transpose()?,
        state_dir: StateDir::new(absolute(&args.state.state_dir)?),
        holder: HolderLauncher::default(),
        gossip: gossip(args)?,
    };
    // Others look at it from other folders.
    let source = Source::File(absolute(catalog)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    runtime.block_on(run_agent(options, source))?;
    Ok(Exit::Done)
}

/// The group of the tasks; not `tasks`, which is a file in groups of version 1.
const TASK_GROUP: &str = "run";

/// As a node of a cluster, once it is in one.
fn join_in(args: &NodeArgs) -> anyhow::Result<Exit> {
    let hostname = match &args.name {
        Some(name) => name.clone(),
        None => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
    };
    let cgroup = args.cgroup.as_ref().map(absolute).transpose()?;
    let task_cgroup = match (&args.task_cgroup, &cgroup) {
        (Some(given), _) => given.clone(),
        (None, Some(cgroup)) => {
            let mount = cgroup2_mount()?;
            let inside = cgroup.strip_prefix(&mount);
            inside
                .with_context(|| format!("{} is not below {}", cgroup.display(), mount.display()))?
                .join(TASK_GROUP)
        }
        (None, None) => Path::new("essaim").join(TASK_GROUP),
    };
    let state_dir = StateDir::new(absolute(&args.state.state_dir)?);
    let options = DaemonOptions {
        hostname,
        uplinks: args.uplink.clone(),
        bpf_root: absolute(&args.bpf_root)?,
        cgroup,
        task_cgroup,
        data_dir: absolute(&args.data_dir)?,
        api: args
            .api
            .as_ref()
            .map_or_else(|| Ok(state_dir.path().join("docker.sock")), absolute)?,
        api_tcp: api_tcp(args),
        docker_socket: absolute(&args.docker_socket)?,
        plugin_socket: absolute(&args.plugin_socket)?,
        cni_socket: args
            .cni_socket
            .as_ref()
            .map_or_else(|| Ok(state_dir.path().join("cni.sock")), absolute)?,
        state_dir,
        pace: pace(args),
        absence: Duration::from_secs(args.gossip_absence),
        labels: args.labels.clone(),
        generic_resources: args.generic_resources.clone(),
        holder: HolderLauncher::default(),
    };
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    let ended = runtime.block_on(run_daemon(options));
    // What waits for a disk or a kernel that does not answer is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(2));
    ended?;
    Ok(Exit::Done)
}

/// All are given or none.
fn api_tcp(args: &NodeArgs) -> Option<(SocketAddr, TlsFiles)> {
    let files = TlsFiles {
        authority: args.api_ca.clone()?,
        certificate: args.api_cert.clone()?,
        key: args.api_key.clone()?,
    };
    Some((args.api_tcp?, files))
}

fn pace(args: &NodeArgs) -> GossipPace {
    match args.gossip_pace {
        Pace::Usual => GossipPace::Usual,
        Pace::Fast => GossipPace::Fast,
    }
}

fn gossip(args: &NodeArgs) -> anyhow::Result<Option<GossipOptions>> {
    let Some(keys) = &args.gossip_keys else {
        return Ok(None);
    };
    Ok(Some(GossipOptions {
        keys: Keys::File(absolute(keys)?),
        pace: pace(args),
        absence: Duration::from_secs(args.gossip_absence),
    }))
}

/// Prints a file of one fresh key.
pub(crate) fn keygen() -> anyhow::Result<Exit> {
    print(&fresh_keys().context("failed to get randomness from the system")?);
    Ok(Exit::Done)
}

/// Removes what an agent made; says what was removed.
pub(crate) fn clean_up(args: &CleanArgs) -> anyhow::Result<Exit> {
    let state_dir = StateDir::new(absolute(&args.state.state_dir)?);
    let node = args.name.as_deref().map(NodeName::new).transpose()?;
    let options = CleanOptions {
        node,
        bpf_root: args.bpf_root.clone(),
    };
    match clean(&state_dir, &options) {
        Ok(removed) if removed.is_empty() => print(&format!(
            "nothing to remove: no agent has left anything in {}; name the node with --name where its state directory is lost\n",
            state_dir.path().display()
        )),
        Ok(removed) => removed
            .iter()
            .for_each(|what| print(&format!("removed {what}\n"))),
        Err(errors) => {
            for error in &errors {
                eprintln!("essaim: {}", chain(error));
            }
            return Ok(Exit::Failed);
        }
    }
    Ok(Exit::Done)
}
