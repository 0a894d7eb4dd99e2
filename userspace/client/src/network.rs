//! `network`: overlay networks.

use crate::api::{Filters, decode, encode, filtered};
use crate::console::{Exit, Session};
use crate::error::Error;
use crate::human::{short, time};
use crate::inspect::InspectArgs;
use crate::parse::key_value;
use crate::table::{List, ListArgs, row};
use crate::tasks::natural;
use bytes::Bytes;
use essaim_objects::{ConfigReferenceName, Ipam, IpamPool, Labels, NetworkCreate, NetworkResource};
use std::net::IpAddr;

/// What can be done with networks.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum NetworkCommand {
    /// Create a network
    Create(Box<CreateArgs>),
    /// Display detailed information on one or more networks
    Inspect {
        /// How they are shown
        #[command(flatten)]
        show: InspectArgs,
        /// Verbose output for diagnostics
        #[arg(short, long)]
        verbose: bool,
        /// Names or IDs
        #[arg(required = true, value_name = "NETWORK")]
        networks: Vec<String>,
    },
    /// List networks
    #[command(alias = "list")]
    Ls {
        /// Provide filter values (e.g. driver=overlay)
        #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value)]
        filter: Vec<(String, String)>,
        /// Do not truncate the output
        #[arg(long)]
        no_trunc: bool,
        /// How they are shown
        #[command(flatten)]
        show: ListArgs,
    },
    /// Remove all unused networks
    Prune {
        /// Provide filter values (e.g. until=TIMESTAMP)
        #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
        filter: Vec<(String, String)>,
        /// Do not prompt for confirmation
        #[arg(short, long)]
        force: bool,
    },
    /// Remove one or more networks
    #[command(alias = "remove")]
    Rm {
        /// Do not error if the network does not exist
        #[arg(short, long)]
        force: bool,
        /// Names or IDs
        #[arg(required = true, value_name = "NETWORK")]
        networks: Vec<String>,
    },
}

/// What `network create` takes.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CreateArgs {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    /// Auxiliary IPv4 or IPv6 addresses that are never handed out
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = auxiliary)]
    aux_address: Vec<(String, IpAddr)>,
    /// The network from which to copy the configuration
    #[arg(long, value_name = "NETWORK")]
    config_from: Option<String>,
    /// Create a configuration only network
    #[arg(long)]
    config_only: bool,
    /// Driver to manage the network
    #[arg(short, long, default_value = "overlay")]
    driver: String,
    /// IPv4 or IPv6 gateway for the subnet it lies in
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    gateway: Vec<IpAddr>,
    /// Create swarm routing-mesh network
    #[arg(long)]
    ingress: bool,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Allocate addresses from a part of the subnet it lies in
    #[arg(long, value_name = "SUBNET", value_delimiter = ',', value_parser = subnet)]
    ip_range: Vec<Cidr>,
    /// IP address management driver
    #[arg(long, value_name = "DRIVER", default_value = "default")]
    ipam_driver: String,
    /// Set IPAM driver specific options
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    ipam_opt: Vec<(String, String)>,
    /// Enable or disable IPv4 address assignment
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    ipv4: Option<bool>,
    /// Enable or disable IPv6 address assignment
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    ipv6: Option<bool>,
    /// Set metadata on a network
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    label: Vec<(String, String)>,
    /// Set driver specific options
    #[arg(short, long = "opt", value_name = "KEY=VALUE", value_parser = key_value)]
    opt: Vec<(String, String)>,
    /// Control the network's scope
    #[arg(long, default_value = "", hide_default_value = true)]
    scope: String,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_delimiter = ',', value_parser = subnet)]
    subnet: Vec<Cidr>,
    /// The network's name
    network: String,
}

/// A subnet as typed, with what it spans.
#[derive(Clone, Debug, PartialEq)]
struct Cidr {
    text: String,
    address: IpAddr,
    length: u8,
}

impl Cidr {
    /// Whether an address lies in it.
    fn contains(&self, address: IpAddr) -> bool {
        let (bits, a, b) = match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (32, u128::from(a.to_bits()), u128::from(b.to_bits())),
            (IpAddr::V6(a), IpAddr::V6(b)) => (128, a.to_bits(), b.to_bits()),
            _ => return false,
        };
        let host_bits = bits - u32::from(self.length);
        a.checked_shr(host_bits).unwrap_or_default() == b.checked_shr(host_bits).unwrap_or_default()
    }
}

fn subnet(text: &str) -> Result<Cidr, crate::parse::Expected> {
    let expected = || crate::parse::Expected::new("a subnet such as 10.1.0.0/24");
    let (address, length) = text.split_once('/').ok_or_else(expected)?;
    let address: IpAddr = address.parse().map_err(|_| expected())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = length
        .parse()
        .ok()
        .filter(|length| *length <= most)
        .ok_or_else(expected)?;
    Ok(Cidr {
        text: text.to_owned(),
        address,
        length,
    })
}

fn auxiliary(text: &str) -> Result<(String, IpAddr), crate::parse::Expected> {
    let expected = || crate::parse::Expected::new("NAME=ADDRESS with an IP address");
    let (name, address) = text.split_once('=').ok_or_else(expected)?;
    Ok((name.to_owned(), address.parse().map_err(|_| expected())?))
}

impl CreateArgs {
    /// The body that creates the network. Gateways, ranges and auxiliary addresses go to the subnet they lie in.
    ///
    /// # Errors
    /// One of them lies in none, or a subnet gets two of a kind, or subnets overlap.
    fn to_request(&self) -> Result<NetworkCreate, Error> {
        let mut pools: Vec<IpamPool> = Vec::new();
        for (at, subnet) in self.subnet.iter().enumerate() {
            let overlap = |other: &&Cidr| other.contains(subnet.address) || subnet.contains(other.address);
            if let Some(other) = self.subnet.iter().take(at).find(overlap) {
                return Err(Error::Usage(format!(
                    "--subnet: {} and {} overlap, expected subnets apart from each other",
                    other.text, subnet.text
                )));
            }
            pools.push(IpamPool {
                subnet: Some(subnet.text.clone()),
                ..IpamPool::default()
            });
        }
        let place = |flag: &str, address: IpAddr, text: &str| {
            let found = self.subnet.iter().position(|subnet| subnet.contains(address));
            found.ok_or_else(|| Error::Usage(format!("{flag}: {text} lies in no subnet of --subnet")))
        };
        let twice = |flag: &str, text: &str| {
            Error::Usage(format!(
                "{flag}: {text} is the second of its subnet, expected one"
            ))
        };
        for range in &self.ip_range {
            let at = place("--ip-range", range.address, &range.text)?;
            if let Some(pool) = pools.get_mut(at)
                && pool.ip_range.replace(range.text.clone()).is_some()
            {
                return Err(twice("--ip-range", &range.text));
            }
        }
        for gateway in &self.gateway {
            let at = place("--gateway", *gateway, &gateway.to_string())?;
            if let Some(pool) = pools.get_mut(at)
                && pool.gateway.replace(gateway.to_string()).is_some()
            {
                return Err(twice("--gateway", &gateway.to_string()));
            }
        }
        for (name, address) in &self.aux_address {
            let at = place("--aux-address", *address, &format!("{name}={address}"))?;
            if let Some(pool) = pools.get_mut(at) {
                pool.auxiliary_addresses
                    .get_or_insert_default()
                    .insert(name.clone(), address.to_string());
            }
        }
        let labels = |pairs: &[(String, String)]| Some(pairs.iter().cloned().collect::<Labels>());
        Ok(NetworkCreate {
            name: Some(self.network.clone()),
            driver: Some(self.driver.clone()),
            scope: Some(self.scope.clone()),
            enable_ipv4: self.ipv4,
            enable_ipv6: self.ipv6,
            ipam: Some(Ipam {
                driver: Some(self.ipam_driver.clone()),
                options: labels(&self.ipam_opt),
                config: Some(pools),
                ..Ipam::default()
            }),
            internal: Some(self.internal),
            attachable: Some(self.attachable),
            ingress: Some(self.ingress),
            config_only: Some(self.config_only),
            config_from: self.config_from.as_ref().map(|network| ConfigReferenceName {
                network: Some(network.clone()),
                ..ConfigReferenceName::default()
            }),
            options: labels(&self.opt),
            labels: labels(&self.label),
            ..NetworkCreate::default()
        })
    }
}

/// The networks by name.
pub(crate) fn list(mut networks: Vec<NetworkResource>, no_trunc: bool) -> List {
    networks.sort_by(|a, b| natural(&a.name, &b.name));
    let rows = networks.iter().map(|network| {
        let labels: Vec<_> = network
            .labels
            .iter()
            .flatten()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        row([
            (
                "ID",
                if no_trunc {
                    network.id.clone()
                } else {
                    short(&network.id)
                }
                .into(),
            ),
            ("Name", network.name.clone().into()),
            ("Driver", network.driver.clone().into()),
            ("Scope", network.scope.clone().into()),
            ("IPv4", network.enable_ipv4.to_string().into()),
            ("IPv6", network.enable_ipv6.to_string().into()),
            ("Internal", network.internal.to_string().into()),
            ("Labels", labels.join(",").into()),
            ("CreatedAt", time(network.created).into()),
        ])
    });
    List {
        columns: &[
            ("ID", "NETWORK ID"),
            ("Name", "NAME"),
            ("Driver", "DRIVER"),
            ("Scope", "SCOPE"),
            ("IPv4", "IPV4"),
            ("IPv6", "IPV6"),
            ("Internal", "INTERNAL"),
            ("Labels", "LABELS"),
            ("CreatedAt", "CREATED AT"),
        ],
        table: &["ID", "Name", "Driver", "Scope"],
        quiet: "ID",
        rows: rows.collect(),
    }
}

#[derive(serde::Deserialize)]
struct Created {
    #[serde(rename = "Id", alias = "ID")]
    id: String,
    #[serde(rename = "Warning", default)]
    warning: String,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Pruned {
    #[serde(rename = "NetworksDeleted")]
    networks: Option<Vec<String>>,
}

impl Session<'_, '_> {
    pub(crate) async fn network(&mut self, command: &NetworkCommand) -> Result<Exit, Error> {
        match command {
            NetworkCommand::Create(args) => {
                let created: Created = self
                    .client
                    .create("/networks/create", &args.to_request()?)
                    .await?;
                self.warn(
                    Some(created.warning)
                        .filter(|warning| !warning.is_empty())
                        .map(|warning| vec![warning]),
                )?;
                self.line(&created.id)?;
                Ok(Exit::Done)
            }
            NetworkCommand::Inspect {
                show,
                verbose,
                networks,
            } => {
                let query: &[(&str, &str)] = if *verbose { &[("verbose", "true")] } else { &[] };
                let render = async |_: &Self, objects: &[Bytes]| show.render(objects);
                self.inspect("network", "/networks", networks, query, render)
                    .await
            }
            NetworkCommand::Ls {
                filter,
                no_trunc,
                show,
            } => {
                let filters = Filters::of(filter).to_query();
                let query = filtered(filters.as_deref());
                let networks = self.client.get("/networks", &query).await?;
                let text = list(networks, *no_trunc).render(show)?;
                self.print(&text)?;
                Ok(Exit::Done)
            }
            NetworkCommand::Prune { filter, force } => {
                self.prune_networks(filter, *force).await?;
                Ok(Exit::Done)
            }
            NetworkCommand::Rm { force, networks } => {
                let mut exit = Exit::Done;
                for name in networks {
                    exit = exit.and(self.remove_network(name, *force).await?);
                }
                Ok(exit)
            }
        }
    }

    async fn remove_network(&mut self, name: &str, force: bool) -> Result<Exit, Error> {
        let path = format!("/networks/{}", encode(name));
        let found = self.client.get::<NetworkResource>(&path, &[]).await;
        if found.is_ok_and(|network| network.ingress) {
            let question = "WARNING! Before removing the routing-mesh network, make sure all the nodes in your swarm run the same version. \
                 Otherwise, removal may not be effective and functionality of newly created ingress networks will be impaired.\n\
                 Are you sure you want to continue?";
            if !self.confirm(question)? {
                return Ok(Exit::Done);
            }
        }
        match self.client.delete(&path, &[]).await {
            Err(error) if force && error.is_missing() => Ok(Exit::Done),
            done => self.tally(name, done, name),
        }
    }

    async fn prune_networks(&mut self, filter: &[(String, String)], force: bool) -> Result<(), Error> {
        let question = "WARNING! This will remove all networks not used by at least one service.\nAre you sure you want to continue?";
        if !force && !self.confirm(question)? {
            return Ok(());
        }
        let filters = Filters::of(filter).to_query();
        let query = filtered(filters.as_deref());
        let answer = self
            .client
            .post("/networks/prune", &query, &serde_json::Map::new())
            .await?;
        let removed = decode::<Pruned>("POST /networks/prune", &answer)?
            .networks
            .unwrap_or_default();
        if !removed.is_empty() {
            self.line("Deleted Networks:")?;
            for name in &removed {
                self.line(name)?;
            }
            self.line("")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn create() -> CreateArgs {
        let cidr = |text: &str| subnet(text).unwrap();
        CreateArgs {
            network: "n".to_owned(),
            driver: "overlay".to_owned(),
            ipam_driver: "default".to_owned(),
            subnet: vec![cidr("10.1.0.0/24"), cidr("fd00::/64")],
            ..CreateArgs::default()
        }
    }

    #[test]
    fn addresses_go_to_the_subnet_they_lie_in() {
        let args = CreateArgs {
            gateway: vec!["fd00::1".parse().unwrap(), "10.1.0.9".parse().unwrap()],
            ip_range: vec![subnet("10.1.0.128/25").unwrap()],
            aux_address: vec![("r".to_owned(), "10.1.0.7".parse().unwrap())],
            ..create()
        };
        let body = serde_json::to_value(args.to_request().unwrap()).unwrap();
        let expected = json!([
            {"Subnet": "10.1.0.0/24", "IPRange": "10.1.0.128/25", "Gateway": "10.1.0.9", "AuxiliaryAddresses": {"r": "10.1.0.7"}},
            {"Subnet": "fd00::/64", "Gateway": "fd00::1"},
        ]);
        assert_eq!(body["IPAM"]["Config"], expected);
    }

    #[test]
    fn addresses_outside_every_subnet_are_refused() {
        let gateway = |address: &str| {
            CreateArgs {
                gateway: vec![address.parse().unwrap()],
                ..create()
            }
            .to_request()
            .unwrap_err()
            .to_string()
        };
        assert_eq!(
            gateway("10.2.0.1"),
            "--gateway: 10.2.0.1 lies in no subnet of --subnet"
        );
        let twice = CreateArgs {
            gateway: vec!["10.1.0.1".parse().unwrap(), "10.1.0.2".parse().unwrap()],
            ..create()
        };
        assert_eq!(
            twice.to_request().unwrap_err().to_string(),
            "--gateway: 10.1.0.2 is the second of its subnet, expected one"
        );
        let overlapping = CreateArgs {
            subnet: vec![subnet("10.0.0.0/8").unwrap(), subnet("10.1.0.0/24").unwrap()],
            ..create()
        };
        assert!(overlapping.to_request().is_err());
        for text in ["10.0.0.0", "10.0.0.0/33", "x/8", "::/129", ""] {
            assert!(subnet(text).is_err(), "{text}");
        }
        assert!(subnet("0.0.0.0/0").unwrap().contains("9.9.9.9".parse().unwrap()));
        assert!(!subnet("::/0").unwrap().contains("9.9.9.9".parse().unwrap()));
    }
}
