//! The TCP and UDP echo.

use super::args::EchoArgs;
use super::{listen, told_to_end};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Largest datagram.
const MAX_DATAGRAM: usize = 65_535;

/// Serves until told to end.
pub(crate) async fn run(args: EchoArgs) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.udp.is_some() || args.tcp.is_some(),
        "nothing to serve: give --udp or --tcp-echo"
    );
    start(&args, &server_name(args.name.as_deref())).await?;
    told_to_end().await
}

/// Starts what the arguments ask for, in the background.
pub(crate) async fn start(args: &EchoArgs, name: &str) -> anyhow::Result<()> {
    let name: Arc<str> = name.into();
    if let Some(port) = args.udp {
        tokio::spawn(datagrams(listen::udp(port).await?, Arc::clone(&name)));
    }
    if let Some(port) = args.tcp {
        tokio::spawn(connections(listen::tcp(port)?, name));
    }
    Ok(())
}

/// The name to answer with.
pub(crate) fn server_name(given: Option<&str>) -> String {
    given.map_or_else(hostname, str::to_owned)
}

/// The host's name.
pub(crate) fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

async fn datagrams(socket: UdpSocket, name: Arc<str>) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        // An error here is an ICMP answer to an earlier reply: of no concern to the next client.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let mut answer = format!("{name} {} ", listen::canonical(peer)).into_bytes();
        answer.extend_from_slice(buffer.get(..length).unwrap_or_default());
        answer.truncate(MAX_DATAGRAM - 28);
        if let Err(error) = socket.send_to(&answer, peer).await {
            eprintln!("failed to answer {peer}: {error}");
        }
    }
}

async fn connections(listener: TcpListener, name: Arc<str>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let greeting = format!("{name} {}\n", listen::canonical(peer));
                tokio::spawn(async move {
                    if let Err(error) = send_back(stream, &greeting).await {
                        eprintln!("connection of {peer} broke: {error}");
                    }
                });
            }
            Err(error) => {
                eprintln!("failed to accept a connection: {error}");
                // Out of file descriptors: let some connections end first.
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn send_back(mut stream: TcpStream, greeting: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(greeting.as_bytes()).await?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(buffer.get(..length).unwrap_or_default()).await?;
    }
}
