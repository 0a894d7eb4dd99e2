//! What a runtime asks for: pure. What has no effect here is refused by its name, never passed over.

use essaim_model::{ContainerId, HostName, InterfaceName};
use essaim_protocol::CniAttachment;
use ipnet::IpNet;
use rscni_plugin::error::Error;
use rscni_plugin::types::{Args, NetConf};
use serde_json::Value;
use std::net::IpAddr;
use std::path::PathBuf;

/// Where the daemon listens, unless `socket` says otherwise.
const SOCKET: &str = "/run/essaim/cni.sock";
/// How much of a container's identity is a name.
const SHORT: usize = 12;

/// A network's configuration, as far as it is essaim's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The runtime's name for it.
    pub(crate) name: String,
    /// The cluster's network.
    pub(crate) network: String,
    pub(crate) socket: PathBuf,
    pub(crate) is_default: bool,
}

impl Config {
    pub(crate) fn read(conf: &NetConf) -> Result<Self, Error> {
        let mut config = Self {
            name: conf.name.clone(),
            network: conf.name.clone(),
            socket: SOCKET.into(),
            is_default: false,
        };
        for (key, value) in &conf.custom {
            match (key.as_str(), value) {
                (_, Value::Null) => {}
                ("network", Value::String(network)) if !network.is_empty() => {
                    config.network.clone_from(network);
                }
                ("network", _) => return Err(invalid(key, value, "the name of a network of the cluster")),
                ("socket", Value::String(socket)) if socket.starts_with('/') => config.socket = socket.into(),
                ("socket", _) => return Err(invalid(key, value, "the path of the daemon's socket")),
                ("isDefaultGateway", Value::Bool(is_default)) => config.is_default = *is_default,
                ("isDefaultGateway", _) => return Err(invalid(key, value, "true or false")),
                // The runtime's own.
                (key, _) if key.starts_with("cni.dev/") => {}
                _ => return Err(unsupported(key, value, "essaim-cni has no such setting")),
            }
        }
        if let Some(ipam) = conf.ipam.as_ref().filter(|ipam| !ipam.r#type.is_empty()) {
            let value = Value::from(ipam.r#type.clone());
            return Err(unsupported(
                "ipam",
                &value,
                "the cluster's managers choose addresses; leave it out",
            ));
        }
        let dns = conf.dns.as_ref();
        if let Some(servers) = dns.map(|dns| &dns.nameservers).filter(|own| !own.is_empty()) {
            let value = Value::from(servers.clone());
            let why = "names of the outside are asked for at the node's servers; leave it out";
            return Err(unsupported("dns.nameservers", &value, why));
        }
        Ok(config)
    }

    /// What the runtime knows the interface by.
    pub(crate) fn attachment(&self, args: &Args) -> Result<CniAttachment, Error> {
        let container = args
            .container_id()
            .ok_or_else(|| Error::missing_env(&["CNI_CONTAINERID"]))?;
        let interface = args.ifname().ok_or_else(|| Error::missing_env(&["CNI_IFNAME"]))?;
        let fit = InterfaceName::new(interface).map_err(|error| error.to_string());
        let fit = fit.and_then(|name| match name.as_str() {
            "lo" => Err("every namespace has an interface lo already".to_owned()),
            _ => Ok(name),
        });
        fit.map_err(|why| Error::InvalidEnvValue(format!("CNI_IFNAME: {why}")))?;
        Ok(CniAttachment {
            config: self.name.clone(),
            container: container.to_string(),
            interface: interface.to_string(),
        })
    }
}

/// What is asked for one container beside its network.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) names: Vec<String>,
    pub(crate) addresses: Vec<IpAddr>,
}

impl Wishes {
    /// Those of `CNI_ARGS`, `runtimeConfig` (capabilities `ips` and `aliases`) and `args.cni`.
    pub(crate) fn read(args: &Args, attachment: &CniAttachment) -> Result<Self, Error> {
        let mut wishes = Self::default();
        let conf = args.config();
        wishes.of_environment(args.args().unwrap_or_default())?;
        if let Some(runtime) = &conf.runtime_config {
            if !runtime.port_mappings.is_empty() {
                let value = Value::from(runtime.port_mappings.len());
                let why = "ports of containers are not published; services of the cluster publish theirs";
                return Err(unsupported("runtimeConfig.portMappings", &value, why));
            }
            for (key, value) in &runtime.custom {
                wishes.of_settings("runtimeConfig", key, value, &conf.name)?;
            }
        }
        let labels = conf.args.as_ref().and_then(|args| args.get("cni"));
        for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
            // By the conventions, what is not known there may be passed over.
            if matches!(key.as_str(), "ips" | "aliases") {
                wishes.of_settings("args.cni", key, value, &conf.name)?;
            }
        }
        // The managers make a name of an identity as engines have them; of another, it is named here.
        let id = &attachment.container;
        if let Some(short) = id.get(..id.len().min(SHORT))
            && ContainerId::new(id).is_err()
            && HostName::new(short).is_ok()
        {
            wishes.name(short);
        }
        Ok(wishes)
    }

    fn name(&mut self, name: &str) {
        if !self.names.iter().any(|known| known == name) {
            self.names.push(name.to_owned());
        }
    }

    fn of_environment(&mut self, text: &str) -> Result<(), Error> {
        let pairs = text.split(';').filter(|pair| !pair.is_empty());
        let pairs: Vec<(&str, &str)> = pairs
            .map(|pair| {
                pair.split_once('=').ok_or_else(|| {
                    Error::InvalidEnvValue(format!("CNI_ARGS has {pair:?}, expected KEY=VALUE"))
                })
            })
            .collect::<Result<_, _>>()?;
        let lenient = |value: &str| value == "1" || value.eq_ignore_ascii_case("true");
        let is_lenient = pairs
            .iter()
            .any(|(key, value)| *key == "IgnoreUnknown" && lenient(value));
        for (key, value) in pairs {
            match key {
                "IgnoreUnknown" => {}
                // Of podman the container's name, of Kubernetes the pod's.
                "K8S_POD_NAME" => {
                    let name = HostName::new(value);
                    let name =
                        name.map_err(|error| Error::InvalidEnvValue(format!("CNI_ARGS, {key}: {error}")))?;
                    self.name(name.as_str());
                }
                "IP" => {
                    let wrong =
                        || Error::InvalidEnvValue(format!("CNI_ARGS, IP is {value:?}, expected an address"));
                    self.addresses.push(address(value).ok_or_else(wrong)?);
                }
                _ if is_lenient || key.starts_with("K8S_POD_") => {}
                _ => {
                    let why = format!(
                        "CNI_ARGS has {key}={value}, which essaim-cni does not know; IgnoreUnknown=1"
                    );
                    return Err(Error::InvalidEnvValue(format!("{why} has it passed over")));
                }
            }
        }
        Ok(())
    }

    fn of_settings(&mut self, place: &str, key: &str, value: &Value, network: &str) -> Result<(), Error> {
        let place = format!("{place}.{key}");
        match (key, value) {
            (_, Value::Null) => Ok(()),
            (_, Value::Array(values)) if values.is_empty() => Ok(()),
            ("ips", Value::Array(values)) => {
                for text in values {
                    let address = text.as_str().and_then(address);
                    let address = address.ok_or_else(|| invalid(&place, text, "an address"))?;
                    self.addresses.push(address);
                }
                Ok(())
            }
            ("aliases", Value::Array(values)) => self.aliases(&place, values),
            // Podman's form: by network.
            ("aliases", Value::Object(networks)) => match networks.get(network) {
                Some(Value::Array(values)) => self.aliases(&place, values),
                Some(other) => Err(invalid(&place, other, "a list of names")),
                None => Ok(()),
            },
            _ => Err(unsupported(&place, value, "essaim-cni has no such capability")),
        }
    }

    fn aliases(&mut self, place: &str, values: &[Value]) -> Result<(), Error> {
        for value in values {
            let name = value.as_str().and_then(|text| HostName::new(text).ok());
            let name = name.ok_or_else(|| invalid(place, value, "a host name"))?;
            self.name(name.as_str());
        }
        Ok(())
    }
}

/// An address, with or without a prefix's length.
fn address(text: &str) -> Option<IpAddr> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpNet>().ok().map(|net| net.addr()))
}

fn invalid(key: &str, value: &Value, expected: &str) -> Error {
    Error::InvalidNetworkConfig(format!("{key} is {value}, expected {expected}"))
}

fn unsupported(key: &str, value: &Value, why: &str) -> Error {
    Error::UnsupportedNetworkConfiguration(format!("{key} is {value}: {why}"))
}

#[cfg(test)]
mod tests;
