//! `essaim status`, `verify`, `trace`, `watch` and `monitor`: through the agent, or without one.

use crate::args::{Format, LookArgs, TraceArgs};
use crate::output::{Exit, is_read, print, print_json};
use crate::show::show;
use anyhow::{Context, bail};
use essaim_agent::control::{AgentReply, AgentRequest, TraceQuestion, TraceStep, client};
use essaim_agent::{Offline, StateDir, chain};
use serde::Serialize;
use std::fmt::Write;

/// Prints how the node is.
pub(crate) fn status(args: &LookArgs) -> anyhow::Result<Exit> {
    let state_dir = StateDir::new(&args.state.state_dir);
    let status = match ask(&state_dir, &AgentRequest::Status)? {
        Some(AgentReply::Status(status)) => *status,
        Some(other) => bail!(unexpected(other)),
        None => Offline::open(&state_dir)?.status()?,
    };
    match args.format {
        Format::Text => print(&show(&status)),
        Format::Json => print_json(&status)?,
    }
    Ok(Exit::Done)
}

/// The result of `verify`, for programs.
#[derive(Serialize)]
struct Verified {
    equal: bool,
    differences: Vec<String>,
}

/// Compares plan and kernel.
pub(crate) fn verify(args: &LookArgs) -> Exit {
    let differences = match differences(&StateDir::new(&args.state.state_dir)) {
        Ok(differences) => differences,
        Err(error) => {
            eprintln!("essaim: it cannot be told: {}", chain(error.as_ref()));
            return Exit::Unknown;
        }
    };
    let equal = differences.is_empty();
    match args.format {
        Format::Json => {
            if print_json(&Verified { equal, differences }).is_err() {
                return Exit::Unknown;
            }
        }
        Format::Text if equal => print("links, programs, maps and held ports are as planned\n"),
        Format::Text => {
            let mut text = format!("{} differences\n", differences.len());
            for difference in &differences {
                // Writing to a string does not fail.
                let _ = writeln!(text, "  {difference}");
            }
            print(&text);
        }
    }
    if equal { Exit::Done } else { Exit::Failed }
}

fn differences(state_dir: &StateDir) -> anyhow::Result<Vec<String>> {
    match ask(state_dir, &AgentRequest::Verify)? {
        Some(AgentReply::Verified { differences }) => Ok(differences),
        Some(other) => bail!(unexpected(other)),
        None => Ok(Offline::open(state_dir)?.verify()?),
    }
}

/// The result of `trace`, for programs.
#[derive(Serialize)]
struct Traced {
    steps: Vec<TraceStep>,
}

/// Runs a packet through the programs.
pub(crate) fn trace(args: &TraceArgs) -> anyhow::Result<Exit> {
    let state_dir = StateDir::new(&args.look.state.state_dir);
    let question = TraceQuestion {
        source: args.src,
        destination: args.dst,
        protocol: args.proto.to_ascii_lowercase(),
        port: args.port,
        from: args.from.clone(),
    };
    let steps = match ask(&state_dir, &AgentRequest::Trace(question.clone()))? {
        Some(AgentReply::Traced { steps }) => steps,
        Some(other) => bail!(unexpected(other)),
        None => Offline::open(&state_dir)?.trace(&question)?,
    };
    match args.look.format {
        Format::Text => {
            for step in &steps {
                print(&format!(
                    "{} at {}: {}\n",
                    step.program, step.interface, step.text
                ));
            }
        }
        Format::Json => print_json(&Traced { steps })?,
    }
    Ok(Exit::Done)
}

/// Prints decisions until interrupted.
pub(crate) fn watch(args: &LookArgs) -> anyhow::Result<Exit> {
    follow(args, &AgentRequest::Watch, |answer| match answer {
        AgentReply::Decision(decision) => Ok(Told::of(&*decision)?),
        AgentReply::Missed { count } => {
            eprintln!("essaim: {count} decisions came too fast to be told");
            Ok(None)
        }
        other => bail!(unexpected(other)),
    })
}

/// Prints changes until interrupted.
pub(crate) fn monitor(args: &LookArgs) -> anyhow::Result<Exit> {
    follow(args, &AgentRequest::Monitor, |answer| match answer {
        AgentReply::Changed(change) => Ok(Told::of(&change)?),
        other => bail!(unexpected(other)),
    })
}

/// An answer in both forms.
struct Told {
    text: String,
    json: String,
}

impl Told {
    fn of(answer: &(impl Serialize + std::fmt::Display)) -> anyhow::Result<Option<Self>> {
        Ok(Some(Self {
            text: format!("{answer}\n"),
            json: serde_json::to_string(answer)? + "\n",
        }))
    }
}

/// Prints what an agent tells again and again, until nobody reads it any more.
fn follow(
    args: &LookArgs,
    request: &AgentRequest,
    tell: impl Fn(AgentReply) -> anyhow::Result<Option<Told>>,
) -> anyhow::Result<Exit> {
    let state_dir = StateDir::new(&args.state.state_dir);
    for answer in answers(&state_dir, request)? {
        let is_read = match (tell(answer?)?, args.format) {
            (Some(told), Format::Text) => is_read(&told.text),
            (Some(told), Format::Json) => is_read(&told.json),
            (None, _) => true,
        };
        if !is_read {
            return Ok(Exit::Done);
        }
    }
    bail!("the agent has ended")
}

/// The answers of an agent that must run.
pub(crate) fn answers(state_dir: &StateDir, request: &AgentRequest) -> anyhow::Result<client::Answers> {
    client::ask(state_dir, request)?.with_context(|| {
        format!(
            "no agent is running with the state directory {}",
            state_dir.path().display()
        )
    })
}

/// The agent's only answer; `None` where no agent runs.
fn ask(state_dir: &StateDir, request: &AgentRequest) -> anyhow::Result<Option<AgentReply>> {
    let Some(mut answers) = client::ask(state_dir, request)? else {
        return Ok(None);
    };
    let answer = answers
        .next()
        .context("the agent ended before it answered; ask again")??;
    Ok(Some(answer))
}

pub(crate) fn unexpected(reply: AgentReply) -> String {
    match reply {
        AgentReply::Error { message } => message,
        other => format!("the agent answered {other:?}; is it of another version?"),
    }
}
