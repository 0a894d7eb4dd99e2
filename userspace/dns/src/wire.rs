//! The wire format (RFC 1035), as far as the hot path needs it: bounded and total, no allocation for a question.

mod name;

pub(crate) use name::{encode, encode_lower};
