//! Whole numbers in base 36 with a fixed number of digits, as Swarm writes identities, digests and secrets.

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// The big-endian number in `width` digits, most significant first; digits that do not fit are left out, so the caller
/// gives enough of them (25 for 128 bits, 50 for 256).
pub(crate) fn encode(number: &[u8], width: usize) -> String {
    let mut rest = number.to_vec();
    let mut digits = vec![b'0'; width];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in &mut rest {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = u8::try_from(value / 36).unwrap_or(u8::MAX);
            remainder = value % 36;
        }
        let at = usize::try_from(remainder).unwrap_or(0);
        *digit = DIGITS.get(at).copied().unwrap_or(b'0');
    }
    digits.into_iter().map(char::from).collect()
}

/// The number of `N` bytes that the digits say; `None` for another character than `0-9a-z`, or a number too great.
pub(crate) fn decode<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut number = [0_u8; N];
    for digit in digits.bytes() {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'z' => digit - b'a' + 10,
            _ => return None,
        };
        let mut carry = u32::from(value);
        for byte in number.iter_mut().rev() {
            let sum = u32::from(*byte) * 36 + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_greatest_numbers_fill_the_digits() {
        assert_eq!(encode(&[0xff; 16], 25), "f5lxx1zz5pnorynqglhzmsp33");
        assert_eq!(decode::<16>("f5lxx1zz5pnorynqglhzmsp33"), Some([0xff; 16]));
        assert_eq!(
            decode::<16>("f5lxx1zz5pnorynqglhzmsp34"),
            None,
            "one more than 16 bytes hold"
        );
        assert_eq!(encode(&[0; 32], 50), "0".repeat(50));
        assert_eq!(decode::<32>(&encode(&[0xff; 32], 50)), Some([0xff; 32]));
        assert_eq!(decode::<32>(&"z".repeat(50)), None);
    }

    proptest! {
        #[test]
        fn digits_read_back_to_the_number(number in any::<[u8; 16]>()) {
            let digits = encode(&number, 25);
            prop_assert_eq!(digits.len(), 25);
            prop_assert_eq!(decode::<16>(&digits), Some(number));
            // The same by the machine's own division.
            let mut value = u128::from_be_bytes(number);
            for digit in digits.bytes().rev() {
                prop_assert_eq!(digit, DIGITS[usize::try_from(value % 36).unwrap()]);
                value /= 36;
            }
            prop_assert_eq!(value, 0);
        }
    }
}
