use crate::Random;

/// Bytes that break things: ends of ranges, first bytes of IP headers, what JSON and TOML are made of.
const EDGES: [u8; 24] = [
    0, 1, 0x7f, 0x80, 0xfe, 0xff, 0x45, 0x4f, 0x60, b'\n', b'"', b'{', b'}', b'[', b']', b':', b'=', b',',
    b'.', b'#', b'\\', b'-', b'9', b' ',
];

/// Longest input that is made.
const MOST: usize = 4096;

/// Makes inputs out of those of a corpus: changed, cut, doubled, spliced.
#[derive(Clone, Debug)]
pub struct Mutator<'c> {
    corpus: &'c [Vec<u8>],
    random: Random,
}

impl<'c> Mutator<'c> {
    /// Over this corpus; the seed alone decides what is made of it.
    pub fn new(corpus: &'c [Vec<u8>], seed: u64) -> Self {
        let random = Random::new(seed);
        Self { corpus, random }
    }

    /// The next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.random.choose(self.corpus).cloned().unwrap_or_default();
        for _ in 0..=self.random.below(5) {
            self.change(&mut input);
        }
        input.truncate(MOST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let random = &mut self.random;
        let at = random.below(input.len());
        match random.below(9) {
            0 => {
                let bit = 1 << random.below(8);
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= bit;
                }
            }
            1 => {
                let new = edge(random);
                if let Some(byte) = input.get_mut(at) {
                    *byte = new;
                }
            }
            2 => {
                let step = random.byte() % 9;
                if let Some(byte) = input.get_mut(at) {
                    *byte = byte.wrapping_add(step).wrapping_sub(4);
                }
            }
            3 => input.insert(at, edge(random)),
            4 => input.truncate(at),
            5 => drop(input.drain(at..(at + 1 + random.below(16)).min(input.len()))),
            6 => {
                let end = (at + 1 + random.below(32)).min(input.len());
                let piece = input.get(at..end).unwrap_or_default().to_vec();
                let to = random.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            7 => {
                // A number in digits, or in bytes, of an end of its range.
                let number = [0, 1, 0xffff, 0x1_0000, u64::from(u32::MAX), u64::MAX];
                let number = random.choose(&number).copied().unwrap_or_default();
                let piece = if random.below(2) == 0 {
                    number.to_string().into_bytes()
                } else {
                    number.to_be_bytes()[random.below(8)..].to_vec()
                };
                let end = (at + piece.len()).min(input.len());
                input.splice(at..end, piece);
            }
            _ => {
                let other = random.choose(self.corpus).map_or(&[][..], Vec::as_slice);
                let (from, length) = (random.below(other.len()), random.below(256));
                let piece = other
                    .get(from..(from + length).min(other.len()))
                    .unwrap_or_default();
                input.splice(at..at, piece.iter().copied());
            }
        }
    }
}

fn edge(random: &mut Random) -> u8 {
    if random.below(2) == 0 {
        random.byte()
    } else {
        random.choose(&EDGES).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_repeats_its_inputs() {
        let corpus = [b"first".to_vec(), b"second".to_vec(), Vec::new()];
        let inputs = |seed| {
            let mut mutator = Mutator::new(&corpus, seed);
            (0..500).map(|_| mutator.next_input()).collect::<Vec<_>>()
        };
        assert_eq!(inputs(3), inputs(3));
        assert_ne!(inputs(3), inputs(4));
    }

    #[test]
    fn inputs_vary_and_stay_within_their_bound() {
        let corpus = [vec![b'x'; MOST]];
        let mut mutator = Mutator::new(&corpus, 1);
        let inputs: BTreeSet<Vec<u8>> = (0..500).map(|_| mutator.next_input()).collect();
        assert!(inputs.len() > 400, "{}", inputs.len());
        assert!(inputs.iter().all(|input| input.len() <= MOST));
    }

    #[test]
    fn an_empty_corpus_is_no_obstacle() {
        let mut mutator = Mutator::new(&[], 1);
        assert!((0..500).any(|_| !mutator.next_input().is_empty()));
    }
}
