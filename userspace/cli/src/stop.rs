//! `essaim stop`.

use crate::args::{Format, StopArgs};
use crate::look::{answers, unexpected};
use crate::output::{Exit, print, print_json};
use anyhow::bail;
use essaim_agent::StateDir;
use essaim_agent::control::{AgentReply, AgentRequest, StopQuestion};
use essaim_model::NodeName;
use std::collections::BTreeSet;
use std::time::Duration;

/// Stops a task, and says how far that is.
pub(crate) fn stop(args: &StopArgs) -> anyhow::Result<Exit> {
    let state_dir = StateDir::new(&args.look.state.state_dir);
    let question = StopQuestion {
        task: args.task.clone(),
        drain_only: args.drain_only,
        drain_deadline_ms: milliseconds(args.drain),
        signal: args.signal.clone(),
        grace_ms: milliseconds(args.grace),
    };
    for answer in answers(&state_dir, &AgentRequest::Stop(question))? {
        let answer = answer?;
        if args.look.format == Format::Json {
            print_json(&answer)?;
        }
        let text = args.look.format == Format::Text;
        match answer {
            AgentReply::Stopping { phase } => {
                if text {
                    print(&format!("{}: {phase}\n", args.task));
                }
            }
            AgentReply::Drained { pending } => {
                if text && pending.is_empty() {
                    print(&format!("{}: no node sends it new flows\n", args.task));
                }
                return Ok(outcome(&pending));
            }
            AgentReply::Stopped {
                pending,
                killed,
                took_ms,
            } => {
                if text {
                    let how = if killed { "killed" } else { "ended by itself" };
                    print(&format!("{}: {how}, {took_ms} ms in all\n", args.task));
                }
                return Ok(outcome(&pending));
            }
            other => bail!(unexpected(other)),
        }
    }
    bail!("the agent has ended; the task is left as it was then: ask again")
}

/// Done, but not without risk to requests where a node had not answered.
fn outcome(pending: &BTreeSet<NodeName>) -> Exit {
    if pending.is_empty() {
        return Exit::Done;
    }
    let nodes: Vec<&str> = pending.iter().map(NodeName::as_str).collect();
    eprintln!(
        "essaim: {} had not stopped sending it new flows by the deadline",
        nodes.join(", ")
    );
    Exit::Failed
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
