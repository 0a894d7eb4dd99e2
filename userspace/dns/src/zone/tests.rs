use crate::testing::Scene;
use essaim_model::{Catalog, NodeName, TaskId, TaskState};

mod against_a_model;
mod changes;

fn check(scene: &mut Scene, rows: &[(&str, &str, &str)]) {
    for (name, kind, expected) in rows {
        assert_eq!(scene.ask(name, kind), *expected, "{name} {kind}");
    }
}

fn set(scene: &mut Scene, task: &str, state: TaskState) {
    let before = (scene.catalog.clone(), scene.liveness.clone());
    scene.liveness.tasks.insert(TaskId::new(task).unwrap(), state);
    scene.zone = scene
        .zone
        .rebuild((&before.0, &before.1), (&scene.catalog, &scene.liveness));
}

#[test]
fn every_name_has_its_addresses() {
    check(
        &mut Scene::of("q1w2"),
        &[
            ("web", "A", "NoError 10.0.1.2"),
            ("web", "AAAA", "NoError fd00:1::2"),
            ("WEB", "A", "NoError 10.0.1.2"),
            ("web.app", "A", "NoError 10.0.1.2"),
            ("wEb.ApP", "AAAA", "NoError fd00:1::2"),
            ("web.back", "A", "NoError 10.0.2.11 10.0.2.12"),
            ("tasks.web", "A", "NoError 10.0.1.11 10.0.1.12"),
            ("tasks.web", "AAAA", "NoError fd00:1::11 fd00:1::12"),
            ("tasks.web.back", "A", "NoError 10.0.2.11 10.0.2.12"),
            ("1.web", "A", "NoError 10.0.1.11"),
            ("1.web.app", "AAAA", "NoError fd00:1::11"),
            // The slot's new task is not ready yet.
            ("2.web", "A", "NoError 10.0.1.12"),
            ("3.web", "A", "forwarded"),
            ("www", "A", "NoError 10.0.1.2"),
            ("tasks.www", "A", "NoError 10.0.1.11 10.0.1.12"),
            ("site.example.org", "A", "NoError 10.0.1.2"),
            ("SITE.example.org.app", "A", "NoError 10.0.1.2"),
            ("example.org", "A", "forwarded"),
            ("q1w2", "A", "NoError 10.0.1.11"),
            ("web.1.q1w2", "A", "NoError 10.0.1.11"),
            ("web.1.q1w2.back", "A", "NoError 10.0.2.11"),
            ("0123456789ab", "A", "NoError 10.0.1.11"),
            ("0123456789ab.back", "A", "NoError 10.0.2.11"),
            ("0123456789abcdef", "A", "forwarded"),
            ("alpha", "A", "NoError 10.0.1.11"),
            ("ALPHA.app", "AAAA", "NoError fd00:1::11"),
            ("one", "A", "NoError 10.0.1.11"),
            ("one.back", "A", "forwarded"),
            // Of a task that is starting too: it has its endpoint.
            ("both", "A", "NoError 10.0.1.12 10.0.1.13"),
            ("t5y6", "A", "NoError 10.0.1.13"),
            ("web.2.t5y6.app", "A", "NoError 10.0.1.13"),
            ("nowhere", "A", "forwarded"),
            ("web.example.org", "A", "forwarded"),
            ("tasks", "A", "forwarded"),
            ("app", "A", "forwarded"),
            (".", "A", "forwarded"),
        ],
    );
}

#[test]
fn names_of_several_services_are_for_all_of_them() {
    check(
        &mut Scene::of("db.1"),
        &[
            ("www", "A", "NoError 10.0.2.11 10.0.2.12 10.0.2.21"),
            ("tasks.www", "A", "NoError 10.0.2.11 10.0.2.12 10.0.2.21"),
            ("www.back", "A", "NoError 10.0.2.11 10.0.2.12 10.0.2.21"),
            ("store", "A", "NoError 10.0.2.21"),
        ],
    );
}

#[test]
fn only_names_of_the_askers_networks_are_seen() {
    check(
        &mut Scene::of("db.1"),
        &[
            ("web", "A", "NoError 10.0.2.11 10.0.2.12"),
            ("web.app", "A", "forwarded"),
            ("one", "A", "forwarded"),
            ("lone", "A", "forwarded"),
            ("lone.Far.Away", "A", "forwarded"),
            // Nobody outside is asked about the cluster's addresses either.
            ("2.1.0.10.in-addr.arpa", "PTR", "NXDomain"),
            ("2.3.0.10.in-addr.arpa", "PTR", "NXDomain"),
        ],
    );
    check(
        &mut Scene::of("lone.1"),
        &[
            ("lone", "A", "NoError 10.0.3.2"),
            ("lone.far.away", "A", "NoError 10.0.3.2"),
            ("lone.away", "A", "forwarded"),
            ("web", "A", "forwarded"),
        ],
    );
}

#[test]
fn only_ready_tasks_are_given_traffic_and_a_task_is_found_until_it_is_gone() {
    let mut scene = Scene::of("db.1");
    check(
        &mut scene,
        &[
            ("db", "A", "NoError 10.0.2.21"),
            ("tasks.db", "A", "NoError 10.0.2.21"),
            ("db.1", "A", "NoError 10.0.2.21"),
            ("db.2", "A", "NoError 10.0.2.22"),
            ("db.3", "A", "NoError"),
            ("22.2.0.10.in-addr.arpa", "PTR", "NoError db.2.back."),
            ("23.2.0.10.in-addr.arpa", "PTR", "NXDomain"),
        ],
    );
    set(&mut scene, "db.2", TaskState::Ready);
    check(&mut scene, &[("db", "A", "NoError 10.0.2.21 10.0.2.22")]);
    set(&mut scene, "db.1", TaskState::Draining);
    check(
        &mut scene,
        &[
            ("db", "A", "NoError 10.0.2.22"),
            ("db.1", "A", "NoError 10.0.2.21"),
        ],
    );
    set(&mut scene, "db.1", TaskState::Gone);
    check(
        &mut scene,
        &[
            ("db", "A", "NoError 10.0.2.22"),
            ("db.1", "A", "NoError"),
            ("db.1.back", "A", "NoError"),
        ],
    );
    set(&mut scene, "db.2", TaskState::Gone);
    // The service keeps its name: nobody else is asked for it.
    check(
        &mut scene,
        &[
            ("db", "A", "NoError"),
            ("tasks.db", "A", "NoError"),
            ("store.back", "A", "NoError"),
        ],
    );
}

#[test]
fn a_service_with_vips_keeps_them_without_tasks() {
    let mut scene = Scene::of("q1w2");
    for task in ["q1w2", "e3r4", "t5y6"] {
        set(&mut scene, task, TaskState::Gone);
    }
    check(
        &mut scene,
        &[
            ("web", "A", "NoError 10.0.1.2"),
            ("www.app", "AAAA", "NoError fd00:1::2"),
            ("tasks.web", "A", "NoError"),
            ("1.web", "A", "NoError"),
            ("2.1.0.10.in-addr.arpa", "PTR", "NoError web.app."),
        ],
    );
}

#[test]
fn taking_the_vips_away_makes_a_name_stand_for_its_tasks_at_once() {
    let mut scene = Scene::of("q1w2");
    let before = scene.catalog.clone();
    scene.catalog.services[0].networks[0].vips.clear();
    scene.zone = scene
        .zone
        .rebuild((&before, &scene.liveness), (&scene.catalog, &scene.liveness));
    check(
        &mut scene,
        &[
            ("web", "A", "NoError 10.0.1.11 10.0.1.12"),
            ("www", "A", "NoError 10.0.1.11 10.0.1.12"),
            ("2.1.0.10.in-addr.arpa", "PTR", "NXDomain"),
        ],
    );
    scene.zone = scene
        .zone
        .rebuild((&scene.catalog, &scene.liveness), (&before, &scene.liveness));
    check(
        &mut scene,
        &[
            ("web", "A", "NoError 10.0.1.2"),
            ("2.1.0.10.in-addr.arpa", "PTR", "NoError web.app."),
        ],
    );
}

#[test]
fn the_default_routes_network_is_searched_first() {
    let mut scene = Scene::of("q1w2");
    // `back` is internal, so the default route is on `app`, where `www` is web's VIP.
    check(
        &mut scene,
        &[("www", "A", "NoError 10.0.1.2"), ("db", "A", "NoError 10.0.2.21")],
    );
    scene.catalog.services[0].default_network = Some("back".parse().unwrap());
    let mut scene = Scene::of_catalog(scene.catalog, "q1w2");
    check(
        &mut scene,
        &[
            ("www", "A", "NoError 10.0.2.11 10.0.2.12 10.0.2.21"),
            // The first network has no IPv6; the next one that has answers.
            ("www", "AAAA", "NoError fd00:1::2"),
        ],
    );
}

#[test]
fn a_known_name_is_never_asked_for_elsewhere() {
    check(
        &mut Scene::of("db.1"),
        &[
            ("db", "AAAA", "NoError"),
            ("db.back", "AAAA", "NoError"),
            ("db", "MX", "NoError"),
            ("db", "TXT", "NoError"),
            ("db", "HTTPS", "NoError"),
            ("db", "SOA", "NoError"),
            ("db", "PTR", "NoError"),
            ("21.2.0.10.in-addr.arpa", "A", "NoError"),
            ("21.2.0.10.in-addr.arpa", "TXT", "NoError"),
            ("db", "ANY", "NoError 10.0.2.21"),
        ],
    );
    check(&mut Scene::of("q1w2"), &[("web", "ANY", "NoError 10.0.1.2")]);
}

#[test]
fn a_denial_says_how_long_it_holds() {
    let mut scene = Scene::of("db.1");
    for name in ["db", "9.9.0.10.in-addr.arpa", "9.2.0.10.in-addr.arpa"] {
        let Some(message) = scene.message(name, hickory_proto::rr::RecordType::AAAA) else {
            continue;
        };
        let [soa] = &message.authorities[..] else {
            panic!("{name}: {message:?}")
        };
        assert_eq!((soa.ttl, soa.name.is_root()), (super::DENIAL_TTL, true));
        assert!(message.metadata.authoritative);
    }
}

#[test]
fn addresses_have_names() {
    check(
        &mut Scene::of("q1w2"),
        &[
            ("2.1.0.10.in-addr.arpa", "PTR", "NoError web.app."),
            ("2.1.0.10.IN-ADDR.arpa", "PTR", "NoError web.app."),
            ("11.1.0.10.in-addr.arpa", "PTR", "NoError web.1.q1w2.app."),
            ("11.2.0.10.in-addr.arpa", "PTR", "NoError web.1.q1w2.back."),
            (
                "1.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa",
                "PTR",
                "NoError web.1.q1w2.app.",
            ),
            (
                "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.D.F.ip6.arpa",
                "PTR",
                "NoError web.app.",
            ),
            ("99.1.0.10.in-addr.arpa", "PTR", "NXDomain"),
            // The ingress network's.
            ("11.0.255.10.in-addr.arpa", "PTR", "NXDomain"),
            ("1.1.1.1.in-addr.arpa", "PTR", "forwarded"),
            ("1.0.10.in-addr.arpa", "PTR", "forwarded"),
            ("01.1.0.10.in-addr.arpa", "PTR", "forwarded"),
            ("256.1.0.10.in-addr.arpa", "PTR", "forwarded"),
            ("x.2.1.0.10.in-addr.arpa", "PTR", "forwarded"),
            ("in-addr.arpa", "PTR", "forwarded"),
        ],
    );
}

#[test]
fn services_are_found_by_port() {
    check(
        &mut Scene::of("q1w2"),
        &[
            ("_http._tcp.web", "SRV", "NoError web.app.:80"),
            ("_80._tcp.web", "SRV", "NoError web.app.:80"),
            ("_HTTP._TCP.Web.App", "SRV", "NoError web.app.:80"),
            ("_53._udp.web", "SRV", "NoError web.app.:53"),
            ("_http._tcp.www", "SRV", "NoError web.app.:80"),
            (
                "_http._tcp.tasks.web",
                "SRV",
                "NoError web.1.q1w2.app.:80 web.2.e3r4.app.:80",
            ),
            (
                "_http._tcp.web.back",
                "SRV",
                "NoError web.1.q1w2.back.:80 web.2.e3r4.back.:80",
            ),
            ("_80._tcp.2.web", "SRV", "NoError web.2.e3r4.app.:80"),
            ("_80._udp.web", "SRV", "NXDomain"),
            ("_8080._tcp.web", "SRV", "NXDomain"),
            ("_080._tcp.web", "SRV", "NXDomain"),
            ("_http._tcp.web", "A", "NoError"),
            ("_http._tcp.db", "SRV", "NXDomain"),
            ("_http._tcp.example.org", "SRV", "forwarded"),
            ("_http._quic.web", "SRV", "forwarded"),
            ("_tcp.web", "SRV", "forwarded"),
            ("web", "SRV", "NoError"),
        ],
    );
    let mut scene = Scene::of("q1w2");
    let message = scene
        .message("_http._tcp.tasks.web", hickory_proto::rr::RecordType::SRV)
        .unwrap();
    let mut extra: Vec<String> = message
        .additionals
        .iter()
        .map(|record| format!("{} {}", record.name, crate::testing::text(record)))
        .collect();
    extra.sort();
    assert_eq!(
        extra,
        [
            "web.1.q1w2.app. 10.0.1.11",
            "web.1.q1w2.app. fd00:1::11",
            "web.2.e3r4.app. 10.0.1.12",
            "web.2.e3r4.app. fd00:1::12"
        ]
    );
}

#[test]
fn a_name_that_dns_cannot_say_takes_nothing_else_down() {
    let mut catalog = Catalog::parse(crate::testing::CLUSTER).unwrap();
    let long = "x".repeat(127);
    catalog.services[1].tasks[0].id = TaskId::new(&long).unwrap();
    catalog.services[1].tasks[1].id = TaskId::new("a..b.").unwrap();
    let mut scene = Scene::of_catalog(catalog, "q1w2");
    check(
        &mut scene,
        &[
            ("db", "A", "NoError 10.0.2.21"),
            // It has no name, and so exists without one.
            ("21.2.0.10.in-addr.arpa", "PTR", "NoError"),
        ],
    );
}

#[test]
fn only_the_clusters_names_exist_where_the_outside_is_closed() {
    let mut scene = Scene::of("db.1");
    scene.servers = None;
    check(
        &mut scene,
        &[("example.org", "A", "NXDomain"), ("db", "A", "NoError 10.0.2.21")],
    );
}

#[test]
fn every_address_comes_first_at_times() {
    let mut scene = Scene::of("q1w2");
    let mut first = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..400 {
        let message = scene
            .message("tasks.web", hickory_proto::rr::RecordType::A)
            .unwrap();
        *first
            .entry(crate::testing::text(&message.answers[0]))
            .or_default() += 1;
    }
    assert_eq!(first.len(), 2);
    assert!(first.values().all(|count| *count > 120), "{first:?}");
}

#[test]
fn a_node_that_is_down_takes_its_tasks_with_it() {
    let mut scene = Scene::of("db.1");
    let before = scene.liveness.clone();
    scene.liveness.nodes_down.insert(NodeName::new("n1").unwrap());
    scene.zone = scene
        .zone
        .rebuild((&scene.catalog, &before), (&scene.catalog, &scene.liveness));
    check(
        &mut scene,
        &[("db", "A", "NoError"), ("tasks.web", "A", "NoError")],
    );
}
