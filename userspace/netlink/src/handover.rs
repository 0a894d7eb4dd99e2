//! Links that a container engine moves into its containers' namespaces: where they have come to.
//!
//! The engine tells nobody when it moves a link, nor where to, and the process of the container begins soon after. The
//! kernel tells that the link has gone; the number that the node's namespace has for the other one stands at the end that
//! stays (`IFLA_LINK_NETNSID`), and the namespaces of processes are compared by it (`RTM_GETNSID`).

use crate::NetlinkError;
use crate::netns::netns_path;
use crate::netns_name::hold_netns;
use crate::ownership::attachment_link;
use crate::plan::attachments;
use crate::session::Session;
use essaim_model::{AttachmentKey, DesiredState};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// Gives the namespaces that engines have moved links to the names that the plan has for them; the attachments of those
/// that have got theirs now.
pub(crate) fn name_namespaces(
    session: &mut Session,
    desired: &DesiredState,
) -> Result<BTreeSet<AttachmentKey>, NetlinkError> {
    let mut named = BTreeSet::new();
    for (key, attachment) in attachments(desired).filter(|(_, attachment)| attachment.handover) {
        if netns_path(&attachment.netns).exists() {
            continue;
        }
        let link = attachment_link(&desired.cluster.node, key);
        let Some(number) = peer_namespace(session, &link)? else {
            continue;
        };
        match namespace(session, number)? {
            Some(path) => {
                match hold_netns(&attachment.netns, &path) {
                    Ok(()) => drop(named.insert(key.clone())),
                    // Its process may have ended just now.
                    Err(error) => {
                        tracing::warn!(%error, task = %attachment.task, "the namespace of a container has no name yet");
                    }
                }
            }
            None => {
                tracing::debug!(task = %attachment.task, link, "the container's namespace has no process");
            }
        }
    }
    Ok(named)
}

/// The number of the namespace that a link's other end is in; `None` where there is no such link, or both are here.
fn peer_namespace(session: &mut Session, link: &str) -> Result<Option<i32>, NetlinkError> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(link.to_owned()));
    let found = session.query("look at a link", RouteNetlinkMessage::GetLink(message))?;
    let Some(RouteNetlinkMessage::NewLink(found)) = found else {
        return Ok(None);
    };
    let number = found.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkNetNsId(number) => Some(*number),
        _ => None,
    });
    Ok(number.filter(|number| *number >= 0))
}

/// A namespace by its number here, as the file of one of its processes.
fn namespace(session: &mut Session, number: i32) -> Result<Option<PathBuf>, NetlinkError> {
    let mut seen = BTreeSet::new();
    let Ok(processes) = fs::read_dir("/proc") else {
        return Ok(None);
    };
    let ids = processes
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    // What is looked for was made just now: most often it has the highest number.
    let mut ids: Vec<u32> = ids.collect();
    ids.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
    for id in ids {
        let path = PathBuf::from(format!("/proc/{id}/ns/net"));
        // Two processes of one namespace have the same text here.
        if !fs::read_link(&path).is_ok_and(|text| seen.insert(text)) {
            continue;
        }
        let mut message = NsidMessage::default();
        message.attributes.push(NsidAttribute::Pid(id));
        let found = session.query(
            "ask for a namespace's number",
            RouteNetlinkMessage::GetNsId(message),
        )?;
        if let Some(RouteNetlinkMessage::NewNsId(found)) = found
            && found.attributes.contains(&NsidAttribute::Id(number))
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
