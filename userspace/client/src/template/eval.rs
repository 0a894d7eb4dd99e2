//! From a tree and a value to text.

use super::TemplateError;
use super::parse::{Node, Pipeline, Term};
use serde_json::Value;
use std::cmp::Ordering;
use std::fmt::Write;

pub(super) fn fill(nodes: &[Node], value: &Value) -> Result<String, TemplateError> {
    let mut filling = Filling {
        root: value,
        variables: Vec::new(),
        out: String::new(),
    };
    filling.block(nodes, value)?;
    Ok(filling.out)
}

struct Filling<'a> {
    root: &'a Value,
    variables: Vec<(String, Value)>,
    out: String,
}

fn wrong(text: impl Into<String>) -> TemplateError {
    TemplateError::Value(text.into())
}

impl Filling<'_> {
    /// What is set inside ends with the block.
    fn block(&mut self, nodes: &[Node], dot: &Value) -> Result<(), TemplateError> {
        let kept = self.variables.len();
        for node in nodes {
            self.node(node, dot)?;
        }
        self.variables.truncate(kept);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<(), TemplateError> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                self.out.push_str(&printed(&value));
            }
            Node::Set(name, pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                self.variables.push((name.clone(), value));
            }
            Node::If {
                condition,
                then,
                otherwise,
            } => {
                let truth = is_true(&self.pipeline(condition, dot)?);
                self.block(if truth { then } else { otherwise }, dot)?;
            }
            Node::With {
                value,
                then,
                otherwise,
            } => {
                let value = self.pipeline(value, dot)?;
                if is_true(&value) {
                    self.block(then, &value)?;
                } else {
                    self.block(otherwise, dot)?;
                }
            }
            Node::Range {
                names,
                over,
                each,
                otherwise,
            } => {
                let over = self.pipeline(over, dot)?;
                let items: Vec<(Value, Value)> = match over {
                    Value::Array(items) => items
                        .into_iter()
                        .enumerate()
                        .map(|(at, item)| (at.into(), item))
                        .collect(),
                    Value::Object(members) => members
                        .into_iter()
                        .map(|(name, item)| (name.into(), item))
                        .collect(),
                    Value::Null => Vec::new(),
                    other => return Err(wrong(format!("range cannot go over {}", printed(&other)))),
                };
                if items.is_empty() {
                    return self.block(otherwise, dot);
                }
                for (key, item) in items {
                    let kept = self.variables.len();
                    match names.as_slice() {
                        [] => {}
                        [one] => self.variables.push((one.clone(), item.clone())),
                        [first, second, ..] => {
                            self.variables.push((first.clone(), key));
                            self.variables.push((second.clone(), item.clone()));
                        }
                    }
                    self.block(each, &item)?;
                    self.variables.truncate(kept);
                }
            }
        }
        Ok(())
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut before: Option<Value> = None;
        for command in pipeline {
            let Some((first, rest)) = command.split_first() else {
                return Err(wrong("a value is missing"));
            };
            let mut arguments = Vec::new();
            for term in rest {
                arguments.push(self.term(term, dot)?);
            }
            arguments.extend(before.take());
            before = Some(match first {
                Term::Function(name) => call(name, &arguments)?,
                other if arguments.is_empty() => self.term(other, dot)?,
                _ => return Err(wrong("only a function takes arguments")),
            });
        }
        Ok(before.unwrap_or(Value::Null))
    }

    fn term(&self, term: &Term, dot: &Value) -> Result<Value, TemplateError> {
        match term {
            Term::Field(members) => member(dot, members),
            Term::Variable(name, members) if name.is_empty() => member(self.root, members),
            Term::Variable(name, members) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                let (_, value) = found.ok_or_else(|| wrong(format!("there is no variable ${name}")))?;
                member(value, members)
            }
            Term::Literal(value) => Ok(value.clone()),
            Term::Function(name) => call(name, &[]),
            Term::Brackets(inner, members) => member(&self.pipeline(inner, dot)?, members),
        }
    }
}

/// A member of a member; one that is not there is null, since a body leaves out what is empty.
fn member(value: &Value, members: &[String]) -> Result<Value, TemplateError> {
    let mut value = value;
    for name in members {
        value = match value {
            Value::Object(map) => {
                let found = map.get(name).or_else(|| {
                    map.iter()
                        .find(|(key, _)| key.eq_ignore_ascii_case(name))
                        .map(|(_, v)| v)
                });
                match found {
                    Some(found) => found,
                    None => return Ok(Value::Null),
                }
            }
            Value::Null => return Ok(Value::Null),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(wrong(format!(
                    ".{name} is asked of {}, which has no members",
                    printed(value)
                )));
            }
        };
    }
    Ok(value.clone())
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// As Go prints it.
pub(super) fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(printed).collect::<Vec<_>>().join(" ")),
        Value::Object(members) => {
            let members: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("{name}:{}", printed(value)))
                .collect();
            format!("map[{}]", members.join(" "))
        }
    }
}

fn call(name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    match (name, arguments) {
        ("json", [value]) => Ok(json(value).into()),
        ("lower", [text]) => Ok(printed(text).to_lowercase().into()),
        ("upper", [text]) => Ok(printed(text).to_uppercase().into()),
        ("title", [text]) => Ok(title(&printed(text)).into()),
        ("len", [value]) => Ok(length(value)?.into()),
        ("print", values) => Ok(values.iter().map(printed).collect::<String>().into()),
        ("println", values) => Ok((values.iter().map(printed).collect::<Vec<_>>().join(" ") + "\n").into()),
        ("printf", [format, values @ ..]) => printf(&printed(format), values),
        ("join", [list, separator]) => match list {
            Value::Array(items) => Ok(items
                .iter()
                .map(printed)
                .collect::<Vec<_>>()
                .join(&printed(separator))
                .into()),
            Value::Null => Ok("".into()),
            other => Err(wrong(format!("join takes a list, found {}", printed(other)))),
        },
        ("split", [text, separator]) => {
            let text = printed(text);
            let parts: Vec<Value> = text.split(printed(separator).as_str()).map(Value::from).collect();
            Ok(parts.into())
        }
        ("pad", [text, before, after]) => Ok(match printed(text) {
            text if text.is_empty() => text,
            text => format!(
                "{}{text}{}",
                " ".repeat(width(before)?),
                " ".repeat(width(after)?)
            ),
        }
        .into()),
        ("truncate", [text, most]) => Ok(printed(text)
            .chars()
            .take(width(most)?)
            .collect::<String>()
            .into()),
        ("index", [value, keys @ ..]) => index(value, keys),
        ("not", [value]) => Ok((!is_true(value)).into()),
        ("and", [first, rest @ ..]) => Ok(rest
            .iter()
            .fold(first, |so_far, next| if is_true(so_far) { next } else { so_far })
            .clone()),
        ("or", [first, rest @ ..]) => Ok(rest
            .iter()
            .fold(first, |so_far, next| if is_true(so_far) { so_far } else { next })
            .clone()),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => {
            let mut equal = false;
            for other in rest {
                equal |= compare(first, other)? == Ordering::Equal;
            }
            Ok(equal.into())
        }
        ("ne", [a, b]) => Ok((compare(a, b)? != Ordering::Equal).into()),
        ("lt", [a, b]) => Ok((compare(a, b)? == Ordering::Less).into()),
        ("le", [a, b]) => Ok((compare(a, b)? != Ordering::Greater).into()),
        ("gt", [a, b]) => Ok((compare(a, b)? == Ordering::Greater).into()),
        ("ge", [a, b]) => Ok((compare(a, b)? != Ordering::Less).into()),
        _ => Err(wrong(format!(
            "{name} does not take {} arguments",
            arguments.len()
        ))),
    }
}

/// JSON as Go writes it: what could be read as HTML is escaped.
pub(super) fn json(value: &Value) -> String {
    value
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

fn title(text: &str) -> String {
    let mut start = true;
    let capital = |c: char| {
        let was_start = std::mem::replace(&mut start, !c.is_alphanumeric());
        if was_start {
            c.to_uppercase().collect::<String>()
        } else {
            c.to_string()
        }
    };
    text.chars().map(capital).collect()
}

fn length(value: &Value) -> Result<usize, TemplateError> {
    match value {
        Value::Null => Ok(0),
        Value::String(text) => Ok(text.len()),
        Value::Array(items) => Ok(items.len()),
        Value::Object(members) => Ok(members.len()),
        Value::Bool(_) | Value::Number(_) => Err(wrong(format!("len of {}", printed(value)))),
    }
}

/// A number of characters, at most 1000.
fn width(value: &Value) -> Result<usize, TemplateError> {
    let number = value
        .as_u64()
        .and_then(|number| usize::try_from(number).ok())
        .filter(|number| *number <= 1000);
    number.ok_or_else(|| {
        wrong(format!(
            "expected a number of 0 to 1000, found {}",
            printed(value)
        ))
    })
}

fn index(value: &Value, keys: &[Value]) -> Result<Value, TemplateError> {
    let mut value = value;
    for key in keys {
        let found = match (value, key) {
            (Value::Array(items), Value::Number(at)) => {
                let at = at.as_u64().and_then(|at| usize::try_from(at).ok());
                Some(
                    at.and_then(|at| items.get(at))
                        .ok_or_else(|| wrong(format!("index {key} of {} items", items.len())))?,
                )
            }
            (Value::Object(members), Value::String(name)) => members.get(name),
            (Value::Null, _) => None,
            _ => return Err(wrong(format!("index {key} of {}", printed(value)))),
        };
        match found {
            Some(found) => value = found,
            None => return Ok(Value::Null),
        }
    }
    Ok(value.clone())
}

fn compare(a: &Value, b: &Value) -> Result<Ordering, TemplateError> {
    let order = match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
        },
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        // What a body leaves out is what is empty.
        (Value::Null, other) if !is_true(other) => Some(Ordering::Equal),
        (other, Value::Null) if !is_true(other) => Some(Ordering::Equal),
        (Value::Null, _) => Some(Ordering::Less),
        (_, Value::Null) => Some(Ordering::Greater),
        _ => None,
    };
    order.ok_or_else(|| wrong(format!("{} and {} cannot be compared", printed(a), printed(b))))
}

fn printf(format: &str, values: &[Value]) -> Result<Value, TemplateError> {
    let mut text = String::new();
    let mut values = values.iter();
    let mut characters = format.chars();
    while let Some(c) = characters.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let verb = characters.next();
        if verb == Some('%') {
            text.push('%');
            continue;
        }
        let value = values
            .next()
            .ok_or_else(|| wrong(format!("printf has too few values for {format:?}")))?;
        match verb {
            Some('s' | 'v' | 'd') => text.push_str(&printed(value)),
            // Writing to a string does not fail.
            Some('q') => drop(write!(text, "{:?}", printed(value))),
            _ => {
                return Err(wrong(format!(
                    "printf knows %s, %v, %d, %q and %%, found {format:?}"
                )));
            }
        }
    }
    Ok(text.into())
}
