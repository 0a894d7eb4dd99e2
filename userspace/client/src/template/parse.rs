//! From text to a tree.

use super::TemplateError;
use serde_json::Value;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    Set(String, Pipeline),
    If {
        condition: Pipeline,
        then: Vec<Self>,
        otherwise: Vec<Self>,
    },
    With {
        value: Pipeline,
        then: Vec<Self>,
        otherwise: Vec<Self>,
    },
    Range {
        names: Vec<String>,
        over: Pipeline,
        each: Vec<Self>,
        otherwise: Vec<Self>,
    },
}

/// Commands, each of which gets the result of the one before as its last argument.
pub(super) type Pipeline = Vec<Vec<Term>>;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Term {
    /// Members below the dot.
    Field(Vec<String>),
    /// Members below a variable; `$` has no name.
    Variable(String, Vec<String>),
    Literal(Value),
    Function(String),
    Brackets(Pipeline, Vec<String>),
}

/// The functions that there are.
pub(super) const FUNCTIONS: &[&str] = &[
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "pad",
    "print", "printf", "println", "split", "title", "truncate", "upper",
];
/// How deep blocks and brackets may be in each other.
const DEEPEST: usize = 64;

fn problem(problem: impl Into<String>, found: &str) -> TemplateError {
    TemplateError::Parse {
        problem: problem.into(),
        found: found.to_owned(),
    }
}

enum Piece<'a> {
    Text(String),
    Action(&'a str),
}

/// Splits text from actions, and trims where dashes ask for it.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    loop {
        let (before, after) = match rest.split_once("{{") {
            Some((before, after)) => (before, Some(after)),
            None => (rest, None),
        };
        let mut before = if trim { before.trim_start() } else { before };
        let trims_before = after.is_some_and(|after| after.starts_with("- ") || after.starts_with("-\t"));
        if trims_before {
            before = before.trim_end();
        }
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let Some(after) = after else { return Ok(pieces) };
        let after = if trims_before {
            after.get(1..).unwrap_or_default()
        } else {
            after
        };
        let (action, following) =
            action_end(after).ok_or_else(|| problem("an action without an end", after))?;
        trim = action.ends_with(" -") || action.ends_with("\t-");
        let action = if trim {
            action.get(..action.len() - 1).unwrap_or_default()
        } else {
            action
        };
        let action = action.trim();
        if !(action.starts_with("/*") && action.ends_with("*/")) {
            pieces.push(Piece::Action(action));
        }
        rest = following;
    }
}

/// Splits at the first `}}` outside quotes.
fn action_end(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), c) if c == open && !escaped => quote = None,
            (None, '"' | '`') => quote = Some(c),
            (None, '}') if text.get(at..).is_some_and(|rest| rest.starts_with("}}")) => {
                return Some((text.get(..at)?, text.get(at + 2..)?));
            }
            _ => {}
        }
        escaped = false;
    }
    None
}

pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let pieces = pieces(text)?;
    let mut pieces = pieces.into_iter();
    let (nodes, end) = block(&mut pieces, 0)?;
    match end {
        None => Ok(nodes),
        Some(end) => Err(problem("nothing to end", end)),
    }
}

/// Nodes up to `end`, `else` or the end of the text, and which it was.
fn block<'a>(
    pieces: &mut std::vec::IntoIter<Piece<'a>>,
    depth: usize,
) -> Result<(Vec<Node>, Option<&'a str>), TemplateError> {
    if depth > DEEPEST {
        return Err(problem("blocks are too deep in each other", ""));
    }
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let action = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(action) => action,
        };
        let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((action, ""));
        match word {
            "end" | "else" => return Ok((nodes, Some(action))),
            "if" | "with" | "range" => nodes.push(control(word, rest, pieces, depth)?),
            "define" | "template" | "block" | "break" | "continue" => {
                return Err(problem(format!("{word} is not supported"), action));
            }
            _ => nodes.push(match action.split_once(":=") {
                Some((name, value)) if action.starts_with('$') => {
                    Node::Set(variable(name)?, pipeline(value)?)
                }
                _ => Node::Print(pipeline(action)?),
            }),
        }
    }
    Ok((nodes, None))
}

fn control(
    word: &str,
    head: &str,
    pieces: &mut std::vec::IntoIter<Piece<'_>>,
    depth: usize,
) -> Result<Node, TemplateError> {
    let (then, end) = block(pieces, depth + 1)?;
    let otherwise = match end {
        Some("end") => Vec::new(),
        Some("else") => {
            let (otherwise, end) = block(pieces, depth + 1)?;
            if end != Some("end") {
                return Err(problem(format!("{word} … else without end"), head));
            }
            otherwise
        }
        Some(other) => {
            let rest = other.strip_prefix("else").unwrap_or_default().trim_start();
            let (next, head) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            if next != "if" || word == "range" {
                return Err(problem("else may be followed by if alone", other));
            }
            vec![control("if", head, pieces, depth + 1)?]
        }
        None => return Err(problem(format!("{word} without end"), head)),
    };
    Ok(match word {
        "if" => Node::If {
            condition: pipeline(head)?,
            then,
            otherwise,
        },
        "with" => Node::With {
            value: pipeline(head)?,
            then,
            otherwise,
        },
        _ => {
            let (names, over) = match head.split_once(":=") {
                Some((names, over)) if head.starts_with('$') => (
                    names.split(',').map(variable).collect::<Result<Vec<_>, _>>()?,
                    over,
                ),
                _ => (Vec::new(), head),
            };
            if names.len() > 2 {
                return Err(problem("range has one or two variables", head));
            }
            Node::Range {
                names,
                over: pipeline(over)?,
                each: then,
                otherwise,
            }
        }
    })
}

fn variable(text: &str) -> Result<String, TemplateError> {
    let name = text
        .trim()
        .strip_prefix('$')
        .filter(|name| !name.is_empty() && name.chars().all(is_word));
    name.map(str::to_owned)
        .ok_or_else(|| problem("expected a variable such as $x", text))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn pipeline(text: &str) -> Result<Pipeline, TemplateError> {
    let mut reader = Reader { text, rest: text };
    let pipeline = reader.pipeline(0)?;
    if reader.rest.trim_start().is_empty() {
        Ok(pipeline)
    } else {
        Err(problem("unexpected text", reader.rest))
    }
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
}

impl Reader<'_> {
    fn pipeline(&mut self, depth: usize) -> Result<Pipeline, TemplateError> {
        if depth > DEEPEST {
            return Err(problem("brackets are too deep in each other", self.text));
        }
        let mut commands = Vec::new();
        let mut command = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.chars().next() {
                None | Some(')') => break,
                Some('|') => {
                    self.skip(1);
                    if command.is_empty() {
                        return Err(problem("a pipe without a value", self.text));
                    }
                    commands.push(std::mem::take(&mut command));
                }
                Some(_) => command.push(self.term(depth)?),
            }
        }
        if command.is_empty() {
            return Err(problem("a value is missing", self.text));
        }
        commands.push(command);
        Ok(commands)
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn word(&mut self, is_part: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let word = self.rest.get(..end).unwrap_or_default().to_owned();
        self.skip(end);
        word
    }

    /// `.A.B`, as far as there is.
    fn members(&mut self) -> Vec<String> {
        let mut members = Vec::new();
        while self
            .rest
            .strip_prefix('.')
            .is_some_and(|rest| rest.starts_with(is_word))
        {
            self.skip(1);
            members.push(self.word(is_word));
        }
        members
    }

    fn term(&mut self, depth: usize) -> Result<Term, TemplateError> {
        let Some(first) = self.rest.chars().next() else {
            return Err(problem("a value is missing", self.text));
        };
        match first {
            '.' => {
                let members = self.members();
                if members.is_empty() {
                    self.skip(1);
                }
                Ok(Term::Field(members))
            }
            '$' => {
                self.skip(1);
                let name = self.word(is_word);
                Ok(Term::Variable(name, self.members()))
            }
            '(' => {
                self.skip(1);
                let inner = self.pipeline(depth + 1)?;
                if !self.rest.starts_with(')') {
                    return Err(problem("a bracket without an end", self.text));
                }
                self.skip(1);
                Ok(Term::Brackets(inner, self.members()))
            }
            '"' | '`' => self.quoted(first),
            '0'..='9' | '-' | '+' => {
                let word = self.word(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E'));
                let number = serde_json::from_str::<serde_json::Number>(word.trim_start_matches('+'));
                number
                    .map(|number| Term::Literal(number.into()))
                    .map_err(|_| problem("expected a number", &word))
            }
            c if is_word(c) => {
                let word = self.word(is_word);
                match word.as_str() {
                    "true" => Ok(Term::Literal(true.into())),
                    "false" => Ok(Term::Literal(false.into())),
                    "nil" => Ok(Term::Literal(Value::Null)),
                    name if FUNCTIONS.contains(&name) => Ok(Term::Function(word)),
                    _ => Err(problem(
                        format!("no function {word}, expected one of {}", FUNCTIONS.join(", ")),
                        self.text,
                    )),
                }
            }
            _ => Err(problem("unexpected text", self.rest)),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Term, TemplateError> {
        let mut end = None;
        let mut escaped = false;
        for (at, c) in self.rest.char_indices().skip(1) {
            if c == quote && !escaped {
                end = Some(at + 1);
                break;
            }
            escaped = quote == '"' && c == '\\' && !escaped;
        }
        let end = end.ok_or_else(|| problem("a string without an end", self.rest))?;
        let whole = self.rest.get(..end).unwrap_or_default().to_owned();
        self.skip(end);
        if quote == '`' {
            return Ok(Term::Literal(whole.trim_matches('`').into()));
        }
        serde_json::from_str::<String>(&whole)
            .map(|text| Term::Literal(text.into()))
            .map_err(|_| problem("a string with an unknown escape", &whole))
    }
}
