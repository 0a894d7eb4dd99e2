//! The hot path without its sockets, for the benchmarks.

use crate::asker::{AskerInfo, Outside};
use crate::cache::{Cache, CacheKey};
use crate::respond::{Responder, Sources, Transport, Verdict};
use crate::upstream::{Accepted, Sent, Servers, accept};
use crate::wire::Query;
use crate::zone::Zone;
use essaim_model::{Catalog, Liveness};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Answers messages as a thread of the server does.
#[doc(hidden)]
#[derive(Debug)]
pub struct Bench {
    zone: Zone,
    asker: AskerInfo,
    servers: Arc<Servers>,
    cache: Mutex<Cache>,
    responder: Responder,
    buffer: Vec<u8>,
    now: Instant,
}

impl Bench {
    /// A cluster, asked from all of its networks.
    pub fn new(catalog: &Catalog, liveness: &Liveness) -> Self {
        let networks = catalog
            .networks
            .iter()
            .map(|network| (&network.name, network.vni));
        Self {
            zone: Zone::new(catalog, liveness),
            asker: AskerInfo::new(networks, Outside::Node),
            servers: Arc::new(Servers::at(1, Vec::new())),
            cache: Mutex::new(Cache::new(1 << 20)),
            responder: Responder::new(1),
            buffer: vec![0; 4096],
            now: Instant::now(),
        }
    }

    /// Keeps what an upstream server answers to a question; says whether it was an answer.
    pub fn learn(&mut self, question: &[u8], answer: &[u8]) -> bool {
        let Ok(query) = Query::parse(question) else {
            return false;
        };
        let name = query.question.name.as_bytes().into();
        let sent = Sent {
            id: query.id,
            name,
            kind: query.question.kind,
        };
        let Accepted::Answer(stored) = accept(&sent, answer) else {
            return false;
        };
        let dnssec_ok = query.edns.is_some_and(|edns| edns.dnssec_ok);
        let key = CacheKey::new(&query.question, query.flags, dnssec_ok, self.servers.number);
        let cache = self.cache.get_mut().unwrap_or_else(PoisonError::into_inner);
        cache.insert(&key, Arc::new(stored), self.now);
        true
    }

    /// The length of the answer; 0 where there is none at once.
    pub fn answer(&mut self, message: &[u8]) -> usize {
        let sources = Sources {
            zone: &self.zone,
            asker: &self.asker,
            servers: Some(&self.servers),
            cache: &self.cache,
            now: self.now,
        };
        match self
            .responder
            .respond(message, Transport::Udp(4096), &sources, &mut self.buffer)
        {
            Verdict::Reply { length, .. } => length,
            Verdict::Drop(_) | Verdict::Forward => 0,
        }
    }
}
