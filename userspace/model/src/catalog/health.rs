//! How a service's tasks are checked, in Docker's words.

use std::time::Duration;

/// How often the tasks of a service are probed, with what, and how much it takes to change their health.
///
/// The meaning, and the defaults, are those of Docker's health checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked of a task.
    pub test: HealthTest,
    /// From one probe to the next. Too low, the probes load the task; too high, one that hangs keeps its traffic longer.
    pub interval: Duration,
    /// Longest that a probe may take. Too low, a busy task counts as a dead one.
    pub timeout: Duration,
    /// Failures in a row that take a task's traffic.
    pub retries: u32,
    /// From the task's start; failures do not count meanwhile, until a probe has passed.
    pub start_period: Duration,
    /// In place of `interval` during the start period.
    pub start_interval: Duration,
}

impl HealthCheck {
    /// A check with Docker's defaults.
    pub const fn new(test: HealthTest) -> Self {
        Self {
            test,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            retries: 3,
            start_period: Duration::ZERO,
            start_interval: Duration::from_secs(5),
        }
    }
}

/// What is asked of a task; it passes or fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthTest {
    /// A program with its arguments, in the task's namespaces, ends with status 0.
    Command(Vec<String>),
    /// A line for the task's `/bin/sh -c` does.
    Shell(String),
    /// A TCP port takes a connection.
    Tcp(u16),
    /// An HTTP server answers a GET with a status of 200 to 399.
    Http {
        /// Its port.
        port: u16,
        /// The path, which begins with `/`.
        path: String,
    },
}

impl HealthTest {
    /// What [`HealthTest::from_words`] expects.
    pub(crate) const EXPECTED: &str =
        "[\"CMD\", PROGRAM, ...], [\"CMD-SHELL\", LINE], [\"TCP\", PORT] or [\"HTTP\", PORT, PATH]";

    /// Reads Docker's `CMD` and `CMD-SHELL`, and `TCP` and `HTTP` beside them; `None` for other words.
    pub fn from_words(words: &[String]) -> Option<Self> {
        let (kind, rest) = words.split_first()?;
        let port = |text: &str| text.parse().ok().filter(|port| *port > 0);
        let is_line = |text: &str| text.chars().all(|c| !c.is_control() && !c.is_whitespace());
        match (kind.as_str(), rest) {
            ("CMD", [program, ..]) if !program.is_empty() && !rest.iter().any(|word| word.contains('\0')) => {
                Some(Self::Command(rest.to_vec()))
            }
            ("CMD-SHELL", [line]) if !line.trim().is_empty() && !line.contains('\0') => {
                Some(Self::Shell(line.clone()))
            }
            ("TCP", [at]) => port(at).map(Self::Tcp),
            ("HTTP", [at, path]) if path.starts_with('/') && is_line(path) => Some(Self::Http {
                port: port(at)?,
                path: path.clone(),
            }),
            _ => None,
        }
    }

    /// The words that [`HealthTest::from_words`] reads.
    pub fn words(&self) -> Vec<String> {
        match self {
            Self::Command(words) => [&["CMD".to_owned()], words.as_slice()].concat(),
            Self::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
            Self::Tcp(port) => vec!["TCP".to_owned(), port.to_string()],
            Self::Http { port, path } => vec!["HTTP".to_owned(), port.to_string(), path.clone()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[&str]) -> Vec<String> {
        text.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn tests_read_back_as_they_are_written() {
        for test in [
            HealthTest::Command(words(&["pg_isready", "-q"])),
            HealthTest::Shell("curl -f localhost || exit 1".to_owned()),
            HealthTest::Tcp(5432),
            HealthTest::Http {
                port: 8080,
                path: "/health?full".to_owned(),
            },
        ] {
            assert_eq!(HealthTest::from_words(&test.words()), Some(test));
        }
    }

    #[test]
    fn other_words_are_no_test() {
        for text in [
            &[][..],
            &["NONE"],
            &["CMD"],
            &["CMD", ""],
            &["CMD", "true", "\0"],
            &["CMD-SHELL"],
            &["CMD-SHELL", " "],
            &["CMD-SHELL", "true", "false"],
            &["TCP", "0"],
            &["TCP", "65536"],
            &["TCP"],
            &["HTTP", "80"],
            &["HTTP", "80", "health"],
            &["HTTP", "80", "/a b"],
            &["cmd", "true"],
        ] {
            assert_eq!(HealthTest::from_words(&words(text)), None, "{text:?}");
        }
    }
}
