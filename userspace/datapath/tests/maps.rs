//! The programs load, and the maps of the kernel are what their types say. Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

use essaim_abi::{Addr, Endpoint, Service, TableRef};
use essaim_datapath::{Datapath, RunInput, Sizing, SkbContext};
use std::mem::offset_of;
use std::net::Ipv4Addr;

fn datapath() -> Datapath {
    Datapath::load_unattached(Sizing {
        services: 2048,
        ..Sizing::default()
    })
    .unwrap()
}

fn address(number: u32) -> Addr {
    Addr::from(Ipv4Addr::from_bits(0x0a00_0000 + number))
}

#[test]
fn a_mapped_array_is_what_the_system_call_reads() {
    let mut datapath = datapath();
    let maps = datapath.maps_mut();
    assert_eq!(maps.services.len(), 2048);
    let service = Service {
        id: 7,
        vni: 4097,
        vip4: 1,
        ..Service::default()
    };
    maps.services.write(2047, service).unwrap();
    let table = TableRef::new(5, 6, false);
    maps.services
        .store_u64(2047, offset_of!(Service, active), table.0)
        .unwrap();
    assert_eq!(
        maps.services.read(2047).unwrap(),
        Service {
            active: table,
            ..service
        }
    );
    assert!(maps.services.read(2048).is_err());
    assert!(maps.services.store_u64(0, 60, 1).is_err(), "not aligned");
    assert!(maps.tables.store_u64(0, 8, 1).is_err(), "another entry's");

    maps.tables.write(1, 42).unwrap();
    assert_eq!(
        (maps.tables.read(0).unwrap(), maps.tables.read(1).unwrap()),
        (0, 42)
    );
}

#[test]
fn batches_reach_every_entry_of_a_hash() {
    let mut datapath = datapath();
    let table = &mut datapath.maps_mut().endpoint_by_addr;
    let entries: Vec<(Addr, Endpoint)> = (0..5000)
        .map(|n| {
            (
                address(n),
                Endpoint {
                    vni: n + 1,
                    ..Endpoint::default()
                },
            )
        })
        .collect();
    table.insert_all(&entries).unwrap();
    let mut found = table.entries().unwrap();
    found.sort_unstable_by_key(|(_, endpoint)| endpoint.vni);
    assert_eq!(found, entries);

    // Every other one is absent already: the rest must go all the same.
    for n in (0..5000).step_by(2) {
        table.remove(&address(n)).unwrap();
    }
    table.remove(&address(0)).unwrap();
    let keys: Vec<Addr> = (0..4999).map(address).collect();
    table.remove_all(&keys).unwrap();
    assert_eq!(table.entries().unwrap(), [(address(4999), entries[4999].1)]);
    assert_eq!(table.entry(&address(0)).unwrap(), None);
}

#[test]
fn counters_are_summed_over_the_cpus() {
    let mut datapath = datapath();
    let counters = &mut datapath.maps_mut().drop_counters;
    assert_eq!(counters.sums().unwrap(), []);
    counters.clear(3).unwrap();
    assert_eq!(counters.sum(3).unwrap().packets, 0);
    assert!(counters.sum(counters.len()).is_err());
}

#[test]
fn a_program_is_run_in_the_context_it_is_given() {
    let datapath = datapath();
    let packet = [0_u8; 64];
    let input = RunInput::Skb {
        packet: &packet,
        context: SkbContext {
            mark: 7,
            ..SkbContext::default()
        },
    };
    let first = datapath.programs().run("clock_probe", &input, 1).unwrap();
    let second = datapath.programs().run("clock_probe", &input, 1).unwrap();
    assert!(second.verdict.wrapping_sub(first.verdict) < 1000);
    assert_eq!((first.mark, first.packet.as_slice()), (7, packet.as_slice()));
    assert!(datapath.programs().run("absent", &input, 1).is_err());
}
