//! Moments as clients name them.

use essaim_objects::Timestamp;
use jiff::SignedDuration;

/// A moment: seconds since 1970 with a fraction, RFC 3339, or a span such as `10m` before `now`. An empty text and 0 are none.
pub(crate) fn parse(text: &str, now: Timestamp) -> Result<Option<Timestamp>, String> {
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    let parsed = since_1970(text).or_else(|| text.parse().ok());
    let parsed = parsed.or_else(|| now.checked_sub(text.parse::<SignedDuration>().ok()?).ok());
    parsed.map(Some).ok_or_else(|| {
        format!(
            "invalid time {text:?}, expected seconds since 1970, RFC 3339, or a span such as 10m before now"
        )
    })
}

fn since_1970(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || fraction.len() > 9 {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::new(seconds.parse().ok()?, nanoseconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_all_their_forms() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (text, expected) in [
            ("", None),
            ("0", None),
            ("17", Some((17, 0))),
            ("17.5", Some((17, 500_000_000))),
            ("1700000000.000000001", Some((1_700_000_000, 1))),
            ("1970-01-01T00:01:00Z", Some((60, 0))),
            ("1970-01-01T01:01:00+01:00", Some((60, 0))),
            ("10m", Some((999_400, 0))),
            ("1h30m", Some((994_600, 0))),
        ] {
            let expected =
                expected.map(|(seconds, nanoseconds)| Timestamp::new(seconds, nanoseconds).unwrap());
            assert_eq!(parse(text, now), Ok(expected), "{text}");
        }
        for text in [
            "x",
            "1.x",
            "1.0000000001",
            "99999999999999999999",
            "1970-13-01T00:00:00Z",
            "-",
        ] {
            let error = parse(text, now).unwrap_err();
            assert!(error.starts_with(&format!("invalid time {text:?}")), "{error}");
        }
    }
}
