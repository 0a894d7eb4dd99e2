//! What the benchmarks' programs and the benchmarks must agree on.
#![no_std]
#![allow(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    reason = "programs are one function each for the verifier, and widths are those of the wire"
)]

/// Bytes of a frame that are written anew for every packet: no header that is measured reaches further.
pub const TEMPLATE_LEN: usize = 80;
/// Length of every frame, in bytes; Ethernet, IPv6 and TCP fit with room to spare.
pub const FRAME_LEN: usize = 96;
/// Entries of the LRU table of floor B.
pub const FLOOR_FLOWS: usize = 1 << 21;

/// What the drivers and the generator make packets from; one entry, map `DRIVER`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Driver {
    /// The first bytes of every frame, as they lie.
    pub template: [u64; TEMPLATE_LEN / 8],
    /// Number of flows less one; the number is a power of two. `u32::MAX`: no flow comes twice.
    pub mask: u64,
    /// The packets so far: their low 32 bits choose the flow.
    pub counter: u64,
    /// 1 where the template is IPv6, 0 where it is IPv4: the flow's upper 16 bits change the low half of the source
    /// address, its lower 16 bits are the source port.
    pub v6: u32,
    /// The interface that `generate_xdp` redirects to.
    pub ifindex: u32,
    /// The words of `cb` that `driver_tc` sets.
    pub cb: [u32; 5],
    /// The interface that `peer_tc` redirects to.
    pub peer: u32,
}

const _: () = assert!(size_of::<Driver>() == TEMPLATE_LEN + 48 && align_of::<Driver>() == 8);

/// Words of a [`Driver`].
pub const DRIVER_WORDS: usize = size_of::<Driver>() / 8;

impl Driver {
    /// The entry as the map holds it.
    #[must_use]
    pub fn words(&self) -> [u64; DRIVER_WORDS] {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let cb = self.cb;
        let rest = [
            self.mask,
            self.counter,
            pair(self.v6, self.ifindex),
            pair(cb[0], cb[1]),
            pair(cb[2], cb[3]),
            pair(cb[4], self.peer),
        ];
        let mut words = [0; DRIVER_WORDS];
        for (word, value) in words.iter_mut().zip(self.template.iter().chain(&rest)) {
            *word = *value;
        }
        words
    }
}

/// The flow of a packet: visits all flows before one comes again, in no order that a cache could follow.
#[inline(always)]
#[must_use]
pub const fn flow_of(counter: u64, mask: u64) -> u32 {
    // Every step maps the numbers below 2^n one to one, and so does their low part.
    let mut flow = counter.wrapping_mul(0x9e37_79b1) & mask;
    flow ^= (flow & mask) >> 7;
    flow.wrapping_mul(0x85eb_ca6b) as u32 & mask as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flow_comes_once_a_turn() {
        for bits in [0, 1, 10, 16] {
            let mask = (1_u64 << bits) - 1;
            let mut seen = [0_u64; 1 << 10];
            for counter in 77..=77 + mask {
                let flow = flow_of(counter, mask);
                assert!(u64::from(flow) <= mask);
                let flow = flow as usize;
                assert_eq!(
                    seen[flow / 64] >> (flow % 64) & 1,
                    0,
                    "flow {flow} of {mask} twice"
                );
                seen[flow / 64] |= 1 << (flow % 64);
            }
        }
    }

    #[test]
    fn the_words_are_the_struct() {
        let driver = Driver {
            template: [1; TEMPLATE_LEN / 8],
            mask: 2,
            counter: 3,
            v6: 1,
            ifindex: 6,
            cb: [7, 8, 9, 10, 11],
            peer: 12,
        };
        // SAFETY: the struct has no padding (asserted above) and u64's alignment.
        let bytes: [u64; DRIVER_WORDS] = unsafe { core::mem::transmute(driver) };
        assert_eq!(driver.words(), bytes);
    }
}
