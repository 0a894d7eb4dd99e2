//! Real links in namespaces of the tests' own: made, found again, healed, removed. Needs root, `ip` and `nft`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

mod facts;
mod healing;
mod lab;
mod making;
mod refusals;
mod world;

use essaim_model::DesiredState;
use essaim_netlink::LinkReconciler;
use std::net::IpAddr;
use std::time::Duration;

/// Longest that any condition may take.
const DEADLINE: Duration = Duration::from_secs(20);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn assert_settled(links: &LinkReconciler, desired: &DesiredState) {
    let ops: Vec<String> = links
        .verify(desired)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(ops.is_empty(), "not settled:\n  {}", ops.join("\n  "));
}
