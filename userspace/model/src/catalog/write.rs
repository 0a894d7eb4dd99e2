//! The catalog as a file.

use super::{
    Affinity, Catalog, CatalogDelta, Cluster, Endpoint, HealthCheck, Network, Node, NodeState, Port,
    PortMode, ReturnPath, Service, ServiceDns, ServiceNetwork, Task,
};
use crate::{TaskState, Timeouts};
use essaim_abi::Protocol;
use std::fmt::{self, Display, Write};
use std::time::Duration;

impl Catalog {
    /// The catalog as a file that [`Catalog::parse`] reads back as it is.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "revision = {}", self.revision)?;
        write_cluster(out, &self.cluster)?;
        self.nodes.iter().try_for_each(|node| write_node(out, node))?;
        self.networks
            .iter()
            .try_for_each(|network| write_network(out, network))?;
        self.services
            .iter()
            .try_for_each(|service| write_service(out, service))
    }
}

impl CatalogDelta {
    /// The difference as text that [`CatalogDelta::parse`] reads back as it is.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "basis = {}\nrevision = {}", self.basis, self.revision)?;
        write_list(out, "removed_nodes", &self.nodes.removed)?;
        write_list(out, "removed_networks", &self.networks.removed)?;
        write_list(out, "removed_services", &self.services.removed)?;
        if let Some(cluster) = &self.cluster {
            write_cluster(out, cluster)?;
        }
        self.nodes.set.iter().try_for_each(|node| write_node(out, node))?;
        self.networks
            .set
            .iter()
            .try_for_each(|network| write_network(out, network))?;
        self.services
            .set
            .iter()
            .try_for_each(|service| write_service(out, service))
    }
}

fn write_cluster(out: &mut String, cluster: &Cluster) -> fmt::Result {
    writeln!(out, "\n[cluster]")?;
    writeln!(out, "vxlan_port = {}", cluster.vxlan_port)?;
    writeln!(out, "gossip_port = {}", cluster.gossip_port)?;
    writeln!(out, "manager_port = {}", cluster.manager_port)?;
    writeln!(out, "ingress_vni = {}", cluster.ingress_vni)?;
    writeln!(out, "ingress_subnets = {}", strings(&cluster.ingress_subnets))?;
    if !cluster.ingress_gateways.is_empty() {
        writeln!(out, "ingress_gateways = {}", strings(&cluster.ingress_gateways))?;
    }
    cluster
        .ingress_mtu
        .map_or(Ok(()), |mtu| writeln!(out, "ingress_mtu = {mtu}"))
}

fn write_node(out: &mut String, node: &Node) -> fmt::Result {
    let Node {
        name,
        address,
        overlay,
        state,
    } = node;
    writeln!(
        out,
        "\n[[nodes]]\nname = \"{name}\"\naddress = \"{address}\"\noverlay = {}",
        strings(overlay)
    )?;
    match state {
        NodeState::Up => Ok(()),
        NodeState::Down => writeln!(out, "state = \"down\""),
    }
}

fn write_network(out: &mut String, network: &Network) -> fmt::Result {
    let Network {
        name,
        vni,
        subnets,
        gateways,
        internal,
        encrypted,
        mtu,
    } = network;
    writeln!(
        out,
        "\n[[networks]]\nname = \"{name}\"\nvni = {vni}\nsubnets = {}",
        strings(subnets)
    )?;
    if !gateways.is_empty() {
        writeln!(out, "gateways = {}", strings(gateways))?;
    }
    for (field, set) in [("internal", *internal), ("encrypted", *encrypted)] {
        if set {
            writeln!(out, "{field} = true")?;
        }
    }
    mtu.map_or(Ok(()), |mtu| writeln!(out, "mtu = {mtu}"))
}

fn write_service(out: &mut String, service: &Service) -> fmt::Result {
    let Service {
        name,
        affinity,
        default_network,
        history,
        networks,
        ports,
        timeouts,
        dns,
        health,
        tasks,
    } = service;
    writeln!(out, "\n[[services]]\nname = \"{name}\"")?;
    match affinity {
        Affinity::None => {}
        Affinity::Client => writeln!(out, "affinity = \"client\"")?,
    }
    if let Some(network) = default_network {
        writeln!(out, "default_network = \"{network}\"")?;
    }
    if !history.is_empty() {
        let generations: Vec<String> = history.iter().map(|generation| strings(generation)).collect();
        writeln!(out, "history = [{}]", generations.join(", "))?;
    }
    if *timeouts != Timeouts::default() {
        let Timeouts {
            established,
            closing,
            udp,
        } = timeouts;
        writeln!(out, "\n[services.timeouts]")?;
        for (field, time) in [("established", established), ("closing", closing), ("udp", udp)] {
            writeln!(out, "{field} = \"{}\"", duration(*time))?;
        }
    }
    write_dns(out, dns)?;
    health
        .as_ref()
        .map_or(Ok(()), |health| write_health(out, health))?;
    for ServiceNetwork { name, vips, aliases } in networks {
        writeln!(
            out,
            "\n[[services.networks]]\nname = \"{name}\"\nvips = {}",
            strings(vips)
        )?;
        write_list(out, "aliases", aliases)?;
    }
    ports.iter().try_for_each(|port| write_port(out, *port))?;
    tasks.iter().try_for_each(|task| write_task(out, task))
}

fn write_dns(out: &mut String, dns: &ServiceDns) -> fmt::Result {
    if *dns == ServiceDns::default() {
        return Ok(());
    }
    let ServiceDns {
        servers,
        search,
        options,
        external,
    } = dns;
    writeln!(out, "\n[services.dns]")?;
    write_list(out, "servers", servers)?;
    write_list(out, "search", search)?;
    write_list(out, "options", options)?;
    external.map_or(Ok(()), |external| writeln!(out, "external = {external}"))
}

fn write_health(out: &mut String, health: &HealthCheck) -> fmt::Result {
    let HealthCheck {
        test,
        interval,
        timeout,
        retries,
        start_period,
        start_interval,
    } = health;
    // The words may hold anything; the crate knows how to quote them.
    let words: Vec<toml::Value> = test.words().into_iter().map(toml::Value::String).collect();
    writeln!(out, "\n[services.health]\ntest = {}", toml::Value::Array(words))?;
    writeln!(out, "interval = \"{}\"", duration(*interval))?;
    writeln!(out, "timeout = \"{}\"", duration(*timeout))?;
    writeln!(out, "retries = {retries}")?;
    if !start_period.is_zero() {
        writeln!(out, "start_period = \"{}\"", duration(*start_period))?;
    }
    writeln!(out, "start_interval = \"{}\"", duration(*start_interval))
}

fn write_port(out: &mut String, port: Port) -> fmt::Result {
    let Port {
        published,
        target,
        protocol,
        mode,
        replies,
        name,
    } = port;
    writeln!(
        out,
        "\n[[services.ports]]\npublished = {published}\ntarget = {target}"
    )?;
    match protocol {
        Protocol::Tcp => {}
        Protocol::Udp => writeln!(out, "protocol = \"udp\"")?,
        Protocol::Sctp => writeln!(out, "protocol = \"sctp\"")?,
    }
    match mode {
        PortMode::Ingress => {}
        PortMode::Host => writeln!(out, "mode = \"host\"")?,
    }
    match replies {
        ReturnPath::Tunnel => {}
        ReturnPath::Dsr => writeln!(out, "return = \"dsr\"")?,
    }
    name.map_or(Ok(()), |name| writeln!(out, "name = \"{name}\""))
}

fn write_task(out: &mut String, task: &Task) -> fmt::Result {
    let Task {
        id,
        node,
        netns,
        state,
        slot,
        hostname,
        container,
        cgroup,
        handover,
        endpoints,
    } = task;
    // The namespace is the one string that may hold anything; the crate knows how to quote it.
    let netns = toml::Value::String(netns.clone());
    writeln!(
        out,
        "\n[[services.tasks]]\nid = \"{id}\"\nnode = \"{node}\"\nnetns = {netns}"
    )?;
    let state = match state {
        TaskState::Starting => "starting",
        TaskState::Ready => "ready",
        TaskState::Draining => "draining",
        TaskState::Gone => "gone",
    };
    writeln!(out, "state = \"{state}\"")?;
    if let Some(slot) = slot {
        writeln!(out, "slot = {slot}")?;
    }
    if let Some(hostname) = hostname {
        writeln!(out, "hostname = \"{hostname}\"")?;
    }
    if let Some(container) = container {
        writeln!(out, "container = \"{container}\"")?;
    }
    if let Some(cgroup) = cgroup {
        writeln!(out, "cgroup = {}", toml::Value::String(cgroup.clone()))?;
    }
    if *handover {
        writeln!(out, "handover = true")?;
    }
    for Endpoint {
        network,
        addresses,
        mac,
        aliases,
        interface,
        default_route,
    } in endpoints
    {
        writeln!(
            out,
            "\n[[services.tasks.endpoints]]\nnetwork = \"{network}\"\naddresses = {}",
            strings(addresses)
        )?;
        if let Some(mac) = mac {
            writeln!(out, "mac = \"{mac}\"")?;
        }
        write_list(out, "aliases", aliases)?;
        if let Some(interface) = interface {
            writeln!(out, "interface = \"{interface}\"")?;
        }
        if !default_route {
            writeln!(out, "default_route = false")?;
        }
    }
    Ok(())
}

/// A list of strings that need no quoting, where there are any.
fn write_list<T: Display>(out: &mut String, field: &str, items: &[T]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(out, "{field} = {}", strings(items))
}

/// An array of strings that need no quoting.
fn strings<T: Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", items.join(", "))
}

fn duration(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{}s", time.as_secs())
    } else {
        format!("{}ms", time.as_millis())
    }
}
