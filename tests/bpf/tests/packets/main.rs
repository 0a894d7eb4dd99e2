//! Every program on packets built header by header, through `BPF_PROG_TEST_RUN`. Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, as the tests do"
)]

mod dns;
mod encrypted;
mod endpoint;
mod fragments;
mod hostile;
mod icmp_errors;
mod ingress_xdp;
mod overlay;
mod programs;
mod published;
mod refusals;
mod second_chances;
mod vip;
