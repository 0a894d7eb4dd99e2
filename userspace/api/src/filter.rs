//! Filters of lists: `{"key": {"value": true}}` as the docker CLI writes them, `{"key": ["value"]}` as others do.

use crate::EngineError;
use crate::request::Query;
use essaim_objects::Labels;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A list's filters. What is listed must fit one value of every key.
#[derive(Debug, Default)]
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    Map(BTreeMap<String, bool>),
    List(Vec<String>),
}

impl Filters {
    /// Reads the query's filters.
    ///
    /// # Errors
    /// They are none, or there is a key that is not `known`.
    pub(crate) fn of(query: &Query, known: &[&str]) -> Result<Self, EngineError> {
        let text = query.get("filters");
        if text.is_empty() {
            return Ok(Self::default());
        }
        let read: Option<BTreeMap<String, Option<Values>>> = serde_json::from_str(text).map_err(|error| {
            EngineError::invalid(format_args!(
                "invalid filters {text:?}: {error}; expected {{\"KEY\": {{\"VALUE\": true}}}} or {{\"KEY\": [\"VALUE\"]}}"
            ))
        })?;
        let filters: BTreeMap<_, _> = read
            .unwrap_or_default()
            .into_iter()
            .map(|(key, values)| {
                let values = match values {
                    Some(Values::Map(map)) => map.into_keys().collect(),
                    Some(Values::List(list)) => list,
                    None => Vec::new(),
                };
                (key, values)
            })
            .collect();
        if let Some(unknown) = filters.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(EngineError::invalid(format_args!("Invalid filter '{unknown}'")));
        }
        Ok(Self(filters))
    }

    /// The values of a key.
    pub(crate) fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// Replaces the values of a key by what they stand for.
    ///
    /// # Errors
    /// A value stands for nothing.
    pub(crate) fn resolve(
        &mut self,
        key: &str,
        resolve: impl FnMut(&String) -> Result<String, EngineError>,
    ) -> Result<(), EngineError> {
        if let Some(values) = self.0.get_mut(key) {
            *values = values.iter().map(resolve).collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    /// Whether one of a key's values fits; so does everything where there is none.
    pub(crate) fn any(&self, key: &str, mut fits: impl FnMut(&str) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(|value| fits(value))
    }

    /// Whether labels have all that the key's values ask for, `NAME` or `NAME=VALUE`.
    pub(crate) fn labels(&self, key: &str, labels: Option<&Labels>) -> bool {
        self.values(key).iter().all(|asked| has_label(labels, asked))
    }

    /// The values of a key, each read.
    ///
    /// # Errors
    /// One cannot be read.
    pub(crate) fn read<T>(&self, key: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, EngineError> {
        let read = |value: &String| {
            read(value).ok_or_else(|| EngineError::invalid(format_args!("invalid filter '{key}={value}'")))
        };
        self.values(key).iter().map(read).collect()
    }

    /// A key's truth, where it is given.
    ///
    /// # Errors
    /// It is neither true nor false.
    pub(crate) fn truth(&self, key: &str) -> Result<Option<bool>, EngineError> {
        let truths = self.read(key, |value| match value {
            "1" | "true" => Some(true),
            "0" | "false" => Some(false),
            _ => None,
        })?;
        match truths.as_slice() {
            [] => Ok(None),
            [first, rest @ ..] if rest.iter().all(|other| other == first) => Ok(Some(*first)),
            [..] => Err(EngineError::invalid(format_args!(
                "invalid filter '{key}': both true and false"
            ))),
        }
    }
}

/// Whether labels have one, `NAME` or `NAME=VALUE`.
pub(crate) fn has_label(labels: Option<&Labels>, asked: &str) -> bool {
    let (name, value) = match asked.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (asked, None),
    };
    let found = labels.and_then(|labels| labels.get(name));
    found.is_some_and(|found| value.is_none_or(|value| value == found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(text: &str, known: &[&str]) -> Result<Filters, EngineError> {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("filters", text)
            .finish();
        Filters::of(&Query::parse(&query), known)
    }

    #[test]
    fn both_forms_are_the_same() {
        for text in [r#"{"id":{"a":true,"b":true}}"#, r#"{"id":["a","b"]}"#] {
            assert_eq!(filters(text, &["id"]).unwrap().values("id"), ["a", "b"]);
        }
        for text in ["", "null", "{}", r#"{"id":null}"#, r#"{"id":[]}"#, r#"{"id":{}}"#] {
            let found = filters(text, &["id"]).unwrap();
            assert!(found.any("id", |_| false), "{text}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for (text, says) in [
            (r#"{"foo":["a"]}"#, "Invalid filter 'foo'"),
            ("[", "invalid filters"),
            ("7", "invalid filters"),
            (r#"{"id":7}"#, "invalid filters"),
            (r#"{"id":{"a":7}}"#, "invalid filters"),
        ] {
            let error = filters(text, &["id"]).unwrap_err();
            assert!(error.message.starts_with(says), "{text}: {error}");
            assert_eq!(error.kind, crate::ErrorKind::Invalid);
        }
    }

    #[test]
    fn labels_must_all_fit() {
        let labels = Labels::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        for (asked, expected) in [
            (r#"{"label":["a"]}"#, true),
            (r#"{"label":["a=1","b"]}"#, true),
            (r#"{"label":["a=1","b=2"]}"#, false),
            (r#"{"label":["b="]}"#, true),
            (r#"{"label":["c"]}"#, false),
        ] {
            assert_eq!(
                filters(asked, &["label"]).unwrap().labels("label", Some(&labels)),
                expected,
                "{asked}"
            );
        }
        assert!(
            !filters(r#"{"label":["a"]}"#, &["label"])
                .unwrap()
                .labels("label", None)
        );
    }

    #[test]
    fn a_truth_is_true_or_false() {
        assert_eq!(
            filters(r#"{"t":["true","1"]}"#, &["t"]).unwrap().truth("t"),
            Ok(Some(true))
        );
        assert_eq!(
            filters(r#"{"t":["0"]}"#, &["t"]).unwrap().truth("t"),
            Ok(Some(false))
        );
        assert_eq!(filters("{}", &["t"]).unwrap().truth("t"), Ok(None));
        assert!(
            filters(r#"{"t":["true","false"]}"#, &["t"])
                .unwrap()
                .truth("t")
                .is_err()
        );
        assert!(filters(r#"{"t":["maybe"]}"#, &["t"]).unwrap().truth("t").is_err());
    }
}
