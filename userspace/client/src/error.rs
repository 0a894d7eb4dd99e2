//! What can go wrong with a command.

use std::io;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon refused; its words. Nothing of this request was done, earlier ones of the command were.
    #[error("{message}")]
    Daemon {
        /// The HTTP status.
        status: u16,
        /// What the daemon said.
        message: String,
    },
    /// The daemon could not be reached; nothing was done.
    #[error("cannot reach the daemon at {host}; is it running?")]
    Connect {
        /// Where it was looked for.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// Certificates or keys do not serve; nothing was done.
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
    /// The connection broke; whether the request was done is not known.
    #[error("the connection to the daemon at {host} broke")]
    Http {
        /// Where the daemon is.
        host: String,
        /// How.
        source: hyper::Error,
    },
    /// The daemon's answer is not what its API says; the request was done.
    #[error("the daemon's answer to {request} cannot be read")]
    Answer {
        /// The request.
        request: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The daemon speaks another version; nothing was done.
    #[error("the daemon's API version is {found}, expected {expected} or newer")]
    Version {
        /// The daemon's.
        found: String,
        /// The oldest that is understood.
        expected: &'static str,
    },
    /// The command cannot be as it was given; nothing was done.
    #[error("{0}")]
    Usage(String),
    /// The files of a stack are wrong; nothing was done. A line for each problem, as compilers have it.
    #[error("the stack's files cannot be taken:\n{0}")]
    Stack(essaim_compose::Problems),
    /// There is no such object; nothing was done.
    #[error("{0}")]
    Missing(String),
    /// A template cannot be filled in; what was printed before stays.
    #[error(transparent)]
    Template(#[from] crate::template::TemplateError),
    /// A file could not be read; nothing was done.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// What was asked for was accepted, but the cluster did not get there.
    #[error("{0}")]
    NotConverged(String),
    /// The output could not be written; the request was done.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
    /// A body could not be written as JSON; nothing was done.
    #[error("cannot write the request")]
    Body(#[source] serde_json::Error),
}

impl From<essaim_compose::Problems> for Error {
    fn from(problems: essaim_compose::Problems) -> Self {
        Self::Stack(problems)
    }
}

impl Error {
    /// Whether the daemon says that there is no such object.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Daemon { status: 404, .. })
    }

    /// The daemon's words with what was about to be done before them.
    #[must_use]
    pub(crate) fn about(self, what: &str) -> Self {
        match self {
            Self::Daemon { status, message } => Self::Daemon {
                status,
                message: format!("{what}: {message}"),
            },
            other => other,
        }
    }

    /// The message with its causes, as it is shown to the operator.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        text
    }
}
