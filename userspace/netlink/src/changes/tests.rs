use super::*;
use crate::message;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{NeighbourMessage, NeighbourState};

fn neighbour(state: NeighbourState, last: u8) -> NeighbourMessage {
    let mut message =
        message::permanent_neighbour(2, "192.0.2.2".parse().unwrap(), MacAddr([2, 0, 0, 0, 0, last]));
    message.header.state = state;
    message
}

fn is_news(known: &mut KnownNeighbours, message: RouteNetlinkMessage) -> bool {
    known.is_worth_a_look(&NetlinkPayload::InnerMessage(message))
}

#[test]
fn a_neighbour_is_news_when_its_address_comes_changes_or_goes() {
    let mut known = KnownNeighbours::default();
    for (state, last, expected) in [
        (NeighbourState::Incomplete, 1, false),
        (NeighbourState::Reachable, 1, true),
        (NeighbourState::Stale, 1, false),
        (NeighbourState::Delay, 1, false),
        (NeighbourState::Probe, 1, false),
        (NeighbourState::Reachable, 1, false),
        (NeighbourState::Reachable, 2, true),
        (NeighbourState::Failed, 2, true),
        (NeighbourState::Incomplete, 2, false),
        (NeighbourState::Failed, 2, false),
        (NeighbourState::Reachable, 2, true),
    ] {
        let found = is_news(
            &mut known,
            RouteNetlinkMessage::NewNeighbour(neighbour(state, last)),
        );
        assert_eq!(found, expected, "{state:?} {last}");
    }
    let gone = || RouteNetlinkMessage::DelNeighbour(neighbour(NeighbourState::Reachable, 2));
    assert!(is_news(&mut known, gone()));
    assert!(!is_news(&mut known, gone()));
}

#[test]
fn links_and_lost_messages_are_always_news() {
    let mut known = KnownNeighbours::default();
    assert!(is_news(
        &mut known,
        RouteNetlinkMessage::NewLink(LinkMessage::default())
    ));
    assert!(known.is_worth_a_look(&NetlinkPayload::Overrun(Vec::new())));
}
