//! What a command sees of the terminal it runs in, and how it ends.

use crate::api::Client;
use crate::error::Error;
use essaim_objects::Timestamp;
use std::io::{Read, Write};

/// The surroundings of a command: where it writes and reads, the clock and the environment.
pub struct Console<'a> {
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Standard error.
    pub err: &'a mut dyn Write,
    /// Standard input.
    pub input: &'a mut dyn Read,
    /// Whether the output is a terminal, which progress is redrawn on.
    pub out_is_terminal: bool,
    /// Whether somebody can answer a question.
    pub input_is_terminal: bool,
    /// The time.
    pub now: &'a dyn Fn() -> Timestamp,
    /// A variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

impl std::fmt::Debug for Console<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console")
            .field("out_is_terminal", &self.out_is_terminal)
            .field("input_is_terminal", &self.input_is_terminal)
            .finish_non_exhaustive()
    }
}

impl Console<'_> {
    /// The bytes of a file, or of the input where it is `-`.
    pub(crate) fn read_file(&mut self, path: &str) -> Result<Vec<u8>, Error> {
        if path == "-" {
            let mut bytes = Vec::new();
            self.input.read_to_end(&mut bytes).map_err(read_error)?;
            return Ok(bytes);
        }
        std::fs::read(path).map_err(|source| Error::File {
            path: path.to_owned(),
            source,
        })
    }
}

/// How a command that ran ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Exit {
    /// Everything was done.
    Done,
    /// Some of it failed; what did was told on standard error.
    Failed,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed => Self::FAILURE,
        }
    }
}

/// A command's connection and surroundings.
pub(crate) struct Session<'a, 'b> {
    pub(crate) client: Client,
    pub(crate) console: &'a mut Console<'b>,
}

impl Session<'_, '_> {
    pub(crate) fn print(&mut self, text: &str) -> Result<(), Error> {
        self.console.out.write_all(text.as_bytes())?;
        Ok(())
    }

    pub(crate) fn line(&mut self, text: &str) -> Result<(), Error> {
        writeln!(self.console.out, "{text}")?;
        Ok(())
    }

    pub(crate) fn complain(&mut self, text: &str) -> Result<(), Error> {
        writeln!(self.console.err, "{text}")?;
        Ok(())
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.console.now)()
    }

    /// Asks, and whether the answer was yes. The question is put even where nobody can answer, as docker does.
    pub(crate) fn confirm(&mut self, question: &str) -> Result<bool, Error> {
        write!(self.console.out, "{question} [y/N] ")?;
        self.console.out.flush()?;
        let mut answer = Vec::new();
        let mut byte = [0];
        while answer.len() < 16
            && self.console.input.read(&mut byte).map_err(read_error)? == 1
            && byte != *b"\n"
        {
            answer.push(byte[0]);
        }
        Ok(matches!(answer.trim_ascii(), b"y" | b"Y" | b"yes"))
    }

    /// One line of the input, without its end.
    pub(crate) fn read_line(&mut self) -> Result<String, Error> {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.len() < 4096
            && self.console.input.read(&mut byte).map_err(read_error)? == 1
            && byte != *b"\n"
        {
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line).trim().to_owned())
    }

    /// The bytes of a file, or of the input where it is `-`.
    pub(crate) fn read_file(&mut self, path: &str) -> Result<Vec<u8>, Error> {
        self.console.read_file(path)
    }

    /// Does the same to each object; what fails is told, and the others are done.
    pub(crate) fn tally(&mut self, name: &str, done: Result<(), Error>, say: &str) -> Result<Exit, Error> {
        match done {
            Ok(()) => {
                self.line(say)?;
                Ok(Exit::Done)
            }
            Err(error @ (Error::Daemon { .. } | Error::Missing(_) | Error::Usage(_))) => {
                let text = error.chain();
                let text = if text.contains(name) {
                    text
                } else {
                    format!("{name}: {text}")
                };
                self.complain(&format!("essaim: {text}"))?;
                Ok(Exit::Failed)
            }
            Err(error) => Err(error),
        }
    }
}

fn read_error(source: std::io::Error) -> Error {
    Error::File {
        path: "standard input".to_owned(),
        source,
    }
}

impl Exit {
    /// Failed where either did.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Done, Self::Done) => Self::Done,
            (Self::Failed, _) | (_, Self::Failed) => Self::Failed,
        }
    }
}
