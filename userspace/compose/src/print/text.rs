//! The text of a tree, in blocks.

use crate::yaml::{self, plain};
use serde_json::Value;
use std::fmt::Write;

/// The longest key that may stand before its colon on one line (YAML 1.2.2, 7.4.2), less its quotes.
const LONGEST_KEY: usize = 1000;

/// `KEY: VALUE`, with what is nested on lines of its own.
pub(super) fn entry(text: &mut String, indent: usize, key: &str, value: &Value) {
    let key = word(key);
    let _ = if key.len() > LONGEST_KEY {
        write!(text, "{:indent$}? {key}\n{:indent$}:", "", "")
    } else {
        write!(text, "{:indent$}{key}:", "")
    };
    nested(text, indent, value);
}

/// What follows a colon or a dash.
fn nested(text: &mut String, indent: usize, value: &Value) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            text.push('\n');
            for (key, value) in entries {
                entry(text, indent + 2, key, value);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            for item in items {
                let _ = write!(text, "{:1$}-", "", indent + 2);
                nested(text, indent + 2, item);
            }
        }
        Value::Object(_) => text.push_str(" {}\n"),
        Value::Array(_) => text.push_str(" []\n"),
        Value::Null => text.push('\n'),
        Value::Bool(_) => {
            let _ = writeln!(text, " {value}");
        }
        Value::Number(number) => {
            let _ = match number.as_f64().filter(|_| number.is_f64()) {
                Some(number) => writeln!(text, " {}", decimal(number)),
                None => writeln!(text, " {number}"),
            };
        }
        Value::String(word_text) => {
            let _ = writeln!(text, " {}", word(&word_text.replace('$', "$$")));
        }
    }
}

/// A number that is not read as a whole one.
fn decimal(number: f64) -> String {
    let text = yaml::float_text(number);
    if text.chars().all(|c| c.is_ascii_digit() || c == '-') {
        format!("{text}.0")
    } else {
        text
    }
}

/// Text as it is where that is safe, in quotes otherwise.
fn word(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    let first = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '/');
    if text.starts_with(first) && text.chars().all(safe) && matches!(plain(text), yaml::Value::Text(_)) {
        return text.to_owned();
    }
    quoted(text)
}

/// In double quotes; what cannot be printed is escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
