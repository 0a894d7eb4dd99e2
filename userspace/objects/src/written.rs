//! Values as people write them, after a flag or in a stack's file: spans, sizes, processors, ports, capabilities; by
//! docker's rules.

use crate::{Nanoseconds, PortConfig, Protocol, PublishMode};
use std::collections::BTreeSet;
use std::str::FromStr;

/// What was expected; whoever reads the text adds where, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct Expected(pub String);

impl Expected {
    /// With these words, which follow "expected".
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// A span as Go reads one: `1h30m`, `1.5s`, `-10ms`, `0`.
///
/// # Errors
/// The text is none, or some 292 years or longer.
pub fn duration(text: &str) -> Result<Nanoseconds, Expected> {
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

/// A span as Go writes one, `1h2m3.5s`.
pub fn span(span: Nanoseconds) -> String {
    const SECOND: u64 = 1_000_000_000;
    let total = span.0.unsigned_abs();
    let sign = if span.0 < 0 { "-" } else { "" };
    let decimal = |value: u64, unit: u64| {
        let width = unit.ilog10() as usize;
        let fraction = format!("{:0width$}", value % unit);
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() || unit == 1 {
            (value / unit).to_string()
        } else {
            format!("{}.{fraction}", value / unit)
        }
    };
    let text = match total {
        0 => return "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(total, 1_000)),
        1_000_000..SECOND => format!("{}ms", decimal(total, 1_000_000)),
        _ => {
            let minutes = total / SECOND / 60;
            let seconds = decimal(total % (60 * SECOND), SECOND);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    format!("{sign}{text}")
}

/// A size in bytes: `64m`, `1.5GiB`, `12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub i64);

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
pub struct Cpus(pub i64);

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

/// The ports of `8080:80/tcp`, `80` or ranges of them, all in ingress mode.
///
/// # Errors
/// Numbers, ranges or the protocol are none, or an address is given.
pub fn ports(text: &str) -> Result<Vec<PortConfig>, Expected> {
    let (ports, proto) = text.split_once('/').unwrap_or((text, "tcp"));
    let proto = protocol(proto)?;
    let (published, target) = match ports.split_once(':') {
        Some((published, target)) => (Some(range(published)?), target),
        None => (None, ports),
    };
    if target.contains(':') {
        return Err(Expected::new(
            "PUBLISHED:TARGET without an address: a port is open at every address",
        ));
    }
    let (first, last) = range(target)?;
    if first == 0 {
        return Err(Expected::new("a target port of 1 to 65535"));
    }
    let ingress = PublishMode::Ingress;
    let Some((from, to)) = published else {
        return Ok((first..=last)
            .map(|target| port(proto, target, None, ingress))
            .collect());
    };
    if first == last {
        return Ok((from..=to)
            .map(|published| port(proto, first, Some(published), ingress))
            .collect());
    }
    if last - first != to - from {
        return Err(Expected::new("ranges of the same length"));
    }
    Ok((from..=to)
        .zip(first..=last)
        .map(|(published, target)| port(proto, target, Some(published), ingress))
        .collect())
}

/// A published port; a published 0 is chosen by the managers.
pub fn port(protocol: Protocol, target: u16, published: Option<u16>, mode: PublishMode) -> PortConfig {
    PortConfig {
        protocol: Some(protocol),
        target_port: Some(target.into()),
        published_port: published.filter(|port| *port != 0).map(u32::from),
        publish_mode: Some(mode),
        ..PortConfig::default()
    }
}

/// A port's number.
///
/// # Errors
/// It is none of 0 to 65535.
pub fn number(text: &str) -> Result<u16, Expected> {
    text.parse()
        .map_err(|_| Expected::new("port numbers of 0 to 65535"))
}

/// A transport protocol.
///
/// # Errors
/// It is none.
pub fn protocol(text: &str) -> Result<Protocol, Expected> {
    text.parse()
        .map_err(|_| Expected::new("tcp, udp or sctp as the protocol"))
}

fn range(text: &str) -> Result<(u16, u16), Expected> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        Err(Expected::new("a range that goes up"))
    } else {
        Ok((first, last))
    }
}

/// The limits of processes that have a name.
pub const LIMITS: &[&str] = &[
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

/// A capability's whole name.
///
/// # Errors
/// The text is no name.
pub fn capability(text: &str) -> Result<String, Expected> {
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

/// Capabilities to add and to drop, each once and in order: all of them is said alone, and what is added is not dropped.
pub fn capabilities(add: &[String], drop: &[String]) -> (Vec<String>, Vec<String>) {
    let known = |names: &[String]| -> BTreeSet<String> {
        if names.iter().any(|name| name == "ALL") {
            return ["ALL".to_owned()].into();
        }
        names.iter().cloned().collect()
    };
    let (add, drop) = (known(add), known(drop));
    let drop = drop.difference(&add).cloned().collect();
    (add.into_iter().collect(), drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_capabilities_stand_alone_and_an_added_one_is_not_dropped() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let cases = [
            (
                &["CAP_B", "CAP_A", "CAP_B"][..],
                &["CAP_C", "CAP_A"][..],
                &["CAP_A", "CAP_B"][..],
                &["CAP_C"][..],
            ),
            (&["CAP_A", "ALL"], &["CAP_B"], &["ALL"], &["CAP_B"]),
            (&["CAP_A"], &["CAP_B", "ALL"], &["CAP_A"], &["ALL"]),
            (&["ALL"], &["ALL"], &["ALL"], &[]),
        ];
        for (add, drop, added, dropped) in cases {
            assert_eq!(
                capabilities(&names(add), &names(drop)),
                (names(added), names(dropped)),
                "{add:?} {drop:?}"
            );
        }
    }
}
