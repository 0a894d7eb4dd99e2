use crate::decoders::{catalog, compose, http, json, packet};
use essaim_agent::NodeRecord;
use essaim_agent::control::{AgentReply, AgentRequest};
use essaim_agent::holder::{Reply, Request};

/// A decoder, and what must hold of it for every input.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its folders, and on the command line.
    pub name: &'static str,
    /// Panics where a promise is broken.
    pub run: fn(&[u8]),
}

/// Every decoder there is. A new one is one more line, and a file or two in `corpus/NAME`.
#[rustfmt::skip]
pub const TARGETS: &[Target] = &[
    Target { name: "frame", run: packet::frame },
    Target { name: "neighbour", run: packet::neighbour },
    Target { name: "steering", run: packet::steering },
    Target { name: "catalog", run: catalog::text },
    Target { name: "compose", run: compose::file },
    Target { name: "holder-request", run: json::reads_back::<Request> },
    Target { name: "holder-reply", run: json::reads_back::<Reply> },
    Target { name: "agent-request", run: json::reads_back::<AgentRequest> },
    Target { name: "agent-reply", run: json::reads_back::<AgentReply> },
    Target { name: "node-record", run: json::reads_back::<NodeRecord> },
    Target { name: "http-answer", run: http::answer },
    Target { name: "dns-query", run: essaim_dns::fuzz_query },
    Target { name: "dns-kernel", run: essaim_dns::fuzz_kernel },
    Target { name: "dns-frame", run: packet::dns_frame },
    Target { name: "dns-upstream", run: essaim_dns::fuzz_upstream },
    Target { name: "gossip-header", run: essaim_gossip::fuzz::fuzz_header },
    Target { name: "gossip-content", run: essaim_gossip::fuzz::fuzz_content },
    Target { name: "gossip-sealed", run: essaim_gossip::fuzz::fuzz_sealed },
    Target { name: "gossip-member", run: essaim_gossip::fuzz::fuzz_member },
];

impl Target {
    /// The target of this name.
    pub fn named(name: &str) -> Option<Self> {
        TARGETS.iter().find(|target| target.name == name).copied()
    }
}
