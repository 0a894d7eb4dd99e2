//! Takes the steps of a plan.

use crate::netns::{NetnsRef, in_netns};
use crate::op::{LinkAction, LinkOp, LinkSettings, Place};
use crate::ownership::VXLAN_LINK;
use crate::plan::attachments;
use crate::removal::{absent_is_fine, remove_links};
use crate::session::{Mode, RequestError, Session};
use crate::{LinkProblem, NetlinkError, message, nft};
use essaim_model::{AttachmentKey, DesiredState};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::AsFd;

/// What came of a plan.
#[derive(Default)]
pub(crate) struct Applied {
    pub(crate) ops: Vec<LinkOp>,
    pub(crate) problems: Vec<LinkProblem>,
}

/// Takes the steps. One that fails for an endpoint stops only that endpoint.
///
/// # Errors
/// A step for the node as a whole failed; the steps after it were not taken.
pub(crate) fn apply(
    session: &mut Session,
    ops: Vec<LinkOp>,
    desired: &DesiredState,
) -> Result<Applied, NetlinkError> {
    let port = desired.cluster.vxlan_port;
    let netns_of: BTreeMap<&AttachmentKey, &str> = attachments(desired)
        .map(|(key, attachment)| (key, attachment.netns.as_str()))
        .collect();
    let mut applied = Applied::default();
    let mut failed: BTreeSet<AttachmentKey> = BTreeSet::new();
    let mut inside: BTreeMap<AttachmentKey, Vec<LinkOp>> = BTreeMap::new();
    let mut ops = VecDeque::from(ops);
    // Nothing of the plan before these, so nothing is known of the links yet.
    remove_first_links(session, &mut ops, &mut applied)?;
    let mut node = Applier::new(session, port);
    for op in ops {
        match op.place.clone() {
            Place::Node => match (node.take(&op.action), &op.action) {
                (Ok(()), _) => applied.ops.push(op),
                (Err(source), LinkAction::ReplaceFirewall(_) | LinkAction::ReplaceDockerUserRules(_)) => {
                    applied.problems.push(LinkProblem::Firewall { source });
                }
                (Err(source), _) => return Err(source),
            },
            Place::NodeSide(attachment) => {
                if failed.contains(&attachment) {
                    continue;
                }
                match node.take(&op.action) {
                    Ok(()) => applied.ops.push(op),
                    Err(source) => {
                        failed.insert(attachment.clone());
                        applied
                            .problems
                            .push(LinkProblem::Attachment { attachment, source });
                    }
                }
            }
            Place::TaskSide(attachment) => inside.entry(attachment).or_default().push(op),
        }
    }
    // Both ends of every pair exist by now; each namespace is entered once.
    for (attachment, ops) in inside {
        if failed.contains(&attachment) {
            continue;
        }
        let (done, outcome) = apply_inside(netns_of.get(&attachment).copied().unwrap_or_default(), ops, port);
        applied.ops.extend(done);
        if let Err(source) = outcome {
            applied
                .problems
                .push(LinkProblem::Attachment { attachment, source });
        }
    }
    Ok(applied)
}

/// Takes the steps at the beginning that remove links, at once.
fn remove_first_links(
    session: &mut Session,
    ops: &mut VecDeque<LinkOp>,
    applied: &mut Applied,
) -> Result<(), NetlinkError> {
    let removed = |op: &LinkOp| match (&op.place, &op.action) {
        (Place::Node, LinkAction::DeleteLink { link }) => Some(link.clone()),
        _ => None,
    };
    let links: Vec<String> = ops.iter().map_while(removed).collect();
    let names: Vec<&str> = links.iter().map(String::as_str).collect();
    if let Some(error) = remove_links(session, &names).into_iter().next() {
        return Err(error);
    }
    applied.ops.extend(ops.drain(..links.len()));
    Ok(())
}

/// Takes steps inside a task's namespace, up to the first that fails.
fn apply_inside(netns: &str, ops: Vec<LinkOp>, vxlan_port: u16) -> (Vec<LinkOp>, Result<(), NetlinkError>) {
    let mut done = Vec::new();
    let outcome = NetnsRef::open(netns)
        .map_err(NetlinkError::from)
        .and_then(|namespace| {
            in_netns(&namespace, || {
                let mut session = Session::open()?;
                let mut task = Applier::new(&mut session, vxlan_port);
                for op in ops {
                    task.take(&op.action)?;
                    done.push(op);
                }
                Ok(())
            })?
        });
    (done, outcome)
}

/// Takes steps in the namespace of a session, which must be that of the calling thread.
struct Applier<'a> {
    session: &'a mut Session,
    indices: BTreeMap<String, u32>,
    vxlan_port: u16,
}

impl<'a> Applier<'a> {
    fn new(session: &'a mut Session, vxlan_port: u16) -> Self {
        Self {
            session,
            indices: BTreeMap::new(),
            vxlan_port,
        }
    }

    fn take(&mut self, action: &LinkAction) -> Result<(), NetlinkError> {
        tracing::debug!(%action, "link step");
        let refused = |error| explain(action, error);
        match action {
            LinkAction::CreateVxlan { link, port, mac, mtu } => {
                self.indices.remove(link);
                let message = message::vxlan(link, *port, *mac, *mtu);
                self.session
                    .set(Mode::Create, RouteNetlinkMessage::NewLink(message))
                    .map_err(|error| explain_vxlan(*port, action, error))
            }
            LinkAction::CreateVeth { link, mac, mtu, peer } => {
                self.indices.remove(link);
                self.indices.remove(&peer.link);
                let netns = peer.netns.as_deref().map(NetnsRef::open).transpose()?;
                let message = message::veth(link, *mac, *mtu, peer, netns.as_ref().map(AsFd::as_fd));
                self.session
                    .set(Mode::Create, RouteNetlinkMessage::NewLink(message))
                    .map_err(refused)
            }
            LinkAction::DeleteLink { link } => {
                self.indices.remove(link);
                let request = RouteNetlinkMessage::DelLink(message::named_link(link));
                absent_is_fine(self.session.set(Mode::Change, request), Errno::ENODEV).map_err(refused)
            }
            LinkAction::SetLink { link, settings } => self.set_link(link, settings, action),
            LinkAction::AddAddress { link, address } => {
                let request = RouteNetlinkMessage::NewAddress(message::address(self.index(link)?, address));
                self.session.set(Mode::Replace, request).map_err(refused)
            }
            LinkAction::RemoveAddress { link, address } => {
                let request = RouteNetlinkMessage::DelAddress(message::address(self.index(link)?, address));
                absent_is_fine(self.session.set(Mode::Change, request), Errno::EADDRNOTAVAIL).map_err(refused)
            }
            LinkAction::AddRoute(route) => {
                let request = RouteNetlinkMessage::NewRoute(message::route(self.index(&route.link)?, route));
                self.session.set(Mode::Create, request).map_err(refused)
            }
            LinkAction::RemoveRoute(route) => {
                let request = RouteNetlinkMessage::DelRoute(message::route(self.index(&route.link)?, route));
                absent_is_fine(self.session.set(Mode::Change, request), Errno::ESRCH).map_err(refused)
            }
            LinkAction::AddNeighbour { link, address, mac } => {
                let message = message::permanent_neighbour(self.index(link)?, *address, *mac);
                self.session
                    .set(Mode::Replace, RouteNetlinkMessage::NewNeighbour(message))
                    .map_err(refused)
            }
            LinkAction::RemoveNeighbour { link, address } => {
                let request =
                    RouteNetlinkMessage::DelNeighbour(message::neighbour(self.index(link)?, *address));
                absent_is_fine(self.session.set(Mode::Change, request), Errno::ENOENT).map_err(refused)
            }
            LinkAction::SetSysctl { sysctl, value } => sysctl.write(value),
            LinkAction::ReplaceFirewall(ruleset) => nft::run("replace table inet essaim", &ruleset.script()),
            LinkAction::ReplaceDockerUserRules(rules) => nft::run(
                &format!("replace essaim's rules in chain {}", rules.chain()),
                &rules.script(),
            ),
        }
    }

    fn set_link(
        &mut self,
        link: &str,
        settings: &LinkSettings,
        action: &LinkAction,
    ) -> Result<(), NetlinkError> {
        for message in message::link_changes(link, settings) {
            self.session
                .set(Mode::Change, RouteNetlinkMessage::SetLink(message))
                .map_err(|error| {
                    if link == VXLAN_LINK {
                        explain_vxlan(self.vxlan_port, action, error)
                    } else {
                        explain(action, error)
                    }
                })?;
        }
        Ok(())
    }

    fn index(&mut self, link: &str) -> Result<u32, NetlinkError> {
        if let Some(index) = self.indices.get(link) {
            return Ok(*index);
        }
        let request = RouteNetlinkMessage::GetLink(message::named_link(link));
        match self.session.query("look up a link", request)? {
            Some(RouteNetlinkMessage::NewLink(found)) => {
                self.indices.insert(link.to_owned(), found.header.index);
                Ok(found.header.index)
            }
            Some(_) | None => Err(NetlinkError::LinkVanished {
                link: link.to_owned(),
            }),
        }
    }
}

fn explain(action: &LinkAction, error: RequestError) -> NetlinkError {
    if error.errno() == Some(Errno::EPERM as i32) {
        return NetlinkError::CapabilityMissing {
            capability: "CAP_NET_ADMIN",
        };
    }
    error.about(action.to_string())
}

/// The kernel tells of a port that is taken when the device is made (by another VXLAN device) or turned on (by any
/// other socket), in these words.
fn explain_vxlan(port: u16, action: &LinkAction, error: RequestError) -> NetlinkError {
    const TAKEN: [Errno; 3] = [Errno::EEXIST, Errno::EADDRINUSE, Errno::EBUSY];
    if error
        .errno()
        .is_some_and(|errno| TAKEN.contains(&Errno::from_raw(errno)))
    {
        let holder = "another socket or VXLAN device of this machine (\"ss -ulpn\" may show it)".to_owned();
        return NetlinkError::VxlanPortInUse { port, holder };
    }
    explain(action, error)
}
