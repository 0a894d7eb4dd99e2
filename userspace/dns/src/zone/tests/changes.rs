//! What a change makes anew, and what it leaves.

use super::check;
use crate::testing::Scene;
use essaim_model::{HostName, Liveness};

#[test]
fn a_change_of_one_service_shares_the_parts_of_the_others() {
    let scene = Scene::of("q1w2");
    let mut catalog = scene.catalog.clone();
    catalog.services[1].networks[0]
        .aliases
        .push(HostName::new("shop").unwrap());
    let zone = scene
        .zone
        .rebuild((&scene.catalog, &scene.liveness), (&catalog, &scene.liveness));
    let shared = |place: usize| std::sync::Arc::ptr_eq(&scene.zone.parts[place], &zone.parts[place]);
    assert!(shared(0) && !shared(1) && shared(2));
    let liveness = Liveness::default();
    let again = zone.rebuild((&catalog, &scene.liveness), (&catalog, &scene.liveness));
    assert!((0..3).all(|place| std::sync::Arc::ptr_eq(&zone.parts[place], &again.parts[place])));
    // Nothing was said otherwise of any task, so its part is as before even if it is made again.
    let silent = zone.rebuild((&catalog, &scene.liveness), (&catalog, &liveness));
    assert_eq!(silent.parts, zone.parts);
}

#[test]
fn a_network_may_come_and_go_and_change_its_number() {
    let mut scene = Scene::of("db.1");
    let before = scene.catalog.clone();
    let mut catalog = before.clone();
    let mut network = before.networks[0].clone();
    (network.name, network.vni) = ("more".parse().unwrap(), essaim_model::Vni::new(300).unwrap());
    network.subnets = vec!["10.0.4.0/24".parse().unwrap()];
    catalog.networks.push(network);
    let more = scene
        .zone
        .rebuild((&before, &scene.liveness), (&catalog, &scene.liveness));
    assert!((0..3).all(|place| std::sync::Arc::ptr_eq(&scene.zone.parts[place], &more.parts[place])));
    scene.zone = more;
    check(
        &mut scene,
        &[
            ("1.4.0.10.in-addr.arpa", "PTR", "NXDomain"),
            ("db", "A", "NoError 10.0.2.21"),
        ],
    );
    let less = scene
        .zone
        .rebuild((&catalog, &scene.liveness), (&before, &scene.liveness));
    scene.zone = less;
    check(&mut scene, &[("1.4.0.10.in-addr.arpa", "PTR", "forwarded")]);
    let mut renumbered = before.clone();
    renumbered.networks[1].vni = essaim_model::Vni::new(201).unwrap();
    let zone = scene
        .zone
        .rebuild((&before, &scene.liveness), (&renumbered, &scene.liveness));
    scene.zone = zone;
    check(&mut scene, &[("db", "A", "forwarded")]);
    scene.asker = crate::AskerInfo::of(
        &renumbered,
        &renumbered.services[1],
        &renumbered.services[1].tasks[0],
    );
    check(&mut scene, &[("db", "A", "NoError 10.0.2.21")]);
}
