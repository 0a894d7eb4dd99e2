//! The flow hash: every node computes the same from the same packet.

use essaim_abi::Addr;

const K1: u64 = 0x9e37_79b9_7f4a_7c15;
const K2: u64 = 0xd6e8_feb8_6659_fd93;

/// Multiplies and folds the upper half back in (the finaliser of splitmix64, one round).
#[inline(always)]
const fn mix(state: u64, word: u64) -> u64 {
    let mixed = (state ^ word).wrapping_mul(K1);
    mixed ^ mixed >> 32
}

#[inline(always)]
const fn pair(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

#[inline(always)]
const fn finish(state: u64) -> u32 {
    let mixed = state.wrapping_mul(K2);
    (mixed ^ mixed >> 32) as u32
}

/// The hash of the client's address alone, for session affinity.
#[inline(always)]
pub const fn of_client(client: &Addr) -> u32 {
    let words = &client.words;
    if client.is_v4() {
        finish(mix(K2, words[3] as u64))
    } else {
        finish(mix(mix(K2, pair(words[0], words[1])), pair(words[2], words[3])))
    }
}

/// The hash of a network namespace's cookie: a task as a client, whatever address it has. The two halves, lower first.
#[inline(always)]
pub const fn of_cookie(cookie: [u32; 2]) -> u32 {
    finish(mix(K2, pair(cookie[0], cookie[1])))
}

/// The hash of a flow, client to published address; ports in network order.
#[inline(always)]
pub const fn of_flow(
    client: &Addr,
    published: &Addr,
    client_port: u16,
    published_port: u16,
    protocol: u8,
) -> u32 {
    let ports = pair(client_port as u32, (published_port as u32) << 8 | protocol as u32);
    let (c, p) = (&client.words, &published.words);
    if client.is_v4() {
        finish(mix(mix(K2, pair(c[3], p[3])), ports))
    } else {
        let state = mix(mix(K2, pair(c[0], c[1])), pair(c[2], c[3]));
        finish(mix(mix(mix(state, pair(p[0], p[1])), pair(p[2], p[3])), ports))
    }
}

/// The slot of a table of `len` slots: the hash scaled, not divided.
#[inline(always)]
pub const fn slot(hash: u32, len: u32) -> u32 {
    ((hash as u64 * len as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};

    fn spread(hashes: impl Iterator<Item = u32>, slots: u32) -> (u32, u32) {
        let mut counts = vec![0_u32; slots as usize];
        for hash in hashes {
            counts[slot(hash, slots) as usize] += 1;
        }
        (*counts.iter().min().unwrap(), *counts.iter().max().unwrap())
    }

    #[test]
    fn consecutive_ports_spread_evenly() {
        let (client, vip) = (
            Addr::from(Ipv4Addr::new(10, 0, 0, 1)),
            Addr::from(Ipv4Addr::new(10, 0, 0, 2)),
        );
        let (min, max) = spread(
            (0..50_000_u16).map(|port| of_flow(&client, &vip, port.to_be(), 80_u16.to_be(), 6)),
            50,
        );
        assert!(min > 850 && max < 1150, "{min} {max}");
    }

    #[test]
    fn consecutive_clients_spread_evenly() {
        let vip = Addr::from(Ipv4Addr::new(10, 0, 0, 2));
        let clients = (0..50_000_u32).map(|n| Addr::from(Ipv4Addr::from(0x0a01_0000 + n)));
        let (min, max) = spread(clients.clone().map(|c| of_flow(&c, &vip, 5, 6, 6)), 50);
        assert!(min > 850 && max < 1150, "{min} {max}");
        let (min, max) = spread(clients.map(|c| of_client(&c)), 50);
        assert!(min > 850 && max < 1150, "{min} {max}");
        let v6 = (0..50_000_u128).map(|n| Addr::from(Ipv6Addr::from(0xfd00_u128 << 112 | n)));
        let (min, max) = spread(v6.map(|c| of_client(&c)), 50);
        assert!(min > 850 && max < 1150, "{min} {max}");
    }

    #[test]
    fn a_slot_is_always_within_the_table() {
        for len in [1, 251, 1021, 4093, u32::MAX] {
            assert_eq!(slot(0, len), 0);
            assert_eq!(slot(u32::MAX, len), len - 1);
        }
    }
}
