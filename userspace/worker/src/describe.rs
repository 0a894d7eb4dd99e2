//! What a node says of itself.

use essaim_ca::{Identity, TlsInfo};
use essaim_objects::{
    EngineDescription, GenericResource, Labels, NodeDescription, NodeId, NodeResources, Platform,
};
use nix::sys::sysinfo::sysinfo;
use std::num::NonZeroUsize;

/// What the operator says of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Describe {
    /// Its host name; the machine's own where there is none given.
    pub hostname: Option<String>,
    /// Labels of its engine (`engine.labels` in constraints).
    pub labels: Labels,
    /// Resources of the operator's own kinds.
    pub generic_resources: Vec<GenericResource>,
}

/// What tasks may be told of their node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its identity.
    pub id: NodeId,
    /// Its host name.
    pub hostname: String,
    /// Its architecture, as the kernel names it.
    pub architecture: String,
    /// Its operating system.
    pub os: String,
}

impl Facts {
    /// Of this machine.
    pub(crate) fn of_machine(id: NodeId, describe: &Describe) -> Self {
        let own = || {
            let name = nix::unistd::gethostname().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        Self {
            id,
            hostname: describe.hostname.clone().unwrap_or_else(own),
            architecture: std::env::consts::ARCH.to_owned(),
            os: std::env::consts::OS.to_owned(),
        }
    }
}

/// What this machine has for tasks: its processors and its memory.
pub fn machine_resources() -> NodeResources {
    let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let memory = sysinfo().map_or(0, |info| info.ram_total());
    NodeResources {
        nano_cpus: i64::try_from(cpus)
            .ok()
            .and_then(|cpus| cpus.checked_mul(1_000_000_000)),
        memory_bytes: i64::try_from(memory).ok(),
        ..NodeResources::default()
    }
}

/// A node's description: this machine's, and what its certificate says.
pub(crate) fn describe(facts: &Facts, describe: &Describe, identity: &Identity) -> NodeDescription {
    let generic = &describe.generic_resources;
    NodeDescription {
        hostname: Some(facts.hostname.clone()),
        platform: Some(Platform {
            architecture: Some(facts.architecture.clone()),
            os: Some(facts.os.clone()),
            ..Platform::default()
        }),
        resources: Some(NodeResources {
            generic_resources: (!generic.is_empty()).then(|| generic.clone()),
            ..machine_resources()
        }),
        engine: Some(EngineDescription {
            engine_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            labels: (!describe.labels.is_empty()).then(|| describe.labels.clone()),
            ..EngineDescription::default()
        }),
        tls_info: TlsInfo::of(identity).map(|info| tls_info(&info)),
        ..NodeDescription::default()
    }
}

fn tls_info(info: &TlsInfo) -> essaim_objects::TlsInfo {
    let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
    essaim_objects::TlsInfo {
        trust_root: Some(info.trust.to_pem()),
        cert_issuer_subject: Some(base64(&info.issuer_subject)),
        cert_issuer_public_key: Some(base64(&info.issuer_public_key)),
        ..essaim_objects::TlsInfo::default()
    }
}
