use essaim_abi::Protocol;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A transport port that the holder keeps bound; written `tcp/8080`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeldPort {
    /// The transport.
    pub protocol: Protocol,
    /// The port's number.
    pub port: u16,
}

/// Text that names no port.
#[derive(Debug, thiserror::Error)]
#[error("{found:?} names no port; expected PROTOCOL/NUMBER, as in tcp/8080")]
pub struct PortSyntaxError {
    found: String,
}

/// The word for a transport protocol.
pub const fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// The transport protocol with this name, in small letters.
pub fn protocol_of(name: &str) -> Option<Protocol> {
    Protocol::ALL
        .into_iter()
        .find(|protocol| protocol_name(*protocol) == name)
}

impl fmt::Display for HeldPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", protocol_name(self.protocol), self.port)
    }
}

impl FromStr for HeldPort {
    type Err = PortSyntaxError;

    fn from_str(text: &str) -> Result<Self, PortSyntaxError> {
        let parse = || {
            let (protocol, port) = text.split_once('/')?;
            Some(Self {
                protocol: protocol_of(protocol)?,
                port: port.parse().ok()?,
            })
        };
        parse().ok_or_else(|| PortSyntaxError {
            found: text.to_owned(),
        })
    }
}

impl Serialize for HeldPort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HeldPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a holder must change to hold `desired` and nothing else.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PortDiff {
    /// Held and no longer wanted.
    pub release: BTreeSet<HeldPort>,
    /// Wanted and not yet held.
    pub take: BTreeSet<HeldPort>,
}

impl PortDiff {
    /// Compares what is held with what should be.
    pub fn between(held: &BTreeSet<HeldPort>, desired: &BTreeSet<HeldPort>) -> Self {
        Self {
            release: held.difference(desired).copied().collect(),
            take: desired.difference(held).copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(ports: &[&str]) -> BTreeSet<HeldPort> {
        ports.iter().map(|port| port.parse().unwrap()).collect()
    }

    #[test]
    fn a_port_reads_back_as_written() {
        for text in ["tcp/8080", "udp/53", "sctp/65535", "tcp/0"] {
            let port: HeldPort = text.parse().unwrap();
            assert_eq!(port.to_string(), text);
            assert_eq!(
                serde_json::from_str::<HeldPort>(&serde_json::to_string(&port).unwrap()).unwrap(),
                port
            );
        }
    }

    #[test]
    fn what_is_no_port_is_refused_with_what_was_found() {
        for text in ["", "tcp", "8080", "tcp/65536", "TCP/80", "icmp/8", "tcp/-1"] {
            let error = text.parse::<HeldPort>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn the_difference_releases_the_old_and_takes_the_new() {
        let diff = PortDiff::between(&set(&["tcp/80", "udp/53"]), &set(&["udp/53", "tcp/81"]));
        assert_eq!(
            diff,
            PortDiff {
                release: set(&["tcp/80"]),
                take: set(&["tcp/81"])
            }
        );
    }

    fn some_ports() -> impl Strategy<Value = BTreeSet<HeldPort>> {
        proptest::collection::btree_set((0_usize..3, 0_u16..12), 0..20).prop_map(|pairs| {
            pairs
                .into_iter()
                .map(|(row, port)| HeldPort {
                    protocol: Protocol::ALL[row],
                    port,
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn applying_the_difference_gives_the_desired_set(held in some_ports(), desired in some_ports()) {
            let diff = PortDiff::between(&held, &desired);
            let mut now = held;
            now.retain(|port| !diff.release.contains(port));
            for port in diff.take {
                prop_assert!(now.insert(port), "taken twice");
            }
            prop_assert_eq!(now, desired);
        }
    }
}
