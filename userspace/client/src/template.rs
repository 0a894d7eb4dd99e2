//! The part of Go's templates that formats of the docker CLI use.
//!
//! There are: text; `{{.Field.Member}}`, `{{.}}`, `{{$name}}` and `{{$name.Field}}`; `{{$name := …}}`; `range` (also with
//! `$index, $value :=`), `if`, `else if`, `with`, `else`, `end`; pipes; brackets; quoted strings, numbers, `true`,
//! `false`, `nil`; comments; `{{-` and `-}}`; and the functions `json`, `join`, `split`, `lower`, `upper`, `title`,
//! `pad`, `truncate`, `println`, `print`, `printf` (`%s %v %d %q %%`), `len`, `index`, `eq`, `ne`, `lt`, `le`, `gt`,
//! `ge`, `and`, `or`, `not`. There are not: `define`, `template`, `block`, `break`, `continue`,
//! methods of Go types, and widths in `printf`.

mod eval;
mod parse;

use serde_json::Value;

/// A template that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    nodes: Vec<parse::Node>,
}

/// A template that cannot be read or filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is not a template; nothing was printed.
    #[error("--format: {problem} in {found:?}")]
    Parse {
        /// What is wrong.
        problem: String,
        /// Where.
        found: String,
    },
    /// What it asks for is not there.
    #[error("--format: {0}")]
    Value(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong and where.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        parse::parse(text).map(|nodes| Self { nodes })
    }

    /// The text with the value's members in place.
    ///
    /// # Errors
    /// A function got what it cannot work with, or, where the value is a row of a table, it has no such column.
    pub(crate) fn fill(&self, value: &Value) -> Result<String, TemplateError> {
        eval::fill(&self.nodes, value)
    }
}

#[cfg(test)]
mod tests;
