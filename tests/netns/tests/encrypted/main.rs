//! Encrypted networks, from end to end: what is on the wire, what is let in, and that keys change without a loss. Needs root
//! and a kernel with ESP.
//!
//! A lab takes most of a minute under software emulation: much is tried on one.

mod forged;
mod keys;
mod managers;
mod stage;
mod wire;

use anyhow::Context as _;
use essaim_lab::Family;
use std::time::Instant;

/// Tries one thing of several, and says how long it took.
fn part(name: &str, tried: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let start = Instant::now();
    tried().with_context(|| name.to_owned())?;
    println!("{name}: {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

#[test]
fn over_ipv4_with_cve_2023_28840_28841_28842_and_keys_that_change() -> anyhow::Result<()> {
    let scene = &stage::scene(Family::V4)?;
    part("only ESP is on the wire", || {
        wire::only_esp_is_on_the_wire(scene, Family::V4)
    })?;
    part("the MTU leaves room for ESP", || {
        wire::the_mtu_leaves_room_for_esp(scene)
    })?;
    part(
        "CVE-2023-28840, 28841, 28842: VXLAN in clear reaches nobody",
        || forged::vxlan_in_clear_reaches_nobody(scene),
    )?;
    part("ESP that was recorded opens nothing a second time", || {
        forged::esp_that_was_recorded_opens_nothing_a_second_time(scene)
    })?;
    part("keys that change every two seconds lose no request", || {
        keys::keys_that_change_every_two_seconds_lose_no_request(scene)
    })?;
    part(
        "an agent that restarts loses nothing and takes other keys",
        || keys::an_agent_that_restarts_loses_nothing_and_takes_other_keys(scene),
    )?;
    part("a node that lost its kernel's state comes back", || {
        keys::a_node_that_lost_its_kernels_state_comes_back(scene)
    })?;
    part("a node whose clock is an hour off keeps working", || {
        keys::a_node_whose_clock_is_an_hour_off_keeps_working(scene)
    })
}

#[test]
fn over_ipv6_only_esp_is_on_the_wire() -> anyhow::Result<()> {
    let scene = &stage::scene(Family::V6)?;
    wire::only_esp_is_on_the_wire(scene, Family::V6)
}
