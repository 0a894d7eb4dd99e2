//! Encrypted networks, from end to end: what is on the wire, what is let in, and that keys change without a loss. Needs root
//! and a kernel with ESP.

mod forged;
mod keys;
mod stage;
mod wire;
