//! The client in a task: asks the resolver for the service's tasks again and again, and each one that is new for its
//! name. It runs as a process of its own where the task is.

use anyhow::{Context as _, bail, ensure};
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

/// Where tasks find their resolver.
const RESOLVER: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 11), 53);
/// Where the service's tasks listen.
const PORT: u16 = 80;
/// How long an answer may take; it is asked for again.
const PATIENCE: Duration = Duration::from_millis(200);
/// Between two questions.
const PACE: Duration = Duration::from_millis(5);

/// Prints the name of each task that has answered, until it is killed.
pub(crate) fn run(name: &str) -> anyhow::Result<()> {
    let mut known = BTreeSet::new();
    let mut out = std::io::stdout();
    loop {
        let addresses = resolve(name).unwrap_or_default();
        // One that is gone may come back with another task behind it.
        known.retain(|address| addresses.contains(address));
        for address in addresses {
            if !known.contains(&address)
                && let Ok(answer) = ask(address)
            {
                known.insert(address);
                writeln!(out, "{answer}")?;
                out.flush()?;
            }
        }
        thread::park_timeout(PACE);
    }
}

fn ask(address: Ipv4Addr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, PORT)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let answer = answer.trim();
    ensure!(!answer.is_empty(), "it says nothing");
    Ok(answer.to_owned())
}

fn resolve(name: &str) -> anyhow::Result<Vec<Ipv4Addr>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(RESOLVER)?;
    socket.send(&question(name)?)?;
    let mut answer = [0; 4096];
    let length = socket.recv(&mut answer)?;
    addresses(answer.get(..length).unwrap_or_default())
}

/// RFC 1035: one question for the name's addresses of type A.
fn question(name: &str) -> anyhow::Result<Vec<u8>> {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).context("a label is too long")?);
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    Ok(question)
}

/// Leaves out the name at the front.
fn after_name(mut rest: &[u8]) -> anyhow::Result<&[u8]> {
    loop {
        match rest {
            [0, after @ ..] => return Ok(after),
            // A pointer ends a name.
            [first, _, after @ ..] if *first >= 0xc0 => return Ok(after),
            [length, after @ ..] => rest = after.get(usize::from(*length)..).context("a name is cut")?,
            [] => bail!("a name is missing"),
        }
    }
}

fn addresses(answer: &[u8]) -> anyhow::Result<Vec<Ipv4Addr>> {
    let header = answer.get(..12).context("the answer has no header")?;
    let count = u16::from_be_bytes([header[6], header[7]]);
    let mut rest = after_name(answer.get(12..).unwrap_or_default())?
        .get(4..)
        .context("the question is cut")?;
    let mut addresses = Vec::new();
    for _ in 0..count {
        rest = after_name(rest)?;
        let fixed = rest.get(..10).context("a record is cut")?;
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let data = rest.get(10..10 + length).context("a record is cut")?;
        if let ([0, 1, 0, 1, ..], [a, b, c, d]) = (fixed, data) {
            addresses.push(Ipv4Addr::new(*a, *b, *c, *d));
        }
        rest = &rest[10 + length..];
    }
    Ok(addresses)
}
