//! Names as DNS has them: what tasks call each other, beside the catalog's own names.

use crate::NameError;
use crate::names::text;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest host name in text, in bytes: 255 on the wire, where each label has a length and the root one more.
const MAX_HOST_NAME: usize = 253;
/// Longest label of a host name, in bytes.
const MAX_LABEL: usize = 63;
/// Shortest and longest identity of a container, in bytes.
const CONTAINER_ID: (usize, usize) = (12, 64);
/// Longest name of a port, in bytes (RFC 6335).
const MAX_PORT_NAME: usize = 15;
/// Longest option of a resolver, in bytes.
const MAX_OPTION: usize = 63;

fn unfit(what: &'static str, found: &str, expected: &'static str) -> NameError {
    NameError::Shape {
        what,
        found: found.to_owned(),
        expected,
    }
}

/// A host name: labels of letters, digits, `-` and `_` with dots between them (RFC 1123, and the `_` that users of
/// compose files have in theirs); a label begins and ends with a letter or digit and has at most 63 bytes, the whole
/// at most 253. Names that differ only in case are the same name. Cheap to clone.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(Arc<str>);

impl HostName {
    /// Checks the string.
    ///
    /// # Errors
    /// It is no host name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        const EXPECTED: &str = "labels of letters, digits, '-' and '_' with dots between them, each with a letter \
                                or digit at both ends and at most 63 bytes";
        let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_label = |label: &str| {
            let label = label.as_bytes();
            label.len() <= MAX_LABEL && ends(label.first()) && ends(label.last()) && label.iter().all(inner)
        };
        if text.len() > MAX_HOST_NAME {
            return Err(NameError::Length {
                what: "host name",
                found: text.to_owned(),
                length: text.len(),
                most: MAX_HOST_NAME,
            });
        }
        if !text.split('.').all(is_label) {
            return Err(unfit("host name", text, EXPECTED));
        }
        Ok(Self(text.into()))
    }

    /// The string, in the case it was written in.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for HostName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for HostName {}

text!(HostName);

/// The identity of a container: 12 to 64 letters and digits. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(Arc<str>);

impl ContainerId {
    /// Checks the string.
    ///
    /// # Errors
    /// It is too short, too long, or has something else than letters and digits.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let (least, most) = CONTAINER_ID;
        let fits = (least..=most).contains(&text.len());
        if !fits || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(unfit("container id", text, "12 to 64 letters and digits"));
        }
        Ok(Self(text.into()))
    }

    /// The string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its first 12 characters, which are a name of the container.
    pub fn short(&self) -> &str {
        self.0.get(..CONTAINER_ID.0).unwrap_or(&self.0)
    }
}

text!(ContainerId);

/// The name of a port in SRV questions: `http` in `_http._tcp.web` (RFC 6335): 1 to 15 lower-case letters, digits and
/// `-`, a letter among them, no `-` at an end or beside another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortName {
    /// Zero after the name's end.
    bytes: [u8; MAX_PORT_NAME],
}

impl PortName {
    /// Checks the string.
    ///
    /// # Errors
    /// It is no name of a port.
    pub fn new(text: &str) -> Result<Self, NameError> {
        const EXPECTED: &str = "1 to 15 lower-case letters, digits and '-', a letter among them, no '-' at an end \
                                or beside another";
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let dashes = text.starts_with('-') || text.ends_with('-') || text.contains("--");
        let letter = text.bytes().any(|byte| byte.is_ascii_lowercase());
        let mut bytes = [0; MAX_PORT_NAME];
        match bytes.get_mut(..text.len()) {
            Some(start) if letter && !dashes && text.bytes().all(allowed) => {
                start.copy_from_slice(text.as_bytes());
                Ok(Self { bytes })
            }
            _ => Err(unfit("port name", text, EXPECTED)),
        }
    }

    /// The string.
    pub fn as_str(&self) -> &str {
        let end = self.bytes.iter().position(|byte| *byte == 0);
        let name = self.bytes.get(..end.unwrap_or(MAX_PORT_NAME));
        // Never empty: the constructor takes ASCII only.
        name.and_then(|name| std::str::from_utf8(name).ok())
            .unwrap_or_default()
    }
}

text!(PortName);

/// An option of a resolver (resolv.conf): a word such as `rotate`, or one with a number such as `ndots:2`. Cheap to
/// clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResolverOption(Arc<str>);

impl ResolverOption {
    /// Checks the string.
    ///
    /// # Errors
    /// It is not written as an option is.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let (word, number) = match text.split_once(':') {
            Some((word, number)) => (word, Some(number)),
            None => (text, None),
        };
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        let is_word = word.starts_with(|c: char| c.is_ascii_lowercase()) && word.bytes().all(allowed);
        let is_number = |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if text.len() > MAX_OPTION || !is_word || !number.is_none_or(is_number) {
            return Err(unfit(
                "resolver option",
                text,
                "a word of lower-case letters, or one with a number such as ndots:2",
            ));
        }
        Ok(Self(text.into()))
    }

    /// The string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

text!(ResolverOption);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_made_of_labels() {
        let longest = [
            &*"x".repeat(63),
            &"y".repeat(63),
            &"z".repeat(63),
            &"w".repeat(61),
        ]
        .join(".");
        for good in ["a", "9", "my_db", "a-b.c_d.9", &longest, "xn--bcher-kva.example"] {
            assert_eq!(HostName::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "-a",
            "a-",
            "_a",
            "a._b",
            "a b",
            "é",
            "a/b",
            &"x".repeat(64),
            &format!("{longest}w"),
        ] {
            assert!(HostName::new(bad).is_err(), "{bad}");
        }
        assert_eq!(HostName::new("Web").unwrap(), HostName::new("wEB").unwrap());
        assert_eq!(
            HostName::new("a..b").unwrap_err().to_string(),
            "host name \"a..b\" is not made of labels of letters, digits, '-' and '_' with dots between them, each \
             with a letter or digit at both ends and at most 63 bytes"
        );
    }

    #[test]
    fn a_container_is_also_called_by_twelve_characters() {
        let id = ContainerId::new("0123456789abCDEF").unwrap();
        assert_eq!((id.as_str(), id.short()), ("0123456789abCDEF", "0123456789ab"));
        for bad in ["", "0123456789a", "0123456789a-", "0123456789aé", &"a".repeat(65)] {
            assert!(ContainerId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_name_is_that_of_rfc_6335() {
        for good in ["a", "http", "x11-1", "a23456789012345"] {
            assert_eq!(PortName::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "80",
            "-a",
            "a-",
            "a--b",
            "HTTP",
            "a_b",
            "a234567890123456",
            "é",
        ] {
            assert!(PortName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_resolver_option_is_a_word_and_perhaps_a_number() {
        for good in ["rotate", "ndots:2", "use-vc", "single-request-reopen"] {
            assert_eq!(ResolverOption::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "ndots:",
            "ndots:x",
            ":2",
            "2",
            "a b",
            "a\nnameserver 1",
            "ndots:1:2",
            &"a".repeat(64),
        ] {
            assert!(ResolverOption::new(bad).is_err(), "{bad}");
        }
    }
}
