//! `--publish`: `8080:80/tcp`, ranges, and `published=8080,target=80,mode=host`.

use super::{Expected, fields};
use essaim_objects::{PortConfig, Protocol, PublishMode};
use std::str::FromStr;

/// The ports of one flag; a range gives several.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ports(pub(crate) Vec<PortConfig>);

impl FromStr for Ports {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        if text.contains('=') {
            long(text).map(|port| Self(vec![port]))
        } else {
            short(text).map(Self)
        }
    }
}

fn port(protocol: Protocol, target: u16, published: Option<u16>, mode: PublishMode) -> PortConfig {
    PortConfig {
        protocol: Some(protocol),
        target_port: Some(target.into()),
        published_port: published.filter(|port| *port != 0).map(u32::from),
        publish_mode: Some(mode),
        ..PortConfig::default()
    }
}

fn number(text: &str) -> Result<u16, Expected> {
    text.parse()
        .map_err(|_| Expected::new("port numbers of 0 to 65535"))
}

fn protocol(text: &str) -> Result<Protocol, Expected> {
    text.parse()
        .map_err(|_| Expected::new("tcp, udp or sctp as the protocol"))
}

fn range(text: &str) -> Result<(u16, u16), Expected> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        Err(Expected::new("a range that goes up"))
    } else {
        Ok((first, last))
    }
}

fn short(text: &str) -> Result<Vec<PortConfig>, Expected> {
    let (ports, proto) = text.split_once('/').unwrap_or((text, "tcp"));
    let proto = protocol(proto)?;
    let (published, target) = match ports.split_once(':') {
        Some((published, target)) => (Some(range(published)?), target),
        None => (None, ports),
    };
    if target.contains(':') {
        return Err(Expected::new(
            "PUBLISHED:TARGET without an address: a port is open at every address",
        ));
    }
    let (first, last) = range(target)?;
    if first == 0 {
        return Err(Expected::new("a target port of 1 to 65535"));
    }
    let ingress = PublishMode::Ingress;
    let Some((from, to)) = published else {
        return Ok((first..=last)
            .map(|target| port(proto, target, None, ingress))
            .collect());
    };
    if first == last {
        return Ok((from..=to)
            .map(|published| port(proto, first, Some(published), ingress))
            .collect());
    }
    if last - first != to - from {
        return Err(Expected::new("ranges of the same length"));
    }
    Ok((from..=to)
        .zip(first..=last)
        .map(|(published, target)| port(proto, target, Some(published), ingress))
        .collect())
}

fn long(text: &str) -> Result<PortConfig, Expected> {
    let (mut proto, mut target, mut published, mut mode) = (Protocol::Tcp, None, None, PublishMode::Ingress);
    for field in fields(text)? {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| Expected::new("KEY=VALUE fields"))?;
        match key.to_ascii_lowercase().as_str() {
            "protocol" => proto = protocol(value)?,
            "mode" => {
                mode = value
                    .parse()
                    .map_err(|_| Expected::new("mode=ingress or mode=host"))?;
            }
            "target" => target = Some(number(value)?),
            "published" => published = Some(number(value)?),
            _ => return Err(Expected::new("target, published, protocol and mode as fields")),
        }
    }
    let target = target
        .filter(|target| *target != 0)
        .ok_or_else(|| Expected::new("target=PORT, of 1 to 65535"))?;
    Ok(port(proto, target, published, mode))
}

/// Ports to remove: those with a target and a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortRemoval(Vec<(u16, Protocol)>);

impl FromStr for PortRemoval {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let ports = text.parse::<Ports>()?.0;
        Ok(Self(
            ports
                .iter()
                .map(|port| (port.target(), port.protocol()))
                .collect(),
        ))
    }
}

impl PortRemoval {
    pub(crate) fn matches(&self, port: &PortConfig) -> bool {
        self.0.contains(&(port.target(), port.protocol()))
    }
}
