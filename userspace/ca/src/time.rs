use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;

/// A moment, in whole seconds since 1970 (UTC): what a certificate can say of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment this many seconds after the beginning of 1970.
    pub const fn from_unix(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds since the beginning of 1970.
    pub const fn unix(self) -> u64 {
        self.0
    }

    /// The moment later by the whole seconds of this duration.
    #[must_use]
    pub const fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs()))
    }

    /// The moment earlier by the whole seconds of this duration; the beginning of 1970 where there is no such moment.
    #[must_use]
    pub const fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_secs()))
    }

    /// How long after the earlier moment this one is; zero where it is not later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }

    /// As what certificates are written with; `None` past the year 9999, which X.509 cannot say.
    pub(crate) fn to_date(self) -> Option<OffsetDateTime> {
        let date = OffsetDateTime::from_unix_timestamp(i64::try_from(self.0).ok()?).ok()?;
        (date.year() <= 9999).then_some(date)
    }

    pub(crate) fn to_pki(self) -> rustls::pki_types::UnixTime {
        rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(self.0))
    }
}

impl From<SystemTime> for Timestamp {
    /// A clock that says a time before 1970 counts as 1970.
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }
}

impl From<rustls::pki_types::UnixTime> for Timestamp {
    fn from(time: rustls::pki_types::UnixTime) -> Self {
        Self(time.as_secs())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(date) = self.to_date() else {
            return write!(f, "second {} since 1970", self.0);
        };
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        let (hour, minute, second) = date.to_hms();
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_utc() {
        assert_eq!(Timestamp::from_unix(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(
            Timestamp::from_unix(1_795_897_980).to_string(),
            "2026-11-28T20:33:00Z"
        );
        assert_eq!(
            Timestamp::from_unix(u64::MAX).to_string(),
            "second 18446744073709551615 since 1970"
        );
    }

    #[test]
    fn arithmetic_stays_within_bounds() {
        let day = Duration::from_hours(24);
        assert_eq!(Timestamp::from_unix(5).before(day), Timestamp::from_unix(0));
        assert_eq!(
            Timestamp::from_unix(u64::MAX).after(day),
            Timestamp::from_unix(u64::MAX)
        );
        assert_eq!(
            Timestamp::from_unix(5).since(Timestamp::from_unix(9)),
            Duration::ZERO
        );
        assert_eq!(Timestamp::from(UNIX_EPOCH - day), Timestamp::from_unix(0));
    }
}
