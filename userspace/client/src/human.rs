//! Times, sizes and lists of ports as people read them.

pub(crate) use essaim_objects::written::span as duration;
use essaim_objects::{PortConfig, Timestamp};

/// How long ago, as docker says it: `5 seconds ago`, `About a minute ago`.
pub(crate) fn ago(then: Option<Timestamp>, now: Timestamp) -> String {
    let then = then.unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{} ago", span(now.as_second().saturating_sub(then.as_second())))
}

fn span(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// A time as Go writes one, `2026-11-21 05:07:31.2 +0000 UTC`.
pub(crate) fn time(time: Timestamp) -> String {
    let text = time.strftime("%Y-%m-%d %H:%M:%S").to_string();
    let nanoseconds = format!("{:09}", time.subsec_nanosecond());
    let fraction = nanoseconds.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{text}{dot}{fraction} +0000 UTC")
}

/// Bytes in the unit that leaves four digits, `23.54GiB`.
#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
pub(crate) fn bytes(count: i64) -> String {
    let mut size = count as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    // Four significant digits, without trailing zeros.
    let places = if size >= 1000.0 {
        0
    } else if size >= 100.0 {
        1
    } else if size >= 10.0 {
        2
    } else {
        3
    };
    let text = format!("{size:.places$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text}{unit}")
}

/// Published ports, `*:80-81->80-81/tcp`; neighbours are drawn together.
pub(crate) fn ports(ports: &[PortConfig], host_mode_too: bool) -> String {
    let mut shown: Vec<_> = ports
        .iter()
        .filter(|port| host_mode_too || port.publish_mode() == essaim_objects::PublishMode::Ingress)
        .map(|port| (port.protocol(), port.target(), port.published()))
        .collect();
    shown.sort_by_key(|(protocol, target, published)| (*published, protocol.as_str(), *target));
    // A node may tell of each family apart.
    shown.dedup();
    let mut ranges: Vec<(essaim_objects::Protocol, u16, u16, u16)> = Vec::new();
    for (protocol, target, published) in shown {
        if let Some((last_protocol, first_target, first_published, further)) = ranges.last_mut() {
            let next = further.checked_add(1);
            let follows =
                |first: u16, this: u16| next.is_some_and(|next| first.checked_add(next) == Some(this));
            if *last_protocol == protocol
                && follows(*first_target, target)
                && follows(*first_published, published)
            {
                *further = further.saturating_add(1);
                continue;
            }
        }
        ranges.push((protocol, target, published, 0));
    }
    let range = |first: u16, further: u16| match further {
        0 => first.to_string(),
        further => format!("{first}-{}", first.saturating_add(further)),
    };
    let texts: Vec<_> = ranges
        .into_iter()
        .map(|(protocol, target, published, further)| {
            format!(
                "*:{}->{}/{protocol}",
                range(published, further),
                range(target, further)
            )
        })
        .collect();
    texts.join(", ")
}

/// With a capital first letter.
pub(crate) fn capital(word: &str) -> String {
    let mut characters = word.chars();
    characters
        .next()
        .map(|first| first.to_uppercase().chain(characters).collect())
        .unwrap_or_default()
}

/// The first twelve characters, enough to tell objects apart.
pub(crate) fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_objects::Nanoseconds;

    #[test]
    fn spans_are_told_as_docker_tells_them() {
        let cases = [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (13 * 86_400, "13 days"),
            (14 * 86_400, "2 weeks"),
            (60 * 86_400, "2 months"),
            (730 * 86_400, "2 years"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(span(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn times_spans_and_sizes_are_written_as_go_writes_them() {
        assert_eq!(
            time("2026-11-21T05:07:31.256979902Z".parse().unwrap()),
            "2026-11-21 05:07:31.256979902 +0000 UTC"
        );
        assert_eq!(
            time("2026-11-21T05:07:31.50Z".parse().unwrap()),
            "2026-11-21 05:07:31.5 +0000 UTC"
        );
        assert_eq!(
            time("2026-11-21T05:07:31Z".parse().unwrap()),
            "2026-11-21 05:07:31 +0000 UTC"
        );
        let spans = [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (2_000_000, "2ms"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (7_776_000_000_000_000, "2160h0m0s"),
            (-1_000_000_000, "-1s"),
            (3_661_000_000_001, "1h1m1.000000001s"),
        ];
        for (span, expected) in spans {
            assert_eq!(duration(Nanoseconds(span)), expected);
        }
        let sizes = [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (67_108_864, "64MiB"),
            (25_276_502_016, "23.54GiB"),
        ];
        for (size, expected) in sizes {
            assert_eq!(bytes(size), expected);
        }
    }

    #[test]
    fn neighbouring_ports_are_drawn_together() {
        let port = |published: u32, target: u32, protocol: &str, mode: &str| PortConfig {
            protocol: protocol.parse().ok(),
            target_port: Some(target),
            published_port: Some(published),
            publish_mode: mode.parse().ok(),
            ..PortConfig::default()
        };
        let all = [
            port(81, 81, "tcp", "ingress"),
            port(80, 80, "tcp", "ingress"),
            port(53, 53, "udp", "host"),
            port(82, 90, "tcp", "ingress"),
            port(83, 91, "udp", "ingress"),
        ];
        assert_eq!(
            ports(&all, false),
            "*:80-81->80-81/tcp, *:82->90/tcp, *:83->91/udp"
        );
        assert_eq!(ports(&all[2..3], true), "*:53->53/udp");
        assert_eq!(ports(&[all[2].clone(), all[2].clone()], true), "*:53->53/udp");
        assert_eq!(
            ports(
                &[
                    port(65_535, 65_535, "tcp", "ingress"),
                    port(0, 0, "tcp", "ingress")
                ],
                true
            ),
            "*:0->0/tcp, *:65535->65535/tcp"
        );
    }
}
