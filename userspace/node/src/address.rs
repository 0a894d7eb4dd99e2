//! Which addresses a node listens at and is reached at. Pure, but for the list of interfaces.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The managers' port.
pub(crate) const PORT: u16 = 2377;

/// An address of an interface of this machine that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The interface's name.
    pub name: String,
    /// One of its addresses.
    pub address: IpAddr,
}

/// No address can be used. The texts begin as Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// What was given to listen at is none.
    #[error(
        "listen address must be an IP address or network interface (with optional port number), found {0:?}"
    )]
    Listen(String),
    /// What was given to advertise is none.
    #[error(
        "advertise address must be a non-zero IP address or network interface (with optional port number), found \
         {0:?}"
    )]
    Advertise(String),
    /// What was given for VXLAN is none.
    #[error("data path address must be a non-zero IP address or network interface, found {0:?}")]
    DataPath(String),
    /// A manager's address cannot be read.
    #[error("remote address must be an IP address or a name (with optional port number), found {0:?}")]
    Remote(String),
    /// The interface has several addresses.
    #[error(
        "interface {interface} has more than one IP address ({first} and {second}) - give one of them instead of its name"
    )]
    SeveralOnInterface {
        /// The interface.
        interface: String,
        /// One address.
        first: IpAddr,
        /// Another.
        second: IpAddr,
    },
    /// The machine has several addresses.
    #[error(
        "could not choose an IP address to advertise since this system has multiple addresses {} - specify one with \
         --advertise-addr",
        several(.0)
    )]
    Several(Vec<Interface>),
    /// The machine has none.
    #[error("could not find the system's IP address - specify one with --advertise-addr")]
    None,
}

fn several(found: &[Interface]) -> String {
    let list = |with_names: bool| {
        let one = |it: &Interface| {
            if with_names {
                format!("{} on {}", it.address, it.name)
            } else {
                it.address.to_string()
            }
        };
        found.iter().map(one).collect::<Vec<_>>().join(" and ")
    };
    let first = found.first().map(|it| it.name.as_str()).unwrap_or_default();
    if found.iter().all(|it| it.name == first) {
        format!("on interface {first} ({})", list(false))
    } else {
        format!("on different interfaces ({})", list(true))
    }
}

/// Whether an interface is a bridge of a Docker Engine on this machine, whose addresses nobody outside can reach.
fn is_dockers(name: &str) -> bool {
    let is_of_network = |id: &str| id.len() == 12 && id.chars().all(|c| c.is_ascii_hexdigit());
    matches!(name, "docker0" | "docker_gwbridge") || name.strip_prefix("br-").is_some_and(is_of_network)
}

/// The addresses of this machine's interfaces that are up.
pub(crate) fn interfaces() -> Vec<Interface> {
    use nix::net::if_::InterfaceFlags;
    let Ok(all) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    let up = all.filter(|it| it.flags.contains(InterfaceFlags::IFF_UP));
    let with_address = up.filter_map(|it| {
        let address = it.address?;
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        let v6 = || address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip()));
        Some(Interface {
            address: v4.or_else(v6)?,
            name: it.interface_name,
        })
    });
    with_address.collect()
}

/// Whether other machines may reach it.
fn is_reachable(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !address.is_loopback() && !address.is_unspecified() && !address.is_multicast() && !is_link_local
}

/// Those of a family that others may reach; IPv4 where there is any.
fn candidates<'a>(interfaces: impl Iterator<Item = &'a Interface>) -> Vec<Interface> {
    let reachable: Vec<_> = interfaces
        .filter(|it| is_reachable(it.address))
        .cloned()
        .collect();
    let v4: Vec<_> = reachable
        .iter()
        .filter(|it| it.address.is_ipv4())
        .cloned()
        .collect();
    if v4.is_empty() { reachable } else { v4 }
}

/// `ADDRESS[:PORT]` or `IFNAME[:PORT]`; the port is `port` where none is given. `wrong` says what it is for.
fn resolve(
    text: &str,
    port: u16,
    interfaces: &[Interface],
    wrong: fn(String) -> AddressError,
) -> Result<SocketAddr, AddressError> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    let unusable = || wrong(text.chars().take(64).collect());
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().map_err(|_| unusable())?),
        None => (text, port),
    };
    let own: Vec<_> = interfaces.iter().filter(|it| it.name == name).collect();
    let mut found = candidates(own.iter().copied());
    if found.is_empty() {
        // The loopback interface was asked for by its name.
        found = own
            .into_iter()
            .filter(|it| it.address.is_ipv4())
            .cloned()
            .collect();
    }
    match found.as_slice() {
        [] => Err(unusable()),
        [one] => Ok(SocketAddr::new(one.address, port)),
        [first, second, ..] => Err(AddressError::SeveralOnInterface {
            interface: name.to_owned(),
            first: first.address,
            second: second.address,
        }),
    }
}

fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// Where to listen: what was asked for, else every address.
pub(crate) fn listen(asked: Option<&str>, interfaces: &[Interface]) -> Result<SocketAddr, AddressError> {
    match given(asked) {
        Some(text) => resolve(text, PORT, interfaces, AddressError::Listen),
        None => Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT)),
    }
}

/// What others reach the node at: what was asked for, else the address that it listens at, else the one towards the
/// manager that it joins (`towards`), else the one address that this machine has.
pub(crate) fn advertise(
    asked: Option<&str>,
    listen: SocketAddr,
    towards: Option<IpAddr>,
    interfaces: &[Interface],
) -> Result<SocketAddr, AddressError> {
    if let Some(text) = given(asked) {
        let address = resolve(text, listen.port(), interfaces, AddressError::Advertise)?;
        if address.ip().is_unspecified() {
            return Err(AddressError::Advertise(text.to_owned()));
        }
        return Ok(address);
    }
    if !listen.ip().is_unspecified() {
        return Ok(listen);
    }
    if let Some(address) = towards {
        return Ok(SocketAddr::new(address, listen.port()));
    }
    let found = candidates(interfaces.iter().filter(|it| !is_dockers(&it.name)));
    match found.as_slice() {
        [] => Err(AddressError::None),
        [one] => Ok(SocketAddr::new(one.address, listen.port())),
        [..] => Err(AddressError::Several(found)),
    }
}

/// The address of VXLAN of a cluster's first node: what was asked for. One that advertises an address of loopback, as who
/// is to stay alone may, has its data path at the machine's first other one.
pub(crate) fn first_data_path(
    asked: Option<&str>,
    advertised: IpAddr,
    interfaces: &[Interface],
) -> Result<Option<IpAddr>, AddressError> {
    if given(asked).is_some() || !advertised.is_loopback() {
        return data_path(asked, interfaces);
    }
    let own = candidates(interfaces.iter().filter(|it| !is_dockers(&it.name)));
    Ok(own.first().map(|it| it.address))
}

/// The address of VXLAN, where one is asked for.
pub(crate) fn data_path(
    asked: Option<&str>,
    interfaces: &[Interface],
) -> Result<Option<IpAddr>, AddressError> {
    let Some(text) = given(asked) else {
        return Ok(None);
    };
    let address = resolve(text, 0, interfaces, AddressError::DataPath)?;
    if address.ip().is_unspecified() || address.port() != 0 {
        return Err(AddressError::DataPath(text.to_owned()));
    }
    Ok(Some(address.ip()))
}

/// A manager's address with its port.
pub(crate) fn remote(text: &str) -> Result<String, AddressError> {
    let text = text.trim();
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, PORT).to_string());
    }
    let wrong = || AddressError::Remote(text.chars().take(64).collect());
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().map_err(|_| wrong())?),
        None => (text, PORT),
    };
    let is_name = |host: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        !host.is_empty() && host.len() <= 253 && host.chars().all(fits)
    };
    if is_name(host) {
        Ok(format!("{host}:{port}"))
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests;
