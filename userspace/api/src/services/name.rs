//! Names for services that come without one.

const HOW: [&str; 32] = [
    "able", "amber", "brave", "brisk", "busy", "calm", "clear", "early", "even", "fair", "fond", "free",
    "gentle", "glad", "golden", "keen", "kind", "light", "lively", "lucky", "merry", "mild", "neat", "noble",
    "proud", "quick", "quiet", "steady", "swift", "tidy", "warm", "wise",
];
const WHO: [&str; 32] = [
    "ant",
    "bee",
    "bumblebee",
    "butterfly",
    "cicada",
    "cricket",
    "crane",
    "dove",
    "dragonfly",
    "finch",
    "firefly",
    "gull",
    "hawk",
    "heron",
    "hornet",
    "ibis",
    "jay",
    "ladybird",
    "lark",
    "locust",
    "mantis",
    "martin",
    "mayfly",
    "moth",
    "plover",
    "raven",
    "robin",
    "starling",
    "swallow",
    "swan",
    "thrush",
    "wren",
];

/// A name of two words and, from the second try on, a number, as Docker's engine gives.
pub(super) fn of(bits: u128, attempt: u32) -> String {
    let word = |words: &[&'static str; 32], shift: u32| {
        let at = usize::try_from((bits >> shift) % 32).unwrap_or_default();
        words.get(at).copied().unwrap_or_default()
    };
    let name = format!("{}_{}", word(&HOW, 0), word(&WHO, 5));
    if attempt == 0 {
        name
    } else {
        format!("{name}{attempt}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_two_words_and_all_are_given() {
        let all: BTreeSet<_> = (0..1024).map(|bits| of(bits, 0)).collect();
        assert_eq!(all.len(), 1024);
        assert!(all.contains("able_ant") && all.contains("wise_wren"));
        assert_eq!(of(u128::MAX, 7), "wise_wren7");
        for name in all {
            let spec = essaim_objects::ServiceSpec {
                name: Some(name),
                ..Default::default()
            };
            let problems = spec.check().unwrap_err();
            assert!(
                problems.iter().all(|problem| problem.field != "Name"),
                "{problems:?}"
            );
        }
    }
}
