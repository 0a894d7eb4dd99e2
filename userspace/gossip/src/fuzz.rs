//! Entry points for fuzzing: every decoder, over any bytes.

use crate::seal::{Carrier, Header};
use crate::wire::{Packer, decode};
use crate::{Config, Epoch, Gossip, Key, KeyRing, Start};
use essaim_model::NodeName;
use std::time::Instant;

/// Reads the header of a datagram and of a frame.
pub fn fuzz_header(data: &[u8]) {
    let _ = Header::read(Carrier::Datagram, data);
    let _ = Header::read(Carrier::Frame, data);
}

/// Reads content.
///
/// # Panics
/// What was read is not written back the same.
pub fn fuzz_content(data: &[u8]) {
    if let Ok(content) = decode(data) {
        let mut packer = Packer::new(usize::MAX);
        for part in &content.parts {
            packer.push(part);
        }
        assert_eq!(
            packer.into_content(content.incarnation),
            data,
            "what was read is written the same"
        );
    }
}

/// Hands sealed bytes of any origin to a core.
pub fn fuzz_sealed(data: &[u8]) {
    let (mut core, now) = core();
    let _ = core.handle_datagram(data, now);
    let _ = core.handle_frame(data, now);
}

/// Hands content to a core, as if a member had sealed it.
pub fn fuzz_member(data: &[u8]) {
    let (mut core, now) = core();
    let Some(sender) = peers().into_keys().next() else {
        return;
    };
    let _ = core.handle_content(&sender, Epoch::from_number(2), data, now);
    core.handle_timeout(now);
    while core.poll_action().is_some() {}
    while core.poll_event().is_some() {}
}

fn peers() -> std::collections::BTreeMap<NodeName, std::net::SocketAddr> {
    let names = ["a", "b"].into_iter().filter_map(|name| NodeName::new(name).ok());
    names
        .zip((1..).map(|port| ([127, 0, 0, 1], port).into()))
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn core() -> (Gossip, Instant) {
    let now = Instant::now();
    #[expect(
        clippy::expect_used,
        reason = "a name that is none is a mistake of the harness"
    )]
    let name = NodeName::new("n").expect("a name");
    let start = Start {
        name,
        last_epoch: Epoch::UNHEARD,
        wall_clock_ms: 1,
        seed: [1; 32],
        keys: KeyRing::new(Key::new([1; 32])),
        config: Config::default(),
    };
    let mut core = Gossip::new(start, now);
    core.set_peers(&peers(), now);
    (core, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_panic(data in prop::collection::vec(any::<u8>(), 0..300)) {
            fuzz_header(&data);
            fuzz_content(&data);
            fuzz_sealed(&data);
            fuzz_member(&data);
        }
    }
}
