//! What is pinned is adopted by the next agent, replaced by another build's, and removed whole. Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

use aya::maps::{Array, Map, MapData, MapInfo};
use aya::programs::ProgramInfo;
use essaim_abi::{Addr, Flow, FlowKey, Service};
use essaim_datapath::{
    Datapath, DatapathError, DatapathOptions, RunInput, Sizing, XdpAttachment, XdpContext, test_run,
};
use essaim_model::TaskState;
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

mod node;
mod plans;

use node::Node;

/// The numbers of the pinned maps, which change when a map is replaced.
fn map_ids(node: &Node) -> BTreeMap<String, u32> {
    let names = fs::read_dir(node.pin("maps"))
        .unwrap()
        .map(|entry| entry.unwrap());
    names
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                MapInfo::from_pin(entry.path()).unwrap().id(),
            )
        })
        .collect()
}

fn generation(node: &Node) -> Vec<String> {
    fs::read_dir(node.pin("progs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn program_id(path: &Path) -> u32 {
    ProgramInfo::from_pin(path).unwrap().id()
}

/// Makes the pins look like another build's.
fn pretend_another_build(node: &Node) {
    let map = MapData::from_pin(node.pin("maps/META")).unwrap();
    Array::<_, u64>::try_from(Map::Array(map))
        .unwrap()
        .set(2, 1, 0)
        .unwrap();
}

fn flow(number: u32) -> (FlowKey, Flow) {
    let key = FlowKey {
        remote: Addr::v4(number),
        remote_port: 1,
        protocol: 6,
        ..FlowKey::default()
    };
    (
        key,
        Flow {
            seen: number,
            timeout: 1000,
            ..Flow::default()
        },
    )
}

#[test]
fn a_restarted_agent_adopts_what_is_there_and_changes_nothing() {
    let node = Node::new("adopt");
    let desired = plans::desired([(0, plans::service(0, &plans::ready(3), true))]);
    let facts = Node::facts(plans::facts(&desired));
    let mut first = Datapath::open(&node.options).unwrap();
    first.apply(&desired, &facts).unwrap();
    let report = first.attach(&facts).unwrap();
    assert_eq!(
        (report.attached.len(), report.detached.len()),
        (13, 0),
        "{report:?}"
    );
    assert_eq!(report.xdp.values().collect::<Vec<_>>(), [&XdpAttachment::Native]);
    assert!(matches!(
        Datapath::open(&node.options),
        Err(DatapathError::InUse { .. })
    ));

    let (maps, running) = (map_ids(&node), generation(&node));
    drop(first);
    let mut second = Datapath::open(&node.options).unwrap();
    assert_eq!((map_ids(&node), generation(&node)), (maps, running));
    assert!(second.apply(&desired, &facts).unwrap().is_unchanged());
    let report = second.attach(&facts).unwrap();
    assert!(
        report.attached.is_empty() && report.detached.is_empty(),
        "{report:?}"
    );

    let looking = Datapath::open_existing(&node.options.pin_dir).unwrap();
    assert_eq!(
        looking.maps().services.read(1).unwrap(),
        second.maps().services.read(1).unwrap()
    );
}

#[test]
fn another_build_takes_over_with_the_same_maps() {
    let node = Node::new("build");
    let desired = plans::desired([(0, plans::service(0, &plans::ready(3), true))]);
    let facts = Node::facts(plans::facts(&desired));
    let mut first = Datapath::open(&node.options).unwrap();
    first.apply(&desired, &facts).unwrap();
    first.attach(&facts).unwrap();
    drop(first);
    let (maps, before) = (map_ids(&node), generation(&node));
    let socket_program = || {
        fs::read_dir(node.pin("progs"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path()
            .join("connect4")
    };
    let old = program_id(&socket_program());
    pretend_another_build(&node);

    let mut second = Datapath::open(&node.options).unwrap();
    assert_ne!(generation(&node), before);
    assert_eq!(generation(&node).len(), 1);
    assert_ne!(program_id(&socket_program()), old);
    let mut after = map_ids(&node);
    for private in ["TC_INNER", "META"] {
        assert_ne!(after[private], maps[private]);
        after.insert(private.to_owned(), maps[private]);
    }
    assert_eq!(after, maps);
    assert!(second.apply(&desired, &facts).unwrap().is_unchanged());
    let report = second.attach(&facts).unwrap();
    assert!(
        report.attached.is_empty() && report.detached.is_empty(),
        "{report:?}"
    );
}

#[test]
fn what_is_attached_calls_the_programs_of_the_running_generation() {
    let node = Node::new("stub");
    let desired = plans::desired([(0, plans::service(0, &[(1, TaskState::Ready)], true))]);
    let facts = Node::facts(plans::facts(&desired));
    let mut datapath = Datapath::open(&node.options).unwrap();
    let stub = ProgramInfo::from_pin(node.pin("stub/ingress_xdp_stub"))
        .unwrap()
        .fd()
        .unwrap();
    let verdict = || {
        let context = XdpContext {
            ingress_ifindex: node::ifindex("up0"),
            ..XdpContext::default()
        };
        test_run(
            stub.as_fd(),
            &RunInput::Xdp {
                packet: &published_syn(),
                context,
            },
            1,
        )
        .unwrap()
        .verdict
    };
    let (pass, redirect) = (2, 4);
    datapath.attach(&facts).unwrap();
    assert_eq!(verdict(), pass);
    datapath.apply(&desired, &facts).unwrap();
    assert_eq!(verdict(), redirect);
    for _ in 0..3 {
        drop(datapath);
        pretend_another_build(&node);
        datapath = Datapath::open(&node.options).unwrap();
        assert_eq!(verdict(), redirect);
    }
    datapath
        .grow(Sizing {
            services: 2048,
            ..Sizing::default()
        })
        .unwrap();
    assert_eq!(verdict(), redirect);
}

/// A SYN from outside to the published port 10000.
fn published_syn() -> Vec<u8> {
    let ethernet = [[2; 6].as_slice(), &[4; 6], &[8, 0]].concat();
    let ipv4 = [
        0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 198, 51, 100, 1, 203, 0, 113, 7,
    ];
    let tcp = [
        0x9c, 0x40, 0x27, 0x10, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0,
    ];
    [ethernet.as_slice(), &ipv4, &tcp].concat()
}

#[test]
fn maps_that_are_too_small_are_replaced_with_their_contents() {
    let node = Node::new("grow");
    let desired = plans::desired([(0, plans::service(0, &plans::ready(3), true))]);
    let facts = Node::facts(plans::facts(&desired));
    let mut datapath = Datapath::open(&node.options).unwrap();
    datapath.apply(&desired, &facts).unwrap();
    let flows: Vec<_> = (0..10_000).map(flow).collect();
    datapath.maps_mut().flows.insert_all(&flows).unwrap();
    let services: Vec<Service> = (0..4)
        .map(|index| datapath.maps().services.read(index).unwrap())
        .collect();
    let before = map_ids(&node);

    let larger = Sizing {
        services: 2048,
        flows: 1 << 20,
        ..Sizing::default()
    };
    datapath.grow(larger).unwrap();
    assert_eq!(datapath.sizing().unwrap(), larger);
    let after = map_ids(&node);
    let replaced: Vec<&str> = after
        .iter()
        .filter(|(name, id)| before[*name] != **id)
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        replaced,
        [
            "FLOWS",
            "META",
            "NEXT_PICK",
            "SERVICES",
            "SERVICE_COUNTERS",
            "TC_INNER"
        ]
    );
    assert_eq!(datapath.maps().services.len(), 2048);
    for (index, service) in (0..).zip(services) {
        assert_eq!(datapath.maps().services.read(index).unwrap(), service);
    }
    let mut found = datapath.maps().flows.entries().unwrap();
    found.sort_unstable_by_key(|(_, flow)| flow.seen);
    assert_eq!(found, flows);
    assert!(datapath.apply(&desired, &facts).unwrap().is_unchanged());

    // Smaller again: pinned maps never shrink.
    drop(datapath);
    let datapath = Datapath::open(&node.options).unwrap();
    assert_eq!((datapath.sizing().unwrap(), map_ids(&node)), (larger, after));
}

#[test]
fn the_next_start_ends_what_a_crash_cut_off() {
    let node = Node::new("crash");
    let desired = plans::desired([(0, plans::service(0, &plans::ready(1), false))]);
    let facts = Node::facts(plans::facts(&desired));
    let mut datapath = Datapath::open(&node.options).unwrap();
    datapath.apply(&desired, &facts).unwrap();
    drop(datapath);
    let (maps, running) = (map_ids(&node), generation(&node));

    // Before the switch: what was being made is thrown away.
    fs::create_dir(node.pin("maps_next")).unwrap();
    fs::create_dir_all(node.pin("progs/3")).unwrap();
    let mut datapath = Datapath::open(&node.options).unwrap();
    assert!(!node.pin("maps_next").exists());
    assert_eq!((map_ids(&node), generation(&node)), (maps, running));
    assert!(datapath.apply(&desired, &facts).unwrap().is_unchanged());
    drop(datapath);

    // Behind the switch: what runs stands in the wrong folder.
    fs::rename(node.pin("maps"), node.pin("maps_next")).unwrap();
    fs::create_dir(node.pin("maps")).unwrap();
    let mut datapath = Datapath::open(&node.options).unwrap();
    assert!(!node.pin("maps_next").exists());
    assert!(datapath.apply(&desired, &facts).unwrap().is_unchanged());
}

#[test]
fn links_follow_the_interfaces() {
    let node = Node::new("links");
    let desired = plans::desired([(0, plans::service(0, &plans::ready(1), false))]);
    let facts = Node::facts(plans::facts(&desired));
    let mut datapath = Datapath::open(&node.options).unwrap();
    datapath.attach(&facts).unwrap();

    node::ip(&["link", "del", "ep0"]);
    let mut gone = facts.clone();
    gone.attachments.clear();
    let report = datapath.attach(&gone).unwrap();
    assert_eq!(report.detached.len(), 1, "{report:?}");

    node::add_veth("ep0");
    let facts = Node::facts(facts);
    let report = datapath.attach(&facts).unwrap();
    assert_eq!(report.attached.len(), 1, "{report:?}");

    // The same index, another interface: the old link holds nothing any more.
    let index = node::ifindex("ep0").to_string();
    node::ip(&["link", "del", "ep0"]);
    node::ip(&[
        "link", "add", "ep0", "index", &index, "type", "veth", "peer", "name", "ep0p",
    ]);
    let report = datapath.attach(&facts).unwrap();
    assert_eq!(report.attached.len(), 1, "{report:?}");

    assert!(is_attached("up0") && is_attached("ep0"));
    essaim_datapath::clean(&node.options.pin_dir).unwrap();
    assert!(!node.options.pin_dir.exists());
    assert!(!is_attached("up0") && !is_attached("ep0"));
}

#[test]
fn verify_sees_a_program_that_was_taken_out() {
    let node = Node::new("verify");
    let desired = plans::desired([(0, plans::service(0, &plans::ready(1), false))]);
    let facts = Node::facts(plans::facts(&desired));
    let mut datapath = Datapath::open(&node.options).unwrap();
    datapath.apply(&desired, &facts).unwrap();
    datapath.attach(&facts).unwrap();
    let looking = Datapath::open_existing(&node.options.pin_dir).unwrap();
    assert_eq!(looking.verify(&desired, &facts).unwrap(), []);
    let name = format!("uplink_tc-{}", node::ifindex("up0"));
    let pin = node.pin("links").join(&name);
    if pin.exists() {
        fs::remove_file(pin).unwrap();
    } else {
        // Before Linux 6.6 it hangs in a filter, of which the pin is only a mark.
        tc(&["filter", "del", "dev", "up0", "ingress"]);
    }
    let found: Vec<String> = looking
        .verify(&desired, &facts)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found, [format!("link {name}: not attached")]);
    assert_eq!(datapath.attach(&facts).unwrap().attached.len(), 1);
    assert_eq!(looking.verify(&desired, &facts).unwrap(), []);
}

#[test]
fn an_uplink_that_takes_no_xdp_is_left_to_tc_and_asked_again_by_the_next_agent() {
    let node = Node::new("xdp");
    let desired = plans::desired([(0, plans::service(0, &plans::ready(1), false))]);
    let facts = Node::facts(plans::facts(&desired));
    let mut datapath = Datapath::open(&node.options).unwrap();
    let stub = node.pin("stub/ingress_xdp_stub");
    node::ip(&[
        "link",
        "set",
        "dev",
        "up0",
        "xdpgeneric",
        "pinned",
        stub.to_str().unwrap(),
    ]);
    datapath.apply(&desired, &facts).unwrap();
    let left_out = BTreeMap::from([(node::ifindex("up0"), XdpAttachment::LeftOut)]);
    let report = datapath.attach(&facts).unwrap();
    assert_eq!((report.xdp, report.attached.len()), (left_out, 12));
    assert_eq!(datapath.verify(&desired, &facts).unwrap(), []);
    let report = datapath.attach(&facts).unwrap();
    assert_eq!((report.xdp.len(), report.attached.len()), (0, 0));
    drop(datapath);

    node::ip(&["link", "set", "dev", "up0", "xdpgeneric", "off"]);
    let mut datapath = Datapath::open(&node.options).unwrap();
    let native = BTreeMap::from([(node::ifindex("up0"), XdpAttachment::Native)]);
    assert_eq!(datapath.attach(&facts).unwrap().xdp, native);
    assert_eq!(datapath.verify(&desired, &facts).unwrap(), []);
}

/// Whether any program hangs in an interface, by XDP, tcx or a filter.
fn is_attached(interface: &str) -> bool {
    let xdp = std::process::Command::new("ip")
        .args(["-d", "link", "show", interface])
        .output()
        .unwrap();
    let tcx = aya::programs::SchedClassifier::query_tcx(interface, aya::programs::TcAttachType::Ingress);
    String::from_utf8_lossy(&xdp.stdout).contains("xdp")
        || tcx.is_ok_and(|(_, programs)| !programs.is_empty())
        || tc(&["filter", "show", "dev", interface, "ingress"]).contains("bpf")
}

fn tc(arguments: &[&str]) -> String {
    let output = std::process::Command::new("tc").args(arguments).output().unwrap();
    assert!(output.status.success(), "tc {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_will_not_do_is_refused_by_name() {
    let node = Node::new("refused");
    let open = |pin_dir: &Path, cgroup: &Path| {
        let options = DatapathOptions {
            pin_dir: pin_dir.into(),
            cgroup: cgroup.into(),
            ..node.options.clone()
        };
        Datapath::open(&options).map(|_| ()).unwrap_err()
    };
    let error = open(Path::new("/tmp/essaim-no-bpffs"), &node.options.cgroup);
    assert!(matches!(error, DatapathError::BpfFsMissing { .. }), "{error}");
    let error = open(&node.options.pin_dir, Path::new("/proc"));
    assert!(matches!(error, DatapathError::NotCgroup2 { .. }), "{error}");
    let error = Datapath::open_existing(&node.options.pin_dir)
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, DatapathError::NotRunning { .. }), "{error}");

    let mut datapath = Datapath::load_unattached(Sizing::default()).unwrap();
    let desired = Arc::new(plans::many(1, 1));
    assert!(datapath.attach(&plans::facts(&desired)).is_err());
    assert!(datapath.grow(Sizing::default()).is_err());
}
