//! The commands against a daemon whose answers are given: recordings of dockerd 20.10.24, or a script.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

mod daemon;
mod output;
mod requests;
mod stack;

use clap::Parser;
use daemon::Daemon;
use essaim_client::{Command, Console, Exit, HostArgs, NodeCommand, run, run_node};
use jiff::Timestamp;
use std::cell::Cell;

#[derive(clap::Parser)]
#[command(name = "essaim")]
struct Program {
    #[command(flatten)]
    host: HostArgs,
    #[command(subcommand)]
    command: Top,
}

#[derive(clap::Subcommand)]
enum Top {
    #[command(flatten)]
    Main(Command),
    #[command(subcommand)]
    Node(NodeCommand),
}

/// What a command left behind.
#[derive(Debug, PartialEq)]
struct Ran {
    /// The error's text where it could not be done.
    end: Result<Exit, String>,
    out: String,
    err: String,
}

/// Runs a command line against the daemon; the clock goes on by a second each time that it is read.
async fn essaim(daemon: &Daemon, words: &[&str], input: &str) -> Ran {
    let program = match Program::try_parse_from(std::iter::once(&"essaim").chain(words)) {
        Ok(program) => program,
        Err(error) => {
            return Ran {
                end: Err(error.to_string()),
                out: String::new(),
                err: String::new(),
            };
        }
    };
    let (mut out, mut err, mut input) = (Vec::new(), Vec::new(), input.as_bytes());
    let start: Timestamp = "2026-11-29T01:06:00Z".parse().unwrap();
    let reads = Cell::new(0);
    let now = || {
        reads.set(reads.get() + 1);
        Timestamp::from_second(start.as_second() + reads.get() - 1).unwrap()
    };
    let host = daemon.host();
    let variable = move |name: &str| (name == "ESSAIM_HOST").then(|| host.clone());
    let mut console = Console {
        out: &mut out,
        err: &mut err,
        input: &mut input,
        out_is_terminal: false,
        input_is_terminal: false,
        now: &now,
        variable: &variable,
    };
    let end = match &program.command {
        Top::Main(command) => run(command, &program.host, &mut console).await,
        Top::Node(command) => run_node(command, &program.host, &mut console).await,
    };
    Ran {
        end: end.map_err(|error| error.chain()),
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}

#[test]
fn the_commands_are_well_formed_and_shells_can_complete_them() {
    let mut program = <Program as clap::CommandFactory>::command();
    program.clone().debug_assert();
    for shell in [
        essaim_client::Shell::Bash,
        essaim_client::Shell::Zsh,
        essaim_client::Shell::Fish,
    ] {
        let mut script = Vec::new();
        essaim_client::completions(shell, &mut program, &mut script);
        let script = String::from_utf8(script).unwrap();
        for word in ["join-token", "placement-pref-add", "update-failure-action"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn every_command_says_what_it_does() {
    fn each(command: &clap::Command, path: &str, texts: &mut Vec<(String, String)>) {
        for below in command.get_subcommands() {
            let path = format!("{path} {}", below.get_name());
            texts.push((
                path.trim().to_owned(),
                below.get_about().map(ToString::to_string).unwrap_or_default(),
            ));
            each(below, &path, texts);
        }
    }
    let mut texts = Vec::new();
    each(&<Program as clap::CommandFactory>::command(), "", &mut texts);
    let about = |path: &str| {
        texts
            .iter()
            .find(|(known, _)| known == path)
            .map(|(_, text)| text.as_str())
            .unwrap()
    };
    assert_eq!(about("service create"), "Create a new service");
    assert_eq!(
        about("service inspect"),
        "Display detailed information on one or more services"
    );
    assert_eq!(about("service ps"), "List the tasks of one or more services");
    assert_eq!(about("node update"), "Update a node");
    assert_eq!(about("swarm init"), "Initialize a swarm");
    assert_eq!(about("network create"), "Create a network");
    assert_eq!(
        about("secret create"),
        "Create a secret from a file or STDIN as content"
    );
    assert_eq!(about("config ls"), "List configs");
    assert_eq!(texts.len(), 50, "{texts:?}");
}
