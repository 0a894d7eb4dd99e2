//! What a question about the cluster is answered with.

use super::part::{Host, Part, SrvPort};
use super::{AddressKey, Binding, Zone};
use crate::asker::AskerInfo;
use crate::wire::{Name, Question, kind};
use essaim_abi::Protocol;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// What a question is answered with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer<'z> {
    /// The addresses of the hosts.
    Addresses(Hosts<'z>, Family),
    /// The ports of the services of the hosts.
    Services(Hosts<'z>, PortMatch<'z>),
    /// The name of a host.
    Pointer(&'z Host),
    /// The name is known and has nothing of this type.
    Empty,
    /// The name is ours and there is none such.
    Unknown,
    /// The name is none of ours.
    Outside,
}

/// The hosts that a name stands for on one network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hosts<'z> {
    zone: &'z Zone,
    bindings: &'z [Binding],
}

impl<'z> Hosts<'z> {
    fn parts(self) -> impl Iterator<Item = (&'z Part, &'z [u32])> {
        self.bindings.iter().filter_map(move |binding| {
            let part = self.zone.parts.get(binding.service as usize)?;
            let name = part.names.get(binding.name as usize)?;
            Some((&**part, &*name.hosts))
        })
    }

    /// The hosts, in no order that a client should see.
    pub(crate) fn iter(self) -> impl Iterator<Item = &'z Host> {
        self.parts()
            .flat_map(|(part, hosts)| hosts.iter().filter_map(|host| part.hosts.get(*host as usize)))
    }

    /// The hosts, each with the ports of its service that match.
    pub(crate) fn with_ports(self, wanted: PortMatch<'z>) -> impl Iterator<Item = (&'z Host, u16)> {
        self.parts().flat_map(move |(part, hosts)| {
            let ports = part.ports.iter().filter(move |port| wanted.is(port));
            ports.flat_map(move |port| {
                let hosts = hosts.iter().filter_map(|host| part.hosts.get(*host as usize));
                hosts.map(|host| (host, port.number))
            })
        })
    }

    fn has_port(self, wanted: PortMatch<'_>) -> bool {
        self.parts()
            .any(|(part, _)| part.ports.iter().any(|port| wanted.is(port)))
    }
}

/// Which port an SRV question is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortMatch<'q> {
    protocol: Protocol,
    /// A number, or the name of a port.
    port: &'q [u8],
}

impl<'q> PortMatch<'q> {
    /// Reads `_port._protocol` and gives the name after it.
    fn read(name: &'q [u8]) -> Option<(Self, &'q [u8])> {
        let (port, rest) = Name::split_first(name)?;
        let (protocol, rest) = Name::split_first(rest)?;
        let protocol = match protocol {
            b"_tcp" => Protocol::Tcp,
            b"_udp" => Protocol::Udp,
            b"_sctp" => Protocol::Sctp,
            _ => return None,
        };
        let port = port.strip_prefix(b"_")?;
        Some((Self { protocol, port }, rest))
    }

    fn is(self, port: &SrvPort) -> bool {
        let named = port
            .name
            .is_some_and(|name| name.as_str().as_bytes() == self.port);
        port.protocol == self.protocol && (named || number(self.port) == Some(port.number))
    }
}

/// A port's number, written as one writes it.
fn number(text: &[u8]) -> Option<u16> {
    if text.first().is_none_or(|first| !(b'1'..=b'9').contains(first)) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// What there is of a name among the networks of an asker.
enum Found<'z> {
    /// On this network, with what was wanted.
    Hosts(Hosts<'z>),
    /// Somewhere, without what was wanted; the first place is given.
    Known(Hosts<'z>),
    /// Nowhere.
    Nothing,
}

impl Zone {
    /// Answers a question (of class IN) from the names that the asker may see.
    pub(crate) fn answer<'z>(&'z self, asker: &AskerInfo, question: &'z Question<'_>) -> Answer<'z> {
        let name = &question.name;
        if let Some(address) = reverse(name.as_bytes()) {
            return self.pointer(asker, address, question.kind);
        }
        if let Some((port, rest)) = PortMatch::read(name.as_bytes()) {
            return self.services(asker, port, rest, question.kind);
        }
        let has_v4 = |host: &Host| host.v4.is_some();
        let has_v6 = |host: &Host| host.v6.is_some();
        let wants = |kind| match kind {
            kind::A => Some((Family::V4, has_v4 as fn(&Host) -> bool)),
            kind::AAAA => Some((Family::V6, has_v6 as fn(&Host) -> bool)),
            _ => None,
        };
        // ANY is answered with one of the types that there are (RFC 8482, 4.1).
        let wanted = match question.kind {
            kind::ANY => [wants(kind::A), wants(kind::AAAA)],
            kind => [wants(kind), None],
        };
        let mut known = false;
        for (family, has) in wanted.into_iter().flatten() {
            match self.find(asker, name, has) {
                Found::Hosts(hosts) => return Answer::Addresses(hosts, family),
                Found::Known(_) => known = true,
                Found::Nothing => return Answer::Outside,
            }
        }
        if known || !matches!(self.find(asker, name, |_| false), Found::Nothing) {
            Answer::Empty
        } else {
            Answer::Outside
        }
    }

    fn services<'z>(
        &'z self,
        asker: &AskerInfo,
        port: PortMatch<'z>,
        name: &[u8],
        wanted: u16,
    ) -> Answer<'z> {
        let Some(name) = Name::of(name) else {
            return Answer::Outside;
        };
        match self.find(asker, &name, |host| !host.canonical.is_empty()) {
            Found::Nothing => Answer::Outside,
            Found::Hosts(hosts) | Found::Known(hosts) if !hosts.has_port(port) => Answer::Unknown,
            Found::Hosts(hosts) if matches!(wanted, kind::SRV | kind::ANY) => Answer::Services(hosts, port),
            Found::Hosts(_) | Found::Known(_) => Answer::Empty,
        }
    }

    fn pointer(&self, asker: &AskerInfo, address: IpAddr, wanted: u16) -> Answer<'_> {
        let owner = self.addresses.get(AddressKey::of(address).bytes());
        let visible = owner.filter(|owner| asker.networks.iter().any(|network| network.vni == owner.vni));
        let host = visible.and_then(|owner| {
            let part = self.parts.get(owner.service as usize)?;
            part.hosts.get(owner.host as usize)
        });
        match host {
            Some(host) if matches!(wanted, kind::PTR | kind::ANY) && !host.canonical.is_empty() => {
                Answer::Pointer(host)
            }
            Some(_) => Answer::Empty,
            // Whoever is asked outside cannot know, and need not learn which addresses there are.
            None if self
                .networks
                .subnets
                .iter()
                .any(|subnet| subnet.contains(&address)) =>
            {
                Answer::Unknown
            }
            None => Answer::Outside,
        }
    }

    /// Looks for a name: as it is, and then as NAME.NETWORK, each on the asker's networks in their order.
    fn find(&self, asker: &AskerInfo, name: &Name, wanted: impl Fn(&Host) -> bool) -> Found<'_> {
        let mut known = None;
        if let Some(bindings) = self.names.get(name.as_bytes()) {
            for network in &asker.networks {
                let Some(hosts) = self.on(bindings, network.vni) else {
                    continue;
                };
                if hosts.iter().any(&wanted) {
                    return Found::Hosts(hosts);
                }
                known = known.or(Some(hosts));
            }
        }
        if let Some(hosts) = known {
            return Found::Known(hosts);
        }
        for network in &asker.networks {
            let Some(short) = name.without_suffix(&network.suffix) else {
                continue;
            };
            let bindings = self.names.get(short.as_bytes());
            let Some(hosts) = bindings.and_then(|bindings| self.on(bindings, network.vni)) else {
                continue;
            };
            if hosts.iter().any(&wanted) {
                return Found::Hosts(hosts);
            }
            known = known.or(Some(hosts));
        }
        known.map_or(Found::Nothing, Found::Known)
    }

    /// What the bindings of a name, which are in the order of networks, say about one.
    fn on<'z>(&'z self, bindings: &'z [Binding], vni: essaim_model::Vni) -> Option<Hosts<'z>> {
        let start = bindings.iter().position(|binding| binding.vni == vni)?;
        let bindings = bindings.get(start..)?;
        let end = bindings.iter().position(|binding| binding.vni != vni);
        let bindings = bindings.get(..end.unwrap_or(bindings.len()))?;
        Some(Hosts { zone: self, bindings })
    }
}

/// The address that a name of `in-addr.arpa` (RFC 1035, 3.5) or `ip6.arpa` (RFC 3596, 2.5) stands for.
fn reverse(name: &[u8]) -> Option<IpAddr> {
    const V4: &[u8] = b"\x07in-addr\x04arpa\0";
    const V6: &[u8] = b"\x03ip6\x04arpa\0";
    if let Some(mut rest) = name.strip_suffix(V4) {
        let mut octets = [0; 4];
        for octet in octets.iter_mut().rev() {
            let (label, next) = Name::split_first(rest)?;
            let leading_zero = label.len() > 1 && label.starts_with(b"0");
            let digits = !leading_zero && label.iter().all(u8::is_ascii_digit);
            *octet = std::str::from_utf8(label).ok().filter(|_| digits)?.parse().ok()?;
            rest = next;
        }
        return rest.is_empty().then(|| Ipv4Addr::from(octets).into());
    }
    let mut rest = name.strip_suffix(V6)?;
    let mut address = 0_u128;
    for shift in (0..128).step_by(4) {
        let ([digit], next) = Name::split_first(rest)? else {
            return None;
        };
        address |= u128::from(char::from(*digit).to_digit(16)?) << shift;
        rest = next;
    }
    rest.is_empty().then(|| Ipv6Addr::from(address).into())
}
