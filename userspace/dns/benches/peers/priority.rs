//! Going before what else the machine has to do, whose time slices would be the longest latencies of every server.

use crate::sandbox::run;
use anyhow::Context as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const NICE: &str = "-10";

/// A process's higher priority, and that of what it starts; its session's is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Priority {
    /// The file with the session's priority, and what it said before.
    session: Option<(PathBuf, String)>,
}

impl Priority {
    /// Raises a process's priority within its session, and that of its session among all, where the kernel schedules
    /// by sessions (sched(7), "The autogroup feature").
    pub(crate) fn raise(process: &str) -> anyhow::Result<Self> {
        run(Command::new("renice").args(["-n", NICE, "-p", process]))?;
        let file = Path::new("/proc").join(process).join("autogroup");
        let Ok(said) = fs::read_to_string(&file) else {
            return Ok(Self { session: None });
        };
        let former = said.split_whitespace().last().unwrap_or("0").to_owned();
        fs::write(&file, NICE).with_context(|| format!("failed to write {}", file.display()))?;
        Ok(Self {
            session: Some((file, former)),
        })
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        if let Some((file, former)) = &self.session {
            // A server may have ended, and its session with it.
            let _ = fs::write(file, former);
        }
    }
}
