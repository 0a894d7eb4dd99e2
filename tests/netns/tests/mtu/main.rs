//! Sizes: a full-size packet that may not be fragmented passes, or gets an answer, at every hop. Needs root.

mod answers;
mod transfers;
