//! Reading a tree: each kind of value, and what is told where another is found.

use crate::place::{At, Findings};
use crate::yaml::{Key, Node, Value, float_text, plain};
use essaim_objects::Nanoseconds;
use essaim_objects::written::{Bytes, Expected, duration};
use std::collections::BTreeMap;

/// A node with the way that leads there.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    node: &'a Node,
    pub(crate) path: String,
}

impl<'a> Cursor<'a> {
    pub(crate) fn root(node: &'a Node) -> Self {
        let path = String::new();
        Self { node, path }
    }

    pub(crate) fn at(&self) -> At {
        self.node.at
    }

    pub(crate) fn value(&self) -> &'a Value {
        &self.node.value
    }

    pub(crate) fn is_null(&self) -> bool {
        self.node.value == Value::Null
    }

    fn child(&self, name: &str, node: &'a Node) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        let path = format!("{}{dot}{name}", self.path);
        Self { node, path }
    }

    fn item(&self, at: usize, node: &'a Node) -> Self {
        let path = format!("{}[{at}]", self.path);
        Self { node, path }
    }

    /// Tells that something else was expected here.
    pub(crate) fn refuse(&self, findings: &mut Findings, expected: &str) {
        let found = self.node.value.kind();
        self.problem(findings, format!("found {found}, expected {expected}"));
    }

    pub(crate) fn problem(&self, findings: &mut Findings, text: impl Into<String>) {
        findings.problem(self.at(), &self.path, text);
    }

    pub(crate) fn word(&self, findings: &mut Findings, text: impl Into<String>) {
        findings.word(self.at(), &self.path, text);
    }

    /// The text that stands here.
    pub(crate) fn as_text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) | Value::Filled(text) => Some(text),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::List(_)
            | Value::Map(_) => None,
        }
    }

    /// The value, where text that came from a variable is taken for what it says. Docker reads the `0440` of a variable
    /// as a decimal number, YAML as an octal one: it is neither here.
    fn cast(&self) -> Value {
        match &self.node.value {
            Value::Filled(text) if text.len() > 1 && text.starts_with('0') && !text.contains('.') => {
                self.node.value.clone()
            }
            Value::Filled(text) => plain(text),
            other => other.clone(),
        }
    }

    pub(crate) fn text(&self, findings: &mut Findings) -> Option<String> {
        let text = self.as_text();
        if text.is_none() {
            self.refuse(findings, "text; quotes make it such");
        }
        text.map(str::to_owned)
    }

    /// Text that is read further.
    pub(crate) fn parsed<T>(
        &self,
        findings: &mut Findings,
        parse: impl FnOnce(&str) -> Result<T, Expected>,
    ) -> Option<T> {
        let Some(text) = self.as_text() else {
            self.refuse(findings, "text; quotes make it such");
            return None;
        };
        match parse(text) {
            Ok(value) => Some(value),
            Err(expected) => {
                self.refuse(findings, &expected.0);
                None
            }
        }
    }

    /// One of some words.
    pub(crate) fn word_of<T: std::str::FromStr>(&self, findings: &mut Findings, words: &[&str]) -> Option<T> {
        let known = self.as_text().filter(|text| words.contains(text));
        let word = known.and_then(|text| text.parse().ok());
        if word.is_none() {
            self.refuse(findings, &words.join(", "));
        }
        word
    }

    pub(crate) fn truth(&self, findings: &mut Findings) -> Option<bool> {
        if let Value::Bool(truth) = self.cast() {
            return Some(truth);
        }
        self.refuse(findings, "true or false, without quotes");
        None
    }

    /// A whole number that fits.
    pub(crate) fn whole<T: TryFrom<i128>>(&self, findings: &mut Findings, expected: &str) -> Option<T> {
        if let Value::Integer(number) = self.cast()
            && let Ok(number) = T::try_from(number)
        {
            return Some(number);
        }
        self.refuse(findings, expected);
        None
    }

    pub(crate) fn share(&self, findings: &mut Findings) -> Option<f64> {
        let number = match self.cast() {
            Value::Float(number) => Some(number),
            Value::Integer(0) => Some(0.0),
            Value::Integer(1) => Some(1.0),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Text(_)
            | Value::Filled(_)
            | Value::List(_)
            | Value::Map(_) => None,
        };
        let share = number.filter(|number| (0.0..=1.0).contains(number));
        if share.is_none() {
            self.refuse(findings, "a share of 0 to 1, without quotes");
        }
        share
    }

    /// A span of 0 or more.
    pub(crate) fn span(&self, findings: &mut Findings) -> Option<Nanoseconds> {
        self.parsed(findings, |text| {
            let span = duration(text)?;
            if span.0 < 0 {
                return Err(Expected::new("a span of 0 or more"));
            }
            Ok(span)
        })
    }

    /// A size in bytes: a number, or text with a unit.
    pub(crate) fn size(&self, findings: &mut Findings) -> Option<i64> {
        if matches!(self.cast(), Value::Integer(_)) {
            return self
                .whole::<u64>(findings, "a size of 0 or more")
                .and_then(|size| i64::try_from(size).ok());
        }
        self.parsed(findings, str::parse::<Bytes>).map(|size| size.0)
    }

    pub(crate) fn items(&self, findings: &mut Findings) -> Vec<Self> {
        if let Value::List(items) = &self.node.value {
            let items = items.iter().enumerate();
            return items.map(|(at, node)| self.item(at, node)).collect();
        }
        self.refuse(findings, "a list");
        Vec::new()
    }

    pub(crate) fn texts(&self, findings: &mut Findings) -> Vec<String> {
        let items = self.items(findings);
        items.iter().filter_map(|item| item.text(findings)).collect()
    }

    /// One text, or a list of them.
    pub(crate) fn text_or_texts(&self, findings: &mut Findings) -> Vec<String> {
        match &self.node.value {
            Value::Text(text) | Value::Filled(text) => vec![text.clone()],
            Value::List(_) => self.texts(findings),
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Map(_) => {
                self.refuse(findings, "text or a list");
                Vec::new()
            }
        }
    }

    /// Words: a list, or one text as a shell splits it.
    pub(crate) fn words(&self, findings: &mut Findings) -> Option<Vec<String>> {
        match &self.node.value {
            Value::Null => None,
            Value::Text(text) | Value::Filled(text) => {
                let words = shlex::split(text);
                if words.is_none() {
                    self.refuse(findings, "words as a shell reads them, with quotes that end");
                }
                words
            }
            Value::List(_) => Some(self.texts(findings)),
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Map(_) => {
                self.refuse(findings, "text or a list");
                None
            }
        }
    }

    /// What a number, text or nothing is as text; nothing is `None` within.
    #[expect(
        clippy::option_option,
        reason = "nothing is a value too, apart from what was refused"
    )]
    pub(crate) fn written(&self, findings: &mut Findings) -> Option<Option<String>> {
        match &self.node.value {
            Value::Null => Some(None),
            Value::Integer(number) => Some(Some(number.to_string())),
            Value::Float(number) => Some(Some(float_text(*number))),
            Value::Text(text) | Value::Filled(text) => Some(Some(text.clone())),
            Value::Bool(_) | Value::List(_) | Value::Map(_) => {
                self.refuse(findings, "text, a number or nothing; quotes make text of it");
                None
            }
        }
    }

    /// Names with values: a mapping, or a list of `NAME=VALUE` and `NAME`.
    pub(crate) fn pairs(&self, findings: &mut Findings) -> BTreeMap<String, Option<String>> {
        let mut pairs = BTreeMap::new();
        match &self.node.value {
            Value::Map(_) => {
                for (key, child) in self.entries(findings) {
                    if let Some(value) = child.written(findings) {
                        pairs.insert(key.name.clone(), value);
                    }
                }
            }
            Value::List(_) => {
                for item in self.texts(findings) {
                    let (name, value) = match item.split_once('=') {
                        Some((name, value)) => (name, Some(value.to_owned())),
                        None => (item.as_str(), None),
                    };
                    pairs.insert(name.to_owned(), value);
                }
            }
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Filled(_) => self.refuse(findings, "a mapping, or a list of NAME=VALUE"),
        }
        if pairs.contains_key("") {
            self.problem(findings, "a name is empty, expected NAME=VALUE");
        }
        pairs
    }

    /// As [`Self::pairs`], nothing being empty.
    pub(crate) fn labels(&self, findings: &mut Findings) -> BTreeMap<String, String> {
        let pairs = self.pairs(findings).into_iter();
        pairs
            .map(|(name, value)| (name, value.unwrap_or_default()))
            .collect()
    }

    /// The entries of a mapping of the operator's own names.
    pub(crate) fn entries(&self, findings: &mut Findings) -> Vec<(&'a Key, Self)> {
        if let Value::Map(entries) = &self.node.value {
            let entries = entries.iter();
            return entries
                .map(|(key, node)| (key, self.child(&key.name, node)))
                .collect();
        }
        self.refuse(findings, "a mapping");
        Vec::new()
    }

    /// The entries of a mapping whose keys are known; others are told, with what is near. Keys that begin with `x-` are
    /// the operator's own, where these may be.
    pub(crate) fn fields(&self, findings: &mut Findings, known: &[&str], own: bool) -> Fields<'a> {
        let mut fields = Fields(BTreeMap::new());
        let Value::Map(entries) = &self.node.value else {
            self.refuse(findings, "a mapping");
            return fields;
        };
        for (key, node) in entries {
            let name = key.name.as_str();
            let child = self.child(name, node);
            if known.contains(&name) {
                fields.0.insert(name, child);
            } else if !(own && name.starts_with("x-")) {
                findings.problem(key.at, &child.path, unknown(name, known));
            }
        }
        fields
    }
}

/// The entries of a mapping, by key.
pub(crate) struct Fields<'a>(BTreeMap<&'a str, Cursor<'a>>);

impl<'a> Fields<'a> {
    pub(crate) fn get(&self, name: &str) -> Option<&Cursor<'a>> {
        self.0.get(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn text(&self, name: &str, findings: &mut Findings) -> Option<String> {
        self.get(name)?.text(findings)
    }

    pub(crate) fn truth(&self, name: &str, findings: &mut Findings) -> Option<bool> {
        self.get(name)?.truth(findings)
    }

    pub(crate) fn span(&self, name: &str, findings: &mut Findings) -> Option<Nanoseconds> {
        self.get(name)?.span(findings)
    }

    pub(crate) fn count(&self, name: &str, findings: &mut Findings) -> Option<u64> {
        self.get(name)?
            .whole(findings, "a whole number of 0 or more, without quotes")
    }

    pub(crate) fn texts(&self, name: &str, findings: &mut Findings) -> Vec<String> {
        self.get(name)
            .map(|field| field.texts(findings))
            .unwrap_or_default()
    }

    pub(crate) fn text_or_texts(&self, name: &str, findings: &mut Findings) -> Vec<String> {
        self.get(name)
            .map(|field| field.text_or_texts(findings))
            .unwrap_or_default()
    }

    pub(crate) fn labels(&self, name: &str, findings: &mut Findings) -> BTreeMap<String, String> {
        self.get(name)
            .map(|field| field.labels(findings))
            .unwrap_or_default()
    }

    pub(crate) fn items(&self, name: &str, findings: &mut Findings) -> Vec<Cursor<'a>> {
        self.get(name)
            .map(|field| field.items(findings))
            .unwrap_or_default()
    }
}

/// What is said of a key that is not known.
fn unknown(name: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|known| (strsim::osa_distance(name, known), known))
        .filter(|(distance, known)| *distance <= 2 && *distance < known.len())
        .min();
    match near {
        Some((_, near)) => format!("there is no such key; is {near} meant?"),
        None => format!("there is no such key, expected one of {}", known.join(", ")),
    }
}
