//! Variables in text: `$X`, `${X}`, `${X:-default}`, `${X-default}`, `${X:?message}`, `${X?message}`, `${X:+other}`,
//! `${X+other}`, and `$$` for `$`; as docker's template package has them. Defaults may hold variables themselves.
//!
//! As in docker, what follows a name without braces can be a default too: `$X-web` is `$X`, or `web` without it.

use crate::place::{At, Findings};
use crate::yaml::{Node, Value};
use std::fmt;

/// Defaults within defaults.
const DEPTH: usize = 16;

/// Why variables cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TemplateError {
    /// A `$` that begins nothing.
    Form,
    /// A variable that must be set is not.
    Required { name: String, message: String },
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => write!(
                f,
                "expected a variable such as ${{NAME}} after every $, or $$ for $ itself"
            ),
            Self::Required { name, message } if message.is_empty() => {
                write!(f, "the variable {name} must be set")
            }
            Self::Required { name, message } => write!(f, "the variable {name} must be set: {message}"),
        }
    }
}

/// Fills in a text; `unset` gets the names of variables that are not set and have no default.
pub(crate) fn fill(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
) -> Result<String, TemplateError> {
    fill_within(text, variable, unset, 0)
}

fn fill_within(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
    depth: usize,
) -> Result<String, TemplateError> {
    if depth > DEPTH {
        return Err(TemplateError::Form);
    }
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        filled.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            filled.push('$');
            rest = after;
            continue;
        }
        let (expression, after) = match after.strip_prefix('{') {
            Some(inside) => braced(inside).ok_or(TemplateError::Form)?,
            None => named(after),
        };
        filled.push_str(&evaluate(expression, variable, unset, depth)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// What stands between braces, and what is after them.
fn braced(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '{' if before == '$' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((text.get(..at)?, text.get(at + 1..)?));
        }
        before = c;
    }
    None
}

/// A name without braces, with the default that may follow it up to a closing brace.
fn named(text: &str) -> (&str, &str) {
    let end = name_end(text);
    let operator = text.get(end..).unwrap_or_default();
    let operator = operator.strip_prefix(':').unwrap_or(operator);
    let end = if end > 0 && operator.starts_with(['-', '?']) {
        text.find('}').unwrap_or(text.len())
    } else {
        end
    };
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn name_end(text: &str) -> usize {
    if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return 0;
    }
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len())
}

/// The value of `NAME`, or of `NAME` with an operator and its operand.
fn evaluate(
    expression: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
    depth: usize,
) -> Result<String, TemplateError> {
    let (name, operator) = expression
        .split_at_checked(name_end(expression))
        .filter(|(name, _)| !name.is_empty())
        .ok_or(TemplateError::Form)?;
    let value = variable(name);
    let (operator, empty_counts) = match operator.strip_prefix(':') {
        Some(operator) => (operator, false),
        None => (operator, true),
    };
    let value = value.filter(|value| empty_counts || !value.is_empty());
    let mut operand = |text: &str| fill_within(text, variable, unset, depth + 1);
    let mut characters = operator.chars();
    match (characters.next(), characters.as_str()) {
        (None, _) if empty_counts => Ok(value.unwrap_or_else(|| {
            unset.push(name.to_owned());
            String::new()
        })),
        (Some('-'), default) => value.map_or_else(|| operand(default), Ok),
        (Some('+'), other) => value.map_or(Ok(String::new()), |_| operand(other)),
        (Some('?'), message) => value.ok_or_else(|| TemplateError::Required {
            name: name.to_owned(),
            message: message.to_owned(),
        }),
        _ => Err(TemplateError::Form),
    }
}

/// Fills in every text of a tree; keys stay as they are.
pub(crate) fn fill_tree(
    node: &mut Node,
    path: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    findings: &mut Findings,
) {
    match &mut node.value {
        Value::Text(text) if text.contains('$') => {
            let mut unset = Vec::new();
            match fill(text, variable, &mut unset) {
                Ok(filled) => {
                    tell_unset(node.at, path, &unset, findings);
                    node.value = Value::Filled(filled);
                }
                Err(error) => findings.problem(node.at, path, format!("{text:?}: {error}")),
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Text(_)
        | Value::Filled(_) => {}
        Value::List(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                fill_tree(item, &format!("{path}[{at}]"), variable, findings);
            }
        }
        Value::Map(entries) => {
            for (key, node) in entries {
                let dot = if path.is_empty() { "" } else { "." };
                fill_tree(node, &format!("{path}{dot}{}", key.name), variable, findings);
            }
        }
    }
}

fn tell_unset(at: At, path: &str, unset: &[String], findings: &mut Findings) {
    for name in unset {
        findings.word(
            at,
            path,
            format!("the variable {name} is not set; it is taken as empty"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, TemplateError> {
        let variable = |name: &str| match name {
            "SET" | "set" | "_S1" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        fill(text, &variable, &mut Vec::new())
    }

    #[test]
    fn every_form_is_filled_in_as_docker_does() {
        let cases = [
            ("no variable", "no variable"),
            ("$SET", "value"),
            ("a$SET/b${SET}c", "avalue/bvaluec"),
            ("$_S1.$set", "value.value"),
            ("$$SET $${SET} $$$SET", "$SET ${SET} $value"),
            ("[$UNSET]", "[]"),
            ("[${EMPTY}]", "[]"),
            ("${SET:-d}", "value"),
            ("${UNSET:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${UNSET-d}", "d"),
            ("${UNSET:-}", ""),
            ("${UNSET:-a:-b-c?d}", "a:-b-c?d"),
            ("${UNSET:-${SET}/x}", "value/x"),
            ("${UNSET:-${ALSO:-${SET}}}}", "value}"),
            ("${UNSET:-$SET}", "value"),
            ("${UNSET:-$$}", "$"),
            ("${UNSET:-{}}", "{}"),
            ("${SET:+yes}", "yes"),
            ("${EMPTY:+yes}", ""),
            ("${EMPTY+yes}", "yes"),
            ("${UNSET+yes}", ""),
            ("${SET:?must}", "value"),
            ("${EMPTY?must}", ""),
            ("$UNSET-web", "web"),
            ("$SET-web", "value"),
            ("$UNSET:-a}b", "a}b"),
            ("$SET:8080", "value:8080"),
            ("${SET}-web", "value-web"),
            ("é${SET}é", "évalueé"),
        ];
        for (text, expected) in cases {
            assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        for text in [
            "$", "a $ b", "${", "${}", "${SET", "${SET:}", "${1}", "$1", "${SET!x}", "${ SET}", "${SET }",
            "$-", "${SET:x}",
        ] {
            assert_eq!(filled(text), Err(TemplateError::Form), "{text}");
        }
        let deep = format!("{}x{}", "${UNSET:-".repeat(40), "}".repeat(40));
        assert_eq!(filled(&deep), Err(TemplateError::Form));
    }

    #[test]
    fn a_variable_that_must_be_set_is_named_with_its_message() {
        let required = |message: &str| {
            Err(TemplateError::Required {
                name: "UNSET".to_owned(),
                message: message.to_owned(),
            })
        };
        assert_eq!(filled("${UNSET:?say it}"), required("say it"));
        assert_eq!(filled("${UNSET?}"), required(""));
        assert_eq!(filled("$UNSET?no braces"), required("no braces"));
    }

    #[test]
    fn variables_that_are_not_set_are_told() {
        let mut unset = Vec::new();
        let text = fill("$A ${B} ${C:-x} ${D:-$E}", &|_| None, &mut unset);
        assert_eq!(text.as_deref(), Ok("  x "));
        assert_eq!(unset, ["A", "B", "E"]);
    }
}
