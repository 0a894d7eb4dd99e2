//! The one binary.

mod args;
mod check;
mod look;
mod node;
mod operate;
mod output;
mod show;
mod stop;
mod table;

use args::{Cli, Command, HoldArgs};
use clap::Parser;
use essaim_agent::StateDir;
use essaim_agent::holder::serve_holder;
use output::{Exit, print};
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Before there is any thread: the shim of a task forks.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|command| command == "task-shim") {
        return essaim_runner::shim_main(arguments);
    }
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,openraft=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match run(&cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("essaim: {}", essaim_agent::chain(error.as_ref()));
            Exit::Failed.into()
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<Exit> {
    match &cli.command {
        Command::Node(args) => match &args.command {
            Some(command) => operate::node(command, &cli.host),
            None => node::node(args),
        },
        Command::Operate(command) => operate::operate(command, &cli.host),
        Command::Completions { shell } => Ok(operate::completions(*shell)),
        Command::Check(args) => check::check(args),
        Command::Status(args) => look::status(args),
        Command::Verify(args) => Ok(look::verify(args)),
        Command::Trace(args) => look::trace(args),
        Command::Watch(args) => look::watch(args),
        Command::Monitor(args) => look::monitor(args),
        Command::Stop(args) => stop::stop(args),
        Command::Keygen => node::keygen(),
        Command::Clean(args) => node::clean_up(args),
        Command::Hold(args) => hold(args),
    }
}

/// Holds ports until told to end, apart from the session that it was started in.
fn hold(args: &HoldArgs) -> anyhow::Result<Exit> {
    // Fails for the leader of a process group, which a shell makes: it then belongs to that shell.
    if let Err(error) = nix::unistd::setsid() {
        tracing::debug!(%error, "the holder stays in its session");
    }
    nix::sys::prctl::set_name(c"essaim-holder")?;
    let state_dir = StateDir::new(&args.state.state_dir);
    serve_holder(&state_dir.holder_socket(), || {
        print("ready\n");
    })?;
    Ok(Exit::Done)
}
