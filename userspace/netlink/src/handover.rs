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
use essaim_model::DesiredState;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// Gives the namespaces that engines have moved links to the names that the plan has for them.
pub(crate) fn name_namespaces(session: &mut Session, desired: &DesiredState) -> Result<(), NetlinkError> {
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
                if let Err(error) = hold_netns(&attachment.netns, &path) {
                    // Its process may have ended just now.
                    tracing::warn!(%error, task = %attachment.task, "the namespace of a container has no name yet");
                }
            }
            None => {
                tracing::debug!(task = %attachment.task, link, "the container's namespace has no process");
            }
        }
    }
    Ok(())
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
    for process in processes.flatten() {
        let Some(id) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let path = process.path().join("ns/net");
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
