use std::error::Error;
use std::fmt;
use tonic::Status;

/// Why a call has no answer, as far as the caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// What was asked makes no sense; asking again does not help.
    InvalidArgument,
    /// There is no such object.
    NotFound,
    /// There is one of that name.
    AlreadyExists,
    /// The state of the cluster does not allow it.
    FailedPrecondition,
    /// The caller may not.
    PermissionDenied,
    /// This node cannot answer now, another or a later call may be: it is no leader, or it is going away. Whether the call
    /// had an effect is unknown where the connection broke.
    Unavailable,
    /// No answer within the caller's time; whether the call had an effect is unknown.
    DeadlineExceeded,
    /// More is asked than the node can take.
    ResourceExhausted,
    /// The peer does not know the method: it is of another version.
    Unimplemented,
    /// A bug, or a failing disk.
    Internal,
}

impl Code {
    const ALL: [(Self, tonic::Code); 10] = [
        (Self::InvalidArgument, tonic::Code::InvalidArgument),
        (Self::NotFound, tonic::Code::NotFound),
        (Self::AlreadyExists, tonic::Code::AlreadyExists),
        (Self::FailedPrecondition, tonic::Code::FailedPrecondition),
        (Self::PermissionDenied, tonic::Code::PermissionDenied),
        (Self::Unavailable, tonic::Code::Unavailable),
        (Self::DeadlineExceeded, tonic::Code::DeadlineExceeded),
        (Self::ResourceExhausted, tonic::Code::ResourceExhausted),
        (Self::Unimplemented, tonic::Code::Unimplemented),
        (Self::Internal, tonic::Code::Internal),
    ];

    fn of(code: tonic::Code) -> Self {
        let found = Self::ALL.iter().find(|(_, theirs)| *theirs == code);
        // What tonic says of a broken connection, and what no server of ours sends.
        found.map_or(Self::Unavailable, |(own, _)| *own)
    }

    fn on_the_wire(self) -> tonic::Code {
        let found = Self::ALL.iter().find(|(own, _)| *own == self);
        found.map_or(tonic::Code::Internal, |(_, theirs)| *theirs)
    }
}

/// A call that has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// What kind of failure it is.
    pub code: Code,
    /// What was found, and what was expected.
    pub message: String,
}

impl CallError {
    /// A failure with its message.
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        Self {
            code: Code::of(status.code()),
            // What broke a connection stands in the sources only.
            message: with_causes(status.message(), status.source()),
        }
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        Self::new(error.code.on_the_wire(), error.message)
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn Error) -> String {
    with_causes(&error.to_string(), error.source())
}

fn with_causes(message: &str, mut cause: Option<&dyn Error>) -> String {
    let mut text = message.to_owned();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        for (code, _) in Code::ALL {
            let error = CallError::new(code, "found this, expected that");
            assert_eq!(CallError::from(Status::from(error.clone())), error);
        }
        let unknown = Status::new(tonic::Code::DataLoss, "x");
        assert_eq!(CallError::from(unknown).code, Code::Unavailable);
    }
}
