//! What a runtime is told: pure.

use essaim_protocol::{CniFault, CniInterface, CniRefusal};
use ipnet::IpNet;
use rscni_plugin::error::Error;
use rscni_plugin::types::{CNIResult, Dns, Interface, IpConfig, Route};
use std::net::IpAddr;

/// Where the cluster's names are answered, in every container.
const RESOLVER: &str = "127.0.0.11";
/// The code of what the managers refuse.
const REFUSED: u32 = 100;
/// The code of an interface that is there already.
const EXISTS: u32 = 101;
/// The code of an interface that is not as it should be.
const DIFFERS: u32 = 102;

/// The result of an `ADD`: what the plugins before this one in a list have made, and the interface.
pub(crate) fn added(
    made: &CniInterface,
    name: &str,
    netns: &str,
    before: Option<&CNIResult>,
    dns: Option<&Dns>,
) -> CNIResult {
    let mut result = before.cloned().unwrap_or_default();
    let number = u32::try_from(result.interfaces.len()).unwrap_or(u32::MAX);
    result.interfaces.push(Interface {
        name: name.to_owned(),
        mac: made.mac.clone(),
        mtu: Some(made.mtu),
        sandbox: Some(netns.to_owned()),
        socket_path: None,
        pci_id: None,
    });
    let gateway = |address: &IpNet| {
        let mut gateways = made.gateways.iter();
        gateways
            .find(|gateway| gateway.is_ipv4() == address.addr().is_ipv4())
            .copied()
    };
    result.ips.extend(made.addresses.iter().map(|address| IpConfig {
        interface: Some(number),
        address: *address,
        gateway: gateway(address),
    }));
    let subnets = made.addresses.iter().map(|address| route(address.trunc(), None));
    result.routes.extend(subnets);
    let defaults = made
        .gateways
        .iter()
        .map(|gateway| route(everywhere(*gateway), Some(*gateway)));
    result.routes.extend(defaults);
    let dns = result
        .dns
        .take()
        .filter(|dns| !dns.nameservers.is_empty())
        .or_else(|| dns.cloned());
    let mut dns = dns.unwrap_or_default();
    // The servers of another network do not know the cluster's names, and this one asks the node's for all others.
    dns.nameservers = vec![RESOLVER.to_owned()];
    result.dns = Some(dns);
    result
}

fn everywhere(gateway: IpAddr) -> IpNet {
    if gateway.is_ipv4() {
        IpNet::V4(ipnet::Ipv4Net::default())
    } else {
        IpNet::V6(ipnet::Ipv6Net::default())
    }
}

fn route(dst: IpNet, gw: Option<IpAddr>) -> Route {
    Route {
        dst,
        gw,
        mtu: None,
        advmss: None,
        priority: None,
        table: None,
        scope: None,
    }
}

/// Compares what an `ADD` once told with what there is.
pub(crate) fn compare(
    found: &CniInterface,
    name: &str,
    netns: &str,
    before: Option<&CNIResult>,
) -> Result<(), Error> {
    let before = before.ok_or_else(|| {
        Error::InvalidNetworkConfig("prevResult is missing, expected the result of ADD".to_owned())
    })?;
    let own = |interface: &Interface| {
        let is_there = interface
            .sandbox
            .as_deref()
            .is_none_or(|sandbox| sandbox == netns);
        interface.name == name && is_there
    };
    let number = before.interfaces.iter().position(own);
    let number = number.ok_or_else(|| differs(format!("prevResult has no interface {name} in {netns}")))?;
    let expected = before.interfaces.get(number).map(|interface| &interface.mac);
    if let Some(mac) = expected.filter(|mac| !mac.is_empty() && !mac.eq_ignore_ascii_case(&found.mac)) {
        return Err(differs(format!(
            "the Ethernet address of {name} is {}, expected {mac}",
            found.mac
        )));
    }
    let mut ips = before.ips.iter();
    let is_own = |ip: &IpConfig| ip.interface.and_then(|at| usize::try_from(at).ok()) == Some(number);
    match ips.find(|ip| is_own(ip) && !found.addresses.contains(&ip.address)) {
        Some(absent) => Err(differs(format!(
            "{name} has {:?}, expected {} among them",
            found.addresses, absent.address
        ))),
        None => Ok(()),
    }
}

fn differs(why: String) -> Error {
    Error::Custom(DIFFERS, "The interface is not as it should be".to_owned(), why)
}

/// What a refusal of the daemon's is by the specification's codes, and by ours from 100 on.
pub(crate) fn refused(refusal: &CniRefusal) -> Error {
    let why = refusal.why.clone();
    let own = |code, message: &str, why| Error::Custom(code, message.to_owned(), why);
    match refusal.kind {
        CniFault::Unreadable => Error::FailedToDecode(why),
        CniFault::Network => Error::InvalidNetworkConfig(why),
        CniFault::NoNamespace | CniFault::Unknown => Error::NotExist(why),
        CniFault::Namespace => Error::InvalidNetNS(why),
        CniFault::Exists => own(EXISTS, "The interface is there already", why),
        CniFault::Refused => own(REFUSED, "The cluster refuses", why),
        CniFault::Differs => differs(why),
        CniFault::Later => Error::TryAgainLater(why),
    }
}

#[cfg(test)]
mod tests;
