//! A program that hosts the process runner: `task-shim` is the shim of a task, as the hidden subcommand of `essaim` is,
//! and `agent STATE_DIR CGROUP TASK SPEC` prepares and starts one task and waits for its end. The tests kill it.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use anyhow::Context as _;
use essaim_model::TaskId;
use essaim_runner::{Contents, ProcessRunner, ProcessRunnerConfig, ProcessSpec, Runner as _, ShimProgram};
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments.next().unwrap_or_default();
    if command == "task-shim" {
        return essaim_runner::shim_main(arguments);
    }
    match agent(&arguments.collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn agent(arguments: &[OsString]) -> anyhow::Result<()> {
    let [state_dir, cgroup, task, spec] = arguments else {
        anyhow::bail!("usage: runner-host agent STATE_DIR CGROUP TASK SPEC");
    };
    let config = ProcessRunnerConfig {
        state_dir: state_dir.into(),
        cgroup_parent: cgroup.into(),
        hidden: Vec::new(),
        shim: ShimProgram::default(),
    };
    let (events, _told) = tokio::sync::mpsc::channel(16);
    let runner = ProcessRunner::new(config, events)?;
    let task = TaskId::new(task.to_str().context("the task is no text")?)?;
    let mut spec: ProcessSpec = serde_json::from_str(spec.to_str().context("the spec is no text")?)?;
    for file in &mut spec.files {
        file.contents = Contents::new(b"a secret of the test's agent".to_vec());
    }
    runner.prepare(&task, spec).await?;
    println!("prepared");
    runner.start(&task).await?;
    println!("started");
    println!("{:?}", runner.wait(&task).await?.exit);
    Ok(())
}
