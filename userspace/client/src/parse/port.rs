//! `--publish`: `8080:80/tcp`, ranges, and `published=8080,target=80,mode=host`.

use super::{Expected, fields};
use essaim_objects::written::{number, port, ports, protocol};
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
            ports(text).map(Self)
        }
    }
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
