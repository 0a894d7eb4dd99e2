//! TCP connections that a client holds while something happens to the cluster.

use anyhow::{Context as _, ensure};
use essaim_lab::{Cluster, netns, patience};
use socket2::{Domain, SockRef, Socket, Type};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// How long a connection may take to be made or to answer: some retransmissions. Stretched by [`patience`].
const PATIENCE: Duration = Duration::from_secs(8);

/// Source ports of held connections: outside of the range that the kernel gives out, and above the tests' own.
const FIRST_PORT: u16 = 21_000;

/// How many.
const PORTS: u16 = 11_000;

/// A connection to a task's echo.
#[derive(Debug)]
pub struct Flow {
    /// The task that greeted.
    pub task: String,
    /// The client address that the task saw.
    pub seen: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Flow {
    /// Connects from the current network namespace and takes the greeting.
    ///
    /// # Errors
    /// When nothing answers in time.
    pub fn open(target: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&target, patience(PATIENCE)?)
            .with_context(|| format!("failed to connect to {target}"))?;
        Self::over(stream)
    }

    /// As [`Flow::open`], from a chosen port.
    ///
    /// # Errors
    /// As [`Flow::open`], and when the port is taken.
    pub fn open_from(port: u16, target: SocketAddr) -> anyhow::Result<Self> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
        let any: IpAddr = match target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        socket
            .bind(&SocketAddr::new(any, port).into())
            .with_context(|| format!("failed to bind TCP port {port}"))?;
        socket
            .connect_timeout(&target.into(), patience(PATIENCE)?)
            .with_context(|| format!("failed to connect to {target}"))?;
        Self::over(socket.into())
    }

    /// Takes the greeting on a connection that is made.
    ///
    /// # Errors
    /// When none comes in time.
    pub fn over(stream: TcpStream) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience(PATIENCE)?))?;
        let mut stream = BufReader::new(stream);
        let mut greeting = String::new();
        stream
            .read_line(&mut greeting)
            .context("no greeting from the echo")?;
        let (task, seen) = greeting
            .trim_end()
            .split_once(' ')
            .with_context(|| format!("the echo greeted with {greeting:?}"))?;
        Ok(Self {
            task: task.to_owned(),
            seen: seen.parse().with_context(|| format!("the echo saw {seen:?}"))?,
            stream,
        })
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Sends a line.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn send(&self, line: &str) -> std::io::Result<()> {
        self.socket().write_all(line.as_bytes())
    }

    /// Receives a line.
    ///
    /// # Errors
    /// When the connection is broken, or no line comes in time.
    pub fn receive(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(line)
    }

    /// Sends a line and takes it back.
    ///
    /// # Errors
    /// When the connection is broken, or the answer does not come in time.
    pub fn echo(&mut self) -> std::io::Result<()> {
        self.send("still here?\n")?;
        let back = self.receive()?;
        if back == "still here?\n" {
            Ok(())
        } else {
            Err(std::io::Error::new(
                ErrorKind::InvalidData,
                format!("came back {back:?}"),
            ))
        }
    }

    /// Ends it with a reset, which leaves no TIME-WAIT behind.
    ///
    /// # Errors
    /// When the kernel refuses the option.
    pub fn abort(self) -> anyhow::Result<()> {
        Ok(SockRef::from(self.socket()).set_linger(Some(Duration::ZERO))?)
    }
}

/// Many connections.
#[derive(Debug, Default)]
pub struct Held {
    /// They.
    pub flows: Vec<Flow>,
}

impl Held {
    /// Opens so many from a client.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn open(cluster: &Cluster, client: &str, target: SocketAddr, count: usize) -> anyhow::Result<Self> {
        netns::inside(&cluster.netns(client), || {
            let flows = (0..count).map(|number| {
                Flow::open_from(next_port(), target)
                    .with_context(|| format!("connection {number} of {count}"))
            });
            Ok(Self {
                flows: flows.collect::<anyhow::Result<_>>()?,
            })
        })
        .with_context(|| logs(cluster))
    }

    /// How many each task has.
    pub fn by_task(&self) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for flow in &self.flows {
            *count.entry(flow.task.clone()).or_default() += 1;
        }
        count
    }

    /// Uses every one once, all at a time, and lets those go that broke. What became of these is handed out.
    pub fn use_all(&mut self) -> Vec<String> {
        let sent: Vec<_> = self
            .flows
            .iter()
            .map(|flow| flow.send("all together\n"))
            .collect();
        let flows = std::mem::take(&mut self.flows);
        let mut broken = Vec::new();
        for (mut flow, sent) in flows.into_iter().zip(sent) {
            let result = sent.and_then(|()| flow.receive());
            match result {
                Ok(line) if line == "all together\n" => self.flows.push(flow),
                Ok(line) => broken.push(format!("{}: came back {line:?}", flow.task)),
                Err(error) => broken.push(format!("{} from {}: {error}", flow.task, flow.seen)),
            }
        }
        broken
    }

    /// Uses every one once and checks that none broke.
    ///
    /// # Errors
    /// When one did.
    pub fn all_live(&mut self) -> anyhow::Result<()> {
        let all = self.flows.len();
        let broken = self.use_all();
        ensure!(
            broken.is_empty(),
            "{} of {all} held connections broke: {}",
            broken.len(),
            broken.get(..5.min(broken.len())).unwrap_or_default().join("; ")
        );
        Ok(())
    }

    /// Takes out those of a task.
    #[must_use]
    pub fn split_off(&mut self, task: &str) -> Self {
        let (of_task, others) = std::mem::take(&mut self.flows)
            .into_iter()
            .partition(|flow| flow.task == task);
        self.flows = others;
        Self { flows: of_task }
    }
}

/// A source port that no other held connection has, whatever node it goes through: a task tells the flows of a client
/// apart by nothing else.
fn next_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    FIRST_PORT + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS
}

/// What the agents said last, and what was dropped.
fn logs(cluster: &Cluster) -> String {
    let drops = |node: &str| -> anyhow::Result<String> {
        let status = cluster.essaim(node, &["status", "--format", "json"])?.ok()?;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        Ok(status.get("drops").map_or_else(String::new, ToString::to_string))
    };
    let log = |node: &str| {
        format!(
            "log of {node}:\n{}\ndropped: {}\n",
            cluster.log_tail(node),
            drops(node).unwrap_or_default()
        )
    };
    cluster.nodes().map(log).collect()
}
