use super::*;
use essaim_abi::{
    Backend, BackendState, Endpoint, EndpointKind, FrontEndpoint, FrontLocal, Protocol, Service,
};
use essaim_model::{ResolverPorts, TaskState};
use proptest::prelude::*;

#[path = "../../tests/plans/mod.rs"]
mod plans;

const HZ: u32 = 250;

const CAPACITY: Capacity = Capacity {
    services: 64,
    backends: 128,
    tables: 20_000,
    vteps: 16,
    slots: 64,
    endpoints: 512,
};

/// Maps as ordinary memory.
struct Memory {
    image: Image,
    tables: Vec<u32>,
    config: Config,
    local_addresses: Vec<LocalAddressBucket>,
    front_locals: BTreeMap<u32, FrontLocal>,
    front_endpoints: BTreeMap<u32, FrontEndpoint>,
}

impl Memory {
    fn new() -> Self {
        Self {
            image: Image::default(),
            tables: vec![0; CAPACITY.tables as usize],
            config: Config::default(),
            local_addresses: vec![LocalAddressBucket::default(); 256],
            front_locals: BTreeMap::new(),
            front_endpoints: BTreeMap::new(),
        }
    }

    fn plan(
        &self,
        state: &mut State,
        desired: &DesiredState,
        facts: &NodeFacts,
        now: Instant,
    ) -> Result<Changes, DatapathError> {
        let slot = |index: u32| self.tables[index as usize];
        let front_local = |place: u32| self.front_locals.get(&place).copied().unwrap_or_default();
        let front_endpoint = |place: u32| self.front_endpoints.get(&place).copied().unwrap_or_default();
        let view = View {
            slot: &slot,
            front_local: &front_local,
            front_endpoint: &front_endpoint,
            config: self.config,
            local_addresses: self.local_addresses.clone(),
        };
        state.plan(desired, facts, HZ, &view, now)
    }

    fn store(&mut self, changes: Changes) {
        for (offset, slots) in changes.lists {
            self.tables[offset as usize..][..slots.len()].copy_from_slice(&slots);
        }
        self.image.vteps.extend(changes.vteps);
        self.image.vtep_by_addr.extend(changes.vtep_by_addr);
        self.image.vtep_by_number.extend(changes.vtep_by_number);
        self.image.encrypted_vnis.extend(changes.encrypted_vnis);
        self.image
            .encrypted_vnis
            .retain(|key, _| !changes.encrypted_vnis_gone.contains(key));
        self.image.backends.extend(changes.backends);
        self.image.services.extend(changes.services);
        self.image.locals.extend(changes.locals);
        self.image.netns.extend(changes.netns);
        self.image.endpoints.extend(changes.endpoints);
        self.front_locals.extend(changes.front_locals);
        self.front_endpoints.extend(changes.front_endpoints);
        self.image.ports.extend(changes.ports);
        self.config = changes.config.unwrap_or(self.config);
        for placement in changes.local_addresses {
            self.local_addresses[placement.bucket as usize].ways[placement.way] = placement.address;
        }
        self.image
            .ports
            .retain(|key, _| !changes.ports_gone.contains(key));
        self.image
            .endpoints
            .retain(|key, _| !changes.endpoints_gone.contains(key));
        self.image
            .netns
            .retain(|key, _| !changes.netns_gone.contains(key));
        self.image
            .locals
            .retain(|key, _| !changes.locals_gone.contains(key));
        self.image
            .vtep_by_addr
            .retain(|key, _| !changes.vtep_by_addr_gone.contains(key));
        self.image
            .vtep_by_number
            .retain(|key, _| !changes.vtep_by_number_gone.contains(key));
        for (index, _) in changes.services_gone {
            self.image.services.remove(&index);
        }
        self.image.backends.extend(changes.backends_gone);
        for (index, _) in changes.vteps_gone {
            self.image.vteps.remove(&index);
        }
    }

    fn service(&self, key: &essaim_model::ServiceKey) -> Service {
        *self
            .image
            .services
            .values()
            .find(|service| service.id == key.id())
            .unwrap()
    }

    fn backend(&self, key: &essaim_model::BackendKey) -> (u32, Backend) {
        let found = self
            .image
            .backends
            .iter()
            .find(|(_, backend)| backend.id == key.id());
        found.map(|(index, backend)| (*index, *backend)).unwrap()
    }

    fn active(&self, key: &essaim_model::ServiceKey) -> Vec<u32> {
        let table = self.service(key).active;
        self.tables[table.offset() as usize..][..table.len() as usize].to_vec()
    }
}

fn is_empty(changes: &Changes) -> bool {
    // Backends that stand as gone already go on being named until another takes their slot.
    *changes
        == Changes {
            backends_gone: changes.backends_gone.clone(),
            ..Changes::default()
        }
}

#[test]
fn a_plan_becomes_entries_that_point_at_each_other() {
    let desired = plans::desired([(1, plans::service(1, &plans::ready(3), true))]);
    let facts = plans::facts(&desired);
    let (mut memory, now) = (Memory::new(), Instant::now());
    let mut state = State::restore(memory.image.clone(), CAPACITY);
    let changes = memory.plan(&mut state, &desired, &facts, now).unwrap();
    memory.store(changes);

    let (local, backend) = memory.backend(&plans::backend_key(1, 0));
    assert_eq!(
        (backend.state, backend.ifindex, backend.slot),
        (BackendState::Active as u8, plans::FIRST_IFINDEX, 2)
    );
    let (remote, backend) = memory.backend(&plans::backend_key(1, 1));
    let vtep = memory.image.vteps[&backend.vtep];
    assert_eq!((vtep.number, memory.image.vtep_by_number[&2]), (2, backend.vtep));
    assert_eq!(
        (backend.ifindex, vtep.addr, vtep.mtu),
        (0, plans::vtep(1).into(), 1450)
    );
    assert_eq!(memory.active(&plans::vip_key(1)).len(), 3);

    let ingress = memory.service(&plans::group_key(1, essaim_model::Scope::Ingress));
    let size = essaim_model::table_size(3);
    assert_eq!((ingress.maglev.len(), ingress.vni), (size, 4095));
    assert_eq!(ingress.udp_timeout, 180 * HZ);
    let slots = &memory.tables[ingress.maglev.offset() as usize..][..size as usize];
    assert!(
        [local, remote]
            .iter()
            .all(|index| slots.iter().filter(|slot| *slot == index).count() > size as usize / 4)
    );
    let port = memory.image.ports[&Protocol::Tcp.port_index(10_001)];
    assert_eq!(memory.image.services[&port.service].id, ingress.id);
    assert_eq!(port.target_port, 80_u16.to_be());

    let endpoint = |text: &str| memory.image.endpoints[&text.parse::<std::net::IpAddr>().unwrap().into()];
    let Endpoint { kind, index, .. } = endpoint("10.0.0.65");
    assert_eq!(
        (kind, memory.image.services[&index].id),
        (EndpointKind::Vip as u8, plans::vip_key(1).id())
    );
    let Endpoint {
        kind,
        ifindex,
        backend,
        slot,
        ..
    } = endpoint("10.0.0.66");
    assert_eq!(
        (kind, ifindex, backend, slot),
        (EndpointKind::Local as u8, plans::FIRST_IFINDEX, local, 2)
    );
    assert_eq!(endpoint("172.16.0.1").kind, EndpointKind::ThisNode as u8);
    assert_eq!(memory.image.locals[&plans::FIRST_IFINDEX].backend, local);
    assert_eq!(
        memory.image.vteps[&memory.config.own_vtep].addr,
        plans::vtep(0).into()
    );
    assert_eq!(
        memory.image.netns[&u64::from(plans::FIRST_IFINDEX)].vnis[..2],
        [4097, 0]
    );
    // The programs find both without a search.
    let front = memory.front_locals[&FrontLocal::place(plans::FIRST_IFINDEX)];
    assert_eq!(
        (front.ifindex, front.local),
        (plans::FIRST_IFINDEX, memory.image.locals[&plans::FIRST_IFINDEX])
    );
    let address = "10.0.0.66".parse::<std::net::IpAddr>().unwrap().into();
    let front = memory.front_endpoints[&FrontEndpoint::place(&address)];
    assert_eq!((front.address, front.endpoint), (address, endpoint("10.0.0.66")));
}

#[test]
fn an_unchanged_plan_changes_nothing_and_a_restart_neither() {
    let desired = plans::many(20, 5);
    let facts = plans::facts(&desired);
    let (mut memory, now) = (Memory::new(), Instant::now());
    let mut state = State::restore(memory.image.clone(), CAPACITY);
    let changes = memory.plan(&mut state, &desired, &facts, now).unwrap();
    memory.store(changes);
    assert!(is_empty(&memory.plan(&mut state, &desired, &facts, now).unwrap()));
    let mut restarted = State::restore(memory.image.clone(), CAPACITY);
    assert_eq!(
        memory.plan(&mut restarted, &desired, &facts, now).unwrap(),
        Changes::default()
    );
}

#[test]
fn a_backend_that_goes_keeps_its_slot_for_a_while_and_leaves_another_generation() {
    let with = |tasks: &[u32]| {
        let tasks: Vec<_> = tasks.iter().map(|task| (*task, TaskState::Ready)).collect();
        plans::desired([(0, plans::service(0, &tasks, true))])
    };
    let facts = NodeFacts {
        attachments: BTreeMap::new(),
        ..plans::facts(&with(&[1]))
    };
    let (mut memory, now) = (Memory::new(), Instant::now());
    let mut state = State::restore(memory.image.clone(), CAPACITY);
    let mut apply = |memory: &mut Memory, desired: &DesiredState, now| {
        let changes = memory.plan(&mut state, desired, &facts, now).unwrap();
        memory.store(changes);
    };
    apply(&mut memory, &with(&[1, 2]), now);
    let (index, first) = memory.backend(&plans::backend_key(0, 2));
    apply(&mut memory, &with(&[1]), now);
    assert_eq!(
        memory.image.backends[&index],
        Backend {
            state: BackendState::Gone as u8,
            ..first
        }
    );
    apply(&mut memory, &with(&[1, 3]), now + BACKEND_QUARANTINE / 2);
    assert_ne!(memory.backend(&plans::backend_key(0, 3)).0, index);
    apply(&mut memory, &with(&[1, 3, 4]), now + BACKEND_QUARANTINE);
    let (reused, backend) = memory.backend(&plans::backend_key(0, 4));
    assert_eq!((reused, backend.generation), (index, first.generation + 1));
}

#[test]
fn a_task_without_an_interface_is_refused_not_waited_for() {
    let desired = plans::desired([(0, plans::service(0, &plans::ready(2), false))]);
    let facts = NodeFacts {
        attachments: BTreeMap::new(),
        ..plans::facts(&desired)
    };
    let mut memory = Memory::new();
    let mut state = State::restore(memory.image.clone(), CAPACITY);
    let changes = memory.plan(&mut state, &desired, &facts, Instant::now()).unwrap();
    memory.store(changes);
    assert_eq!(
        memory.backend(&plans::backend_key(0, 0)).1.state,
        BackendState::Gone as u8
    );
    let address = "10.0.0.2".parse::<std::net::IpAddr>().unwrap();
    assert_eq!(
        memory.image.endpoints[&address.into()].kind,
        EndpointKind::Tombstone as u8
    );
}

#[test]
fn a_resolver_that_listens_later_changes_its_namespace_alone() {
    let desired = plans::desired([(0, plans::service(0, &plans::ready(2), false))]);
    let mut facts = plans::facts(&desired);
    let mut memory = Memory::new();
    let mut state = State::restore(memory.image.clone(), CAPACITY);
    let now = Instant::now();
    let changes = memory.plan(&mut state, &desired, &facts, now).unwrap();
    memory.store(changes);
    let attachment = facts.attachments.values_mut().next().unwrap();
    attachment.resolver = Some(ResolverPorts { udp: 1053, tcp: 2053 });
    let cookie = attachment.netns_cookie;
    let changes = memory.plan(&mut state, &desired, &facts, now).unwrap();
    assert_eq!(changes.netns.len(), 1, "{changes:?}");
    memory.store(changes);
    let namespace = memory.image.netns[&cookie];
    assert_eq!(
        (namespace.dns_udp_port, namespace.dns_tcp_port),
        (1053_u16.to_be(), 2053_u16.to_be())
    );
}

#[test]
fn what_does_not_fit_is_refused_with_its_map() {
    let fits = |desired: &DesiredState| {
        let memory = Memory::new();
        let mut state = State::restore(memory.image.clone(), CAPACITY);
        memory
            .plan(&mut state, desired, &plans::facts(desired), Instant::now())
            .map(|_| ())
    };
    let refused = |desired: &DesiredState| match fits(desired) {
        Err(DatapathError::Capacity { map, .. }) => map,
        other => panic!("{other:?}"),
    };
    fits(&plans::many(40, 2)).unwrap();
    assert_eq!(refused(&plans::many(64, 1)), essaim_abi::maps::SERVICES);
    assert_eq!(refused(&plans::many(20, 7)), essaim_abi::maps::BACKENDS);
    let published =
        |tasks| plans::desired((0..2).map(|n| (n, plans::service(n, &plans::ready(tasks), true))));
    fits(&published(20)).unwrap();
    assert_eq!(refused(&published(60)), essaim_abi::maps::TABLES);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the way there, the maps hold what a fresh start would write, save for indices and places.
    #[test]
    fn every_way_to_a_plan_ends_at_the_same_entries(
        rounds in proptest::collection::vec(
            (proptest::collection::btree_map(0_u32..6, (0_u32..5, any::<bool>(), any::<u8>()), 0..6), any::<bool>()),
            1..6,
        )
    ) {
        let (mut memory, mut now) = (Memory::new(), Instant::now());
        let mut state = State::restore(memory.image.clone(), CAPACITY);
        for (services, restart) in rounds {
            now += Duration::from_millis(150);
            let states = [TaskState::Starting, TaskState::Ready, TaskState::Draining, TaskState::Gone];
            let desired = plans::desired(services.into_iter().map(|(n, (tasks, published, seed))| {
                let tasks: Vec<_> =
                    (0..tasks).map(|task| (task, states[usize::from(seed >> (task % 4)) % 4])).collect();
                (n, plans::service(n, &tasks, published))
            }));
            let facts = plans::facts(&desired);
            let changes = memory.plan(&mut state, &desired, &facts, now).unwrap();
            memory.store(changes);
            prop_assert!(is_empty(&memory.plan(&mut state, &desired, &facts, now).unwrap()));
            if restart {
                state = State::restore(memory.image.clone(), CAPACITY);
                prop_assert!(is_empty(&memory.plan(&mut state.clone(), &desired, &facts, now).unwrap()));
            }

            let mut fresh = Memory::new();
            let mut first = State::restore(Image::default(), CAPACITY);
            let changes = fresh.plan(&mut first, &desired, &facts, now).unwrap();
            fresh.store(changes);
            prop_assert_eq!(memory.image.endpoints.keys().collect::<Vec<_>>(), fresh.image.endpoints.keys().collect::<Vec<_>>());
            prop_assert_eq!(memory.image.locals.keys().collect::<Vec<_>>(), fresh.image.locals.keys().collect::<Vec<_>>());
            prop_assert!(memory.front_locals.values().filter(|front| front.ifindex != 0).all(
                |front| memory.image.locals.get(&front.ifindex) == Some(&front.local)
            ));
            prop_assert!(memory.front_endpoints.values().filter(|front| front.endpoint.kind != 0).all(
                |front| memory.image.endpoints.get(&front.address) == Some(&front.endpoint)
            ));
            prop_assert_eq!(memory.image.services.len(), fresh.image.services.len());
            for service in fresh.image.services.values() {
                let ours = memory.image.services.values().find(|other| other.id == service.id).unwrap();
                let named = |memory: &Memory, table: essaim_abi::TableRef| -> Vec<u64> {
                    let slots = &memory.tables[table.offset() as usize..][..table.footprint() as usize];
                    slots.iter().map(|slot| memory.image.backends.get(slot).map_or(0, |backend| backend.id)).collect()
                };
                prop_assert_eq!(named(&memory, ours.active), named(&fresh, service.active));
                prop_assert_eq!(named(&memory, ours.maglev), named(&fresh, service.maglev));
            }
            for backend in fresh.image.backends.values() {
                let ours = memory.image.backends.values().find(|other| other.id == backend.id).unwrap();
                prop_assert_eq!((ours.state, ours.addr4, ours.ifindex), (backend.state, backend.addr4, backend.ifindex));
            }
        }
    }
}
