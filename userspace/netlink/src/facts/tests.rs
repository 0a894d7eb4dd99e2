use super::*;
use crate::fixture::{attachment, desired, net, uplink};
use crate::message;
use crate::observed::{LinkKind, ObservedLink, ObservedNeighbour};
use essaim_abi::MacAddr;

const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A route out of interface `ifindex`, by a gateway or on the link.
fn route(ifindex: u32, gateway: Option<&str>, mtu: Option<u32>) -> RouteMessage {
    let route = crate::Route {
        destination: net("192.0.2.2/32"),
        link: String::new(),
        gateway: gateway.map(address),
        source: None,
    };
    let mut message = message::route(ifindex, &route);
    message
        .attributes
        .extend(mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
    message
}

fn observed(neighbour: &str, certainty: Certainty) -> ObservedLinks {
    let entry = ObservedNeighbour {
        mac: Some(ROUTER),
        certainty,
    };
    ObservedLinks {
        uplinks: vec![uplink()],
        neighbours: [((uplink().ifindex, address(neighbour)), entry)].into(),
        ..ObservedLinks::default()
    }
}

fn look(route: &RouteMessage, observed: &ObservedLinks) -> (Option<NextHop>, Option<Probe>) {
    next_hop(route, address("192.0.2.2"), address("192.0.2.1"), observed)
}

#[test]
fn the_way_to_a_vtep_is_by_the_routes_gateway_or_straight() {
    let (hop, probe) = look(&route(2, None, None), &observed("192.0.2.2", Certainty::Fresh));
    let hop = hop.unwrap();
    assert_eq!(
        (hop.ifindex, hop.source, hop.source_mac),
        (2, address("192.0.2.1"), uplink().mac)
    );
    assert_eq!((hop.destination_mac, hop.mtu, probe), (ROUTER, 1500, None));
    let (hop, _) = look(
        &route(2, Some("192.0.2.254"), Some(1400)),
        &observed("192.0.2.254", Certainty::Permanent),
    );
    assert_eq!(hop.unwrap().mtu, 1400);
}

#[test]
fn a_stale_neighbour_serves_and_is_asked_again_and_an_unknown_one_is_only_asked() {
    let probe = Some(Probe {
        ifindex: 2,
        neighbour: address("192.0.2.2"),
    });
    let (hop, asked) = look(&route(2, None, None), &observed("192.0.2.2", Certainty::Stale));
    assert!(hop.is_some());
    assert_eq!(asked, probe);
    // The kernel keeps the old Ethernet address of one that failed.
    assert_eq!(
        look(&route(2, None, None), &observed("192.0.2.2", Certainty::Unknown)),
        (None, probe)
    );
    assert_eq!(
        look(&route(2, None, None), &observed("192.0.2.9", Certainty::Fresh)),
        (None, probe)
    );
}

#[test]
fn a_way_that_is_not_by_an_uplink_is_none() {
    assert_eq!(
        look(&route(7, None, None), &observed("192.0.2.2", Certainty::Fresh)),
        (None, None)
    );
    let mut local = route(2, None, None);
    local.header.kind = RouteType::Local;
    assert_eq!(
        look(&local, &observed("192.0.2.2", Certainty::Fresh)),
        (None, None)
    );
}

#[test]
fn an_endpoint_counts_once_both_its_ends_are_there() {
    let end = |index, peer| ObservedLink {
        index,
        kind: LinkKind::Veth,
        mac: None,
        mtu: 1450,
        alias: None,
        group: LINK_GROUP,
        up: true,
        without_link_local: true,
        peer: Some(peer),
        addresses: BTreeSet::new(),
    };
    let desired = desired([attachment(1)]);
    let key = attachment(1).0;
    let mut observed = ObservedLinks::default();
    observed
        .node
        .links
        .insert(attachment_link(&desired.cluster.node, &key), end(7, 3));
    assert!(facts(&desired, &observed).attachments.is_empty());
    let mut task = crate::ObservedNetns {
        cookie: 42,
        ..crate::ObservedNetns::default()
    };
    task.links.insert("eth0".to_owned(), end(3, 8));
    observed.tasks.insert(key.clone(), task.clone());
    assert!(
        facts(&desired, &observed).attachments.is_empty(),
        "the other end of another link"
    );
    task.links.insert("eth0".to_owned(), end(3, 7));
    observed.tasks.insert(key.clone(), task);
    let expected = AttachmentFacts {
        ifindex: 7,
        netns_cookie: 42,
        mtu: 1450,
        resolver: None,
    };
    assert_eq!(facts(&desired, &observed).attachments, [(key, expected)].into());
}
