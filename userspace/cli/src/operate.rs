//! The operator's commands, which speak to the daemon's API.

use crate::args::Cli;
use crate::output::{Exit, print};
use anyhow::Context as _;
use clap::CommandFactory as _;
use essaim_client::{Command, Console, HostArgs, NodeCommand, Shell};
use std::io::{IsTerminal as _, stderr, stdin, stdout};

/// Does what is asked of the cluster.
pub(crate) fn operate(command: &Command, host: &HostArgs) -> anyhow::Result<Exit> {
    in_terminal(async |console| essaim_client::run(command, host, console).await)
}

/// Does what is asked of its nodes.
pub(crate) fn node(command: &NodeCommand, host: &HostArgs) -> anyhow::Result<Exit> {
    in_terminal(async |console| essaim_client::run_node(command, host, console).await)
}

/// Prints the completions of a shell.
pub(crate) fn completions(shell: Shell) -> Exit {
    let mut text = Vec::new();
    essaim_client::completions(shell, &mut Cli::command(), &mut text);
    print(&String::from_utf8_lossy(&text));
    Exit::Done
}

fn in_terminal(
    command: impl AsyncFnOnce(&mut Console<'_>) -> Result<essaim_client::Exit, essaim_client::Error>,
) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let (mut out, mut err, mut input) = (stdout(), stderr(), stdin());
    let (out_is_terminal, input_is_terminal) = (out.is_terminal(), input.is_terminal());
    let mut console = Console {
        out: &mut out,
        err: &mut err,
        input: &mut input,
        out_is_terminal,
        input_is_terminal,
        now: &essaim_objects::Timestamp::now,
        variable: &|name| std::env::var(name).ok(),
    };
    Ok(match runtime.block_on(command(&mut console))? {
        essaim_client::Exit::Done => Exit::Done,
        essaim_client::Exit::Failed => Exit::Failed,
    })
}
