//! Decisions of the programs, in words.

use crate::readings::Names;
use essaim_abi::{DropReason, Event, Hook, Protocol, Verdict};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// One decision of a program about a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// When: nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// The program.
    pub program: String,
    /// What it did: `pass`, `drop`, `encapsulated`, `delivered`, `forwarded`, `answered` or `tunnelled`.
    pub verdict: String,
    /// Why, where it refused.
    pub reason: Option<String>,
    /// Source of the packet.
    pub source: IpAddr,
    /// Its source port, or what stands in for it.
    pub source_port: u16,
    /// Destination of the packet.
    pub destination: IpAddr,
    /// Its destination port.
    pub destination_port: u16,
    /// `tcp`, `udp`, `sctp`, or the number.
    pub protocol: String,
    /// Its length, in bytes.
    pub length: u32,
    /// Whether it opened a flow.
    pub opened: bool,
    /// The group of backends that was concerned.
    pub service: Option<String>,
    /// The backend that was chosen.
    pub backend: Option<String>,
    /// The node that it was sent to.
    pub to_node: Option<String>,
    /// The interface where it was delivered or sent out.
    pub interface: Option<String>,
    /// The network.
    pub vni: Option<u32>,
}

impl Decision {
    /// Puts an event into words.
    pub fn of(event: &Event, names: &Names) -> Self {
        let index = |number: u32| (number != 0).then(|| format!("#{number}"));
        let or_index = |name: Option<String>, number: u32| name.or_else(|| index(number));
        let vtep = names.vteps.get(&event.vtep).map(|(address, node)| match node {
            Some(node) => format!("{node} ({address})"),
            None => address.to_string(),
        });
        let interface = (event.ifindex != 0).then(|| interface_name(event.ifindex));
        Self {
            time_ns: event.time_ns,
            program: program(event.hook),
            verdict: verdict(event.verdict),
            reason: (event.reason != 0).then(|| match DropReason::of(event.reason) {
                Some(reason) => reason.name().to_owned(),
                None => format!("reason {}", event.reason),
            }),
            source: event.flow.remote.into(),
            source_port: u16::from_be(event.flow.remote_port),
            destination: event.flow.local.into(),
            destination_port: u16::from_be(event.flow.local_port),
            protocol: protocol(event.flow.protocol),
            length: event.len,
            opened: event.opened != 0,
            service: or_index(
                names.services.get(&event.service).map(ToString::to_string),
                event.service,
            ),
            backend: or_index(
                names.backends.get(&event.backend).map(ToString::to_string),
                event.backend,
            ),
            to_node: or_index(vtep, event.vtep),
            interface,
            vni: (event.vni != 0).then_some(event.vni),
        }
    }
}

fn program(number: u8) -> String {
    let hook = Hook::ALL.into_iter().find(|hook| *hook as u8 == number);
    hook.map_or_else(|| format!("hook {number}"), |hook| hook.name().to_owned())
}

fn verdict(number: u8) -> String {
    Verdict::of(number).map_or_else(
        || format!("verdict {number}"),
        |verdict| verdict_name(verdict).to_owned(),
    )
}

/// The word for what was done with a packet.
pub(crate) const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Drop => "drop",
        Verdict::Encapsulated => "encapsulated",
        Verdict::Delivered => "delivered",
        Verdict::Forwarded => "forwarded",
        Verdict::Answered => "answered",
        Verdict::Tunnelled => "tunnelled",
    }
}

fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        58 => "icmpv6".to_owned(),
        _ => Protocol::of_ip(number).map_or_else(
            || format!("protocol {number}"),
            |known| crate::holder::protocol_name(known).to_owned(),
        ),
    }
}

/// The name of an interface of this namespace, or its number.
pub(crate) fn interface_name(ifindex: u32) -> String {
    let name = nix::net::if_::if_indextoname(ifindex);
    name.map_or_else(
        |_| format!("interface {ifindex}"),
        |name| name.to_string_lossy().into_owned(),
    )
}

impl fmt::Display for Decision {
    /// With the time in front.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.time_ns / 1_000_000_000, self.time_ns / 1000 % 1_000_000);
        let side = |address: IpAddr, port: u16| match address {
            IpAddr::V4(address) => format!("{address}:{port}"),
            IpAddr::V6(address) => format!("[{address}]:{port}"),
        };
        write!(
            f,
            "{seconds}.{micros:06} {:<11} {} {} > {} {}",
            self.program,
            self.protocol,
            side(self.source, self.source_port),
            side(self.destination, self.destination_port),
            self.verdict,
        )?;
        for (word, value) in [
            ("", &self.reason),
            ("service ", &self.service),
            ("backend ", &self.backend),
            ("to ", &self.to_node),
            ("at ", &self.interface),
        ] {
            if let Some(value) = value {
                write!(f, ", {word}{value}")?;
            }
        }
        if self.opened {
            f.write_str(", new flow")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_abi::{Addr, FlowKey};
    use essaim_model::{BackendKey, NetworkName, NodeName, Scope, ServiceKey, ServiceName, TaskId};
    use std::net::Ipv4Addr;

    #[test]
    fn an_event_is_put_into_words() {
        let network = NetworkName::new("app").unwrap();
        let service = ServiceKey {
            service: ServiceName::new("web").unwrap(),
            scope: Scope::Ingress,
        };
        let backend = BackendKey {
            task: TaskId::new("web.2").unwrap(),
            network,
        };
        let mut names = Names::default();
        names.services.insert(3, service);
        names.backends.insert(5, backend);
        names.vteps.insert(
            2,
            ("192.0.2.12".parse().unwrap(), Some(NodeName::new("n2").unwrap())),
        );
        let event = Event {
            time_ns: 12_000_345_678,
            flow: FlowKey {
                remote: Addr::from(Ipv4Addr::new(203, 0, 113, 7)),
                local: Addr::from(Ipv4Addr::new(192, 0, 2, 11)),
                remote_port: 40_000_u16.to_be(),
                local_port: 8080_u16.to_be(),
                protocol: 6,
                reserved: [0; 3],
            },
            service: 3,
            backend: 5,
            vtep: 2,
            hook: Hook::IngressXdp as u8,
            verdict: Verdict::Encapsulated as u8,
            opened: 1,
            len: 60,
            ..Event::default()
        };
        let decision = Decision::of(&event, &names);
        assert_eq!(
            decision.to_string(),
            "12.000345 ingress_xdp tcp 203.0.113.7:40000 > 192.0.2.11:8080 encapsulated, service web@ingress, \
             backend web.2@app, to n2 (192.0.2.12), new flow"
        );
        let unknown = Decision::of(
            &Event {
                backend: 9,
                verdict: 1,
                reason: 12,
                ..event
            },
            &names,
        );
        assert_eq!(unknown.backend.as_deref(), Some("#9"));
        assert_eq!(
            (unknown.verdict.as_str(), unknown.reason.as_deref()),
            ("drop", Some("NoBackend"))
        );
    }
}
