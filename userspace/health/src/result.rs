use std::fmt;
use std::time::Duration;

/// Bytes that are kept of what a probe said; as many as Docker keeps.
pub const OUTPUT_KEPT: usize = 4096;

/// What a probe said: the first [`OUTPUT_KEPT`] bytes, as text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Output {
    kept: Vec<u8>,
    cut: bool,
}

impl Output {
    /// Takes more of it; what is past the limit is dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = OUTPUT_KEPT.saturating_sub(self.kept.len());
        let (keep, rest) = bytes.split_at(bytes.len().min(room));
        self.kept.extend_from_slice(keep);
        self.cut |= !rest.is_empty();
    }

    /// Whether it said nothing.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Whether it said more than is kept.
    pub fn is_cut(&self) -> bool {
        self.cut
    }
}

impl From<&str> for Output {
    fn from(text: &str) -> Self {
        let mut output = Self::default();
        output.push(text.as_bytes());
        output
    }
}

/// Bytes that are no UTF-8 are replaced; `...` stands for what was cut, as in Docker.
impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.kept))?;
        f.write_str(if self.cut { "..." } else { "" })
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// How a probe ended: with what it said, where it passed.
pub type ProbeResult = Result<Output, ProbeFailure>;

/// A probe that did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeFailure {
    /// Why not.
    pub cause: FailureCause,
    /// What it said.
    pub output: Output,
}

impl From<FailureCause> for ProbeFailure {
    /// A failure that said nothing.
    fn from(cause: FailureCause) -> Self {
        Self {
            cause,
            output: Output::default(),
        }
    }
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        if !self.output.is_empty() {
            write!(f, ": {}", self.output.to_string().trim_end())?;
        }
        Ok(())
    }
}

/// Why a probe did not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FailureCause {
    /// The command ended with another status than 0.
    #[error("exit status {status}")]
    Exit {
        /// Its status.
        status: i32,
    },
    /// The command was ended by a signal.
    #[error("ended by signal {signal}")]
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// It did not end in time, and was ended.
    #[error("no result within {after:?}")]
    TimedOut {
        /// The check's timeout.
        after: Duration,
    },
    /// An earlier probe was given up and has still not ended: no other is started beside it.
    #[error("an earlier probe was given up and has not ended")]
    StillEnding,
    /// The task did not take the connection.
    #[error("no connection: {reason}")]
    Connect {
        /// The last address tried, and the system's reason.
        reason: String,
    },
    /// The connection broke before the answer was there.
    #[error("no answer: {reason}")]
    Broken {
        /// The system's reason, or what the answer lacks.
        reason: String,
    },
    /// The answer says that all is not well.
    #[error("HTTP status {status}, expected 200 to 399")]
    HttpStatus {
        /// Its status.
        status: u16,
    },
    /// It could not be run, as where the task's namespace is gone.
    #[error("the probe could not be run: {reason}")]
    NotRun {
        /// Why not.
        reason: String,
    },
    /// It was called off, because its task is no longer watched.
    #[error("called off")]
    CalledOff,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_kept_up_to_the_limit_and_says_that_it_was_cut() {
        let mut output = Output::default();
        assert!(output.is_empty());
        output.push(&[b'a'; OUTPUT_KEPT - 1]);
        output.push(b"b");
        assert!(!output.is_cut());
        assert_eq!(output.to_string().len(), OUTPUT_KEPT);
        output.push(b"c");
        assert!(output.is_cut());
        assert!(output.to_string().ends_with("ab..."));
        assert_eq!(output.to_string().len(), OUTPUT_KEPT + 3);
    }

    #[test]
    fn output_that_is_no_text_is_still_shown() {
        let mut output = Output::default();
        output.push(&[b'o', 0xff, b'k']);
        assert_eq!(output.to_string(), "o\u{fffd}k");
    }

    #[test]
    fn a_failure_tells_its_cause_and_what_was_said() {
        let failure = ProbeFailure {
            cause: FailureCause::Exit { status: 7 },
            output: "no database\n".into(),
        };
        assert_eq!(failure.to_string(), "exit status 7: no database");
        let failure = ProbeFailure::from(FailureCause::HttpStatus { status: 503 });
        assert_eq!(failure.to_string(), "HTTP status 503, expected 200 to 399");
    }
}
