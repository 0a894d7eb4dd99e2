use super::port::{HeldPort, protocol_name};
use super::protocol::PortOwner;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Finds the processes that have these ports bound, as far as `/proc` tells.
///
/// One pass over all processes serves all ports. What cannot be read (a process that ends meanwhile, another PID
/// namespace) is left out.
pub(crate) fn owners(ports: &BTreeSet<HeldPort>) -> BTreeMap<HeldPort, PortOwner> {
    let mut port_by_inode = BTreeMap::new();
    for port in ports {
        for family in ["", "6"] {
            let table = fs::read_to_string(format!("/proc/net/{}{family}", protocol_name(port.protocol)));
            for inode in bound_inodes(&table.unwrap_or_default(), port.port) {
                port_by_inode.insert(inode, *port);
            }
        }
    }
    let mut found = BTreeMap::new();
    if port_by_inode.is_empty() {
        return found;
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        for inode in socket_inodes(&process.path()) {
            if let Some(port) = port_by_inode.get(&inode) {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                found.entry(*port).or_insert_with(|| PortOwner {
                    pid,
                    name: name.trim().to_owned(),
                });
            }
        }
    }
    found
}

/// The inodes of the sockets that have `port` as their local port, in a table such as `/proc/net/tcp`.
fn bound_inodes(table: &str, port: u16) -> Vec<u64> {
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            fields
                .get(1)?
                .ends_with(&suffix)
                .then(|| fields.get(9)?.parse().ok())?
        })
        .filter(|inode| *inode != 0)
        .collect()
}

fn socket_inodes(process: &Path) -> Vec<u64> {
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    descriptors
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?
                .parse()
                .ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_abi::Protocol;

    #[test]
    fn the_table_of_sockets_is_read_by_local_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n   1: 0100007F:0016 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1\n   2: short\n";
        assert_eq!(bound_inodes(table, 8080), [4711]);
        assert_eq!(bound_inodes(table, 22), [4712]);
        assert!(bound_inodes(table, 23).is_empty());
    }

    #[test]
    fn this_process_is_found_by_its_listener() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = HeldPort {
            protocol: Protocol::Tcp,
            port: listener.local_addr().unwrap().port(),
        };
        let found = owners(&BTreeSet::from([port]));
        assert_eq!(found.get(&port).map(|owner| owner.pid), Some(std::process::id()));
    }
}
