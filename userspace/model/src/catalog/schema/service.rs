//! The fields of a service.

use crate::catalog::read::{Reader, Table, list, table};
use crate::catalog::values::{
    address, boolean, check_time, choice, folder, idle_time, mac, name, number, port, protocol, string,
    task_state,
};
use crate::catalog::{
    Affinity, Endpoint, HealthCheck, HealthTest, Port, PortMode, Problem, ReturnPath, Service, ServiceDns,
    ServiceNetwork, Task,
};
use crate::{TaskState, Timeouts};

pub(super) fn service(reader: &mut Reader, of: Table<'_>) -> Option<Service> {
    of.only(
        reader,
        &[
            "name",
            "affinity",
            "default_network",
            "history",
            "networks",
            "ports",
            "timeouts",
            "dns",
            "health",
            "tasks",
        ],
    );
    let affinities = choice(
        "none or client",
        &[("none", Affinity::None), ("client", Affinity::Client)],
    );
    let name = of.required(reader, "name", name);
    let affinity = of.optional(reader, "affinity", affinities).unwrap_or_default();
    let default_network = of.optional(reader, "default_network", self::name);
    let history = of.list(reader, "history", |reader, value| list(reader, value, self::name));
    let networks = of.tables(reader, "networks", service_network);
    let ports = of.tables(reader, "ports", published_port);
    let timeouts = of.optional(reader, "timeouts", |reader, value| {
        table(reader, value, |reader, table| Some(timeouts(reader, table)))
    });
    let timeouts = timeouts.unwrap_or_default();
    let dns = of.optional(reader, "dns", |reader, value| {
        table(reader, value, |reader, table| Some(dns(reader, table)))
    });
    let dns = dns.unwrap_or_default();
    let health = of.optional(reader, "health", |reader, value| table(reader, value, health));
    let tasks = of.tables(reader, "tasks", task);
    if !of.is_whole("networks", networks.len()) {
        reader.broken.extend(of.text("name").map(str::to_owned));
    }
    // Only now: every field was read, so that its errors show as well.
    Some(Service {
        name: name?,
        affinity,
        default_network,
        history,
        networks,
        ports,
        timeouts,
        dns,
        health,
        tasks,
    })
}

fn service_network(reader: &mut Reader, of: Table<'_>) -> Option<ServiceNetwork> {
    of.only(reader, &["name", "vips", "aliases"]);
    let own = of.required(reader, "name", name);
    let vips = of.list(reader, "vips", address);
    let aliases = of.list(reader, "aliases", name);
    Some(ServiceNetwork {
        name: own?,
        vips,
        aliases,
    })
}

fn dns(reader: &mut Reader, of: Table<'_>) -> ServiceDns {
    of.only(reader, &["servers", "search", "options", "external"]);
    ServiceDns {
        servers: of.list(reader, "servers", address),
        search: of.list(reader, "search", name),
        options: of.list(reader, "options", name),
        external: of.optional(reader, "external", boolean),
    }
}

fn health(reader: &mut Reader, of: Table<'_>) -> Option<HealthCheck> {
    of.only(
        reader,
        &[
            "test",
            "interval",
            "timeout",
            "retries",
            "start_period",
            "start_interval",
        ],
    );
    let test = of.required(reader, "test", |reader, value| {
        let words: Vec<String> = list(reader, value, string)?;
        HealthTest::from_words(&words).or_else(|| {
            let found = words.join(" ");
            let expected = HealthTest::EXPECTED;
            reader.reject(value, Problem::Malformed { found, expected })
        })
    });
    let usual = HealthCheck::new(HealthTest::Tcp(1));
    let mut time = |field, usual| of.optional(reader, field, check_time).unwrap_or(usual);
    let interval = time("interval", usual.interval);
    let timeout = time("timeout", usual.timeout);
    let start_period = time("start_period", usual.start_period);
    let start_interval = time("start_interval", usual.start_interval);
    let retries = of.optional(reader, "retries", number("retries", 1, 1000));
    let retries = retries.and_then(|retries| u32::try_from(retries).ok());
    Some(HealthCheck {
        test: test?,
        interval,
        timeout,
        retries: retries.unwrap_or(usual.retries),
        start_period,
        start_interval,
    })
}

fn published_port(reader: &mut Reader, of: Table<'_>) -> Option<Port> {
    of.only(
        reader,
        &["published", "target", "protocol", "mode", "return", "name"],
    );
    let modes = choice(
        "ingress or host",
        &[("ingress", PortMode::Ingress), ("host", PortMode::Host)],
    );
    let ways = choice(
        "tunnel or dsr",
        &[("tunnel", ReturnPath::Tunnel), ("dsr", ReturnPath::Dsr)],
    );
    let published = of.required(reader, "published", port);
    let target = of.required(reader, "target", port);
    let usual = Port::new(0, 0);
    let protocol = of
        .optional(reader, "protocol", protocol)
        .unwrap_or(usual.protocol);
    let mode = of.optional(reader, "mode", modes).unwrap_or(usual.mode);
    let replies = of.optional(reader, "return", ways).unwrap_or(usual.replies);
    let name = of.optional(reader, "name", name);
    Some(Port {
        published: published?,
        target: target?,
        protocol,
        mode,
        replies,
        name,
    })
}

fn timeouts(reader: &mut Reader, of: Table<'_>) -> Timeouts {
    of.only(reader, &["established", "closing", "udp"]);
    let usual = Timeouts::default();
    Timeouts {
        established: of
            .optional(reader, "established", idle_time)
            .unwrap_or(usual.established),
        closing: of.optional(reader, "closing", idle_time).unwrap_or(usual.closing),
        udp: of.optional(reader, "udp", idle_time).unwrap_or(usual.udp),
    }
}

fn task(reader: &mut Reader, of: Table<'_>) -> Option<Task> {
    of.only(
        reader,
        &[
            "id",
            "node",
            "netns",
            "state",
            "slot",
            "hostname",
            "container",
            "cgroup",
            "handover",
            "endpoints",
        ],
    );
    let id = of.required(reader, "id", name);
    let node = of.required(reader, "node", name);
    let netns = of.required(reader, "netns", string);
    let state = of
        .optional(reader, "state", task_state)
        .unwrap_or(TaskState::Ready);
    let slot = of.optional(reader, "slot", number("slot", 1, u32::MAX.into()));
    let slot = slot.and_then(|slot| u32::try_from(slot).ok());
    let hostname = of.optional(reader, "hostname", name);
    let container = of.optional(reader, "container", name);
    let cgroup = of.optional(reader, "cgroup", folder);
    let handover = of.optional(reader, "handover", boolean).unwrap_or(false);
    let endpoints = of.tables(reader, "endpoints", endpoint);
    if !of.is_whole("endpoints", endpoints.len()) {
        reader.broken.extend(of.text("id").map(str::to_owned));
    }
    Some(Task {
        id: id?,
        node: node?,
        netns: netns?,
        state,
        slot,
        hostname,
        container,
        cgroup,
        handover,
        endpoints,
    })
}

fn endpoint(reader: &mut Reader, of: Table<'_>) -> Option<Endpoint> {
    of.only(
        reader,
        &[
            "network",
            "addresses",
            "mac",
            "aliases",
            "interface",
            "default_route",
        ],
    );
    let network = of.required(reader, "network", name);
    let addresses = of.required(reader, "addresses", |reader, value| list(reader, value, address));
    let mac = of.optional(reader, "mac", mac);
    let aliases = of.list(reader, "aliases", name);
    let interface = of.optional(reader, "interface", name);
    let default_route = of.optional(reader, "default_route", boolean).unwrap_or(true);
    Some(Endpoint {
        network: network?,
        addresses: addresses?,
        mac,
        aliases,
        interface,
        default_route,
    })
}
