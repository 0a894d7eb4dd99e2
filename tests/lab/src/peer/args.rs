//! The command line of `essaim-peer`.

use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::time::Duration;

/// Server and clients for trying out a network.
#[derive(Debug, Parser)]
#[command(name = "essaim-peer", version)]
pub struct PeerArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `essaim-peer` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve HTTP: answer with name, addresses, the peer seen and the request's headers
    #[command(after_help = "Paths: / (text), /json, /bytes/N (a body of N bytes)")]
    Whoami(WhoamiArgs),
    /// Serve only the TCP and UDP echo
    Echo(EchoArgs),
    /// Send HTTP requests and count what fails
    #[command(
        after_help = "Example: essaim-peer load --target http://172.30.0.11:8080 --connections 4 --seconds 5"
    )]
    Load(LoadArgs),
    /// Hold TCP echo connections open and tell which break
    Hold(HoldArgs),
    /// Send datagrams to a UDP echo and count who answers
    UdpProbe(ProbeArgs),
}

/// The echoes beside, or without, the HTTP server.
#[derive(Clone, Debug, Args)]
pub struct EchoArgs {
    /// Name to answer with [default: the host's name]
    #[arg(long)]
    pub name: Option<String>,
    /// Answer each datagram on this port with "NAME PEER PAYLOAD"
    #[arg(long = "udp", value_name = "PORT")]
    pub udp: Option<u16>,
    /// On this port, greet each connection with the line "NAME PEER", then send back every byte
    #[arg(long = "tcp-echo", value_name = "PORT")]
    pub tcp: Option<u16>,
}

/// The HTTP server.
#[derive(Clone, Debug, Args)]
pub struct WhoamiArgs {
    /// Port of the HTTP server, on all addresses of both families
    #[arg(long, default_value_t = 80)]
    pub port: u16,
    /// The echoes.
    #[command(flatten)]
    pub echo: EchoArgs,
}

/// The load generator.
#[derive(Clone, Debug, Args)]
pub struct LoadArgs {
    /// Where to: http://ADDRESS:PORT[/PATH]
    #[arg(long)]
    pub target: Target,
    /// How many connections at a time
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// How long, in seconds; SIGTERM ends it before that, with a report
    #[arg(long, value_parser = seconds, default_value = "10")]
    pub seconds: Duration,
    /// Stop after so many requests, all connections together
    #[arg(long)]
    pub requests: Option<u64>,
    /// Use a connection again, instead of a new one for each request
    #[arg(long)]
    pub keepalive: bool,
    /// Pause between the requests of one connection, in milliseconds
    #[arg(long, value_parser = milliseconds, default_value = "0")]
    pub interval_ms: Duration,
    /// Give up on a request after so many milliseconds
    #[arg(long, value_parser = milliseconds, default_value = "3000")]
    pub timeout_ms: Duration,
}

/// The holder of connections.
#[derive(Clone, Debug, Args)]
pub struct HoldArgs {
    /// The TCP echo
    #[arg(long)]
    pub target: SocketAddr,
    /// How many connections
    #[arg(long, default_value_t = 1)]
    pub flows: usize,
    /// How long, in seconds; SIGTERM ends it before that, with a report
    #[arg(long, value_parser = seconds, default_value = "10")]
    pub seconds: Duration,
    /// Pause between the messages of one connection, in milliseconds
    #[arg(long, value_parser = milliseconds, default_value = "100")]
    pub interval_ms: Duration,
    /// A connection is broken when an answer takes longer, in milliseconds
    #[arg(long, value_parser = milliseconds, default_value = "5000")]
    pub timeout_ms: Duration,
}

/// The sender of datagrams.
#[derive(Clone, Debug, Args)]
pub struct ProbeArgs {
    /// The UDP echo
    #[arg(long)]
    pub target: SocketAddr,
    /// How many datagrams
    #[arg(long, default_value_t = 10)]
    pub count: u32,
    /// Pause between datagrams, in milliseconds
    #[arg(long, value_parser = milliseconds, default_value = "0")]
    pub interval_ms: Duration,
    /// A datagram is lost when its answer takes longer, in milliseconds
    #[arg(long, value_parser = milliseconds, default_value = "1000")]
    pub timeout_ms: Duration,
    /// Send each datagram from a new port
    #[arg(long)]
    pub fresh: bool,
    /// Leave the socket unconnected
    #[arg(long)]
    pub unconnected: bool,
    /// Payload size in bytes
    #[arg(long, default_value_t = 16)]
    pub size: usize,
}

/// An HTTP address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Address and port.
    pub address: SocketAddr,
    /// Path, with its slash.
    pub path: String,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected =
            || format!("{text:?} is not http://ADDRESS:PORT[/PATH] (an IPv6 ADDRESS in brackets, no names)");
        let rest = text.strip_prefix("http://").ok_or_else(expected)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let address = authority
            .parse()
            .or_else(|_| format!("{authority}:80").parse())
            .map_err(|_: std::net::AddrParseError| expected())?;
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self {
            address,
            path: path.to_owned(),
        })
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .map(Duration::from_millis)
        .map_err(|_| format!("{text:?} is not a number of milliseconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_both_families_are_read() {
        let target: Target = "http://[fd00:30::11]:8080/bytes/7".parse().unwrap();
        assert_eq!(target.address, "[fd00:30::11]:8080".parse().unwrap());
        assert_eq!(target.path, "/bytes/7");
        let target: Target = "http://172.30.0.11".parse().unwrap();
        assert_eq!(
            (target.address, target.path.as_str()),
            ("172.30.0.11:80".parse().unwrap(), "/")
        );
    }

    #[test]
    fn what_is_no_target_is_refused_with_its_text() {
        for text in [
            "172.30.0.11:80",
            "http://web:80",
            "https://172.30.0.11/",
            "http://fd00::1/",
        ] {
            assert!(text.parse::<Target>().unwrap_err().contains(text), "{text}");
        }
    }

    #[test]
    fn command_line_of_a_task_is_read() {
        let args =
            PeerArgs::try_parse_from(["essaim-peer", "whoami", "--name", "web.1", "--udp", "53"]).unwrap();
        let Command::Whoami(whoami) = args.command else {
            panic!("not whoami")
        };
        assert_eq!(
            (whoami.port, whoami.echo.udp, whoami.echo.tcp),
            (80, Some(53), None)
        );
        assert_eq!(whoami.echo.name.as_deref(), Some("web.1"));
    }

    #[test]
    fn command_line_is_consistent() {
        use clap::CommandFactory as _;
        PeerArgs::command().debug_assert();
    }

    #[test]
    fn durations_are_read_in_their_units() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(milliseconds("20"), Ok(Duration::from_millis(20)));
        assert!(seconds("-1").is_err() && seconds("x").is_err() && milliseconds("0.5").is_err());
    }
}
