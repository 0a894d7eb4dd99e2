//! From text to a tree in which every node has its place.
//!
//! The parser is saphyr's; what plain words mean is as docker's own reader has it (YAML 1.1): `0440` is octal, `yes` and
//! `on` are truth values. Anchors, aliases and merge keys are resolved here, within bounds: a tree has at most [`DEPTH`]
//! levels, and what aliases repeat counts towards [`WEIGHT`] as if it had been written out.

mod plain;

pub(crate) use plain::{float_text, plain};

use crate::place::{At, Findings, Place};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Levels of a tree.
const DEPTH: usize = 64;
/// Nodes of a tree, where every 64 bytes of text count as one more.
const WEIGHT: usize = 200_000;

/// A part of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) value: Value,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    /// Text in which variables were filled in: it may stand where a number or truth value is expected.
    Filled(String),
    List(Vec<Node>),
    /// In the order of the file; each key once.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) at: At,
}

impl Value {
    /// What it is called in a message.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Bool(value) => format!("the truth value {value}"),
            Self::Integer(number) => format!("the number {number}"),
            Self::Float(number) => format!("the number {}", float_text(*number)),
            Self::Text(text) | Self::Filled(text) => format!("{text:?}"),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// Reads the first and only document of a file. What is wrong with it is told, and the rest read as far as it can be;
/// `None` where nothing can.
pub(crate) fn read(file: usize, text: &str, findings: &mut Findings) -> Option<Node> {
    let mut builder = Builder {
        file,
        lines: text.split('\n').map(|line| line.chars().count()).collect(),
        open: Vec::new(),
        anchors: BTreeMap::new(),
        weight: 0,
        root: None,
        findings,
    };
    let mut documents = 0;
    for event in Parser::new_from_str(text.trim_start_matches('\u{feff}')) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                builder.refuse_scan(&error);
                return None;
            }
        };
        if let Event::DocumentStart(_) = event {
            documents += 1;
            if documents > 1 {
                let at = builder.at(&span.start);
                builder
                    .findings
                    .problem(at, "", "a second document, expected one in a file");
                return None;
            }
        }
        builder.event(event, &span)?;
    }
    if builder.root.is_none() {
        let at = At::start(file);
        builder
            .findings
            .problem(at, "", "the file is empty, expected a mapping with services");
    }
    builder.root
}

/// A list or mapping of which more is to come.
enum Open {
    List {
        at: At,
        anchor: usize,
        items: Vec<Node>,
    },
    Map {
        at: At,
        anchor: usize,
        entries: Vec<(Key, Node)>,
        /// The keys so far, and where they are.
        names: BTreeMap<String, At>,
        merged: Vec<Node>,
        key: Option<Pending>,
    },
}

/// A key whose value is to come.
enum Pending {
    Key(Key),
    Merge,
    /// One that was refused; its value is left out.
    Refused,
}

/// What an anchor stands for.
struct Anchored {
    node: Node,
    weight: usize,
    depth: usize,
}

struct Builder<'a> {
    file: usize,
    /// The characters of each line.
    lines: Vec<usize>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Anchored>,
    weight: usize,
    root: Option<Node>,
    findings: &'a mut Findings,
}

impl Builder<'_> {
    /// The place of a mark, inside the text whatever the mark says.
    fn at(&self, mark: &Marker) -> At {
        let line = mark.line().clamp(1, self.lines.len().max(1));
        let length = self.lines.get(line - 1).copied().unwrap_or_default();
        let column = if mark.line() > line {
            length + 1
        } else {
            (mark.col() + 1).min(length + 1)
        };
        At {
            file: self.file,
            place: Place { line, column },
        }
    }

    fn refuse_scan(&mut self, error: &ScanError) {
        let at = self.at(error.marker());
        self.findings
            .problem(at, "", format!("this is no YAML: {}", error.info()));
    }

    /// Takes an event; `None` where there is no going on.
    fn event(&mut self, event: Event<'_>, span: &Span) -> Option<()> {
        let at = self.at(&span.start);
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Some(()),
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(at, &text, style, tag.as_deref());
                let merge = style == ScalarStyle::Plain && text == "<<";
                self.closed(anchor, Node { at, value }, merge)
            }
            Event::Alias(anchor) => self.alias(at, anchor),
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(at, tag.as_ref(), "seq");
                let items = Vec::new();
                self.opened(at, Open::List { at, anchor, items })
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(at, tag.as_ref(), "map");
                self.opened(
                    at,
                    Open::Map {
                        at,
                        anchor,
                        entries: Vec::new(),
                        names: BTreeMap::new(),
                        merged: Vec::new(),
                        key: None,
                    },
                )
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop()? {
                Open::List { at, anchor, items } => {
                    let value = Value::List(items);
                    self.closed(anchor, Node { at, value }, false)
                }
                Open::Map {
                    at,
                    anchor,
                    entries,
                    names,
                    merged,
                    key: _,
                } => {
                    let value = Value::Map(self.merge(entries, names, merged)?);
                    self.closed(anchor, Node { at, value }, false)
                }
            },
        }
    }

    fn opened(&mut self, at: At, open: Open) -> Option<()> {
        if self.open.len() >= DEPTH {
            self.findings.problem(
                at,
                "",
                format!("nested too deeply, expected at most {DEPTH} levels"),
            );
            return None;
        }
        self.open.push(open);
        Some(())
    }

    /// Counts what was written, or repeated.
    fn weigh(&mut self, at: At, weight: usize) -> Option<()> {
        self.weight = self.weight.saturating_add(weight);
        if self.weight > WEIGHT {
            self.findings.problem(
                at,
                "",
                "the file is too large, counting what aliases repeat as if it were written out",
            );
            return None;
        }
        Some(())
    }

    /// A node is complete: it goes where it belongs.
    fn closed(&mut self, anchor: usize, node: Node, merge: bool) -> Option<()> {
        if anchor != 0 {
            let weight = weight(&node);
            self.weigh(node.at, weight)?;
            let anchored = Anchored {
                weight,
                depth: depth(&node),
                node: node.clone(),
            };
            self.anchors.insert(anchor, anchored);
        }
        if let Value::Text(text) = &node.value {
            self.weigh(node.at, text.len() / 64)?;
        }
        self.weigh(node.at, 1)?;
        self.placed(node, merge);
        Some(())
    }

    fn alias(&mut self, at: At, anchor: usize) -> Option<()> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            self.findings
                .problem(at, "", "an alias within what it stands for, which has no end");
            return None;
        };
        let (mut node, weight, depth) = (anchored.node.clone(), anchored.weight, anchored.depth);
        if self.open.len() + depth > DEPTH {
            self.findings.problem(
                at,
                "",
                format!("nested too deeply, expected at most {DEPTH} levels"),
            );
            return None;
        }
        self.weigh(at, weight)?;
        // A scalar is where it is used; what is inside a list or mapping stays where it was written.
        node.at = at;
        self.placed(node, false);
        Some(())
    }

    fn placed(&mut self, node: Node, merge: bool) {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match open {
            Open::List { items, .. } => items.push(node),
            Open::Map {
                entries,
                names,
                merged,
                key,
                ..
            } => match key.take() {
                None => *key = Some(key_of(node, merge, names, self.findings)),
                Some(Pending::Key(name)) => entries.push((name, node)),
                Some(Pending::Merge) => merged.push(node),
                Some(Pending::Refused) => {}
            },
        }
    }

    /// The entries with those of merged mappings that have no entry of their own; earlier mappings go before later ones.
    fn merge(
        &mut self,
        mut entries: Vec<(Key, Node)>,
        mut names: BTreeMap<String, At>,
        merged: Vec<Node>,
    ) -> Option<Vec<(Key, Node)>> {
        let mut mappings = Vec::new();
        for node in merged {
            match node.value {
                Value::List(items) => mappings.extend(items),
                _ => mappings.push(node),
            }
        }
        for mapping in mappings {
            let Value::Map(more) = mapping.value else {
                let found = mapping.value.kind();
                self.findings.problem(
                    mapping.at,
                    "<<",
                    format!("found {found}, expected a mapping or a list of them"),
                );
                continue;
            };
            for (key, node) in more {
                if names.insert(key.name.clone(), key.at).is_none() {
                    self.weigh(mapping.at, 1 + weight(&node))?;
                    entries.push((key, node));
                }
            }
        }
        Some(entries)
    }

    fn check_tag(&mut self, at: At, tag: Option<&Cow<'_, Tag>>, expected: &str) {
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && tag.suffix == expected)
        {
            self.unknown_tag(at, tag);
        }
    }

    fn unknown_tag(&mut self, at: At, tag: &Tag) {
        let name = if tag.is_yaml_core_schema() {
            format!("!!{}", tag.suffix)
        } else {
            tag.to_string()
        };
        self.findings
            .problem(at, "", format!("the tag {name} has no meaning here"));
    }

    fn scalar(&mut self, at: At, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
        let Some(tag) = tag else {
            return if style == ScalarStyle::Plain {
                plain(text)
            } else {
                Value::Text(text.to_owned())
            };
        };
        let value = plain(text);
        let fits = tag.is_yaml_core_schema()
            && match tag.suffix.as_str() {
                "str" => return Value::Text(text.to_owned()),
                "null" => value == Value::Null,
                "bool" => matches!(value, Value::Bool(_)),
                "int" => matches!(value, Value::Integer(_)),
                "float" => matches!(value, Value::Float(_) | Value::Integer(_)),
                _ => false,
            };
        if !fits {
            self.unknown_tag(at, tag);
        }
        value
    }
}

fn key_of(node: Node, merge: bool, names: &mut BTreeMap<String, At>, findings: &mut Findings) -> Pending {
    if merge {
        return Pending::Merge;
    }
    match node.value {
        Value::Text(name) | Value::Filled(name) => {
            if let Some(earlier) = names.get(&name) {
                let text = format!("the key {name:?} is given twice, first at {}", earlier.place);
                findings.problem(node.at, "", text);
                return Pending::Refused;
            }
            names.insert(name.clone(), node.at);
            Pending::Key(Key { name, at: node.at })
        }
        value @ (Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::List(_)
        | Value::Map(_)) => {
            findings.problem(
                node.at,
                "",
                format!("a key is {}, expected text; quotes make it such", value.kind()),
            );
            Pending::Refused
        }
    }
}

fn weight(node: &Node) -> usize {
    1 + match &node.value {
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => 0,
        Value::Text(text) | Value::Filled(text) => text.len() / 64,
        Value::List(items) => items.iter().map(weight).sum(),
        Value::Map(entries) => entries.iter().map(|(_, node)| 1 + weight(node)).sum(),
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Text(_)
        | Value::Filled(_) => 0,
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Map(entries) => {
            1 + entries
                .iter()
                .map(|(_, node)| depth(node))
                .max()
                .unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests;
