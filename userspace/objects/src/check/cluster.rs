//! The checks of the cluster.

use super::{Invalid, Problems};
use crate::{ClusterSpec, Nanoseconds};
use ipnet::{IpNet, Ipv4Net};

/// The least life of a node's certificate.
const MIN_CERT_EXPIRY: Nanoseconds = Nanoseconds::from_secs(3600);
/// Most authorities elsewhere: one after the other has to answer while a node waits for its certificate.
const MAX_EXTERNAL: usize = 8;

impl ClusterSpec {
    /// Whether it can be asked of the cluster.
    ///
    /// # Errors
    /// Every member that cannot be as it is.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let mut problems = Problems::default();
        if !matches!(self.name.as_deref().unwrap_or_default(), "" | "default") {
            problems.text("Name", self.name.as_deref().unwrap_or_default(), "default");
        }
        problems.labels("Labels", self.labels.as_ref());
        problems.span(
            "Dispatcher.HeartbeatPeriod",
            self.dispatcher.as_ref().and_then(|it| it.heartbeat_period),
        );
        if let Some(raft) = &self.raft {
            let [election, heartbeat] =
                [raft.election_tick, raft.heartbeat_tick].map(Option::unwrap_or_default);
            if election != 0 && heartbeat != 0 && election <= heartbeat {
                problems.add(
                    "Raft.ElectionTick",
                    election,
                    format_args!("more than HeartbeatTick, {heartbeat}"),
                );
            }
        }
        let defaults = self.task_defaults.as_ref();
        if let Some(driver) = defaults.and_then(|defaults| defaults.log_driver.as_ref()) {
            problems.text(
                "TaskDefaults.LogDriver",
                driver.name.as_deref().unwrap_or_default(),
                "none: a service names its own",
            );
        }
        if let Some(ca) = &self.ca_config {
            if let Some(expiry) = ca
                .node_cert_expiry
                .filter(|it| it.0 != 0 && *it < MIN_CERT_EXPIRY)
            {
                problems.add(
                    "CAConfig.NodeCertExpiry",
                    format_args!("{} ns", expiry.0),
                    "1 hour or more",
                );
            }
            let external = ca.external_cas.as_ref().map_or(0, Vec::len);
            if external > MAX_EXTERNAL {
                let found = format_args!("{external} authorities");
                problems.add(
                    "CAConfig.ExternalCAs",
                    found,
                    format_args!("at most {MAX_EXTERNAL}"),
                );
            }
            problems.each(
                "CAConfig.ExternalCAs",
                ca.external_cas.as_deref(),
                |problems, authority| {
                    let protocol = authority.protocol.as_deref().unwrap_or_default();
                    if !protocol.eq_ignore_ascii_case("cfssl") {
                        problems.text("Protocol", protocol, "cfssl");
                    }
                    let url = authority.url.as_deref().unwrap_or_default();
                    let host = url.strip_prefix("https://").unwrap_or_default();
                    if host.split(['/', '?', '#', ':']).next().is_none_or(str::is_empty) {
                        problems.text("URL", url, "https://HOST…");
                    }
                },
            );
        }
        problems.finish()
    }
}

/// Whether subnets can be cut from these pools; `subnet_size` is the length of an IPv4 subnet's prefix.
///
/// # Errors
/// Every pool that cannot be one, and a size that does not fit.
pub fn check_address_pools(pools: &[String], subnet_size: Option<u32>) -> Result<(), Vec<Invalid>> {
    let mut problems = Problems::default();
    let size = subnet_size.filter(|size| *size != 0).unwrap_or(24);
    if size > 29 {
        problems.add(
            "SubnetSize",
            size,
            "at most 29: a smaller subnet has no room for tasks",
        );
    }
    let mut seen: Vec<IpNet> = Vec::new();
    problems.each("DefaultAddrPool", Some(pools), |problems, text| {
        let Ok(pool) = text.parse::<IpNet>() else {
            problems.text("", text, "a prefix such as 10.0.0.0/8 or fd00::/48");
            return;
        };
        if pool != pool.trunc() {
            problems.text("", text, format_args!("{}, without host bits", pool.trunc()));
        }
        match pool {
            IpNet::V4(pool) => fits(problems, pool, size),
            IpNet::V6(pool) => problems.number("prefix length", Some(pool.prefix_len()), 16, 64),
        }
        if let Some(other) = seen
            .iter()
            .find(|other| other.contains(&pool) || pool.contains(*other))
        {
            problems.text("", text, format_args!("no overlap with {other}"));
        }
        seen.push(pool);
    });
    problems.finish()
}

fn fits(problems: &mut Problems, pool: Ipv4Net, size: u32) {
    if u32::from(pool.prefix_len()) > size {
        problems.text(
            "",
            &pool.to_string(),
            format_args!("a prefix of at most /{size}, the size of a subnet"),
        );
    }
}

/// Whether VXLAN can use this port; 0 stands for 4789.
///
/// # Errors
/// It is not among 1024 to 49151.
pub fn check_data_path_port(port: u32) -> Result<(), Vec<Invalid>> {
    let mut problems = Problems::default();
    if port != 0 {
        problems.number("DataPathPort", Some(port), 1024, 49_151);
        if port == u32::from(essaim_model::Cluster::new(Vec::new()).gossip_port) {
            problems.add("DataPathPort", port, "another: this is the port of gossip");
        }
    }
    problems.finish()
}
