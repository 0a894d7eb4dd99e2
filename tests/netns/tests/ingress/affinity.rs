//! Clients that keep their task.

use anyhow::ensure;
use essaim_lab::{ClusterBuilder, Family, ip, netns};
use essaim_model::Affinity;
use essaim_netns_tests::held::Flow;
use essaim_netns_tests::site::{CLIENT, ECHO, Site, WEB};
use socket2::{Domain, Socket, Type};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Client addresses.
const CLIENTS: u8 = 16;

#[test]
fn a_client_address_keeps_its_task_through_every_node() -> anyhow::Result<()> {
    let site = Site::start(ClusterBuilder::new().nodes(2), |catalog| {
        catalog.network("app")?;
        let service = catalog.service(WEB, &["app"])?;
        service.ports.push(ECHO);
        service.affinity = Affinity::Client;
        for node in ["n1", "n2", "n1", "n2"] {
            catalog.task(WEB, node)?;
        }
        Ok(())
    })?;
    let addresses = |family: Family| {
        (1..=CLIENTS).map(move |number| -> IpAddr {
            match family {
                Family::V4 => [172, 30, 0, 220 + number].into(),
                Family::V6 => [0xfd00, 0x30, 0, 0, 0, 0, 7, u16::from(number)].into(),
            }
        })
    };
    let lines: Vec<_> = addresses(Family::V4)
        .map(|address| format!("addr add {address}/24 dev eth0"))
        .chain(addresses(Family::V6).map(|address| format!("addr add {address}/64 dev eth0 nodad")))
        .collect();
    ip::batch(&site.cluster.netns(CLIENT), &lines)?;
    for family in Family::BOTH {
        let mut all = BTreeSet::new();
        for client in addresses(family) {
            let mut tasks = BTreeSet::new();
            for node in ["n1", "n2", "n1", "n2", "n1", "n2"] {
                tasks.insert(task_of(&site, client, site.at(node, ECHO.published, family)?)?);
            }
            ensure!(tasks.len() == 1, "{client} got {tasks:?}");
            all.extend(tasks);
        }
        ensure!(all.len() >= 3, "all clients together got only {all:?}");
    }
    Ok(())
}

/// Connects from an address and says which task answered.
fn task_of(site: &Site, client: IpAddr, target: SocketAddr) -> anyhow::Result<String> {
    netns::inside(&site.cluster.netns(CLIENT), || {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(client, 0).into())?;
        socket.connect(&target.into())?;
        let flow = Flow::over(socket.into())?;
        ensure!(flow.seen.ip() == client, "{} saw {}", flow.task, flow.seen);
        Ok(flow.task)
    })
}
