//! Removes all that essaim made in a namespace.

use crate::firewall::{DockerUserRules, REMOVE_TABLE};
use crate::observe::netns;
use crate::observed::ObservedNetns;
use crate::plan::is_made_by;
use crate::removal::{self, absent_is_fine};
use crate::session::{Mode, Session};
use crate::{NetlinkError, message, nft, xfrm};
use essaim_model::NodeName;
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use std::thread;

const WORKER: &str = "essaim-clean";

/// Removes what is there in the calling thread's namespace, collects what fails, and goes on.
pub(crate) fn clean(node: &NodeName) -> Result<(), Vec<NetlinkError>> {
    // On a thread of its own, which is in the same namespace, so that it may be called from asynchronous code.
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name(WORKER.to_owned())
            .spawn_scoped(scope, || remove_all(node));
        let worker = worker.map_err(|source| vec![NetlinkError::Socket { source }])?;
        worker
            .join()
            .unwrap_or_else(|_| Err(vec![NetlinkError::ThreadGone { name: WORKER }]))
    })
}

fn remove_all(node: &NodeName) -> Result<(), Vec<NetlinkError>> {
    let mut errors = Vec::new();
    match Session::open().and_then(|mut session| {
        let found = netns(&mut session)?;
        Ok((session, found))
    }) {
        Ok((mut session, found)) => {
            remove_own_links(&mut session, node, &found, &mut errors);
            remove_routes(&mut session, &found, &mut errors);
        }
        Err(error) => errors.push(error),
    }
    errors.extend(xfrm::clean().err().into_iter().flatten());
    remove_rules(&mut errors);
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn remove_own_links(
    session: &mut Session,
    node: &NodeName,
    found: &ObservedNetns,
    errors: &mut Vec<NetlinkError>,
) {
    let own = found.links.iter().filter(|(_, link)| is_made_by(node, link));
    let names: Vec<&str> = own.map(|(name, _)| name.as_str()).collect();
    errors.extend(removal::remove_links(session, &names));
}

/// Those that did not go with their links: there should be none.
fn remove_routes(session: &mut Session, found: &ObservedNetns, errors: &mut Vec<NetlinkError>) {
    for route in &found.routes {
        if let Some(link) = found.links.get(&route.link) {
            let request = RouteNetlinkMessage::DelRoute(message::route(link.index, route));
            let outcome = absent_is_fine(session.set(Mode::Change, request), Errno::ESRCH);
            errors.extend(
                outcome
                    .err()
                    .map(|error| error.about(format!("remove route {route}"))),
            );
        }
    }
}

fn remove_rules(errors: &mut Vec<NetlinkError>) {
    let observed = match nft::observe() {
        Ok(observed) => observed,
        Err(error) => return errors.push(error),
    };
    let mut run = |what: &str, script: &str| errors.extend(nft::run(what, script).err());
    run("remove table inet essaim", REMOVE_TABLE);
    for (family, found) in &observed.docker_user {
        if let Some(removal) = DockerUserRules::removal(*family, found) {
            run(
                &format!("remove essaim's rules from chain {}", removal.chain()),
                &removal.script(),
            );
        }
    }
}
