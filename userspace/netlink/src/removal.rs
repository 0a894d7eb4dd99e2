//! Removes links, many at once: the kernel waits for every processor after each removal, but only once for a group.

use crate::NetlinkError;
use crate::message;
use crate::op::LinkSettings;
use crate::ownership::DOOMED_GROUP;
use crate::session::{Mode, RequestError, Session};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

/// Removes the links of these names; what is absent counts as removed. Goes on after a failure, and returns them all.
pub(crate) fn remove_links(session: &mut Session, names: &[&str]) -> Vec<NetlinkError> {
    if names.len() > 1 && remove_as_group(session, names).is_ok() {
        return Vec::new();
    }
    // One by one, to know which of them cannot be removed.
    names
        .iter()
        .filter_map(|name| remove_link(session, name).err())
        .collect()
}

fn remove_link(session: &mut Session, name: &str) -> Result<(), NetlinkError> {
    let request = RouteNetlinkMessage::DelLink(message::named_link(name));
    absent_is_fine(session.set(Mode::Change, request), Errno::ENODEV)
        .map_err(|error| error.about(format!("delete link {name}")))
}

fn remove_as_group(session: &mut Session, names: &[&str]) -> Result<(), RequestError> {
    let doomed = LinkSettings {
        group: Some(DOOMED_GROUP),
        ..LinkSettings::default()
    };
    for name in names {
        for message in message::link_changes(name, &doomed) {
            absent_is_fine(
                session.set(Mode::Change, RouteNetlinkMessage::SetLink(message)),
                Errno::ENODEV,
            )?;
        }
    }
    session.set(
        Mode::Change,
        RouteNetlinkMessage::DelLink(message::link_group(DOOMED_GROUP)),
    )
}

/// Removing what is not there succeeds.
pub(crate) fn absent_is_fine(outcome: Result<(), RequestError>, absent: Errno) -> Result<(), RequestError> {
    match outcome {
        Err(error) if error.errno() == Some(absent as i32) => Ok(()),
        outcome => outcome,
    }
}
