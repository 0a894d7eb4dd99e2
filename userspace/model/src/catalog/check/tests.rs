use crate::{Catalog, CatalogError, example};
use proptest::prelude::*;

mod names;

/// The example with one piece of text replaced.
fn with(from: &str, to: &str) -> String {
    assert!(example().contains(from), "{from}");
    example().replacen(from, to, 1)
}

fn errors(text: &str) -> Vec<String> {
    match Catalog::parse(text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors
            .iter()
            .map(|error| format!("{}: {}", error.path, error.problem))
            .collect(),
    }
}

/// The one error of a text, and that it points to the line that holds `on`.
fn error(text: &str, on: &str) -> String {
    let found = Catalog::parse(text).unwrap_err();
    let errors: Vec<&CatalogError> = found.iter().collect();
    let [error] = errors[..] else { panic!("{found}") };
    let line = text.lines().nth(error.place.unwrap().line - 1).unwrap();
    assert!(line.contains(on), "{error} points to {line:?}");
    format!("{}: {}", error.path, error.problem)
}

/// Replaces a piece of the example that stands on one line, and gives the one error, which points to that line.
fn replaced(from: &str, to: &str) -> String {
    error(&with(from, to), to.lines().last().unwrap())
}

/// Adds text at the end of the example; the error points to the line that holds `on`.
fn added(text: &str, on: &str) -> String {
    error(&format!("{}{text}", example()), on)
}

#[test]
fn the_example_is_right() {
    let catalog = Catalog::parse(example()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(
        (
            catalog.nodes.len(),
            catalog.networks.len(),
            catalog.services.len()
        ),
        (3, 1, 2)
    );
    assert_eq!(catalog.check(), Ok(()));
}

#[test]
fn the_documentation_shows_the_example_and_names_every_field() {
    let documentation = include_str!("../../../../../docs/catalog.md");
    assert!(documentation.contains(example()));
    for section in [
        "[cluster]",
        "[[nodes]]",
        "[[networks]]",
        "[[services]]",
        "[[services.networks]]",
        "[[services.ports]]",
        "[[services.tasks]]",
    ] {
        assert!(documentation.contains(&format!("`{section}`")), "{section}");
        let text = with(section, &format!("{section}\nx = 1"));
        let errors = Catalog::parse(&text).unwrap_err();
        let known = errors.iter().find_map(|error| match error.problem {
            crate::Problem::UnknownField { known } => Some(known),
            _ => None,
        });
        for field in known.unwrap() {
            assert!(documentation.contains(&format!("`{field}`")), "{section}.{field}");
        }
    }
}

#[test]
fn every_error_is_told_at_once_with_its_place() {
    let text = r#"revision = 1
colour = "red"

[cluster]
ingress_subnets = ["10.255.0.0/16"]
vxlan_port = "4789"

[[nodes]]
name = "n1"
address = "192.168.50.11"
overlay = ["10.255.0.11"]
size = 3

[[networks]]
name = "app"
vni = 100
subnets = ["10.0.1.0/24"]

[[services]]
name = "web"
affinity = "maybe"

[[services.networks]]
name = "app"
vips = ["10.0.1.2", "10.9.9.9"]

[[services.ports]]
published = 70000
target = 80

[[services.tasks]]
id = "web.1"
node = "n9"
endpoints = [{ network = "app", addresses = ["10.0.1.300"] }]
"#;
    let errors = Catalog::parse(text).unwrap_err();
    let places = errors.iter().map(|error| {
        let place = error.place.unwrap();
        (place.line, place.column, error.path.as_str())
    });
    assert_eq!(
        places.collect::<Vec<_>>(),
        [
            (2, 1, "colour"),
            (6, 14, "cluster.vxlan_port"),
            (12, 1, "nodes.n1.size"),
            (21, 12, "services.web.affinity"),
            (25, 21, "services.web.networks[0].vips[1]"),
            (25, 21, "services.web.networks[0].vips[1]"),
            (28, 13, "services.web.ports[0].published"),
            (31, 1, "services.web.tasks[0].netns"),
            (34, 46, "services.web.tasks[0].endpoints[0].addresses[0]"),
        ]
    );
}

#[test]
fn an_item_that_cannot_be_read_does_not_move_the_places_of_the_others() {
    let text = with(
        "[[networks]]",
        "[[networks]]\nname = \"bad!\"\nvni = 7\nsubnets = [\"10.0.7.0/24\"]\n\n[[networks]]",
    );
    let text = text
        .replacen("fd00:1::/64", "10.0.2.0/24", 1)
        .replace(", \"fd00:1::", ", \"10.0.2.");
    let errors = Catalog::parse(&text).unwrap_err();
    let subnet = errors
        .iter()
        .find(|error| error.path == "networks.app.subnets[1]")
        .unwrap();
    let line = text.lines().nth(subnet.place.unwrap().line - 1).unwrap();
    assert!(line.contains("10.0.2.0/24"), "{line}");
}

#[test]
fn what_refers_to_something_unreadable_is_no_further_error() {
    assert_eq!(
        replaced("vni = 100", "vni = 0"),
        "networks.app.vni: VNI 0 is out of range, expected 1 to 16777215"
    );
    assert_eq!(
        replaced(r#"address = "192.168.50.11""#, r#"address = "192.168.50""#),
        "nodes.n1.address: \"192.168.50\" is not an IP address such as 10.0.1.5 or fd00:1::5"
    );
    assert_eq!(
        replaced(
            r#"ingress_subnets = ["10.255.0.0/16", "fd00:ffff::/64"]"#,
            "ingress_subnets = 5"
        ),
        "cluster.ingress_subnets: found an integer, expected an array"
    );
}

#[test]
fn broken_syntax_is_told_with_its_place() {
    let text = "revision = 1\n[cluster\nx = ]\n";
    let errors = Catalog::parse(text).unwrap_err();
    assert!(
        errors.iter().all(|error| error.to_string().contains("not TOML")),
        "{errors}"
    );
    assert_eq!(errors.iter().next().unwrap().place.unwrap().line, 2);
}

#[test]
fn an_empty_file_lacks_a_revision_and_a_cluster() {
    assert_eq!(errors(""), ["revision: is missing", "cluster: is missing"]);
}

#[test]
fn unknown_fields_are_told_at_every_level() {
    for (section, path) in [
        ("[cluster]", "cluster.x"),
        ("[[nodes]]", "nodes.n1.x"),
        ("[[networks]]", "networks.app.x"),
        ("[[services]]", "services.web.x"),
        ("[[services.networks]]", "services.web.networks[0].x"),
        ("[[services.ports]]", "services.web.ports[0].x"),
        ("[[services.tasks]]", "services.web.tasks[0].x"),
    ] {
        let found = error(&with(section, &format!("{section}\nx = 1")), "x = 1");
        assert!(
            found.starts_with(&format!("{path}: unknown field, expected one of ")),
            "{found}"
        );
    }
    let found = replaced("{ network = \"app\"", "{ x = 1, network = \"app\"");
    assert!(
        found.starts_with("services.web.tasks[0].endpoints[0].x: unknown field"),
        "{found}"
    );
    let found = added("[services.timeouts]\nidle = \"5s\"\n", "idle");
    assert_eq!(
        found,
        "services.api.timeouts.idle: unknown field, expected one of established, closing, udp"
    );
}

#[test]
fn values_are_checked_one_by_one() {
    for (from, to, problem) in [
        (
            "revision = 1",
            "revision = -1",
            "revision: revision -1 is out of range, expected 0 to 9223372036854775807",
        ),
        (
            "published = 8080",
            "published = 0",
            "services.web.ports[0].published: port 0 is out of range, expected 1 to 65535",
        ),
        (
            "target = 80",
            "target = 65536",
            "services.web.ports[0].target: port 65536 is out of range, expected 1 to 65535",
        ),
        (
            "target = 80",
            "target = 80\nprotocol = \"icmp\"",
            "services.web.ports[0].protocol: \"icmp\" is not tcp, udp or sctp",
        ),
        (
            "target = 80",
            "protocol = \"sctp\"\ntarget = 80",
            "services.web.ports[0].target: port 8080 of SCTP goes to port 80: expected the same, since SCTP's checksum covers the port",
        ),
        (
            "target = 80",
            "target = 80\nmode = \"all\"",
            "services.web.ports[0].mode: \"all\" is not ingress or host",
        ),
        (
            "target = 80",
            "target = 80\nreturn = \"nat\"",
            "services.web.ports[0].return: \"nat\" is not tunnel or dsr",
        ),
        (
            "netns = \"web.1\"",
            "netns = \"a/b\"",
            "services.web.tasks[0].netns: \"a/b\" is not a name under /run/netns or an absolute path",
        ),
        (
            "netns = \"web.1\"",
            "netns = \"web.1\"\nstate = \"dead\"",
            "services.web.tasks[0].state: \"dead\" is not starting, ready, draining or gone",
        ),
        (
            "vni = 100",
            "vni = 100\nmtu = 1000",
            "networks.app.mtu: MTU of an IPv6 network 1000 is out of range, expected 1280 to 65465",
        ),
        (
            "vni = 100",
            "vni = 100\ninternal = \"yes\"",
            "networks.app.internal: found a string, expected true or false",
        ),
        (
            "name = \"web\"",
            "name = \"we b\"",
            "services.we b.name: service name \"we b\" has ' ', expected letters, digits, '-', '_' and '.', a letter or digit first",
        ),
        (
            "10.0.1.0/24",
            "10.0.1.5/24",
            "networks.app.subnets[0]: subnet 10.0.1.5/24 has bits set after its prefix, expected 10.0.1.0/24",
        ),
        (
            "10.0.1.0/24",
            "10.0.1.0/31",
            "networks.app.subnets[0]: prefix /31 is out of range, expected /1 to /30",
        ),
        (
            "fd00:1::/64",
            "::ffff:10.9.0.0/120",
            "networks.app.subnets[1]: \"::ffff:10.9.0.0/120\" is not a subnet such as 10.0.1.0/24 or fd00:1::/64",
        ),
    ] {
        assert_eq!(replaced(from, to), problem);
    }
    assert_eq!(
        added("[services.timeouts]\nudp = \"500ms\"\n", "udp"),
        "services.api.timeouts.udp: idle time 500ms is out of range, expected 1s to 24d"
    );
    assert_eq!(
        replaced(
            "addresses = [\"10.0.1.11\"",
            "mac = \"01:00:00:00:00:01\", addresses = [\"10.0.1.11\""
        ),
        "services.web.tasks[0].endpoints[0].mac: \"01:00:00:00:00:01\" is not a unicast Ethernet address such as 02:42:0a:00:01:05"
    );
}

const SECOND_NETWORK: &str = "[[networks]]\nname = \"db\"\nvni = 101\nsubnets = [\"10.0.2.0/24\"]\n";

#[test]
fn subnets_lie_apart() {
    for (subnet, problem) in [
        (
            "10.0.1.128/25",
            "subnet 10.0.1.128/25 overlaps 10.0.1.0/24 of network app",
        ),
        (
            "10.0.0.0/16",
            "subnet 10.0.0.0/16 overlaps 10.0.1.0/24 of network app",
        ),
        (
            "10.255.7.0/24",
            "subnet 10.255.7.0/24 overlaps 10.255.0.0/16 of the ingress network",
        ),
    ] {
        let text = SECOND_NETWORK.replace("10.0.2.0/24", subnet);
        assert_eq!(added(&text, subnet), format!("networks.db.subnets[0]: {problem}"));
    }
    assert_eq!(
        added(
            &SECOND_NETWORK.replace("10.0.2.0/24", "192.168.50.8/30"),
            "address = \"192.168.50.11\""
        ),
        "nodes.n1.address: underlay address 192.168.50.11 lies in subnet 192.168.50.8/30 of network db"
    );
    assert_eq!(
        added(&SECOND_NETWORK.replace("10.0.2.0/24", "224.0.0.0/24"), "224"),
        "networks.db.subnets[0]: 224.0.0.0/24 is not an address that a network can have: multicast, loopback, link-local or unspecified"
    );
    assert_eq!(
        added(
            &SECOND_NETWORK.replace("[\"10.0.2.0/24\"]", "[\"10.0.2.0/24\", \"10.0.3.0/24\"]"),
            "10.0.3"
        ),
        "networks.db.subnets[1]: subnet 10.0.3.0/24 is the second of its family (IPv4), expected at most one"
    );
    assert_eq!(
        added(&SECOND_NETWORK.replace("[\"10.0.2.0/24\"]", "[]"), "subnets = []"),
        "networks.db.subnets: is missing"
    );
}

#[test]
fn names_and_numbers_are_unique() {
    for (from, to, problem) in [
        (
            "name = \"n2\"",
            "name = \"n1\"",
            "nodes.n1.name: node name n1 is already used by another node",
        ),
        (
            "\"192.168.50.12\"",
            "\"192.168.50.11\"",
            "nodes.n2.address: underlay address 192.168.50.11 is already used by node n1",
        ),
        (
            "\"10.255.0.12\"",
            "\"10.255.0.11\"",
            "nodes.n2.overlay[0]: address 10.255.0.11 is already used by node n1",
        ),
        (
            "vni = 100",
            "vni = 4095",
            "networks.app.vni: VNI 4095 is already used by the ingress network",
        ),
        (
            "name = \"api\"",
            "name = \"web\"",
            "services.web.name: service name web is already used by another service",
        ),
        (
            "id = \"web.2\"",
            "id = \"web.1\"",
            "services.web.tasks[1].id: task id web.1 is already used by another task",
        ),
        (
            "10.0.1.3",
            "10.0.1.2",
            "services.api.networks[0].vips[0]: address 10.0.1.2 is already used by service web",
        ),
        (
            "fd00:1::22",
            "fd00:1::21",
            "services.api.tasks[1].endpoints[0].addresses[1]: address fd00:1::21 is already used by task api.1",
        ),
        (
            "10.0.1.21",
            "10.0.1.2",
            "services.api.tasks[0].endpoints[0].addresses[0]: address 10.0.1.2 is already used by service web",
        ),
        (
            "netns = \"api.1\"",
            "netns = \"web.1\"",
            "services.api.tasks[0].netns: network namespace web.1 is already used by task web.1",
        ),
    ] {
        let text = with(from, to);
        let found = errors(&text);
        assert!(found.contains(&problem.to_owned()), "{found:#?}");
    }
    assert_eq!(
        added(&SECOND_NETWORK.replace("101", "100"), "vni = 100"),
        "networks.db.vni: VNI 100 is already used by app"
    );
    assert_eq!(
        errors(&format!("{}{}", example(), SECOND_NETWORK.replace("db", "app"))),
        ["networks.app.name: network name app is already used by another network"]
    );
    assert_eq!(
        added(&SECOND_NETWORK.replace("db", "host"), "name = \"host\""),
        "networks.host.name: network name host is reserved, choose another"
    );
}

#[test]
fn addresses_lie_in_their_networks_and_are_free() {
    for (from, to, problem) in [
        (
            "10.0.1.2\"",
            "10.0.9.2\"",
            "services.web.networks[0].vips[0]: VIP 10.0.9.2 is in no subnet of network app, expected 10.0.1.0/24 or fd00:1::/64",
        ),
        (
            "10.0.1.2\"",
            "10.0.1.0\"",
            "services.web.networks[0].vips[0]: VIP 10.0.1.0 is the network address of subnet 10.0.1.0/24",
        ),
        (
            "10.0.1.2\"",
            "10.0.1.255\"",
            "services.web.networks[0].vips[0]: VIP 10.0.1.255 is the broadcast address of subnet 10.0.1.0/24",
        ),
        (
            "fd00:1::2\"",
            "fd00:1::1\"",
            "services.web.networks[0].vips[1]: VIP fd00:1::1 is the gateway address of subnet fd00:1::/64",
        ),
        (
            "fd00:1::2\"",
            "10.0.1.3\"",
            "services.web.networks[0].vips[1]: VIP 10.0.1.3 is the second of its family (IPv4), expected at most one",
        ),
        (
            "10.0.1.11",
            "10.0.1.1",
            "services.web.tasks[0].endpoints[0].addresses[0]: address 10.0.1.1 is the gateway address of subnet 10.0.1.0/24",
        ),
        (
            "10.0.1.11",
            "10.8.1.1",
            "services.web.tasks[0].endpoints[0].addresses[0]: address 10.8.1.1 is in no subnet of network app, expected 10.0.1.0/24 or fd00:1::/64",
        ),
        (
            "10.255.0.12",
            "10.254.0.12",
            "nodes.n2.overlay[0]: overlay address 10.254.0.12 is in no subnet of network ingress, expected 10.255.0.0/16 or fd00:ffff::/64",
        ),
        (
            "10.255.0.12",
            "10.255.0.1",
            "nodes.n2.overlay[0]: overlay address 10.255.0.1 is the gateway address of subnet 10.255.0.0/16",
        ),
        (
            "[\"10.255.0.12\", \"fd00:ffff::12\"]",
            "[\"10.255.0.12\"]",
            "nodes.n2.overlay: no address in ingress subnet fd00:ffff::/64, expected one",
        ),
        (
            "[cluster]\n",
            "[cluster]\ningress_gateways = [\"10.254.0.1\"]\n",
            "cluster.ingress_gateways[0]: gateway 10.254.0.1 is in no subnet of network ingress, expected 10.255.0.0/16 or fd00:ffff::/64",
        ),
        (
            "[cluster]\n",
            "[cluster]\ningress_mtu = 1000\n",
            "cluster.ingress_mtu: MTU of an IPv6 network 1000 is out of range, expected 1280 to 65465",
        ),
        (
            "vni = 100",
            "vni = 100\ngateways = [\"10.0.1.0\"]",
            "networks.app.gateways[0]: gateway 10.0.1.0 is the network address of subnet 10.0.1.0/24",
        ),
        (
            "vni = 100",
            "vni = 100\ngateways = [\"10.0.7.1\"]",
            "networks.app.gateways[0]: gateway 10.0.7.1 is in no subnet of network app, expected 10.0.1.0/24 or fd00:1::/64",
        ),
        (
            "192.168.50.13",
            "127.0.0.1",
            "nodes.n3.address: 127.0.0.1 is not an address that a node can have: multicast, loopback, link-local or unspecified",
        ),
    ] {
        let text = with(from, to);
        let found = errors(&text);
        assert!(found.contains(&problem.to_owned()), "{found:#?}");
        let on = to.lines().last().unwrap();
        let found = Catalog::parse(&text).unwrap_err();
        let lines = found
            .iter()
            .map(|error| text.lines().nth(error.place.unwrap().line - 1).unwrap());
        assert!(
            lines.clone().any(|line| line.contains(on)),
            "{:?}",
            lines.collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_gateway_that_was_named_frees_the_first_address() {
    let text =
        with("vni = 100", "vni = 100\ngateways = [\"10.0.1.254\"]").replace("10.0.1.2\"", "10.0.1.1\"");
    assert_eq!(errors(&text), [""; 0]);
}

#[test]
fn references_must_exist() {
    for (from, to, problem) in [
        (
            "node = \"n2\"",
            "node = \"n4\"",
            "services.web.tasks[1].node: node n4 is not in the catalog",
        ),
        (
            "{ network = \"app\"",
            "{ network = \"db\"",
            "services.web.tasks[0].endpoints[0].network: network db is not in the catalog",
        ),
        (
            "name = \"app\"\nvips",
            "name = \"db\"\nvips",
            "services.web.networks[0].name: network db is not in the catalog",
        ),
    ] {
        let found = errors(&with(from, to));
        assert!(found.contains(&problem.to_owned()), "{found:#?}");
    }
    let text = format!(
        "{}{SECOND_NETWORK}",
        with(
            "{ network = \"app\", addresses = [\"10.0.1.21\", \"fd00:1::21\"]",
            "{ network = \"db\", addresses = [\"10.0.2.21\"]"
        )
    );
    assert_eq!(
        error(&text, "10.0.2.21"),
        "services.api.tasks[0].endpoints[0].network: network db is none of service api, expected app"
    );
    assert_eq!(
        replaced("name = \"api\"", "name = \"api\"\ndefault_network = \"ingress\""),
        "services.api.default_network: network ingress is none of service api, expected app"
    );
}

#[test]
fn published_ports_have_one_answer() {
    let port = |port: &str| format!("[[services.ports]]\n{port}\ntarget = 1\n");
    for (text, problem) in [
        (
            "published = 8080",
            Some("published TCP port 8080 is already used by service web"),
        ),
        (
            "published = 8080\nmode = \"host\"",
            Some("published TCP port 8080 is already used by service web"),
        ),
        ("published = 8080\nprotocol = \"udp\"", None),
        ("published = 60999", None),
        (
            "published = 61000",
            Some("published port 61000 is in the range of masquerading, expected 1 to 60999"),
        ),
        (
            "protocol = \"udp\"\npublished = 4789",
            Some("published UDP port 4789 is already used by VXLAN"),
        ),
        ("published = 4789", None),
        (
            "published = 7946",
            Some("published TCP port 7946 is already used by gossip"),
        ),
        (
            "protocol = \"udp\"\npublished = 7946",
            Some("published UDP port 7946 is already used by gossip"),
        ),
        (
            "published = 2377",
            Some("published TCP port 2377 is already used by the managers"),
        ),
        ("protocol = \"udp\"\npublished = 2377", None),
    ] {
        let found = errors(&format!("{}{}", example(), port(text)));
        let expected: Vec<String> = problem
            .iter()
            .map(|problem| format!("services.api.ports[0].published: {problem}"))
            .collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn host_ports_clash_only_where_both_services_have_a_task() {
    let text = with("target = 80", "target = 80\nmode = \"host\"");
    let clash = format!("{text}[[services.ports]]\npublished = 8080\ntarget = 1\nmode = \"host\"\n");
    assert_eq!(
        errors(&clash),
        ["services.api.ports[0].published: published TCP port 8080 is already used by service web"]
    );
    let apart = clash.replacen(
        "node = \"n1\"\nnetns = \"web.1\"",
        "node = \"n3\"\nnetns = \"web.1\"",
        1,
    );
    let apart = apart.replacen(
        "node = \"n2\"\nnetns = \"web.2\"",
        "node = \"n3\"\nnetns = \"web.2\"",
        1,
    );
    assert_eq!(errors(&apart), [""; 0]);
}

#[test]
fn a_published_service_without_networks_needs_endpoints_on_ingress() {
    let service = |endpoints: &str| {
        format!(
            "{}[[services]]\nname = \"dns\"\n[[services.ports]]\npublished = 53\ntarget = 53\n[[services.tasks]]\nid = \"dns.1\"\nnode = \"n1\"\nnetns = \"dns.1\"\nendpoints = {endpoints}\n",
            example()
        )
    };
    assert_eq!(
        errors(&service("[]")),
        [
            "services.dns.tasks[0]: task dns.1 has no endpoint and its service publishes ports, give it one on a network of the service or on ingress"
        ]
    );
    assert_eq!(
        errors(&service(
            "[{ network = \"ingress\", addresses = [\"10.255.1.1\"] }]"
        )),
        [""; 0]
    );
    assert_eq!(
        errors(&service(
            "[{ network = \"ingress\", addresses = [\"10.255.0.11\"] }]"
        )),
        ["services.dns.tasks[0].endpoints[0].addresses[0]: address 10.255.0.11 is already used by node n1"]
    );
    let vips = service("[{ network = \"ingress\", addresses = [\"10.255.1.1\"] }]")
        + "[[services.networks]]\nname = \"ingress\"\nvips = [\"10.255.1.2\"]\n";
    assert_eq!(
        errors(&vips),
        ["services.dns.networks[0].vips: the ingress network has no VIPs, remove them"]
    );
}

#[test]
fn a_task_is_on_at_most_16_networks() {
    let network = |n: usize| {
        format!(
            "[[networks]]\nname = \"x{n}\"\nvni = {}\nsubnets = [\"10.7.{n}.0/24\"]\n",
            200 + n
        )
    };
    let endpoint = |n: usize| format!("{{ network = \"x{n}\", addresses = [\"10.7.{n}.9\"] }}");
    let endpoints: Vec<String> = (0..17).map(endpoint).collect();
    let networks: Vec<String> = (0..17).map(network).collect();
    let member = |n: usize| format!("[[services.networks]]\nname = \"x{n}\"\n");
    let members: Vec<String> = (0..17).map(member).collect();
    let (networks, members) = (networks.concat(), members.concat());
    let text = format!("{}{networks}[[services]]\nname = \"many\"\n{members}", example());
    let task = "[[services.tasks]]\nid = \"many.1\"\nnode = \"n1\"\nnetns = \"many.1\"\n";
    let with = |count: usize| format!("{text}{task}endpoints = [{}]\n", endpoints[..count].join(", "));
    assert_eq!(errors(&with(16)), [""; 0]);
    assert_eq!(
        errors(&with(17)),
        [
            "services.many.tasks[0].endpoints: number of networks of a task 17 is out of range, expected 1 to 16"
        ]
    );
}

#[test]
fn history_may_name_tasks_that_are_no_more_but_has_at_most_16_generations() {
    let history = |n: usize| {
        with(
            "name = \"api\"",
            &format!(
                "name = \"api\"\nhistory = [{}]",
                vec!["[\"old.1\"]"; n].join(", ")
            ),
        )
    };
    assert_eq!(errors(&history(16)), [""; 0]);
    assert_eq!(
        errors(&history(17)),
        ["services.api.history: number of generations 17 is out of range, expected 0 to 16"]
    );
}

#[test]
fn an_ethernet_address_has_one_owner_on_a_network() {
    let text = with(
        "addresses = [\"10.0.1.12\"",
        "mac = \"02:42:0a:00:01:0b\", addresses = [\"10.0.1.12\"",
    );
    assert_eq!(
        error(&text, "10.0.1.12"),
        "services.web.tasks[1].endpoints[0].mac: Ethernet address 02:42:0a:00:01:0b is already used by task web.1"
    );
}

#[test]
fn cluster_ports_differ() {
    assert_eq!(
        replaced("[cluster]", "[cluster]\ngossip_port = 4789"),
        "cluster.gossip_port: UDP port 4789 is already used by vxlan_port"
    );
    assert_eq!(
        replaced("[cluster]", "[cluster]\nmanager_port = 7946"),
        "cluster.manager_port: TCP port 7946 is already used by gossip_port"
    );
}

#[test]
fn a_catalog_made_by_a_program_is_checked_without_places() {
    let mut catalog = Catalog::parse(example()).unwrap();
    catalog.services[0].ports[0].published = 0;
    let errors = catalog.check().unwrap_err();
    assert_eq!(
        errors.to_string(),
        "services.web.ports[0].published: port 0 is out of range, expected 1 to 65535"
    );
}

#[test]
fn a_health_check_is_read_in_dockers_words_and_refused_in_others() {
    let with = |health: &str, on: &str| {
        let networks = "[[services.networks]]\nname = \"app\"\nvips = [\"10.0.1.2\"";
        let text = example().replacen(networks, &format!("[services.health]\n{health}\n{networks}"), 1);
        error(&text, on)
    };
    assert_eq!(
        with("test = [\"CMD\"]", "test"),
        "services.web.health.test: \"CMD\" is not [\"CMD\", PROGRAM, ...], [\"CMD-SHELL\", LINE], [\"TCP\", PORT] or \
         [\"HTTP\", PORT, PATH]"
    );
    assert_eq!(
        with("interval = \"1s\"", "health"),
        "services.web.health.test: is missing"
    );
    assert_eq!(
        with("test = [\"TCP\", \"80\"]\ntimeout = \"0s\"", "timeout"),
        "services.web.health.timeout: time 0s is out of range, expected 1ms to 24d"
    );
    assert_eq!(
        with("test = [\"TCP\", \"80\"]\nretries = 0", "retries"),
        "services.web.health.retries: retries 0 is out of range, expected 1 to 1000"
    );
    assert_eq!(
        replaced("netns = \"web.1\"", "netns = \"web.1\"\ncgroup = \"web.1\""),
        "services.web.tasks[0].cgroup: \"web.1\" is not an absolute path"
    );
}

proptest! {
    #[test]
    fn damaged_text_is_read_or_refused_with_places_within_it(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..30, "[a-z0-9\"\\[\\]{}=.,\n:/ -]{0,12}"), 1..4),
    ) {
        let mut text = example().to_owned();
        for (at, len, instead) in cuts {
            let at = at.index(text.len());
            let end = (at + len).min(text.len());
            text.replace_range(at..end, &instead);
        }
        if let Err(errors) = Catalog::parse(&text) {
            prop_assert!(errors.iter().count() > 0);
            for error in &errors {
                let place = error.place.unwrap();
                prop_assert!(place.line >= 1 && place.line <= text.split('\n').count(), "{error}");
                prop_assert!(place.column >= 1, "{error}");
            }
        }
    }
}
