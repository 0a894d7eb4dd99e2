//! TCP connections that a client holds while something happens to the cluster.

use anyhow::{Context as _, ensure};
use essaim_lab::{Cluster, netns};
use socket2::SockRef;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a connection may take to be made or to answer: some retransmissions.
const PATIENCE: Duration = Duration::from_secs(8);

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
        let stream = TcpStream::connect_timeout(&target, PATIENCE)
            .with_context(|| format!("failed to connect to {target}"))?;
        Self::over(stream)
    }

    /// Takes the greeting on a connection that is made.
    ///
    /// # Errors
    /// When none comes in time.
    pub fn over(stream: TcpStream) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
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
            seen: seen
                .parse()
                .with_context(|| format!("the echo saw {seen:?}"))?,
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
            Err(std::io::Error::new(ErrorKind::InvalidData, format!("came back {back:?}")))
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
            let flows = (0..count)
                .map(|number| Flow::open(target).with_context(|| format!("connection {number} of {count}")));
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
        let sent: Vec<_> = self.flows.iter().map(|flow| flow.send("all together\n")).collect();
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
    pub fn split_off(&mut self, task: &str) -> Self {
        let (of_task, others) = std::mem::take(&mut self.flows)
            .into_iter()
            .partition(|flow| flow.task == task);
        self.flows = others;
        Self { flows: of_task }
    }
}

/// What the agents said last.
fn logs(cluster: &Cluster) -> String {
    let log = |node: &str| format!("log of {node}:\n{}\n", cluster.log_tail(node));
    cluster.nodes().map(log).collect()
}
