//! A message in, a message out: what is answered at once, and what must be asked outside.

use crate::asker::AskerInfo;
use crate::cache::{Cache, CacheKey, Known};
use crate::shuffle::Shuffle;
use crate::upstream::Servers;
use crate::wire::{DropReason, Owner, Query, Rcode, Reply, Unfit, header_only, kind};
use crate::zone::{ANSWER_TTL, Answer, DENIAL_TTL, Family, Host, Zone};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What a question is answered from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources<'s> {
    pub(crate) zone: &'s Zone,
    pub(crate) asker: &'s AskerInfo,
    /// Who is asked for names of the outside; nobody where only the cluster's exist.
    pub(crate) servers: Option<&'s Arc<Servers>>,
    pub(crate) cache: &'s Mutex<Cache>,
    pub(crate) now: Instant,
}

/// The largest message that a transport takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Transport {
    /// What the client says it takes, up to this many bytes.
    Udp(u16),
    /// All.
    Tcp,
}

impl Transport {
    pub(crate) fn limit(self, query: &Query<'_>) -> usize {
        match self {
            Self::Udp(most) => query.udp_limit(most),
            Self::Tcp => usize::from(u16::MAX),
        }
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is answered with the first bytes of the buffer.
    Reply {
        length: usize,
        rcode: Rcode,
        cached: bool,
    },
    /// It is not answered.
    Drop(DropReason),
    /// The upstream servers must be asked.
    Forward,
}

/// Answers messages; keeps nothing between them but memory to work in.
#[derive(Debug)]
pub(crate) struct Responder {
    shuffle: Shuffle,
    v4: Vec<[u8; 4]>,
    v6: Vec<[u8; 16]>,
}

impl Responder {
    /// A responder whose orders follow from the seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            shuffle: Shuffle::new(seed),
            v4: Vec::new(),
            v6: Vec::new(),
        }
    }

    /// Answers a message into the buffer.
    pub(crate) fn respond(
        &mut self,
        message: &[u8],
        transport: Transport,
        sources: &Sources<'_>,
        buffer: &mut [u8],
    ) -> Verdict {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(Unfit::Drop(reason)) => return Verdict::Drop(reason),
            Err(Unfit::Header { id, flags, rcode }) => {
                return replied(header_only(buffer, id, flags, rcode), rcode);
            }
        };
        if let Some(rcode) = query.refusal() {
            return replied(refuse(&query, transport, rcode, buffer), rcode);
        }
        match sources.zone.answer(sources.asker, &query.question) {
            Answer::Outside => outside(&query, transport, sources, buffer),
            answer => self.local(&query, transport, sources.zone, answer, buffer),
        }
    }

    fn local(
        &mut self,
        query: &Query<'_>,
        transport: Transport,
        zone: &Zone,
        answer: Answer<'_>,
        buffer: &mut [u8],
    ) -> Verdict {
        let Some(mut reply) = Reply::begin(buffer, query, transport.limit(query)) else {
            return Verdict::Drop(DropReason::Short);
        };
        reply.authoritative();
        let mut rcode = Rcode::NoError;
        match answer {
            Answer::Addresses(hosts, Family::V4) => {
                self.v4.clear();
                self.v4.extend(
                    hosts
                        .iter()
                        .filter_map(|host| host.v4)
                        .map(|address| address.octets()),
                );
                write_addresses(&mut reply, &mut self.shuffle, &mut self.v4, kind::A);
            }
            Answer::Addresses(hosts, Family::V6) => {
                self.v6.clear();
                self.v6.extend(
                    hosts
                        .iter()
                        .filter_map(|host| host.v6)
                        .map(|address| address.octets()),
                );
                write_addresses(&mut reply, &mut self.shuffle, &mut self.v6, kind::AAAA);
            }
            Answer::Services(hosts, port) => {
                let mut services: Vec<(&Host, u16)> = hosts
                    .with_ports(port)
                    .filter(|(host, _)| !host.canonical.is_empty())
                    .collect();
                let count = services.len();
                self.shuffle.choose(&mut services, count);
                write_services(&mut reply, &services);
            }
            Answer::Pointer(host) => {
                let _ = reply.answer(Owner::QUESTION, kind::PTR, ANSWER_TTL, &[&host.canonical]);
            }
            Answer::Empty => write_denial(&mut reply, zone),
            Answer::Unknown | Answer::Outside => {
                rcode = Rcode::NxDomain;
                write_denial(&mut reply, zone);
            }
        }
        replied(reply.finish(rcode), rcode)
    }
}

fn replied(length: Option<usize>, rcode: Rcode) -> Verdict {
    // A buffer that not even an error fits in.
    length.map_or(Verdict::Drop(DropReason::Short), |length| Verdict::Reply {
        length,
        rcode,
        cached: false,
    })
}

/// Answers with nothing but a response code.
pub(crate) fn refuse(
    query: &Query<'_>,
    transport: Transport,
    rcode: Rcode,
    buffer: &mut [u8],
) -> Option<usize> {
    Reply::begin(buffer, query, transport.limit(query))?.finish(rcode)
}

fn outside(query: &Query<'_>, transport: Transport, sources: &Sources<'_>, buffer: &mut [u8]) -> Verdict {
    let Some(servers) = sources.servers else {
        // Not REFUSED: some C libraries take that for a broken server and wait for another.
        let reply = Reply::begin(buffer, query, transport.limit(query));
        let length = reply.and_then(|mut reply| {
            write_denial(&mut reply, sources.zone);
            reply.finish(Rcode::NxDomain)
        });
        return replied(length, Rcode::NxDomain);
    };
    let dnssec_ok = query.edns.is_some_and(|edns| edns.dnssec_ok);
    let key = CacheKey::new(&query.question, query.flags, dnssec_ok, servers.number);
    let known = sources
        .cache
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&key, sources.now);
    let (length, rcode) = match known {
        None => return Verdict::Forward,
        Some(Known::Failure) => (refuse(query, transport, Rcode::ServFail, buffer), Rcode::ServFail),
        Some(Known::Answer(stored, age)) => {
            let rcode = stored.response_code();
            (stored.write(buffer, query, transport.limit(query), age), rcode)
        }
    };
    length.map_or(Verdict::Drop(DropReason::Short), |length| Verdict::Reply {
        length,
        rcode,
        cached: true,
    })
}

/// Writes as many addresses as fit, a random choice of them in random order.
fn write_addresses<const N: usize>(
    reply: &mut Reply<'_>,
    shuffle: &mut Shuffle,
    addresses: &mut [[u8; N]],
    kind: u16,
) {
    /// Bytes of a record beside its data, where its owner is a pointer.
    const HEAD: usize = 12;
    let fitting = (reply.room() / (HEAD + N)).min(addresses.len());
    shuffle.choose(addresses, fitting);
    for address in addresses.iter() {
        if reply
            .answer(Owner::QUESTION, kind, ANSWER_TTL, &[address])
            .is_none()
        {
            break;
        }
    }
}

/// Writes SRV records (RFC 2782), all of one priority and weight, and the addresses of their targets.
fn write_services(reply: &mut Reply<'_>, services: &[(&Host, u16)]) {
    const PRIORITY_AND_WEIGHT: &[u8] = &[0, 0, 0, 1];
    let mut targets = Vec::with_capacity(services.len());
    for (host, port) in services {
        let data = [PRIORITY_AND_WEIGHT, &port.to_be_bytes(), &host.canonical];
        if reply
            .answer(Owner::QUESTION, kind::SRV, ANSWER_TTL, &data)
            .is_none()
        {
            return;
        }
        targets.push((reply.at() - host.canonical.len(), host));
    }
    for (at, host) in targets {
        // What a pointer reaches.
        let Some(owner) = u16::try_from(at).ok().filter(|at| *at < 0x4000).map(Owner::At) else {
            break;
        };
        if let Some(address) = host.v4 {
            reply.additional(owner, kind::A, ANSWER_TTL, &[&address.octets()]);
        }
        if let Some(address) = host.v6 {
            reply.additional(owner, kind::AAAA, ANSWER_TTL, &[&address.octets()]);
        }
    }
}

/// Says for how long a denial holds (RFC 2308, 3). The cluster's names have no zone above them but the root, so that
/// is whose SOA it is.
fn write_denial(reply: &mut Reply<'_>, zone: &Zone) {
    const HOUR: u32 = 3600;
    #[expect(clippy::cast_possible_truncation, reason = "serial numbers wrap (RFC 1982)")]
    let serial = (zone.revision() as u32).to_be_bytes();
    let [refresh, retry, expire, minimum] = [HOUR, HOUR, HOUR, DENIAL_TTL].map(u32::to_be_bytes);
    let data: [&[u8]; 6] = [&[0, 0], &serial, &refresh, &retry, &expire, &minimum];
    reply.authority(Owner::Root, kind::SOA, DENIAL_TTL, &data);
}

#[cfg(test)]
mod tests;
