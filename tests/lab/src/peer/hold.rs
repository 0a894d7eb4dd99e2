//! TCP connections that stay open and are used all the time.

use super::args::HoldArgs;
use super::report::{HoldReport, began, millis, one_line, push_failure};
use super::told_to_end;
use anyhow::{Context as _, ensure};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// Opens the connections, prints `{"established":N}` once none is in the making, uses them, prints the report.
pub(crate) async fn run(args: HoldArgs) -> anyhow::Result<()> {
    let holder = Rc::new(Holder {
        start: Instant::now(),
        stop: Cell::new(false),
        opening: Cell::new(args.flows),
        report: RefCell::default(),
        args,
    });
    let flows = LocalSet::new();
    for number in 0..holder.args.flows {
        let holder = Rc::clone(&holder);
        flows.spawn_local(async move { holder.flow(number).await });
    }
    let seconds = holder.args.seconds;
    let told = async {
        let result = tokio::select! {
            result = told_to_end() => result,
            () = tokio::time::sleep(seconds) => Ok(()),
        };
        holder.stop.set(true);
        result
    };
    tokio::pin!(flows);
    tokio::pin!(told);
    tokio::select! {
        () = &mut flows => {}
        result = &mut told => {
            result?;
            flows.await;
        }
    }
    let mut report = holder.report.take();
    report.millis = millis(holder.start.elapsed());
    report.began_unix_ms = began(report.millis);
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

struct Holder {
    args: HoldArgs,
    start: Instant,
    stop: Cell<bool>,
    opening: Cell<usize>,
    report: RefCell<HoldReport>,
}

impl Holder {
    async fn flow(&self, number: usize) {
        let opened = self.limited(self.open()).await;
        let result = match opened {
            Ok((stream, name)) => {
                self.report.borrow_mut().established += 1;
                *self.report.borrow_mut().by_name.entry(name).or_default() += 1;
                self.opened();
                self.talk(stream, number).await
            }
            Err(error) => {
                self.opened();
                Err(error)
            }
        };
        if let Err(error) = result {
            let mut report = self.report.borrow_mut();
            report.broken += 1;
            push_failure(
                &mut report.failures,
                self.start.elapsed(),
                format!("flow {number}: {}", one_line(&error)),
            );
        }
    }

    fn opened(&self) {
        self.opening.set(self.opening.get().saturating_sub(1));
        if self.opening.get() == 0 {
            println!(
                "{}",
                serde_json::json!({ "established": self.report.borrow().established })
            );
        }
    }

    async fn open(&self) -> anyhow::Result<(BufReader<TcpStream>, String)> {
        let stream = TcpStream::connect(self.args.target).await.context("connect")?;
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        let mut greeting = String::new();
        stream
            .read_line(&mut greeting)
            .await
            .context("receive the greeting")?;
        let name = greeting.split(' ').next().unwrap_or_default().to_owned();
        ensure!(!name.is_empty(), "closed before the greeting");
        Ok((stream, name))
    }

    async fn talk(&self, mut stream: BufReader<TcpStream>, number: usize) -> anyhow::Result<()> {
        let mut sequence = 0_u64;
        while !self.stop.get() {
            let message = format!("{number:010} {sequence:012}\n");
            let begun = Instant::now();
            let answer = self.limited(exchange(&mut stream, &message)).await?;
            ensure!(answer == message, "sent {message:?}, came back {answer:?}");
            sequence += 1;
            self.answered(begun.elapsed());
            tokio::time::sleep(self.args.interval_ms.max(Duration::from_millis(1))).await;
        }
        Ok(())
    }

    fn answered(&self, wait: Duration) {
        let mut report = self.report.borrow_mut();
        report.messages += 1;
        report.longest_wait_ms = report.longest_wait_ms.max(millis(wait));
    }

    async fn limited<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let limit = self.args.timeout_ms;
        tokio::time::timeout(limit, work)
            .await
            .with_context(|| format!("no answer within {limit:?}"))?
    }
}

async fn exchange(stream: &mut BufReader<TcpStream>, message: &str) -> anyhow::Result<String> {
    stream
        .get_mut()
        .write_all(message.as_bytes())
        .await
        .context("send")?;
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer).await.context("receive")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
