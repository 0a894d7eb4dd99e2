//! Small values that many objects have.

use crate::object::{Member, always_written, object};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

pub use jiff::Timestamp;

/// Labels and options: strings by name.
pub type Labels = BTreeMap<String, String>;

/// The log index of an object's last change; an update names the one it was read at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The index; 0 is written as an empty object, as Docker does.
    pub index: u64,
}

object! {
    /// How a version is written.
    WrittenVersion {
        /// The index.
        "Index" index: Option<u64>,
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let index = (self.index != 0).then_some(self.index);
        let extra = crate::Extra::new();
        WrittenVersion { index, extra }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = WrittenVersion::deserialize(deserializer)?;
        let index = written.index.unwrap_or_default();
        Ok(Self { index })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.index.fmt(f)
    }
}

/// A time span in nanoseconds, as the API gives all of them; negative ones can be read but are refused by the checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanoseconds(pub i64);

impl Nanoseconds {
    /// So many seconds, at most some 292 years.
    pub const fn from_secs(seconds: u32) -> Self {
        Self(seconds as i64 * 1_000_000_000)
    }

    /// As a duration; a negative one is none.
    pub fn to_duration(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or_default())
    }
}

impl From<Duration> for Nanoseconds {
    fn from(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// A fraction; written without a decimal point where it is whole, as Docker does.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Deserialize)]
#[serde(transparent)]
pub struct Ratio(pub f64);

impl Serialize for Ratio {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        for whole in [0, 1] {
            if self.0.to_bits() == f64::from(whole).to_bits() {
                return serializer.serialize_i32(whole);
            }
        }
        serializer.serialize_f64(self.0)
    }
}

/// Bytes that the API carries in base64 and that no log may show.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Data(Box<[u8]>);

impl Data {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Data {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&data_encoding::BASE64.encode_display(&self.0))
    }
}

/// A string that no log may show, such as a key.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sensitive(pub String);

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} characters)", self.0.len())
    }
}

/// A string that is not base64.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("data is not base64 with padding: {source}")]
pub struct DataError {
    source: data_encoding::DecodeError,
}

impl std::str::FromStr for Data {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        let decoded = data_encoding::BASE64.decode(text.as_bytes());
        decoded.map(Self::from).map_err(|source| DataError { source })
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::object::text(deserializer)
    }
}

always_written!(Nanoseconds);

impl Member for Version {
    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn is_absent(&self) -> bool {
        false
    }
}

/// An object that has no time of its own has none written.
impl Member for Timestamp {
    fn absent() -> Option<Self> {
        Some(Self::UNIX_EPOCH)
    }

    fn is_absent(&self) -> bool {
        *self == Self::UNIX_EPOCH
    }
}
