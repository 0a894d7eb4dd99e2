//! Serves the names of a catalog file at an address, as one of its tasks sees them: something to point `dig` and
//! `dnsperf` at.
//!
//! ```sh
//! cargo run --release -p essaim-dns --example serve -- --listen 127.0.0.1:5353 docs/catalog-example.toml
//! dig @127.0.0.1 -p 5353 tasks.web
//! ```

use anyhow::{Context, bail};
use clap::Parser;
use essaim_dns::{AskerId, AskerInfo, DnsServer, Zone};
use essaim_model::{Catalog, Liveness, TaskId};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;

/// Serves the names of a catalog file.
#[derive(Debug, Parser)]
struct Arguments {
    /// The UDP and TCP address to serve at.
    #[arg(long, default_value = "127.0.0.1:5353")]
    listen: SocketAddr,
    /// The task to answer as; else the first that the file has.
    #[arg(long)]
    task: Option<TaskId>,
    /// An upstream server for all other names; may be repeated.
    #[arg(long = "upstream")]
    upstreams: Vec<SocketAddr>,
    /// The catalog file.
    catalog: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let text = std::fs::read_to_string(&arguments.catalog)
        .with_context(|| format!("failed to read {}", arguments.catalog.display()))?;
    let catalog = Catalog::parse(&text).context("the catalog has errors")?;
    let mut tasks = catalog
        .services
        .iter()
        .flat_map(|service| service.tasks.iter().map(move |task| (service, task)));
    let wanted = arguments.task.as_ref();
    let Some((service, task)) = tasks.find(|(_, task)| wanted.is_none_or(|wanted| task.id == *wanted)) else {
        bail!("the catalog has no such task");
    };
    let server = DnsServer::start()?;
    server.set_zone(Arc::new(Zone::new(&catalog, &Liveness::of(&catalog))));
    server.set_upstreams(arguments.upstreams);
    let udp = UdpSocket::bind(arguments.listen).context("failed to open the UDP socket")?;
    let tcp = TcpListener::bind(arguments.listen).context("failed to open the TCP socket")?;
    server.add_asker(AskerId(0), AskerInfo::of(&catalog, service, task), udp, tcp)?;
    loop {
        std::thread::park();
    }
}
