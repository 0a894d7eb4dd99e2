//! Standard output, and exit codes.

use serde::Serialize;
use std::io::Write;
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// As asked.
    Done,
    /// It failed; there are differences; the catalog is invalid.
    Failed,
    /// It could not be told.
    Unknown,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed => Self::from(1),
            Exit::Unknown => Self::from(2),
        }
    }
}

/// Prints a result. A reader that has gone (`| head`) is no error.
pub(crate) fn print(text: &str) {
    let _ = is_read(text);
}

/// Prints one of many results; tells whether somebody still reads.
pub(crate) fn is_read(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// Prints a result for programs.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"));
    Ok(())
}
