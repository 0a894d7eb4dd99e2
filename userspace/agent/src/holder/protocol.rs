use super::port::HeldPort;
use crate::keys::KeyFile;
use essaim_model::NodeName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The version of the messages below; a holder that speaks another is replaced by one of the agent's own build.
pub const HOLDER_PROTOCOL: u32 = 4;

/// The name that gossip's UDP socket is kept under.
pub const GOSSIP_SOCKET: &str = "gossip";

/// Descriptors that one message may carry; the kernel takes at most 253 (`SCM_MAX_FD`).
pub(crate) const DESCRIPTORS_PER_MESSAGE: usize = 128;

/// Largest message, in bytes: every port of every protocol, by name, fits.
pub(crate) const MAX_MESSAGE: usize = 4 << 20;

/// What an agent, or a newer holder, asks of the holder. One datagram each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Who are you?
    Hello,
    /// Hold exactly these ports.
    Hold {
        /// The whole set; what is not in it is released.
        ports: BTreeSet<HeldPort>,
    },
    /// Which ports do you hold?
    List,
    /// Keep the one descriptor that comes with this message.
    Store {
        /// The name to find it under; an earlier one of the name is closed.
        name: String,
        /// How long to keep it after the end of the connection that brought it, in milliseconds: who waits at a socket
        /// must not wait for ever. Without it, until it is forgotten.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit_ms: Option<u64>,
    },
    /// Send a copy of the descriptor of this name.
    Fetch {
        /// The name it was stored under.
        name: String,
    },
    /// Close the descriptor of this name.
    Forget {
        /// The name it was stored under.
        name: String,
    },
    /// Under which names do you keep descriptors?
    Names,
    /// Keep the one descriptor that comes with this message as [`GOSSIP_SOCKET`], and answer there for a node once this
    /// connection has ended.
    Tend(Charge),
    /// Answer for no node any more; the socket stays.
    Untend,
    /// Send copies of all descriptors, to a holder that takes over.
    HandOver,
    /// Close everything and end.
    Exit,
}

/// For whom the holder answers gossip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The node.
    pub node: NodeName,
    /// The epoch of its run.
    pub epoch: u64,
    /// The keys of gossip; kept in memory only.
    pub keys: KeyFile,
    /// How long after the end of the connection, in milliseconds.
    pub limit_ms: u64,
}

/// What the holder answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Hello`].
    Hello(HolderIdentity),
    /// To [`Request::Hold`].
    Held {
        /// The ports that could not be bound; all others of the set are held.
        refused: Vec<Refusal>,
    },
    /// To [`Request::List`].
    Listed {
        /// The ports that are held.
        ports: BTreeSet<HeldPort>,
    },
    /// To [`Request::Names`].
    Named {
        /// Everything that was stored and not forgotten.
        names: BTreeSet<String>,
    },
    /// To [`Request::Store`], [`Request::Forget`], [`Request::Tend`] and [`Request::Untend`].
    Done,
    /// To [`Request::Fetch`]; the descriptor comes with the message where it was found.
    Fetched {
        /// Whether there is one of that name.
        found: bool,
    },
    /// To [`Request::HandOver`]; as many descriptors as labels come with the message.
    Handed {
        /// What each descriptor is, in their order.
        labels: Vec<Label>,
        /// Whether another such message follows.
        more: bool,
    },
    /// To [`Request::Exit`], before it does.
    Leaving,
    /// The request could not be understood or done; nothing was changed.
    Error {
        /// Why.
        message: String,
    },
}

/// Who a holder is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderIdentity {
    /// [`HOLDER_PROTOCOL`] of its build.
    pub protocol: u32,
    /// Version of its build.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// How many ports it holds.
    pub ports: usize,
}

/// A port that could not be held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The port.
    pub port: HeldPort,
    /// The number of the kernel's error (`errno`).
    pub errno: i32,
    /// The process that has the port, where one was found.
    pub owner: Option<PortOwner>,
}

/// A process that has a port bound.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortOwner {
    /// Its id.
    pub pid: u32,
    /// The name of its program.
    pub name: String,
}

/// What a descriptor is that one holder hands to the next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Label {
    /// The socket of a held port.
    Port(HeldPort),
    /// A descriptor stored under a name.
    Named(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_abi::Protocol;

    fn round_trip_request(request: &Request, text: &str) {
        assert_eq!(serde_json::to_string(request).unwrap(), text);
        assert_eq!(&serde_json::from_str::<Request>(text).unwrap(), request);
    }

    #[test]
    fn requests_are_written_as_documented() {
        round_trip_request(&Request::Hello, r#"{"request":"hello"}"#);
        let ports = BTreeSet::from([
            HeldPort {
                protocol: Protocol::Tcp,
                port: 8080,
            },
            HeldPort {
                protocol: Protocol::Udp,
                port: 53,
            },
        ]);
        round_trip_request(
            &Request::Hold { ports },
            r#"{"request":"hold","ports":["tcp/8080","udp/53"]}"#,
        );
        round_trip_request(
            &Request::Store {
                name: "dns".into(),
                limit_ms: None,
            },
            r#"{"request":"store","name":"dns"}"#,
        );
        round_trip_request(
            &Request::Store {
                name: "api".into(),
                limit_ms: Some(30_000),
            },
            r#"{"request":"store","name":"api","limit_ms":30000}"#,
        );
        let charge = Charge {
            node: NodeName::new("n1").unwrap(),
            epoch: 7,
            keys: serde_json::from_str(r#"{"primary":"ab"}"#).unwrap(),
            limit_ms: 30_000,
        };
        assert!(!format!("{charge:?}").contains("ab"), "no key is shown");
        round_trip_request(
            &Request::Tend(charge),
            r#"{"request":"tend","node":"n1","epoch":7,"keys":{"primary":"ab"},"limit_ms":30000}"#,
        );
        round_trip_request(&Request::Untend, r#"{"request":"untend"}"#);
        round_trip_request(&Request::Names, r#"{"request":"names"}"#);
        round_trip_request(&Request::HandOver, r#"{"request":"hand-over"}"#);
    }

    #[test]
    fn replies_are_written_as_documented() {
        let port = HeldPort {
            protocol: Protocol::Tcp,
            port: 80,
        };
        let owner = Some(PortOwner {
            pid: 7,
            name: "nginx".into(),
        });
        let reply = Reply::Held {
            refused: vec![Refusal {
                port,
                errno: 98,
                owner,
            }],
        };
        let text =
            r#"{"reply":"held","refused":[{"port":"tcp/80","errno":98,"owner":{"pid":7,"name":"nginx"}}]}"#;
        assert_eq!(serde_json::to_string(&reply).unwrap(), text);
        assert_eq!(serde_json::from_str::<Reply>(text).unwrap(), reply);
        let reply = Reply::Handed {
            labels: vec![Label::Port(port), Label::Named("dns".into())],
            more: true,
        };
        let text = r#"{"reply":"handed","labels":[{"port":"tcp/80"},{"named":"dns"}],"more":true}"#;
        assert_eq!(serde_json::to_string(&reply).unwrap(), text);
        assert_eq!(serde_json::from_str::<Reply>(text).unwrap(), reply);
    }

    #[test]
    fn every_port_at_once_fits_one_message() {
        let ports = Protocol::ALL
            .into_iter()
            .flat_map(|protocol| (0..=u16::MAX).map(move |port| HeldPort { protocol, port }))
            .collect();
        assert!(serde_json::to_vec(&Request::Hold { ports }).unwrap().len() < MAX_MESSAGE);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for text in [
            "",
            "{}",
            r#"{"request":"sing"}"#,
            r#"{"request":"hold","ports":["tcp/99999"]}"#,
        ] {
            assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
        }
    }
}
