//! `plan` and `replan` on random catalogs, beside a model that only counts.

use super::*;
use crate::{Affinity, Cluster, HealthCheck, HealthTest, Node, NodeState, Service};
use proptest::prelude::*;

/// A task: its node, its state in the catalog, and what liveness says where it says anything.
type RandomTask = (usize, TaskState, Option<TaskState>);

/// A service: its tasks, whether it is published, its affinity, and which of its tasks each generation had.
type RandomService = (Vec<RandomTask>, Option<PortMode>, bool, Vec<Vec<usize>>);

fn task_state() -> impl Strategy<Value = TaskState> {
    use TaskState::{Draining, Gone, Ready, Starting};
    prop_oneof![2 => Just(Ready), 1 => Just(Starting), 1 => Just(Draining), 1 => Just(Gone)]
}

fn random_service() -> impl Strategy<Value = RandomService> {
    let task = (0..NODES, task_state(), prop::option::of(task_state()));
    let port = prop::option::of(prop_oneof![Just(PortMode::Ingress), Just(PortMode::Host)]);
    let history = prop::collection::vec(prop::collection::vec(0..9_usize, 1..6), 0..4);
    (prop::collection::vec(task, 0..8), port, any::<bool>(), history)
}

const NODES: usize = 4;

fn world() -> impl Strategy<Value = (Catalog, Liveness)> {
    let down = prop::collection::btree_set(0..NODES, 0..2);
    (prop::collection::vec(random_service(), 1..5), down).prop_map(|(services, down)| {
        let mut tasks = BTreeMap::new();
        let services = services.into_iter().enumerate();
        let services = services
            .map(|(index, random)| make_service(index, random, &mut tasks))
            .collect();
        let node = |index: usize| Node {
            name: node(&format!("n{index}")),
            address: address(&format!("192.168.1.{}", index + 1)),
            overlay: vec![address(&format!("10.255.0.{}", index + 2))],
            state: NodeState::Up,
        };
        let catalog = Catalog {
            revision: 7,
            cluster: Cluster::new(vec!["10.255.0.0/16".parse().unwrap()]),
            nodes: (0..NODES).map(node).collect(),
            networks: vec![Network::new(
                network("app"),
                Vni::new(9).unwrap(),
                vec!["10.1.0.0/16".parse().unwrap()],
            )],
            services,
        };
        let nodes_down = down
            .into_iter()
            .map(|index| catalog.nodes[index].name.clone())
            .collect();
        let mut liveness = Liveness {
            nodes_down,
            tasks,
            ..Liveness::default()
        };
        liveness.remember(&catalog);
        (catalog, liveness)
    })
}

fn make_service(
    index: usize,
    (random, port, affinity, history): RandomService,
    liveness: &mut BTreeMap<TaskId, TaskState>,
) -> Service {
    let name = format!("s{index}");
    let id = |task: usize| TaskId::new(&format!("{name}.{task}")).unwrap();
    let vips = vec![address(&format!("10.1.255.{}", index + 1))];
    let tasks = random.into_iter().enumerate().map(|(task, (on, state, said))| {
        liveness.extend(said.map(|said| (id(task), said)));
        let addresses = vec![address(&format!("10.1.{}.{}", index + 1, task + 1))];
        Task {
            state,
            endpoints: vec![Endpoint::new(network("app"), addresses)],
            ..Task::new(id(task), node(&format!("n{on}")), id(task).to_string())
        }
    });
    let published = 8000 + u16::try_from(index).unwrap();
    Service {
        affinity: if affinity {
            Affinity::Client
        } else {
            Affinity::None
        },
        history: history
            .into_iter()
            .map(|generation| generation.into_iter().map(id).collect())
            .collect(),
        networks: vec![ServiceNetwork::new(network("app"), vips)],
        ports: port
            .map(|mode| Port {
                mode,
                ..Port::new(published, 80)
            })
            .into_iter()
            .collect(),
        tasks: tasks.collect(),
        ..Service::new(service(&name))
    }
}

/// The model: what each task counts as.
fn state_of(task: &Task, liveness: &Liveness) -> TaskState {
    match (
        liveness.nodes_down.contains(&task.node),
        liveness.tasks.get(&task.id),
    ) {
        (true, _) => TaskState::Gone,
        (false, Some(said)) => *said,
        (false, None) => task.state,
    }
}

fn check_service(plan: &ServicePlan, service: &Service, liveness: &Liveness, here: &NodeName) {
    let backend = |task: &Task| BackendKey {
        task: task.id.clone(),
        network: network("app"),
    };
    for task in &service.tasks {
        let state = state_of(task, liveness);
        let local = task.node == *here;
        for (key, group) in &plan.groups {
            let times = group
                .active
                .iter()
                .filter(|active| **active == backend(task))
                .count();
            let wanted = state == TaskState::Ready && (local || key.scope != Scope::HostPort);
            assert_eq!(times, usize::from(wanted), "{} in {key}", task.id);
            let Some(maglev) = &group.maglev else { continue };
            let owners = maglev
                .owners
                .iter()
                .filter(|owner| maglev.member(**owner) == Some(&backend(task)))
                .count();
            assert_eq!(owners > 0, wanted, "{} in {key}", task.id);
            let earlier = maglev.earlier.iter().flatten().flatten();
            let mut earlier = earlier.filter(|owner| maglev.member(**owner) == Some(&backend(task)));
            let alive = matches!(state, TaskState::Ready | TaskState::Draining);
            assert!(alive || earlier.next().is_none(), "{} in {key}", task.id);
        }
        let attached = plan.attachments.keys().filter(|key| key.task == task.id).count();
        assert_eq!(attached, usize::from(local && state != TaskState::Gone));
        let kind = &plan.addresses[&task.endpoints[0].addresses[0]].kind;
        match (state, local) {
            (TaskState::Gone, _) => assert_eq!(*kind, AddressKind::Tombstone),
            (_, true) => assert!(matches!(kind, AddressKind::Local(..))),
            (_, false) => assert!(matches!(kind, AddressKind::Remote(..))),
        }
        assert_eq!(plan.backends[&backend(task)].state, state);
    }
    assert_eq!(plan.backends.len(), service.tasks.len());
    let here_alive = service
        .tasks
        .iter()
        .any(|task| task.node == *here && state_of(task, liveness) != TaskState::Gone);
    let wanted = service
        .ports
        .iter()
        .any(|port| port.mode == PortMode::Ingress || here_alive);
    assert_eq!(plan.published.len(), usize::from(wanted));
    assert!(
        plan.published
            .values()
            .all(|port| plan.groups.contains_key(&port.group))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_task_has_the_place_that_its_state_asks_for((catalog, liveness) in world()) {
        prop_assert_eq!(catalog.check(), Ok(()));
        for node in &catalog.nodes {
            let desired = plan(&catalog, &liveness, &node.name).unwrap();
            prop_assert_eq!(desired.services.len(), catalog.services.len());
            for service in &catalog.services {
                check_service(&desired.services[&service.name], service, &liveness, &node.name);
            }
        }
    }

    #[test]
    fn all_nodes_agree_on_groups_and_owners((catalog, liveness) in world()) {
        let plans = catalog.nodes.iter().map(|node| plan(&catalog, &liveness, &node.name).unwrap());
        let plans: Vec<DesiredState> = plans.collect();
        let shared = |plan: &DesiredState| {
            let groups = plan.services.values().flat_map(|service| service.groups.clone());
            groups.filter(|(key, _)| key.scope != Scope::HostPort).collect::<BTreeMap<_, _>>()
        };
        for plan in &plans {
            prop_assert_eq!(shared(plan), shared(&plans[0]));
        }
    }

    #[test]
    fn the_order_of_tasks_does_not_matter((mut catalog, liveness) in world()) {
        let here = node("n0");
        let before = plan(&catalog, &liveness, &here).unwrap();
        for service in &mut catalog.services {
            service.tasks.reverse();
            service.history.iter_mut().for_each(|generation| generation.reverse());
        }
        catalog.services.reverse();
        prop_assert_eq!(before, plan(&catalog, &liveness, &here).unwrap());
    }

    #[test]
    fn replan_is_plan((before, before_liveness) in world(), (now, now_liveness) in world(), mixed: bool) {
        let here = node("n1");
        let old = plan(&before, &before_liveness, &here).unwrap();
        // Half of the time most of the catalog stays.
        let mut catalog = before.clone();
        match (catalog.services.first_mut(), now.services.first()) {
            (Some(old), Some(new)) if mixed => *old = new.clone(),
            _ => catalog = now,
        }
        let desired = replan(&old, (&before, &before_liveness), (&catalog, &now_liveness), &here).unwrap();
        prop_assert_eq!(desired, plan(&catalog, &now_liveness, &here).unwrap());
    }

    #[test]
    fn a_catalog_reads_back_as_it_was_written((mut catalog, _) in world(), down: bool) {
        if down {
            catalog.nodes[0].state = NodeState::Down;
            catalog.networks[0].mtu = Some(1400);
            catalog.networks[0].internal = true;
            catalog.networks[0].gateways = vec![address("10.1.9.9")];
            catalog.services[0].timeouts.udp = std::time::Duration::from_millis(1500);
            catalog.services[0].default_network = Some(network("app"));
            catalog.services[0].health = Some(HealthCheck {
                start_period: std::time::Duration::from_secs(20),
                ..HealthCheck::new(HealthTest::Shell("wget -q -O- \"localhost\" || exit 1".to_owned()))
            });
            for task in &mut catalog.services[0].tasks {
                task.cgroup = Some("/sys/fs/cgroup/tasks/\"odd\"".to_owned());
            }
        }
        let text = catalog.to_toml();
        match Catalog::parse(&text) {
            Ok(read) => prop_assert_eq!(read, catalog),
            Err(errors) => prop_assert!(false, "{errors}\n{text}"),
        }
    }
}
