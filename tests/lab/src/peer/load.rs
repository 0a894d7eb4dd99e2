//! HTTP requests, as many as asked for, each counted.

use super::args::LoadArgs;
use super::http::Response;
use super::report::{Recorder, one_line};
use super::told_to_end;
use super::whoami::NAME_HEADER;
use anyhow::{Context as _, bail};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// Sends until the time or the number is used up, then prints the report.
pub(crate) async fn run(args: LoadArgs) -> anyhow::Result<()> {
    let recorder = Rc::new(RefCell::new(Recorder::new(Instant::now())));
    let worker = Rc::new(Worker {
        left: Cell::new(args.requests.unwrap_or(u64::MAX)),
        stop: Cell::new(false),
        recorder: Rc::clone(&recorder),
        args,
    });
    let workers = LocalSet::new();
    for _ in 0..worker.args.connections {
        let worker = Rc::clone(&worker);
        workers.spawn_local(async move { worker.run().await });
    }
    let seconds = worker.args.seconds;
    let told = async {
        tokio::select! {
            result = told_to_end() => result,
            () = tokio::time::sleep(seconds) => Ok(()),
        }
    };
    let told = async {
        let result = told.await;
        worker.stop.set(true);
        result
    };
    // The workers see the flag after the request they are in, whose time is limited.
    tokio::pin!(workers);
    tokio::pin!(told);
    tokio::select! {
        () = &mut workers => {}
        result = &mut told => {
            result?;
            workers.await;
        }
    }
    let report = recorder
        .replace(Recorder::new(Instant::now()))
        .finish(Instant::now());
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

struct Worker {
    args: LoadArgs,
    left: Cell<u64>,
    stop: Cell<bool>,
    recorder: Rc<RefCell<Recorder>>,
}

/// How a request ended.
enum Answer {
    Complete {
        name: Option<String>,
        keep_alive: bool,
    },
    /// Closed in good order before a byte of the answer: on a used connection, the server's right (RFC 9112, 9.5).
    Closed,
}

impl Worker {
    async fn run(&self) {
        let mut connection: Option<TcpStream> = None;
        while !self.stop.get() && self.take() {
            let begun = Instant::now();
            let result = match tokio::time::timeout(self.args.timeout_ms, self.request(&mut connection)).await
            {
                Ok(result) => result,
                Err(_) => Err(anyhow::anyhow!("no answer within {:?}", self.args.timeout_ms)),
            };
            let now = Instant::now();
            match result {
                Ok(name) => self
                    .recorder
                    .borrow_mut()
                    .answered(name.as_deref(), now - begun, now),
                Err(error) => {
                    connection = None;
                    self.recorder.borrow_mut().failed(one_line(&error), now);
                    // A refused connect takes no time: give the others, and the machine, a turn.
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            }
            if !self.args.interval_ms.is_zero() {
                tokio::time::sleep(self.args.interval_ms).await;
            }
        }
    }

    fn take(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }

    /// One request; the connection is left for the next one where both sides keep it.
    async fn request(&self, connection: &mut Option<TcpStream>) -> anyhow::Result<Option<String>> {
        loop {
            let used = connection.take();
            let reused = used.is_some();
            let mut stream = match used {
                Some(stream) => stream,
                None => self.connect().await?,
            };
            match self.exchange(&mut stream).await? {
                Answer::Complete { name, keep_alive } => {
                    *connection = keep_alive.then_some(stream);
                    return Ok(name);
                }
                Answer::Closed if reused => self.recorder.borrow_mut().reconnected(),
                Answer::Closed => bail!("closed without an answer"),
            }
        }
    }

    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(self.args.target.address)
            .await
            .with_context(|| format!("connect to {}", self.args.target.address))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn exchange(&self, stream: &mut TcpStream) -> anyhow::Result<Answer> {
        let connection = if self.args.keepalive {
            "keep-alive"
        } else {
            "close"
        };
        let target = &self.args.target;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: essaim-peer\r\nConnection: {connection}\r\n\r\n",
            target.path, target.address
        );
        stream.write_all(request.as_bytes()).await.context("send")?;
        let mut bytes = Vec::with_capacity(2048);
        let (response, head) = loop {
            if let Some(complete) = Response::parse(&bytes)? {
                break complete;
            }
            if stream.read_buf(&mut bytes).await.context("receive")? == 0 {
                if bytes.is_empty() {
                    return Ok(Answer::Closed);
                }
                bail!("closed within the head");
            }
        };
        let length = head.saturating_add(response.headers.content_length()?);
        while bytes.len() < length {
            if stream.read_buf(&mut bytes).await.context("receive")? == 0 {
                bail!("closed after {} of {length} bytes", bytes.len());
            }
        }
        if response.status != 200 {
            bail!("status {}", response.status);
        }
        if let Some(seen) = seen_address(&bytes) {
            self.recorder.borrow_mut().seen_as(seen);
        }
        Ok(Answer::Complete {
            name: response.headers.first(NAME_HEADER).map(str::to_owned),
            keep_alive: self.args.keepalive && response.keep_alive(),
        })
    }
}

/// The address, without its port, in the line "`RemoteAddr: ADDRESS:PORT`".
fn seen_address(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("RemoteAddr: "))?;
    line.rsplit_once(':')
        .map(|(address, _)| address.trim_matches(['[', ']']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_seen_is_found_in_the_answer() {
        assert_eq!(
            seen_address(b"Name: a\nRemoteAddr: 10.0.0.1:4711\nGET /"),
            Some("10.0.0.1")
        );
        assert_eq!(seen_address(b"RemoteAddr: [fd00::1]:4711\n"), Some("fd00::1"));
        assert_eq!(seen_address(b"eeee"), None);
    }
}
