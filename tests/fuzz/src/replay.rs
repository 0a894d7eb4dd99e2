//! What the ordinary test suite runs: everything that is kept, and a bounded number of mutations of it.

use crate::{Folder, Input, Mutator, TARGETS, Target, attempt, seed};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Mutations of each target's inputs, and the longest that they may take.
const MUTATIONS: usize = 100_000;
const PATIENCE: Duration = Duration::from_millis(700);

fn kept(target: Target) -> Vec<Input> {
    let mut inputs = Folder::corpus(target).inputs().unwrap();
    inputs.extend(Folder::regressions(target).inputs().unwrap());
    inputs
}

#[test]
fn every_input_that_is_kept_keeps_every_promise() {
    for target in TARGETS {
        for input in kept(*target) {
            if let Err(words) = attempt(*target, &input.bytes) {
                panic!("{} fails on {}: {words}", target.name, input.path.display());
            }
        }
    }
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the harness of the tests shows it where one fails"
)]
fn mutations_of_what_is_kept_keep_every_promise() {
    let seed = seed().unwrap();
    println!("ESSAIM_SEED={seed}");
    for target in TARGETS {
        let corpus: Vec<Vec<u8>> = kept(*target).into_iter().map(|input| input.bytes).collect();
        let mut mutator = Mutator::new(&corpus, seed);
        let start = Instant::now();
        for _ in 0..MUTATIONS {
            if start.elapsed() > PATIENCE {
                break;
            }
            let input = mutator.next_input();
            if let Err(words) = attempt(*target, &input) {
                panic!("{} fails on \"{}\": {words}", target.name, input.escape_ascii());
            }
        }
    }
}

#[test]
fn every_target_has_a_corpus_and_every_folder_a_target() {
    let names: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), TARGETS.len(), "two targets have one name");
    for target in TARGETS {
        assert!(
            !Folder::corpus(*target).inputs().unwrap().is_empty(),
            "{}",
            target.name
        );
    }
    for kind in ["corpus", "regressions"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind);
        for entry in fs::read_dir(&path).into_iter().flatten() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(
                names.contains(name.as_str()),
                "{kind}/{name} belongs to no target"
            );
        }
    }
}
