//! The commands, and the one way to run them.

use crate::api::Client;
use crate::console::{Console, Exit, Session};
use crate::data::{ConfigCommand, SecretCommand};
use crate::error::Error;
use crate::host::HostArgs;
use crate::network::NetworkCommand;
use crate::node::NodeCommand;
use crate::service::ServiceCommand;
use crate::stack::{self, StackCommand};
use crate::swarm::SwarmCommand;
use std::io::Write;

/// The operator's commands, apart from those of nodes: [`NodeCommand`].
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Manage Swarm
    #[command(subcommand)]
    Swarm(SwarmCommand),
    /// Manage Swarm services
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Manage Swarm stacks
    #[command(subcommand)]
    Stack(StackCommand),
    /// Manage networks
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Manage Swarm secrets
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Manage Swarm configs
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Runs a command against the daemon; to be polled on a tokio runtime with I/O and time.
///
/// # Errors
/// Why it could not be done, or not to its end. Where a command has several objects, what fails for one of them is told
/// on standard error and the others are done.
pub async fn run(command: &Command, host: &HostArgs, console: &mut Console<'_>) -> Result<Exit, Error> {
    if let Command::Stack(StackCommand::Config(args)) = command {
        return stack::config(args, console);
    }
    let mut session = session(host, console).await?;
    match command {
        Command::Swarm(command) => session.swarm(command).await,
        Command::Service(command) => session.service(command).await,
        Command::Stack(command) => session.stack(command).await,
        Command::Network(command) => session.network(command).await,
        Command::Secret(command) => session.secret(command).await,
        Command::Config(command) => session.config(command).await,
    }
}

/// Runs a command of nodes; as [`run`].
///
/// # Errors
/// As [`run`].
pub async fn run_node(
    command: &NodeCommand,
    host: &HostArgs,
    console: &mut Console<'_>,
) -> Result<Exit, Error> {
    session(host, console).await?.node(command).await
}

async fn session<'a, 'b>(host: &HostArgs, console: &'a mut Console<'b>) -> Result<Session<'a, 'b>, Error> {
    let endpoint = host
        .endpoint(console.variable)
        .map_err(|error| Error::Usage(error.to_string()))?;
    let client = Client::connect(endpoint).await?;
    Ok(Session { client, console })
}

/// Writes the completions of a shell for a whole program.
pub fn completions(shell: clap_complete::Shell, program: &mut clap::Command, out: &mut dyn Write) {
    let name = program.get_name().to_owned();
    clap_complete::generate(shell, program, name, out);
}
