//! Text that is damaged: nothing panics, and what is wrong has a place inside the text.

use crate::{Files, load_all};
use essaim_compose::{Place, Problems};
use proptest::prelude::*;

/// Files whose parts damaged ones are put together from.
const WHOLE: &[&str] = &[
    include_str!("stack.yml"),
    "services:\n  web: {image: i, ports: [80, '1-3:1-3/udp', {target: 80}], environment: [A=1, B], deploy: {replicas: 1}}\n",
    "x: &a {b: [1, 'é', \"\\u00e9\", ~], c: *a}\ny: |\n  text\n  ${A:-${B}}\nz: >-\n  x\n",
    "networks: {a: {ipam: {config: [{subnet: 10.0.0.0/8}]}}, b: {external: true}}\nvolumes: {v: }\nsecrets: {s: {file: f}}\n",
];

/// Whether the place is that of a character, or of the end of a line.
fn is_inside(text: &str, place: Place) -> bool {
    let line = place
        .line
        .checked_sub(1)
        .and_then(|line| text.split('\n').nth(line));
    line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&place.column))
}

fn check(text: &str) {
    let files = Files::none();
    let told = |problems: &Problems| {
        assert!(problems.iter().next().is_some());
        for problem in problems {
            assert!(is_inside(text, problem.place), "{problem} is outside of {text:?}");
            assert!(!problem.text.is_empty());
        }
    };
    match load_all(&[text], &files) {
        Ok(loaded) => {
            for word in &loaded.words {
                assert!(is_inside(text, word.place), "{word} is outside of {text:?}");
            }
            let again = load_all(&[&loaded.stack.to_yaml()], &files);
            assert!(again.is_ok(), "{text:?}\n{}\n{again:?}", loaded.stack.to_yaml());
            if let Err(problems) = loaded.stack.plan("s", &files.around()) {
                told(&problems);
            }
        }
        Err(problems) => told(&problems),
    }
}

fn damaged() -> impl Strategy<Value = String> {
    let change = (
        any::<prop::sample::Index>(),
        0..4_u8,
        "[ \t\n\r:,{}\\[\\]&*!|>'\"%@`#<\\-?$0-9a-z\u{e9}\u{feff}\u{85}]{0,4}",
    );
    (prop::sample::select(WHOLE), prop::collection::vec(change, 1..6)).prop_map(|(text, changes)| {
        let mut characters: Vec<char> = text.chars().collect();
        for (index, kind, piece) in changes {
            let at = index.index(characters.len() + 1).min(characters.len());
            let end = (at + piece.chars().count()).min(characters.len());
            match kind {
                0 => drop(characters.splice(at..at, piece.chars())),
                1 => drop(characters.splice(at..end, piece.chars())),
                2 => drop(characters.drain(at..end)),
                _ => characters.truncate(at),
            }
        }
        characters.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_files_are_read_or_refused_with_a_place(text in damaged()) {
        check(&text);
    }

    #[test]
    fn any_text_is_read_or_refused_with_a_place(text in "[ \n:,{}\\[\\]&*!|>'\"#<\\-?$a-c0-2\u{e9}]{0,60}") {
        check(&text);
    }
}

#[test]
fn whole_files_are_taken_or_refused_for_what_is_wrong() {
    for text in WHOLE {
        check(text);
        check(&text.replace('\n', "\r\n"));
        check(&text.replace('\n', "\r"));
    }
}
