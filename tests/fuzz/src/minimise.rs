/// Bytes that say less than others, in this order.
const PLAIN: [u8; 3] = [b'0', b'a', 0];

/// The smallest input that still fails and that leaving out parts, then making bytes plain, leads to (delta debugging,
/// Zeller and Hildebrandt 2002).
///
/// `fails` is asked at most `budget` times.
pub fn minimise(input: &[u8], mut budget: usize, mut fails: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut still_fails = |candidate: &[u8]| {
        if budget == 0 {
            return false;
        }
        budget -= 1;
        fails(candidate)
    };
    let mut best = input.to_vec();
    let mut part = best.len();
    while part > 0 {
        let mut at = 0;
        while at < best.len() {
            let end = (at + part).min(best.len());
            let candidate = [best.get(..at), best.get(end..)]
                .map(Option::unwrap_or_default)
                .concat();
            if still_fails(&candidate) {
                best = candidate;
            } else {
                at = end;
            }
        }
        part = part.min(best.len()) / 2;
    }
    for at in 0..best.len() {
        for plain in PLAIN {
            let mut candidate = best.clone();
            match candidate.get_mut(at) {
                Some(byte) if PLAIN.contains(byte) => break,
                Some(byte) => *byte = plain,
                None => break,
            }
            if still_fails(&candidate) {
                best = candidate;
                break;
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_makes_it_fail_is_left() {
        let input = b"some text with an X in it, and a Y further on";
        let fails = |input: &[u8]| {
            let x = input.iter().position(|byte| *byte == b'X');
            x.is_some_and(|x| input[x..].contains(&b'Y'))
        };
        assert_eq!(minimise(input, 10_000, fails), b"XY");
    }

    #[test]
    fn bytes_that_do_not_matter_are_made_plain() {
        let fails = |input: &[u8]| input.len() == 4 && input[2] == b'!';
        assert_eq!(minimise(b"qr!s", 10_000, fails), b"00!0");
    }

    #[test]
    fn the_result_fails_however_small_the_budget() {
        let fails = |input: &[u8]| input.split(|byte| *byte == b'a').count() > 3;
        for budget in 0..40 {
            let mut asked = 0;
            let found = minimise(b"xaxxaxxxaxxxx", budget, |input| {
                asked += 1;
                fails(input)
            });
            assert!(fails(&found), "{budget}");
            assert!(asked <= budget);
        }
    }
}
