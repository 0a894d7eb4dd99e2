//! Frames that nobody should send: cut, mutated, spliced.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator (xorshift64*), whose seed is printed: `ESSAIM_SEED` repeats a run.
pub struct Random {
    state: u64,
}

impl Random {
    /// Seeded from the environment, or else from the clock.
    #[expect(
        clippy::print_stdout,
        reason = "the harness of the tests shows it where one fails"
    )]
    pub fn new() -> Self {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let seed = std::env::var("ESSAIM_SEED").map_or_else(
            |_| u64::try_from(clock & u128::from(u64::MAX)).unwrap(),
            |text| text.parse().expect("ESSAIM_SEED is a number"),
        );
        println!("ESSAIM_SEED={seed}");
        Self { state: seed | 1 }
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let number = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % bound
    }

    /// A byte, often one of those that break things.
    fn byte(&mut self) -> u8 {
        const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x45, 0x4f, 0x60];
        if self.below(2) == 0 {
            EDGES[self.below(EDGES.len())]
        } else {
            u8::try_from(self.below(256)).unwrap()
        }
    }

    /// A frame made from another: some bytes changed, then perhaps cut or lengthened. At least an Ethernet header, the
    /// least that the kernel runs.
    pub fn mutate(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut frame = frame.to_vec();
        for _ in 0..self.below(6) {
            // Addresses of Ethernet are looked at first and would hide the rest.
            let from = if self.below(4) == 0 { 0 } else { 12 };
            let at = from + self.below(frame.len() - from);
            frame[at] = self.byte();
        }
        match self.below(4) {
            0 => frame.truncate(14 + self.below(frame.len() - 13)),
            1 => {
                for _ in 0..self.below(80) {
                    let byte = self.byte();
                    frame.push(byte);
                }
            }
            _ => {}
        }
        frame
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}
