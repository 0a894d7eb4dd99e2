//! Plans reach the maps of the kernel: whole, quickly, and only where they changed. Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

use essaim_abi::{Addr, Flow, FlowKey, FlowKind, Port, Protocol};
use essaim_datapath::{Datapath, Sizing, SweepReport};
use std::net::Ipv4Addr;

mod plans;

#[test]
fn verify_names_what_differs_and_changes_nothing() {
    let mut datapath = Datapath::load_unattached(Sizing::default()).unwrap();
    let desired = plans::many(3, 2);
    let facts = plans::facts(&desired);
    let fresh = datapath.verify(&desired, &facts).unwrap();
    assert!(
        fresh.iter().any(|difference| difference.place == "SERVICES"),
        "{fresh:?}"
    );
    assert_eq!(datapath.verify(&desired, &facts).unwrap(), fresh);
    datapath.apply(&desired, &facts).unwrap();
    assert_eq!(datapath.verify(&desired, &facts).unwrap(), []);

    let address = Addr::from(Ipv4Addr::new(10, 0, 0, 2));
    datapath.maps_mut().endpoint_by_addr.remove(&address).unwrap();
    datapath
        .maps_mut()
        .ports
        .write(
            Protocol::Udp.port_index(53),
            Port {
                service: 1,
                ..Port::default()
            },
        )
        .unwrap();
    let found: Vec<String> = datapath
        .verify(&desired, &facts)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("ENDPOINT_BY_ADDR 10.0.0.2: missing or different, expected Endpoint"),
        "{found:?}"
    );
    assert_eq!(found[1], "PORTS 53/udp: there, but not planned");
}

#[test]
fn a_sweep_takes_dead_flows_and_leaves_live_ones() {
    let mut datapath = Datapath::load_unattached(Sizing::default()).unwrap();
    let desired = plans::desired([(0, plans::service(0, &plans::ready(2), false))]);
    let facts = plans::facts(&desired);
    datapath.apply(&desired, &facts).unwrap();
    let now = datapath.jiffies().unwrap();
    let local = Addr::from(Ipv4Addr::new(10, 0, 0, 2));
    let slot = datapath
        .maps()
        .endpoint_by_addr
        .entry(&local)
        .unwrap()
        .unwrap()
        .slot;
    let backend = (1..4)
        .map(|index| (index, datapath.maps().backends.read(index).unwrap()))
        .find(|(_, backend)| backend.id == plans::backend_key(0, 1).id());
    let (index, backend) = backend.unwrap();
    let live = Flow {
        kind: FlowKind::Forward as u8,
        backend: index,
        backend_generation: backend.generation,
        service: 1,
        seen: now,
        timeout: 100 * datapath.hz(),
        ..Flow::default()
    };
    let key = |port: u16| FlowKey {
        local,
        remote_port: port,
        protocol: 17,
        ..FlowKey::default()
    };
    let flows = [
        (key(1), live),
        (
            key(2),
            Flow {
                seen: now.wrapping_sub(2),
                timeout: 1,
                ..live
            },
        ),
        (
            key(3),
            Flow {
                backend_generation: backend.generation + 1,
                ..live
            },
        ),
        (key(4), Flow { service: 77, ..live }),
    ];
    datapath.maps_mut().flows.insert_all(&flows).unwrap();
    for slot in [slot, 9] {
        datapath.maps_mut().translated.write(slot, 1).unwrap();
    }
    let swept = SweepReport {
        live: 1,
        expired: 1,
        orphaned: 2,
        untranslated: 1,
    };
    assert_eq!(datapath.sweep_flows().unwrap(), swept);
    assert_eq!(datapath.maps().flows.entries().unwrap(), flows[..1]);
    let word = |datapath: &Datapath, slot| datapath.maps().translated.read(slot).unwrap();
    assert_eq!((word(&datapath, slot), word(&datapath, 9)), (1, 0));

    // Its backend goes: so does the last one.
    let desired = plans::desired([(0, plans::service(0, &plans::ready(1), false))]);
    datapath.apply(&desired, &facts).unwrap();
    let swept = SweepReport {
        live: 0,
        expired: 0,
        orphaned: 1,
        untranslated: 1,
    };
    assert_eq!(datapath.sweep_flows().unwrap(), swept);
    assert_eq!(word(&datapath, slot), 0);
}

#[test]
fn memory_is_accounted_map_by_map() {
    let datapath = Datapath::load_unattached(Sizing::default()).unwrap();
    let memory = datapath.memory().unwrap();
    assert!(memory["PORTS"] >= 3 << 19, "{memory:?}");
    assert!(memory.values().sum::<u64>() < 64 << 20, "{memory:?}");
    println!("{memory:?} {}", memory.values().sum::<u64>());
}
