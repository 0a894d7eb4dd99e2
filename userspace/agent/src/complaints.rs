use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write;

/// What is wrong at the moment, each said once: a round that meets the same problem again stays silent.
#[derive(Debug, Default)]
pub struct Complaints {
    known: BTreeSet<String>,
}

/// What a round changes in what is wrong.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Was not known before.
    pub appeared: Vec<String>,
    /// Is gone.
    pub settled: Vec<String>,
}

impl Complaints {
    /// Takes the problems of a round; returns what is to be said about them.
    pub fn replace(&mut self, problems: BTreeSet<String>) -> News {
        let news = News {
            appeared: problems.difference(&self.known).cloned().collect(),
            settled: self.known.difference(&problems).cloned().collect(),
        };
        self.known = problems;
        news
    }

    /// What is wrong.
    pub fn current(&self) -> Vec<String> {
        self.known.iter().cloned().collect()
    }
}

/// An error and what caused it, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string does not fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> BTreeSet<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_problem_is_said_once_and_when_it_is_gone() {
        let mut complaints = Complaints::default();
        let news = complaints.replace(set(&["a", "b"]));
        assert_eq!(
            news,
            News {
                appeared: vec!["a".into(), "b".into()],
                settled: vec![]
            }
        );
        assert_eq!(complaints.replace(set(&["a", "b"])), News::default());
        let news = complaints.replace(set(&["b", "c"]));
        assert_eq!(
            news,
            News {
                appeared: vec!["c".into()],
                settled: vec!["a".into()]
            }
        );
        assert_eq!(complaints.current(), ["b", "c"]);
        let news = complaints.replace(set(&["a"]));
        assert_eq!(news.appeared, ["a"], "what comes back is said again");
    }

    #[test]
    fn the_chain_names_every_cause() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        assert_eq!(chain(&Outer(std::io::Error::other("inner"))), "outer: inner");
    }
}
