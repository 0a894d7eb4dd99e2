//! The flow hash, written out again: nodes of one cluster must agree on it, so it may not change unnoticed.

use std::net::IpAddr;

const K1: u64 = 0x9e37_79b9_7f4a_7c15;
const K2: u64 = 0xd6e8_feb8_6659_fd93;

fn mix(state: u64, word: u64) -> u64 {
    let mixed = (state ^ word).wrapping_mul(K1);
    mixed ^ (mixed >> 32)
}

fn finish(state: u64) -> u32 {
    let mixed = state.wrapping_mul(K2);
    u32::try_from((mixed ^ (mixed >> 32)) & 0xffff_ffff).unwrap()
}

fn words(address: IpAddr) -> Vec<u64> {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    octets
        .chunks(4)
        .map(|word| u64::from(u32::from_le_bytes([word[0], word[1], word[2], word[3]])))
        .collect()
}

/// The hash of a flow's addresses, ports (host order) and protocol.
pub fn of_flow(client: (IpAddr, u16), published: (IpAddr, u16), protocol: u8) -> u32 {
    let (from, to) = (words(client.0), words(published.0));
    let ports = u64::from(client.1.swap_bytes()) << 32
        | u64::from(published.1.swap_bytes()) << 8
        | u64::from(protocol);
    let state = if from.len() == 1 {
        mix(K2, from[0] << 32 | to[0])
    } else {
        [&from, &to]
            .into_iter()
            .flat_map(|words| words.chunks(2))
            .fold(K2, |state, pair| mix(state, pair[0] << 32 | pair[1]))
    };
    finish(mix(state, ports))
}

/// The hash of a client's address alone.
pub fn of_client(client: IpAddr) -> u32 {
    let words = words(client);
    if words.len() == 1 {
        finish(mix(K2, words[0]))
    } else {
        finish(
            words
                .chunks(2)
                .fold(K2, |state, pair| mix(state, pair[0] << 32 | pair[1])),
        )
    }
}
