//! The wire format (RFC 1035), as far as the hot path needs it: bounded and total, no allocation for a question.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

mod codes;
mod name;
mod query;
mod read;
mod reply;

pub(crate) use codes::{Rcode, class, flags, kind};
pub(crate) use name::{MAX_NAME, Name, encode, encode_lower};
pub(crate) use query::{DropReason, Edns, Query, Question, Unfit, encode_query, opt_record};
pub(crate) use read::Reader;
pub(crate) use reply::{OPT_LEN, Owner, Reply, header_only};

/// Length of the header, in bytes.
pub(crate) const HEADER_LEN: usize = 12;
/// The largest UDP message for who says nothing else (RFC 1035, 4.2.1).
pub(crate) const PLAIN_UDP_SIZE: u16 = 512;
/// The largest UDP message that we say we take, and take: what travels unfragmented everywhere (DNS flag day 2020).
pub(crate) const OWN_UDP_SIZE: u16 = 1232;
