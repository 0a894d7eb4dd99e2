//! The cluster itself: `/swarm`.

use crate::change::{checked, replica, view};
use crate::reply::{Answer, empty, found};
use crate::request::Request;
use crate::{Engine, EngineError, LocalState, Rotate, shape};
use essaim_objects::{
    Availability, ClusterSpec, InitRequest, JoinRequest, Sensitive, check_address_pools, check_data_path_port,
};
use essaim_raft::Reachability;
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::net::{IpAddr, SocketAddr};

/// `GET /swarm`.
pub(crate) async fn inspect(engine: &impl Engine) -> Answer {
    let view = view(engine).await?;
    let cluster = view
        .cluster()
        .ok_or_else(|| EngineError::no_manager(&engine.local()))?;
    found(&shape::cluster(cluster, true)?)
}

/// `POST /swarm/init`.
pub(crate) async fn init(engine: &impl Engine, request: &Request) -> Answer {
    let mut init: InitRequest = request.json()?;
    let forces = init.force_new_cluster == Some(true);
    not_in_swarm_yet(engine, forces)?;
    addresses(&[
        ("ListenAddr", &init.listen_addr),
        ("AdvertiseAddr", &init.advertise_addr),
    ])?;
    data_path(init.data_path_addr.as_deref())?;
    availability(init.availability.as_deref())?;
    checked(check_data_path_port(init.data_path_port.unwrap_or_default()))?;
    checked(check_address_pools(
        init.default_addr_pool.as_deref().unwrap_or_default(),
        init.subnet_size,
    ))?;
    let spec = init.spec.get_or_insert_default();
    if init.auto_lock_managers == Some(true) {
        spec.encryption_config.get_or_insert_default().auto_lock_managers = Some(true);
    }
    checked(spec.check())?;
    found(&engine.init(init).await?)
}

/// `POST /swarm/join`.
pub(crate) async fn join(engine: &impl Engine, request: &Request) -> Answer {
    let join: JoinRequest = request.json()?;
    not_in_swarm_yet(engine, false)?;
    addresses(&[
        ("ListenAddr", &join.listen_addr),
        ("AdvertiseAddr", &join.advertise_addr),
    ])?;
    data_path(join.data_path_addr.as_deref())?;
    availability(join.availability.as_deref())?;
    let remotes = join.remote_addrs.as_deref().unwrap_or_default();
    if remotes.iter().all(String::is_empty) {
        return Err(EngineError::invalid("at least 1 RemoteAddr is required to join"));
    }
    if join.join_token.as_ref().is_none_or(|token| token.0.is_empty()) {
        return Err(EngineError::wrong_token());
    }
    engine.join(join).await?;
    Ok(empty(StatusCode::OK))
}

fn not_in_swarm_yet(engine: &impl Engine, forces: bool) -> Result<(), EngineError> {
    match engine.local().state {
        LocalState::Inactive => Ok(()),
        LocalState::Pending | LocalState::Active | LocalState::Error if forces => Ok(()),
        LocalState::Locked => Err(EngineError::locked()),
        LocalState::Pending | LocalState::Active | LocalState::Error => Err(EngineError::already_in_swarm()),
    }
}

/// `POST /swarm/leave`.
pub(crate) async fn leave(engine: &impl Engine, request: &Request) -> Answer {
    let force = request.query.flag("force");
    match engine.local().state {
        LocalState::Inactive => return Err(EngineError::not_in_swarm()),
        LocalState::Locked if !force => {
            return Err(EngineError::unavailable(
                "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.",
            ));
        }
        LocalState::Pending | LocalState::Active | LocalState::Error | LocalState::Locked => {}
    }
    if !force && let Some(replica) = engine.replica() {
        let status = replica.raft().status();
        let voters: Vec<_> = status.members.values().filter(|member| member.voter).collect();
        let unreachable = voters
            .iter()
            .filter(|member| member.reachability == Reachability::Unreachable)
            .count();
        return Err(leaving_manager(voters.len() - unreachable, unreachable));
    }
    engine.leave(force).await?;
    Ok(empty(StatusCode::OK))
}

/// Why a manager does not leave unless it is forced to.
fn leaving_manager(reachable: usize, unreachable: usize) -> EngineError {
    let managers = reachable + unreachable;
    let why = "You are attempting to leave the swarm on a node that is participating as a manager. ";
    if managers <= 1 {
        return EngineError::unavailable(format_args!(
            "{why}Removing the last manager erases all current state of the swarm. Use `--force` to ignore this \
             message. "
        ));
    }
    let left = reachable.saturating_sub(1);
    // The one that leaves still counts until it is demoted.
    let quorum = if left < managers / 2 + 1 {
        format!(
            "Removing this node leaves {left} managers out of {managers}. Without a Raft quorum your swarm will be \
             inaccessible. "
        )
    } else {
        String::new()
    };
    EngineError::unavailable(format_args!(
        "{why}{quorum}The only way to restore a swarm that has lost consensus is to reinitialize it with \
         `--force-new-cluster`. Use `--force` to suppress this message."
    ))
}

/// `POST /swarm/update`.
pub(crate) async fn update(engine: &impl Engine, request: &Request) -> Answer {
    let version = request.query.version("swarm")?;
    let spec: ClusterSpec = request.json()?;
    replica(engine)?;
    checked(spec.check())?;
    let rotate = Rotate {
        worker_token: request.query.flag("rotateWorkerToken"),
        manager_token: request.query.flag("rotateManagerToken"),
        unlock_key: request.query.flag("rotateManagerUnlockKey"),
    };
    engine.update_swarm(version, spec, rotate).await?;
    Ok(empty(StatusCode::OK))
}

/// `GET /swarm/unlockkey`.
pub(crate) async fn unlock_key(engine: &impl Engine) -> Answer {
    replica(engine)?;
    let key = engine.unlock_key().await?;
    found(&json!({ "UnlockKey": key }))
}

/// `POST /swarm/unlock`.
pub(crate) async fn unlock(engine: &impl Engine, request: &Request) -> Answer {
    let body: Map<String, Value> = request.json()?;
    let key = body
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("UnlockKey"));
    let Some(key) = key.and_then(|(_, key)| key.as_str()) else {
        return Err(EngineError::invalid(
            "UnlockKey is absent, expected the key as a string",
        ));
    };
    let local = engine.local();
    match local.state {
        LocalState::Locked => {}
        LocalState::Inactive => return Err(EngineError::no_manager(&local)),
        LocalState::Pending | LocalState::Active | LocalState::Error => return Err(EngineError::not_locked()),
    }
    engine.unlock(Sensitive(key.to_owned())).await?;
    Ok(empty(StatusCode::OK))
}

/// The words for availability, where one is given.
fn availability(text: Option<&str>) -> Result<(), EngineError> {
    match text.unwrap_or_default() {
        "" => Ok(()),
        text => text
            .parse::<Availability>()
            .map(drop)
            .map_err(|_| EngineError::invalid(format_args!("invalid Availability: {text:?}"))),
    }
}

/// An address or the name of an interface, perhaps with a port.
fn addresses(given: &[(&str, &Option<String>)]) -> Result<(), EngineError> {
    for (name, text) in given {
        let text = text.as_deref().unwrap_or_default();
        if text.is_empty() || text.parse::<SocketAddr>().is_ok() || text.parse::<IpAddr>().is_ok() {
            continue;
        }
        let (host, port) = text.rsplit_once(':').unwrap_or((text, "2377"));
        if !is_interface(host) || port.parse::<u16>().is_err() {
            return Err(EngineError::invalid(format_args!(
                "invalid {name} {text:?}: must be an IP address or network interface (with optional port number)"
            )));
        }
    }
    Ok(())
}

/// Whether a text could name an interface, as Linux allows it.
fn is_interface(text: &str) -> bool {
    !text.is_empty()
        && text.len() < 16
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

fn data_path(text: Option<&str>) -> Result<(), EngineError> {
    let text = text.unwrap_or_default();
    let is_fine = match text.parse::<IpAddr>() {
        Ok(address) => !address.is_unspecified(),
        Err(_) => text.is_empty() || is_interface(text),
    };
    if is_fine {
        return Ok(());
    }
    Err(EngineError::invalid(
        "data path address must be a non-zero IP address or network interface (without a port number)",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_told_what_its_leaving_would_do() {
        let last = leaving_manager(1, 0).message;
        assert!(last.ends_with("Use `--force` to ignore this message. "), "{last}");
        let quorum = leaving_manager(2, 0).message;
        assert!(
            quorum.contains("Removing this node leaves 1 managers out of 2."),
            "{quorum}"
        );
        let quorum = leaving_manager(2, 1).message;
        assert!(
            quorum.contains("Removing this node leaves 1 managers out of 3."),
            "{quorum}"
        );
        let fine = leaving_manager(3, 0).message;
        assert!(
            !fine.contains("leaves") && fine.contains("participating as a manager"),
            "{fine}"
        );
    }

    #[test]
    fn addresses_are_addresses_or_interfaces() {
        for fine in [
            "",
            "10.0.0.1",
            "10.0.0.1:2377",
            "eth0",
            "eth0:2377",
            "[fd00::1]:2377",
            "fd00::1",
            "0.0.0.0:2377",
        ] {
            assert_eq!(
                addresses(&[("ListenAddr", &Some(fine.to_owned()))]),
                Ok(()),
                "{fine}"
            );
        }
        for bad in [
            "10.0.0.1:x",
            "eth0:99999",
            "a b",
            "an-interface-too-long",
            ":1",
            "10.0.0.1:2377:1",
        ] {
            let error = addresses(&[("ListenAddr", &Some(bad.to_owned()))]).unwrap_err();
            assert!(error.message.starts_with("invalid ListenAddr"), "{bad}: {error}");
        }
        for bad in ["0.0.0.0", "::", "10.0.0.1:4789", "eth0:1"] {
            assert!(data_path(Some(bad)).is_err(), "{bad}");
        }
        for fine in ["", "10.0.0.1", "eth0", "fd00::1"] {
            assert_eq!(data_path(Some(fine)), Ok(()), "{fine}");
        }
    }
}
