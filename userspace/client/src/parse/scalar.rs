//! Single values: spans, sizes, processors, pairs, addresses.

use essaim_objects::written::{Expected, LIMITS, duration};
use essaim_objects::{Nanoseconds, PlacementPreference, SpreadOver, Ulimit};
use std::net::IpAddr;
use std::str::FromStr;

/// A span that is not negative.
pub(crate) fn nano_duration(text: &str) -> Result<Nanoseconds, Expected> {
    let span = duration(text)?;
    if span.0 < 0 {
        Err(Expected::new("a span of 0 or more"))
    } else {
        Ok(span)
    }
}

/// A share between 0 and 1.
pub(crate) fn ratio(text: &str) -> Result<f64, Expected> {
    let share = text
        .parse::<f64>()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| Expected::new("a share of 0 to 1"))
}

/// `KEY=VALUE`, or `KEY` for an empty value.
pub(crate) fn key_value(text: &str) -> Result<(String, String), Expected> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.trim().is_empty() {
        return Err(Expected::new("KEY=VALUE with a key"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// One of the API's words.
pub(crate) fn word<T: FromStr<Err = essaim_objects::WordError>>(text: &str) -> Result<T, Expected> {
    let expected = |error: essaim_objects::WordError| {
        let words: Vec<_> = error
            .expected
            .iter()
            .filter(|word| !word.is_empty())
            .copied()
            .collect();
        Expected::new(words.join(", "))
    };
    if text.is_empty() {
        return Err("\u{0}"
            .parse::<T>()
            .err()
            .map_or_else(|| Expected::new("a word"), expected));
    }
    text.parse().map_err(expected)
}

/// A name without space or control characters.
pub(crate) fn ascii_word(text: &str) -> Result<String, Expected> {
    if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Expected::new("a name without spaces"));
    }
    Ok(text.to_owned())
}

/// The address of a name server.
pub(crate) fn name_server(text: &str) -> Result<String, Expected> {
    let address = text.trim().parse::<IpAddr>();
    address
        .map(|address| address.to_string())
        .map_err(|_| Expected::new("an IP address"))
}

/// `NAME:ADDRESS` or `NAME=ADDRESS` as a line of a hosts file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostEntry {
    pub(crate) name: String,
    /// Only a removal may leave it out.
    pub(crate) address: Option<IpAddr>,
}

impl HostEntry {
    /// An entry with its address.
    pub(crate) fn parse(text: &str) -> Result<Self, Expected> {
        let entry = Self::removal(text)?;
        match entry.address {
            Some(_) => Ok(entry),
            None => Err(Expected::new("NAME:ADDRESS")),
        }
    }

    /// An entry to remove: with an address that one, without all of the name.
    pub(crate) fn removal(text: &str) -> Result<Self, Expected> {
        let expected = || Expected::new("NAME:ADDRESS with an IP address");
        let (name, address) = match text.split_once('=').or_else(|| text.split_once(':')) {
            Some((name, address)) => {
                let address = address
                    .strip_prefix('[')
                    .and_then(|inner| inner.strip_suffix(']'))
                    .unwrap_or(address);
                (name, Some(address.parse().map_err(|_| expected())?))
            }
            None => (text, None),
        };
        if name.is_empty() || name.chars().any(char::is_whitespace) {
            return Err(expected());
        }
        Ok(Self {
            name: name.to_owned(),
            address,
        })
    }

    /// As the API keeps it: `ADDRESS NAME`.
    pub(crate) fn line(&self) -> String {
        let address = self
            .address
            .map(|address| address.to_string())
            .unwrap_or_default();
        format!("{address} {}", self.name)
    }

    /// Whether a line is of this name and, where one is given, this address.
    pub(crate) fn matches(&self, line: &str) -> bool {
        let mut words = line.split_whitespace();
        let address = words.next();
        let right_address = self
            .address
            .is_none_or(|wanted| address.and_then(|text| text.parse().ok()) == Some(wanted));
        right_address && words.any(|name| name == self.name)
    }
}

/// `NAME=SOFT[:HARD]`.
pub(crate) fn ulimit(text: &str) -> Result<Ulimit, Expected> {
    let expected = || Expected::new("NAME=SOFT[:HARD], with numbers of which -1 is no limit");
    let (name, values) = text.split_once('=').ok_or_else(expected)?;
    if !LIMITS.contains(&name) {
        return Err(Expected::new(format!("one of {}", LIMITS.join(", "))));
    }
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let parse = |number: &str| {
        number
            .parse::<i64>()
            .ok()
            .filter(|number| *number >= -1)
            .ok_or_else(expected)
    };
    let (soft, hard) = (parse(soft)?, parse(hard)?);
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(Expected::new("a soft limit that is not above the hard one"));
    }
    Ok(Ulimit {
        name: Some(name.to_owned()),
        soft: Some(soft),
        hard: Some(hard),
        ..Ulimit::default()
    })
}

/// `KIND=COUNT` of the operator's own resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Discrete {
    pub(crate) kind: String,
    pub(crate) count: i64,
}

impl FromStr for Discrete {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let expected = || Expected::new("KIND=COUNT; resources with names cannot be asked for");
        let (kind, count) = text
            .split_once('=')
            .filter(|(kind, _)| !kind.is_empty())
            .ok_or_else(expected)?;
        let count = count
            .parse()
            .ok()
            .filter(|count| *count >= 0)
            .ok_or_else(expected)?;
        Ok(Self {
            kind: kind.to_owned(),
            count,
        })
    }
}

/// A placement preference, `spread=node.labels.X`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed(pub(crate) String);

impl FromStr for Placed {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        match text.split_once('=') {
            Some((strategy, over)) if strategy.eq_ignore_ascii_case("spread") && !over.is_empty() => {
                Ok(Self(over.to_owned()))
            }
            _ => Err(Expected::new("spread=node.labels.X or spread=engine.labels.X")),
        }
    }
}

impl Placed {
    pub(crate) fn to_preference(&self) -> PlacementPreference {
        let spread = SpreadOver {
            spread_descriptor: Some(self.0.clone()),
            ..SpreadOver::default()
        };
        PlacementPreference {
            spread: Some(spread),
            ..PlacementPreference::default()
        }
    }
}

/// Words as a shell splits them.
pub(crate) fn shell_words(text: &str) -> Result<Vec<String>, Expected> {
    shlex::split(text).ok_or_else(|| Expected::new("words as a shell reads them, with quotes that end"))
}
