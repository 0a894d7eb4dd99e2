//! Places in files, and what is wrong there.

use std::fmt;

/// A place in a text: line and column count from 1, columns are characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A place in one of several files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    /// Which of the files, from 0.
    pub(crate) file: usize,
    /// Where in it.
    pub(crate) place: Place,
}

impl At {
    /// The first character of a file.
    pub(crate) const fn start(file: usize) -> Self {
        let place = Place { line: 1, column: 1 };
        Self { file, place }
    }
}

/// Something that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's name.
    pub file: String,
    /// Where in it; always a character of the file or the end of a line.
    pub place: Place,
    /// What stands there, such as `services.web.ports[0]`; empty for the file itself.
    pub path: String,
    /// What is wrong: what was found and what is expected.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.path.is_empty() { "" } else { ": " };
        write!(
            f,
            "{}:{}: {}{colon}{}",
            self.file, self.place, self.path, self.text
        )
    }
}

/// Everything that is wrong, in the order of the files; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The problems one by one.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            let line_break = if at == 0 { "" } else { "\n" };
            write!(f, "{line_break}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// What was found on the way: problems, and words that the operator should hear.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    names: Vec<String>,
    problems: Vec<(At, String, String)>,
    words: Vec<(At, String, String)>,
}

impl Findings {
    /// About files of these names.
    pub(crate) fn of(names: Vec<String>) -> Self {
        Self {
            names,
            ..Self::default()
        }
    }

    pub(crate) fn problem(&mut self, at: At, path: &str, text: impl Into<String>) {
        self.problems.push((at, path.to_owned(), text.into()));
    }

    /// Something that is taken, but not as it may have been meant.
    pub(crate) fn word(&mut self, at: At, path: &str, text: impl Into<String>) {
        self.words.push((at, path.to_owned(), text.into()));
    }

    /// The words to tell; the problems instead, where there are any.
    pub(crate) fn finish(self) -> Result<Vec<Problem>, Problems> {
        let Self {
            names,
            problems,
            words,
        } = self;
        let sorted = |mut found: Vec<(At, String, String)>| {
            found.sort();
            found.dedup();
            let told = found.into_iter().map(|(at, path, text)| Problem {
                file: names.get(at.file).cloned().unwrap_or_default(),
                place: at.place,
                path,
                text,
            });
            told.collect::<Vec<_>>()
        };
        if problems.is_empty() {
            Ok(sorted(words))
        } else {
            Err(Problems(sorted(problems)))
        }
    }
}
