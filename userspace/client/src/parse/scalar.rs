//! Single values: spans, sizes, processors, pairs, addresses.

use super::Expected;
use essaim_objects::{Nanoseconds, PlacementPreference, SpreadOver, Ulimit};
use std::net::IpAddr;
use std::str::FromStr;

/// A span as Go reads one: `1h30m`, `1.5s`, `-10ms`, `0`.
pub(crate) fn duration(text: &str) -> Result<Nanoseconds, Expected> {
    let expected = || Expected::new("a span such as 1m30s, with ns, us, ms, s, m or h after each number");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Nanoseconds(0));
    }
    if rest.is_empty() {
        return Err(expected());
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(expected)?;
        let (number, after) = rest.split_at(end);
        let unit_end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let scale: i64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(expected()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(expected());
        }
        let whole: i64 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| expected())?
        };
        let whole = whole.checked_mul(scale).ok_or_else(expected)?;
        let mut part: i64 = 0;
        let mut digit_scale = scale;
        for digit in fraction.chars().filter_map(|c| c.to_digit(10)) {
            digit_scale /= 10;
            part += i64::from(digit) * digit_scale;
        }
        total = whole
            .checked_add(part)
            .and_then(|span| total.checked_add(span))
            .ok_or_else(expected)?;
        rest = after;
    }
    Ok(Nanoseconds(sign * total))
}

/// A span that is not negative.
pub(crate) fn nano_duration(text: &str) -> Result<Nanoseconds, Expected> {
    let span = duration(text)?;
    if span.0 < 0 {
        Err(Expected::new("a span of 0 or more"))
    } else {
        Ok(span)
    }
}

/// A size in bytes: `64m`, `1.5GiB`, `12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) i64);

impl FromStr for Bytes {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let expected = || Expected::new("a size such as 64m, with b, k, m, g, t or p after the number");
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            "p" | "pb" | "pib" => 50,
            _ => return Err(expected()),
        };
        let (digits, places) = decimal(number).ok_or_else(expected)?;
        let scaled = digits
            .checked_shl(shift)
            .filter(|scaled| scaled >> shift == digits)
            .ok_or_else(expected)?;
        let size = scaled / 10_i128.checked_pow(places).ok_or_else(expected)?;
        i64::try_from(size).map(Self).map_err(|_| expected())
    }
}

/// A decimal number's digits, and how many of them are behind the point.
fn decimal(text: &str) -> Option<(i128, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 25 || !digits.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    Some((digits.parse().ok()?, u32::try_from(fraction.len()).ok()?))
}

/// Billionths of a processor, from a number such as `1.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpus(pub(crate) i64);

impl FromStr for Cpus {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let expected = || Expected::new("a number of processors such as 1.5, with at most nine decimals");
        let (digits, places) = decimal(text).ok_or_else(expected)?;
        let scale = 10_i128.checked_pow(places).ok_or_else(expected)?;
        let billionths = digits.checked_mul(1_000_000_000).ok_or_else(expected)?;
        if billionths % scale != 0 {
            return Err(expected());
        }
        i64::try_from(billionths / scale)
            .map(Self)
            .map_err(|_| expected())
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

const LIMITS: &[&str] = &[
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

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

/// A capability's whole name.
pub(crate) fn capability(text: &str) -> Result<String, Expected> {
    let name = text.trim().to_ascii_uppercase();
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Expected::new("a capability such as NET_ADMIN, or ALL"));
    }
    Ok(match name.as_str() {
        "ALL" => name,
        _ if name.starts_with("CAP_") => name,
        _ => format!("CAP_{name}"),
    })
}

/// Words as a shell splits them.
pub(crate) fn shell_words(text: &str) -> Result<Vec<String>, Expected> {
    shlex::split(text).ok_or_else(|| Expected::new("words as a shell reads them, with quotes that end"))
}
