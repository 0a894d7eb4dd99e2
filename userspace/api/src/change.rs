//! Reading and changing the store for a request.

use crate::{Engine, EngineError};
use essaim_manager::{Replica, UpdateError};
use essaim_objects::Invalid;
use essaim_store::{Conflict, NotAllocated, Transaction, View, Why};

/// This manager's copy of the store.
///
/// # Errors
/// This node has none.
pub(crate) fn replica(engine: &impl Engine) -> Result<Replica, EngineError> {
    engine
        .replica()
        .ok_or_else(|| EngineError::no_manager(&engine.local()))
}

/// What is there now, everywhere.
///
/// # Errors
/// This node is no manager, or nobody leads.
pub(crate) async fn view(engine: &impl Engine) -> Result<View, EngineError> {
    let read = replica(engine)?.read().await;
    read.map_err(|error| {
        tracing::debug!(%error, "the store cannot be read");
        EngineError::no_leader()
    })
}

/// Changes the store.
///
/// # Errors
/// Why not, in Docker's words.
pub(crate) async fn update(
    replica: &Replica,
    decide: impl FnMut(&View) -> Result<Transaction, EngineError>,
) -> Result<View, EngineError> {
    replica.update(decide).await.map_err(|error| match error {
        UpdateError::Refused(refused) => refused,
        UpdateError::NotAllocated(not_allocated) => refusal(&not_allocated),
        UpdateError::TooLarge(error) => EngineError::invalid(format_args!(
            "rpc error: code = InvalidArgument desc = the object is too large: {error}"
        )),
        UpdateError::Conflict(why) => EngineError::internal(format_args!(
            "rpc error: code = Unknown desc = update out of sequence: {why}"
        )),
        UpdateError::NoLeader(why) => {
            tracing::debug!(why, "no leader takes the change");
            EngineError::no_leader()
        }
        UpdateError::Unknown(why) => EngineError::internal(format_args!(
            "rpc error: code = DeadlineExceeded desc = it is not known whether the change was made: {why}; read \
             before trying again"
        )),
    })
}

/// What the client is told where something cannot be allotted.
fn refusal(not_allocated: &NotAllocated) -> EngineError {
    match &*not_allocated.why {
        Why::PortTaken { .. } => invalid_argument(&not_allocated.why),
        Why::Conflict(conflict) => conflicting(conflict),
        Why::PoolUsedUp { .. }
        | Why::NoPool { .. }
        | Why::AddressesUsedUp { .. }
        | Why::VnisUsedUp
        | Why::PortsUsedUp { .. } => EngineError::failed_precondition(not_allocated),
        Why::Overlap { .. }
        | Why::VniTaken { .. }
        | Why::NoNetwork { .. }
        | Why::ConfigOnly { .. }
        | Why::NoGateway { .. } => invalid_argument(not_allocated),
    }
}

/// What the client is told of a change that does not go with what is there.
pub(crate) fn conflicting(conflict: &Conflict) -> EngineError {
    match conflict {
        Conflict::OutOfSequence { .. } => EngineError::out_of_sequence(),
        Conflict::InUse { .. } | Conflict::Missing { .. } => EngineError::failed_precondition(conflict),
        Conflict::NotFound { object } => EngineError::not_found(format_args!("{object} not found")),
        Conflict::NameTaken { .. } | Conflict::Exists { .. } => already_exists(conflict),
        Conflict::NoName { .. }
        | Conflict::Taken { .. }
        | Conflict::Overlap { .. }
        | Conflict::Stray { .. }
        | Conflict::TooMany { .. } => invalid_argument(conflict),
        Conflict::Index { .. } | Conflict::Twice { .. } | Conflict::WentBack { .. } => {
            EngineError::internal(format_args!("rpc error: code = Internal desc = {conflict}"))
        }
    }
}

/// Another object is there already, in the words of Swarm's managers.
pub(crate) fn already_exists(what: impl std::fmt::Display) -> EngineError {
    EngineError::conflict(format_args!("rpc error: code = AlreadyExists desc = {what}"))
}

/// The request makes no sense, in the words of Swarm's managers.
pub(crate) fn invalid_argument(why: impl std::fmt::Display) -> EngineError {
    EngineError::invalid(format_args!("rpc error: code = InvalidArgument desc = {why}"))
}

/// What is asked for is not to be had, in the words of Swarm's managers.
pub(crate) fn unimplemented(why: impl std::fmt::Display) -> EngineError {
    EngineError::not_implemented(format_args!("rpc error: code = Unimplemented desc = {why}"))
}

/// All that is wrong with a request's members.
///
/// # Errors
/// If anything is.
pub(crate) fn checked(result: Result<(), Vec<Invalid>>) -> Result<(), EngineError> {
    result.map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        invalid_argument(problems.join("; "))
    })
}

/// Bits for a new identity.
///
/// # Errors
/// The system gives none.
pub(crate) fn random_bits() -> Result<u128, EngineError> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)
        .map_err(|error| EngineError::internal(format_args!("no randomness for an identity: {error}")))?;
    Ok(u128::from_le_bytes(bits))
}
