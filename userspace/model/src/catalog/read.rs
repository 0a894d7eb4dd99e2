//! Reads the values of a TOML document, going on after every error.

use super::Problem;
use super::path::{At, Path};
use std::collections::BTreeSet;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Something that is wrong at a known place of the text.
pub(super) struct Finding {
    pub(super) path: Path,
    pub(super) span: Range<usize>,
    pub(super) problem: Problem,
}

/// What reading leaves beside the values.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) findings: Vec<Finding>,
    /// List items that could not be read, and are missing from the catalog.
    pub(super) dropped: BTreeSet<Path>,
    /// Names of what could not be read in full: what it then seems to lack is no further error.
    pub(super) broken: BTreeSet<String>,
}

/// A value and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Value<'v> {
    pub(super) value: &'v Spanned<DeValue<'v>>,
    pub(super) at: &'v At<'v>,
}

/// A table and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Table<'v> {
    pub(super) fields: &'v DeTable<'v>,
    pub(super) span: (usize, usize),
    pub(super) at: &'v At<'v>,
}

impl Reader {
    fn found(&mut self, at: &At<'_>, span: Range<usize>, problem: Problem) {
        self.findings.push(Finding {
            path: at.path(),
            span,
            problem,
        });
    }

    /// Notes what is wrong with a value.
    pub(super) fn reject<T>(&mut self, value: Value<'_>, problem: impl Into<Problem>) -> Option<T> {
        self.found(value.at, value.value.span(), problem.into());
        None
    }

    /// Notes that a value is of another type.
    pub(super) fn wrong_type<T>(&mut self, value: Value<'_>, expected: &'static str) -> Option<T> {
        let found = match value.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.reject(value, Problem::WrongType { found, expected })
    }
}

impl<'v> Table<'v> {
    /// Notes every field that is not one of these.
    pub(super) fn only(self, reader: &mut Reader, known: &'static [&'static str]) {
        for key in self.fields.keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                reader.found(&self.at.field(name), key.span(), Problem::UnknownField { known });
            }
        }
    }

    /// The field's value; nothing where it is absent or wrong.
    pub(super) fn optional<T>(
        self,
        reader: &mut Reader,
        field: &'static str,
        read: impl FnOnce(&mut Reader, Value<'_>) -> Option<T>,
    ) -> Option<T> {
        let value = self.fields.get(field)?;
        read(
            reader,
            Value {
                value,
                at: &self.at.field(field),
            },
        )
    }

    /// The field's value, which must be there.
    pub(super) fn required<T>(
        self,
        reader: &mut Reader,
        field: &'static str,
        read: impl FnOnce(&mut Reader, Value<'_>) -> Option<T>,
    ) -> Option<T> {
        if self.fields.contains_key(field) {
            return self.optional(reader, field, read);
        }
        let (start, end) = self.span;
        reader.found(&self.at.field(field), start..end, Problem::Missing);
        None
    }

    /// The items of a field; empty where it is absent.
    pub(super) fn list<T>(
        self,
        reader: &mut Reader,
        field: &'static str,
        read: impl Fn(&mut Reader, Value<'_>) -> Option<T>,
    ) -> Vec<T> {
        self.optional(reader, field, |reader, value| list(reader, value, read))
            .unwrap_or_default()
    }

    /// The tables of a field; empty where it is absent.
    pub(super) fn tables<T>(
        self,
        reader: &mut Reader,
        field: &'static str,
        read: impl Fn(&mut Reader, Table<'_>) -> Option<T>,
    ) -> Vec<T> {
        self.list(reader, field, |reader, value| {
            table(reader, value, |reader, table| read(reader, table))
        })
    }

    /// Whether all of the field's items could be read, where this many were.
    pub(super) fn is_whole(self, field: &str, read: usize) -> bool {
        let whole = |value: &Spanned<DeValue<'_>>| {
            value
                .get_ref()
                .as_array()
                .is_some_and(|array| array.len() == read)
        };
        self.fields.get(field).is_none_or(whole)
    }

    /// The text of a field, where it is a string.
    pub(super) fn text(self, field: &str) -> Option<&'v str> {
        self.fields.get(field).and_then(|value| value.get_ref().as_str())
    }
}

/// Reads an array; an item that cannot be read is left out and remembered as dropped.
pub(super) fn list<T>(
    reader: &mut Reader,
    value: Value<'_>,
    read: impl Fn(&mut Reader, Value<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(array) = value.value.get_ref().as_array() else {
        return reader.wrong_type(value, "an array");
    };
    let mut items = Vec::with_capacity(array.len());
    for (index, item) in array.iter().enumerate() {
        let at = value.at.index(index);
        match read(reader, Value { value: item, at: &at }) {
            Some(item) => items.push(item),
            None => drop(reader.dropped.insert(at.path())),
        }
    }
    Some(items)
}

pub(super) fn table<T>(
    reader: &mut Reader,
    value: Value<'_>,
    read: impl FnOnce(&mut Reader, Table<'_>) -> Option<T>,
) -> Option<T> {
    let Some(table) = value.value.get_ref().as_table() else {
        return reader.wrong_type(value, "a table");
    };
    let span = value.value.span();
    read(
        reader,
        Table {
            fields: table,
            span: (span.start, span.end),
            at: value.at,
        },
    )
}
