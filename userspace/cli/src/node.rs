//! `essaim node` and `essaim clean`.

use crate::args::{CleanArgs, NodeArgs, Pace};
use crate::output::{Exit, print};
use anyhow::Context;
use essaim_agent::holder::HolderLauncher;
use essaim_agent::{
    AgentOptions, CleanOptions, GossipOptions, GossipPace, StateDir, chain, clean, fresh_keys, run_agent,
};
use essaim_model::NodeName;
use std::path::absolute;

/// Runs the agent until it is told to end.
pub(crate) fn node(args: &NodeArgs) -> anyhow::Result<Exit> {
    let options = AgentOptions {
        node: NodeName::new(&args.name)?,
        // Others look at them from other folders.
        catalog: absolute(&args.catalog)?,
        uplinks: args.uplink.clone(),
        bpf_root: absolute(&args.bpf_root)?,
        cgroup: args.cgroup.as_ref().map(absolute).transpose()?,
        state_dir: StateDir::new(absolute(&args.state.state_dir)?),
        holder: HolderLauncher::default(),
        gossip: gossip(args)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    runtime.block_on(run_agent(options))?;
    Ok(Exit::Done)
}

fn gossip(args: &NodeArgs) -> anyhow::Result<Option<GossipOptions>> {
    let Some(keys) = &args.gossip_keys else {
        return Ok(None);
    };
    Ok(Some(GossipOptions {
        keys: absolute(keys)?,
        pace: match args.gossip_pace {
            Pace::Usual => GossipPace::Usual,
            Pace::Fast => GossipPace::Fast,
        },
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
