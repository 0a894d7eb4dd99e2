//! The content of datagrams and frames: the sender's incarnation, then parts until the end.
//!
//! Written by hand, because what a stranger may send must be bounded while it is read: a derived codec
//! checks names after it has copied them, and lists not at all. Here a name is checked before it is copied and a list
//! is no longer than the bytes that carry it. Numbers are LEB128, names a length byte and the bytes, a list its
//! length and its elements. [`FORMAT_VERSION`](crate::seal::FORMAT_VERSION), in the seal, covers this format too.

mod part;
mod reader;
mod writer;

pub(crate) use part::{Content, Delta, Head, Part, Subject};
pub(crate) use reader::decode;
pub(crate) use writer::{DeltaWriter, Packer};

#[cfg(test)]
mod tests;
