//! What names need: aliases, host names, slots, DNS servers.

use super::{replaced, with};
use crate::{Catalog, example};

#[test]
fn names_of_tasks_and_services_are_host_names() {
    let endpoint = r#"endpoints = [{ network = "app", addresses = ["10.0.1.11", "fd00:1::11"] }]"#;
    let expected = "is not made of labels of letters, digits, '-' and '_' with dots between them, each with a letter \
                    or digit at both ends and at most 63 bytes";
    for (from, to, path, problem) in [
        (
            r#"vips = ["10.0.1.2", "fd00:1::2"]"#,
            r#"aliases = ["www", "-x"]"#,
            "services.web.networks[0].aliases[1]",
            format!("host name \"-x\" {expected}"),
        ),
        (
            endpoint,
            r#"hostname = "a..b""#,
            "services.web.tasks[0].hostname",
            format!("host name \"a..b\" {expected}"),
        ),
        (
            endpoint,
            r#"container = "short""#,
            "services.web.tasks[0].container",
            "container id \"short\" is not made of 12 to 64 letters and digits".to_owned(),
        ),
        (
            endpoint,
            "slot = 0",
            "services.web.tasks[0].slot",
            "slot 0 is out of range, expected 1 to 4294967295".to_owned(),
        ),
        (
            "target = 80",
            "target = 80\nname = \"HTTP\"",
            "services.web.ports[0].name",
            "port name \"HTTP\" is not made of 1 to 15 lower-case letters, digits and '-', a letter among them, no \
             '-' at an end or beside another"
                .to_owned(),
        ),
    ] {
        // Where it stands beside the endpoints, which the published port needs.
        let to = if from == endpoint { format!("{endpoint}\n{to}") } else { to.to_owned() };
        assert_eq!(replaced(from, &to), format!("{path}: {problem}"));
    }
}

#[test]
fn a_service_names_servers_that_can_be_asked() {
    let dns = |fields: &str| format!("name = \"api\"\n[services.dns]\n{fields}");
    let name = "name = \"api\"";
    assert_eq!(
        replaced(name, &dns("servers = [\"127.0.0.53\", \"127.0.0.11\"]")),
        "services.api.dns.servers[1]: 127.0.0.11 is no DNS server to ask: unspecified, multicast, or the tasks' own \
         127.0.0.11"
    );
    assert_eq!(
        replaced(
            name,
            &dns(&format!("servers = [{}]", ["\"10.1.1.1\""; 9].join(", ")))
        ),
        "services.api.dns.servers: number of DNS servers 9 is out of range, expected 0 to 8"
    );
    assert_eq!(
        replaced(name, &dns("options = [\"ndots:2\", \"x y\"]")),
        "services.api.dns.options[1]: resolver option \"x y\" is not made of a word of lower-case letters, or one \
         with a number such as ndots:2"
    );
    assert_eq!(
        replaced(name, &dns("search = [\"a.\"]")).split(" is not").next(),
        Some("services.api.dns.search[0]: host name \"a.\"")
    );
    assert_eq!(
        replaced(name, &dns("external = 1")),
        "services.api.dns.external: found an integer, expected true or false"
    );
}

#[test]
fn names_of_the_outside_are_for_services_with_a_way_there() {
    let mut catalog = Catalog::parse(example()).unwrap();
    let resolves = |catalog: &Catalog, internal: bool| catalog.services[1].resolves_outside(|_| internal);
    assert!(resolves(&catalog, false));
    assert!(!resolves(&catalog, true));
    catalog.services[1].dns.external = Some(true);
    assert!(resolves(&catalog, true));
    catalog.services[1].dns.external = Some(false);
    assert!(!resolves(&catalog, false));
    catalog.services[1].dns.external = None;
    catalog.services[1].networks.clear();
    assert!(resolves(&catalog, true));
}

#[test]
fn what_names_need_survives_writing_and_reading() {
    let text = with(
        "[[services.networks]]\nname = \"app\"",
        "[services.dns]\nservers = [\"10.9.9.9\", \"fd09::9\"]\nsearch = [\"example.org\"]\noptions = [\"ndots:1\", \
         \"rotate\"]\nexternal = false\n[[services.networks]]\nname = \"app\"\naliases = [\"www\", \"Front.End\"]",
    );
    let text = text.replacen("target = 80", "target = 80\nname = \"http\"", 1).replacen(
        "netns = \"web.1\"\nendpoints = [{ ",
        "netns = \"web.1\"\nslot = 7\nhostname = \"Host-1\"\ncontainer = \"0123456789abcdef\"\nendpoints = [{ aliases = \
         [\"first\"], ",
        1,
    );
    let catalog = Catalog::parse(&text).unwrap_or_else(|errors| panic!("{errors}"));
    let web = &catalog.services[0];
    assert_eq!(web.dns.external, Some(false));
    assert_eq!(web.networks[0].aliases[1].as_str(), "Front.End");
    assert_eq!(web.ports[0].name.unwrap().as_str(), "http");
    let task = &web.tasks[0];
    assert_eq!(
        (
            task.slot,
            task.hostname.as_ref().unwrap().as_str(),
            task.container.as_ref().unwrap().short()
        ),
        (Some(7), "Host-1", "0123456789ab")
    );
    assert_eq!(task.endpoints[0].aliases[0].as_str(), "first");
    assert_eq!(Catalog::parse(&catalog.to_toml()), Ok(catalog));
}
