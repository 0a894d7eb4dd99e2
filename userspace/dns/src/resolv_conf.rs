//! The resolver's file, both ways: what a task is given, and what the node itself has.

use essaim_model::ServiceDns;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

/// Where a task asks; `sock_lb` translates it to the sockets of [`crate::open_sockets`].
pub const RESOLVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// The port of DNS.
pub const DNS_PORT: u16 = 53;
/// How many of the node's upstream servers are asked: as many as its own resolver would.
const MOST_UPSTREAMS: usize = 3;

/// The `resolv.conf` of a task: this resolver, the service's search domains, `ndots:0` unless the service has an
/// `ndots` of its own, and its further options.
pub fn resolv_conf(dns: &ServiceDns) -> String {
    let mut text = format!("nameserver {RESOLVER_ADDRESS}\n");
    // Writing to a string cannot fail.
    if !dns.search.is_empty() {
        text.push_str("search");
        for domain in &dns.search {
            let _ = write!(text, " {domain}");
        }
        text.push('\n');
    }
    text.push_str("options");
    let has_ndots = dns
        .options
        .iter()
        .any(|option| option.as_str().starts_with("ndots:"));
    if !has_ndots {
        text.push_str(" ndots:0");
    }
    for option in &dns.options {
        let _ = write!(text, " {option}");
    }
    text.push('\n');
    text
}

/// The upstream servers that a node's `resolv.conf` names: the first three, without the tasks' own 127.0.0.11 (on a
/// node that is itself a container). Lines that are no `nameserver` with an address are passed over, as a C library
/// does.
pub fn upstreams_of(resolv_conf: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in resolv_conf.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let Some(server) = words.next().and_then(server) else {
            continue;
        };
        if server.ip() != IpAddr::V4(RESOLVER_ADDRESS) && !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers.truncate(MOST_UPSTREAMS);
    servers
}

/// An address, with the scope of a link-local one where that is a number.
fn server(word: &str) -> Option<SocketAddr> {
    let (address, scope) = word.split_once('%').unwrap_or((word, ""));
    match address.parse().ok()? {
        IpAddr::V4(address) if scope.is_empty() => Some((address, DNS_PORT).into()),
        IpAddr::V4(_) => None,
        IpAddr::V6(address) if scope.is_empty() => Some((address, DNS_PORT).into()),
        IpAddr::V6(address) => {
            let scope = scope
                .parse()
                .ok()
                .or_else(|| nix::net::if_::if_nametoindex(scope).ok())?;
            Some(SocketAddrV6::new(address, DNS_PORT, 0, scope).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::{HostName, ResolverOption};

    #[test]
    fn a_task_asks_its_node_and_no_dot_makes_a_name_short() {
        assert_eq!(
            resolv_conf(&ServiceDns::default()),
            "nameserver 127.0.0.11\noptions ndots:0\n"
        );
        let dns = ServiceDns {
            search: ["example.org", "example.net"]
                .map(|domain| HostName::new(domain).unwrap())
                .to_vec(),
            options: ["rotate", "ndots:2"]
                .map(|option| ResolverOption::new(option).unwrap())
                .to_vec(),
            ..ServiceDns::default()
        };
        assert_eq!(
            resolv_conf(&dns),
            "nameserver 127.0.0.11\nsearch example.org example.net\noptions rotate ndots:2\n"
        );
    }

    #[test]
    fn a_node_asks_the_servers_of_its_own_file() {
        let text = "# comment\nnameserver 127.0.0.53\n  nameserver\t10.0.0.1 trailing\nnameserver 127.0.0.11\n\
                    nameserver 10.0.0.1\nnameserver fd00::53\nnameserver x\nnameserver\nsearch a\nnameserver 10.9.9.9\n";
        assert_eq!(
            upstreams_of(text),
            ["127.0.0.53:53", "10.0.0.1:53", "[fd00::53]:53"].map(|server| server.parse().unwrap())
        );
        assert_eq!(
            upstreams_of("nameserver fe80::1%7"),
            ["[fe80::1%7]:53".parse().unwrap()]
        );
        assert_eq!(upstreams_of("nameserver 10.0.0.1%7"), []);
        assert_eq!(upstreams_of(""), []);
    }
}
