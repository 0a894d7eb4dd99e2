//! Reads the values of single fields.

use super::read::{Reader, Value};
use super::{NodeState, Problem};
use crate::{NameError, TaskState, Vni};
use essaim_abi::{MacAddr, Protocol};
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;

pub(super) fn string(reader: &mut Reader, value: Value<'_>) -> Option<String> {
    match value.value.get_ref().as_str() {
        Some(text) => Some(text.to_owned()),
        None => reader.wrong_type(value, "a string"),
    }
}

pub(super) fn boolean(reader: &mut Reader, value: Value<'_>) -> Option<bool> {
    match value.value.get_ref().as_bool() {
        Some(truth) => Some(truth),
        None => reader.wrong_type(value, "true or false"),
    }
}

/// A number from `least` to `most`.
pub(super) fn number(
    what: &'static str,
    least: u64,
    most: u64,
) -> impl Fn(&mut Reader, Value<'_>) -> Option<u64> + Copy {
    move |reader, value| {
        let Some(integer) = value.value.get_ref().as_integer() else {
            return reader.wrong_type(value, "an integer");
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        if number.is_some_and(|number| (least..=most).contains(&number)) {
            return number;
        }
        let [least, most] = [least, most].map(|limit| limit.to_string());
        reader.reject(
            value,
            Problem::OutOfRange {
                what,
                found: integer.to_string(),
                least,
                most,
            },
        )
    }
}

pub(super) fn port(reader: &mut Reader, value: Value<'_>) -> Option<u16> {
    number("port", 1, 65_535)(reader, value).and_then(|port| u16::try_from(port).ok())
}

pub(super) fn mtu(reader: &mut Reader, value: Value<'_>) -> Option<u32> {
    number("MTU", 576, 65_465)(reader, value).and_then(|mtu| u32::try_from(mtu).ok())
}

pub(super) fn vni(reader: &mut Reader, value: Value<'_>) -> Option<Vni> {
    let number = number("VNI", 1, u64::from(Vni::MAX))(reader, value)?;
    u32::try_from(number)
        .ok()
        .and_then(|number| Vni::new(number).ok())
}

/// A name, by its type's check.
pub(super) fn name<T>(reader: &mut Reader, value: Value<'_>) -> Option<T>
where
    T: TryFrom<String, Error = NameError>,
{
    match T::try_from(string(reader, value)?) {
        Ok(name) => Some(name),
        Err(error) => reader.reject(value, error),
    }
}

fn parsed<T>(
    reader: &mut Reader,
    value: Value<'_>,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let text = string(reader, value)?;
    match parse(&text) {
        Some(parsed) => Some(parsed),
        None => reader.reject(
            value,
            Problem::Malformed {
                found: text,
                expected,
            },
        ),
    }
}

/// IPv4 addresses in their IPv6 form are refused: in the maps they would be the IPv4 address.
pub(super) fn address(reader: &mut Reader, value: Value<'_>) -> Option<IpAddr> {
    parsed(
        reader,
        value,
        "an IP address such as 10.0.1.5 or fd00:1::5",
        |text| {
            text.parse::<IpAddr>()
                .ok()
                .filter(|address| address.to_canonical() == *address)
        },
    )
}

pub(super) fn subnet(reader: &mut Reader, value: Value<'_>) -> Option<IpNet> {
    let subnet = parsed(
        reader,
        value,
        "a subnet such as 10.0.1.0/24 or fd00:1::/64",
        |text| {
            text.parse::<IpNet>()
                .ok()
                .filter(|subnet| subnet.addr().to_canonical() == subnet.addr())
        },
    )?;
    if subnet != subnet.trunc() {
        return reader.reject(
            value,
            Problem::HostBits {
                found: subnet,
                expected: subnet.trunc(),
            },
        );
    }
    let (least, most) = match subnet {
        IpNet::V4(_) => (1, 30),
        IpNet::V6(_) => (1, 126),
    };
    if !(least..=most).contains(&subnet.prefix_len()) {
        let found = format!("/{}", subnet.prefix_len());
        let [least, most] = [least, most].map(|length| format!("/{length}"));
        return reader.reject(
            value,
            Problem::OutOfRange {
                what: "prefix",
                found,
                least,
                most,
            },
        );
    }
    Some(subnet)
}

pub(super) fn mac(reader: &mut Reader, value: Value<'_>) -> Option<MacAddr> {
    parsed(
        reader,
        value,
        "a unicast Ethernet address such as 02:42:0a:00:01:05",
        |text| {
            let mut octets = [0; 6];
            let mut parts = text.split(':');
            for octet in &mut octets {
                let part = parts.next().filter(|part| part.len() == 2)?;
                *octet = u8::from_str_radix(part, 16).ok()?;
            }
            let unicast = octets[0] & 1 == 0 && octets != [0; 6];
            (parts.next().is_none() && unicast).then_some(MacAddr(octets))
        },
    )
}

/// One of a few words.
pub(super) fn choice<T: Copy>(
    expected: &'static str,
    choices: &'static [(&'static str, T)],
) -> impl Fn(&mut Reader, Value<'_>) -> Option<T> + Copy {
    move |reader, value| {
        parsed(reader, value, expected, |text| {
            choices
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, choice)| *choice)
        })
    }
}

pub(super) fn node_state(reader: &mut Reader, value: Value<'_>) -> Option<NodeState> {
    choice("up or down", &[("up", NodeState::Up), ("down", NodeState::Down)])(reader, value)
}

pub(super) fn task_state(reader: &mut Reader, value: Value<'_>) -> Option<TaskState> {
    choice(
        "starting, ready, draining or gone",
        &[
            ("starting", TaskState::Starting),
            ("ready", TaskState::Ready),
            ("draining", TaskState::Draining),
            ("gone", TaskState::Gone),
        ],
    )(reader, value)
}

pub(super) fn protocol(reader: &mut Reader, value: Value<'_>) -> Option<Protocol> {
    choice(
        "tcp, udp or sctp",
        &[
            ("tcp", Protocol::Tcp),
            ("udp", Protocol::Udp),
            ("sctp", Protocol::Sctp),
        ],
    )(reader, value)
}

/// An idle time: jiffies of a kernel at 1000 Hz must fit 31 bits.
pub(super) fn idle_time(reader: &mut Reader, value: Value<'_>) -> Option<Duration> {
    time(reader, value, "idle time", ["1s", "24d"])
}

/// A time of a health check; the least is Docker's.
pub(super) fn check_time(reader: &mut Reader, value: Value<'_>) -> Option<Duration> {
    time(reader, value, "time", ["1ms", "24d"])
}

/// A duration within limits, which are written as in the file.
fn time(
    reader: &mut Reader,
    value: Value<'_>,
    what: &'static str,
    [least, most]: [&'static str; 2],
) -> Option<Duration> {
    let expected = "a duration such as 90s, 15m, 2h or 1h30m";
    let time = parsed(reader, value, expected, duration)?;
    let is_within =
        duration(least).is_some_and(|least| least <= time) && duration(most).is_some_and(|most| time <= most);
    if is_within {
        return Some(time);
    }
    let found = value.value.get_ref().as_str().unwrap_or_default().to_owned();
    let [least, most] = [least, most].map(str::to_owned);
    reader.reject(
        value,
        Problem::OutOfRange {
            what,
            found,
            least,
            most,
        },
    )
}

/// The absolute path of a folder.
pub(super) fn folder(reader: &mut Reader, value: Value<'_>) -> Option<String> {
    parsed(reader, value, "an absolute path", |text| {
        (text.starts_with('/') && !text.contains('\0')).then(|| text.to_owned())
    })
}

/// Numbers with the units `ms`, `s`, `m`, `h`, `d`, added up.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let number: u64 = number.parse().ok()?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up() {
        assert_eq!(duration("90s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Some(Duration::from_mins(90)));
        assert_eq!(duration("5d"), Some(Duration::from_hours(5 * 24)));
        assert_eq!(duration("1500ms"), Some(Duration::from_millis(1500)));
        for bad in [
            "",
            "5",
            "s",
            "5x",
            "-5s",
            "5 s",
            "5s ",
            "1.5h",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
