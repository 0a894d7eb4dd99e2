//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624), inline.
//!
//! Words are added as they lie in memory: the sum of one's complement does not depend on byte order.

use crate::View;
use essaim_abi::Addr;

/// Folds a sum to 16 bits.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The sum of `N` bytes (a multiple of two) where they lie.
#[inline(always)]
pub fn sum<const N: usize>(bytes: &View<'_, N>) -> u64 {
    let mut total = 0_u64;
    let mut at = 0;
    while at + 4 <= N {
        total += u64::from(bytes.get::<u32>(at));
        at += 4;
    }
    if at + 2 <= N {
        total += u64::from(bytes.get::<u16>(at));
    }
    total
}

/// The sum of an address's words.
#[inline(always)]
pub const fn sum_of_address(address: &Addr, v6: bool) -> u64 {
    let words = &address.words;
    if v6 {
        words[0] as u64 + words[1] as u64 + words[2] as u64 + words[3] as u64
    } else {
        words[3] as u64
    }
}

/// The sum of a pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1); `len` in host order.
#[inline(always)]
pub const fn pseudo_header(source: &Addr, destination: &Addr, v6: bool, len: u16, protocol: u8) -> u64 {
    sum_of_address(source, v6)
        + sum_of_address(destination, v6)
        + len.to_be() as u64
        + (protocol as u16).to_be() as u64
}

/// The checksum field after a word changed, RFC 1624 equation 3: `HC' = ~(~HC + ~m + m')`.
#[inline(always)]
pub const fn replace(checksum: u16, old: u32, new: u32) -> u16 {
    !fold((!checksum) as u64 + (!old) as u64 + new as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Slice, view};
    use proptest::prelude::*;

    fn sum_bytes<const N: usize>(bytes: &[u8; N]) -> u64 {
        sum(&view::<N>(&Slice(bytes), 0).unwrap())
    }

    /// RFC 1071 by the letter: 16-bit words in network order, end-around carry.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn the_rfc_1071_example_sums_up() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum_bytes(&bytes)).to_be(), 0xddf2);
    }

    proptest! {
        #[test]
        fn sums_as_the_reference_does(bytes: [u8; 20]) {
            prop_assert_eq!((!fold(sum_bytes(&bytes))).to_ne_bytes(), reference(&bytes).to_be_bytes());
        }

        #[test]
        fn replacing_a_word_equals_summing_anew(mut bytes: [u8; 20], new: u32) {
            let before = !fold(sum_bytes(&bytes));
            let old = crate::load::<u32>(&Slice(&bytes), 8).unwrap();
            bytes[8..12].copy_from_slice(&new.to_ne_bytes());
            let fresh = !fold(sum_bytes(&bytes));
            let updated = replace(before, old, new);
            // One's complement has two zeros; both verify.
            let norm = |c: u16| if c == 0xffff { 0 } else { c };
            prop_assert_eq!(norm(updated), norm(fresh));
        }
    }
}
