//! The demo's output: a line for each step, as soon as it is done.

use std::fmt::Write as _;

/// Width of the column that says what was done.
const STEP: usize = 52;

/// Width of the column that says what came of it.
const RESULT: usize = 66;

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As it should, with what was seen.
    Passed(String),
    /// Not so, with the reason.
    Failed(String),
}

/// The heading.
pub(crate) fn heading() -> String {
    format!(
        "      {:STEP$}  result\n      {}  {}\n",
        "step",
        "-".repeat(STEP),
        "-".repeat(RESULT)
    )
}

/// The line, or lines, of one step.
pub(crate) fn row(step: &str, outcome: &Outcome) -> String {
    let (mark, result) = match outcome {
        Outcome::Passed(result) => ("ok", result),
        Outcome::Failed(result) => ("FAIL", result),
    };
    let (left, right) = (wrap(step, STEP), wrap(result, RESULT));
    let mut text = String::new();
    for line in 0..left.len().max(right.len()) {
        let mark = if line == 0 { mark } else { "" };
        let cell = |column: &[String]| column.get(line).cloned().unwrap_or_default();
        let whole = format!("{mark:<4}  {:STEP$}  {}", cell(&left), cell(&right));
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}", whole.trim_end());
    }
    text
}

/// Breaks a text at spaces, so that no line is wider unless a word is.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_has_mark_step_and_result_in_columns() {
        let text = row("client reaches web", &Outcome::Passed("30 of 30".to_owned()));
        assert_eq!(text, format!("ok    {:STEP$}  30 of 30\n", "client reaches web"));
    }

    #[test]
    fn long_result_goes_on_in_its_column() {
        let text = row("step", &Outcome::Failed("word ".repeat(20)));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("FAIL  step"));
        assert_eq!(lines[1].find("word"), lines[0].find("word"));
    }

    #[test]
    fn wrapped_text_keeps_every_word() {
        assert_eq!(wrap("a bb  ccc", 4), ["a bb", "ccc"]);
        assert_eq!(wrap("toolong x", 3), ["toolong", "x"]);
        assert_eq!(wrap("", 3), Vec::<String>::new());
    }
}
