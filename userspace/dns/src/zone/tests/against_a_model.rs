//! Random catalogs and changes, against what the names should be by their description.

use super::super::Zone;
use crate::testing::Scene;
use essaim_model::{
    Catalog, Cluster, Endpoint, HostName, Liveness, Network, NetworkName, Node, NodeName, NodeState, Service,
    ServiceName, ServiceNetwork, Task, TaskId, TaskState, Vni,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const NETWORKS: [&str; 2] = ["app", "back"];

fn address(network: usize, host: usize) -> IpAddr {
    format!("10.0.{}.{host}", network + 1).parse().unwrap()
}

#[derive(Clone, Debug)]
struct RandomService {
    present: bool,
    vips: [bool; 2],
    on: [bool; 2],
    alias: Option<u8>,
    tasks: Vec<(Option<u32>, TaskState, u8)>,
}

fn states() -> impl Strategy<Value = TaskState> {
    prop_oneof![
        Just(TaskState::Starting),
        Just(TaskState::Ready),
        Just(TaskState::Draining),
        Just(TaskState::Gone)
    ]
}

fn services() -> impl Strategy<Value = Vec<RandomService>> {
    let tasks = prop::collection::vec((prop::option::of(1_u32..3), states(), 0_u8..2), 0..4);
    let service = (
        any::<bool>(),
        any::<[bool; 2]>(),
        any::<[bool; 2]>(),
        prop::option::of(0_u8..2),
        tasks,
    );
    let service = service.prop_map(|(present, vips, on, alias, tasks)| RandomService {
        present,
        vips,
        on,
        alias,
        tasks,
    });
    prop::collection::vec(service, 3)
}

fn catalog(revision: u64, random: &[RandomService]) -> Catalog {
    let networks = NETWORKS.iter().zip(1..).map(|(name, number)| {
        let subnet = format!("10.0.{number}.0/24").parse().unwrap();
        Network::new(
            NetworkName::new(name).unwrap(),
            Vni::new(number).unwrap(),
            vec![subnet],
        )
    });
    let nodes = (0..2).map(|number| Node {
        name: NodeName::new(&format!("n{number}")).unwrap(),
        address: format!("192.168.0.{}", number + 1).parse().unwrap(),
        overlay: vec![],
        state: NodeState::Up,
    });
    let services = random
        .iter()
        .enumerate()
        .filter(|(_, service)| service.present)
        .map(|(index, random)| {
            let name = format!("s{index}");
            let mut service = Service::new(ServiceName::new(&name).unwrap());
            let on: Vec<usize> = (0..2).filter(|network| random.on[*network]).collect();
            for network in &on {
                let vips = if random.vips[*network] {
                    vec![address(*network, index + 1)]
                } else {
                    vec![]
                };
                let mut member = ServiceNetwork::new(NetworkName::new(NETWORKS[*network]).unwrap(), vips);
                member.aliases = random
                    .alias
                    .iter()
                    .map(|alias| HostName::new(&format!("A{alias}")).unwrap())
                    .collect();
                service.networks.push(member);
            }
            service.tasks = random
                .tasks
                .iter()
                .enumerate()
                .map(|(number, (slot, state, node))| {
                    let endpoint = |network: &usize| {
                        let network = *network;
                        let host = 10 * (index + 1) + number;
                        Endpoint::new(
                            NetworkName::new(NETWORKS[network]).unwrap(),
                            vec![address(network, host)],
                        )
                    };
                    Task {
                        slot: *slot,
                        state: *state,
                        endpoints: on.iter().map(endpoint).collect(),
                        ..Task::new(
                            TaskId::new(&format!("t{index}{number}")).unwrap(),
                            NodeName::new(&format!("n{node}")).unwrap(),
                            "x",
                        )
                    }
                })
                .collect();
            service
        });
    Catalog {
        revision,
        nodes: nodes.collect(),
        networks: networks.collect(),
        services: services.collect(),
        cluster: Cluster::new(vec![]),
    }
}

/// The model: every name on every network, with its addresses.
fn names(catalog: &Catalog, liveness: &Liveness) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let mut names: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    for service in &catalog.services {
        for member in &service.networks {
            let mut add = |name: &str, addresses: &[IpAddr]| {
                let name = format!("{name}.{}", member.name).to_lowercase();
                names.entry(name).or_default().extend(addresses);
            };
            let mut ready = Vec::new();
            for task in &service.tasks {
                let state = liveness.state_of(task);
                let endpoint = task
                    .endpoints
                    .iter()
                    .find(|endpoint| endpoint.network == member.name)
                    .unwrap();
                let own: &[IpAddr] = if state == TaskState::Gone {
                    &[]
                } else {
                    &endpoint.addresses
                };
                let takes: &[IpAddr] = if state == TaskState::Ready {
                    &endpoint.addresses
                } else {
                    &[]
                };
                ready.extend_from_slice(takes);
                add(task.id.as_str(), own);
                if let Some(slot) = task.slot {
                    add(&format!("{}.{slot}.{}", service.name, task.id), own);
                    add(&format!("{slot}.{}", service.name), takes);
                }
            }
            let front = if member.vips.is_empty() {
                &ready
            } else {
                &member.vips
            };
            for name in
                std::iter::once(service.name.as_str()).chain(member.aliases.iter().map(HostName::as_str))
            {
                add(name, front);
                add(&format!("tasks.{name}"), &ready);
            }
        }
    }
    names
}

/// Everything that anybody could ask for.
fn every_name() -> Vec<String> {
    let mut names = Vec::new();
    for service in 0..3 {
        names.extend([format!("s{service}"), format!("tasks.s{service}")]);
        for number in 0..4 {
            names.extend([format!("{number}.s{service}"), format!("t{service}{number}")]);
            names.extend((1..3).map(|slot| format!("s{service}.{slot}.t{service}{number}")));
        }
    }
    names.extend(["a0", "a1", "tasks.a0", "tasks.a1"].map(str::to_owned));
    names
}

fn check(zone: Zone, catalog: &Catalog, liveness: &Liveness) {
    let model = names(catalog, liveness);
    let mut scene = Scene::of("q1w2");
    scene.zone = zone;
    let networks: Vec<NetworkName> = NETWORKS
        .iter()
        .map(|name| NetworkName::new(name).unwrap())
        .collect();
    let on = networks.iter().zip((1..).map(|number| Vni::new(number).unwrap()));
    scene.asker = crate::AskerInfo::new(on, crate::Outside::Node);
    let expected = |addresses: Option<&BTreeSet<IpAddr>>| match addresses {
        None => "forwarded".to_owned(),
        Some(addresses) => {
            let mut texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            texts.sort();
            texts.insert(0, "NoError".to_owned());
            texts.join(" ")
        }
    };
    for name in every_name() {
        let on: Vec<_> = NETWORKS
            .iter()
            .map(|network| model.get(&format!("{name}.{network}")))
            .collect();
        for (network, addresses) in NETWORKS.iter().zip(&on) {
            assert_eq!(
                scene.ask(&format!("{name}.{network}"), "A"),
                expected(*addresses),
                "{name}.{network}"
            );
        }
        // The first network with an address, else the first that knows the name.
        let first = on.iter().flatten().find(|addresses| !addresses.is_empty());
        let first = first.or(on.iter().flatten().next()).copied();
        assert_eq!(scene.ask(&name, "A"), expected(first), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_zone_holds_the_names_of_its_catalog_however_it_came_to_it(
        steps in prop::collection::vec((services(), any::<[bool; 2]>(), any::<bool>()), 1..5),
    ) {
        let mut catalog_before = Catalog { revision: 0, ..catalog(0, &[]) };
        let mut liveness_before = Liveness::default();
        let mut zone = Zone::new(&catalog_before, &liveness_before);
        for (revision, (services, down, silent)) in (1..).zip(&steps) {
            let catalog = catalog(revision, services);
            let mut liveness = if *silent { Liveness::default() } else { Liveness::of(&catalog) };
            for (node, down) in catalog.nodes.iter().zip(down) {
                if *down {
                    liveness.nodes_down.insert(node.name.clone());
                }
            }
            zone = zone.rebuild((&catalog_before, &liveness_before), (&catalog, &liveness));
            check(zone.clone(), &catalog, &liveness);
            check(Zone::new(&catalog, &liveness), &catalog, &liveness);
            // The same catalog with another state of things.
            let quiet = Liveness::default();
            let changed = zone.rebuild((&catalog, &liveness), (&catalog, &quiet));
            check(changed, &catalog, &quiet);
            (catalog_before, liveness_before) = (catalog, liveness);
        }
    }
}
