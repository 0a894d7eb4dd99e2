use essaim_fuzz::{Folder, Mutator, Target, attempt, quietly};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Mutates what is kept until the time is up, or one input has failed.
pub(crate) fn look(target: Target, seconds: u64, seed: u64, artifacts: &Folder) -> anyhow::Result<ExitCode> {
    let mut corpus = Vec::new();
    for folder in [
        Folder::corpus(target),
        Folder::regressions(target),
        Folder::discovered(target),
    ] {
        corpus.extend(folder.inputs()?.into_iter().map(|input| input.bytes));
    }
    let mut mutator = Mutator::new(&corpus, seed);
    let (start, limit) = (Instant::now(), Duration::from_secs(seconds));
    let mut count = 0_u64;
    while start.elapsed() < limit {
        let input = mutator.next_input();
        if let Err(words) = quietly(|| attempt(target, &input)) {
            println!("after {count} inputs: {words}");
            artifacts.keep(&input)?;
            return Ok(ExitCode::FAILURE);
        }
        count += 1;
    }
    println!("{count} inputs, none fails");
    Ok(ExitCode::SUCCESS)
}
