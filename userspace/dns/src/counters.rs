//! What is counted.

use crate::wire::{DropReason, Rcode};
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the server has done since its start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The counters of one thread, so that threads do not wait for each other's.
        #[derive(Debug, Default)]
        pub(crate) struct CounterBlock {
            $(pub(crate) $name: Counter,)*
        }

        impl CounterBlock {
            /// Adds its counters to the sum.
            pub(crate) fn add_to(&self, sum: &mut Counters) {
                $(sum.$name += self.$name.0.load(Ordering::Relaxed);)*
            }
        }

        impl Counters {
            /// Every counter with its name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Messages that came over UDP.
    queries_udp,
    /// Messages that came over TCP.
    queries_tcp,
    /// Answers with NOERROR, empty ones included.
    no_error,
    /// Answers with FORMERR: the message was malformed.
    format_error,
    /// Answers with SERVFAIL: no upstream server had an answer, or too many questions were under way.
    server_failure,
    /// Answers with NXDOMAIN.
    name_error,
    /// Answers with NOTIMP.
    not_implemented,
    /// Answers with REFUSED.
    refused,
    /// Answers with BADVERS.
    bad_version,
    /// Answers out of the cache.
    cache_hits,
    /// Answers that the kernel was given, to answer the same question with by itself.
    handed_to_kernel,
    /// Questions that waited for upstream servers.
    forwards,
    /// Questions that were sent to upstream servers: equal ones wait for one.
    exchanges,
    /// Questions to upstream servers that none of them answered.
    exchanges_failed,
    /// Questions refused because their asker had too many under way.
    over_asker_limit,
    /// Questions refused because all askers together had too many under way.
    over_node_limit,
    /// Messages too short to be answered.
    dropped_short,
    /// Messages that are responses.
    dropped_response,
    /// Answers that a client's socket did not take.
    dropped_unsent,
    /// TCP connections cut: too many of one asker, idle, or out of step.
    dropped_tcp,
}

/// Only goes up.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}

impl CounterBlock {
    pub(crate) fn answered(&self, rcode: Rcode) {
        let counter = match rcode {
            Rcode::NoError => &self.no_error,
            Rcode::FormErr => &self.format_error,
            Rcode::ServFail => &self.server_failure,
            Rcode::NxDomain => &self.name_error,
            Rcode::NotImp => &self.not_implemented,
            Rcode::Refused => &self.refused,
            Rcode::BadVers => &self.bad_version,
        };
        counter.add(1);
    }

    pub(crate) fn dropped(&self, reason: DropReason) {
        let counter = match reason {
            DropReason::Short => &self.dropped_short,
            DropReason::Response => &self.dropped_response,
        };
        counter.add(1);
    }
}
