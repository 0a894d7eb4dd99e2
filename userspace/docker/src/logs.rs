//! What a container says, from the engine.

use crate::engine::{CALL, Engine};
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use essaim_runner::{LogError, LogFollower, LogQuery, LogRecord, LogStream};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Records that are read ahead of who takes them.
const AHEAD: usize = 64;

/// Follows a container's log; ends what reads for it where it is dropped.
pub(crate) fn follow(engine: Arc<Engine>, docker: Docker, name: String, query: LogQuery) -> LogFollower {
    let (send, records) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = read(&engine, &docker, &name, query, &send) => ended,
            () = send.closed() => Ok(()),
        };
        if let Err(message) = ended {
            // Who no longer listens need not know.
            let _ = send.send(Err(LogError::Engine { message })).await;
        }
    });
    LogFollower::new(records)
}

async fn read(
    engine: &Engine,
    docker: &Docker,
    name: &str,
    query: LogQuery,
    send: &mpsc::Sender<Result<LogRecord, LogError>>,
) -> Result<(), String> {
    let LogQuery { tail, since, follow } = query;
    let options = LogsOptions {
        follow,
        stdout: true,
        stderr: true,
        // Whole seconds; the rest is left out below.
        since: since.map_or(0, |since| i32::try_from(since.as_second()).unwrap_or(i32::MAX)),
        until: 0,
        timestamps: true,
        tail: tail.map_or_else(|| "all".to_owned(), |tail| tail.to_string()),
    };
    let mut said = docker.logs(name, Some(options));
    loop {
        let next = said.next();
        // A task may have nothing to say for long; a log that is not followed is there.
        let next = if follow {
            next.await
        } else {
            let next = tokio::time::timeout(CALL, next).await;
            next.map_err(|_| {
                engine
                    .absent(format!("it has not answered within {CALL:?}"))
                    .to_string()
            })?
        };
        let Some(output) = next else { return Ok(()) };
        let output = output.map_err(|error| engine.fault(error).to_string())?;
        if let Some(record) = record(&output)
            && since.is_none_or(|since| record.time >= since)
            && send.send(Ok(record)).await.is_err()
        {
            return Ok(());
        }
    }
}

/// A line with its time before it; `None` of what has none.
fn record(output: &LogOutput) -> Option<LogRecord> {
    let (stream, message) = match output {
        LogOutput::StdErr { message } => (LogStream::Stderr, message),
        LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message } => {
            (LogStream::Stdout, message)
        }
    };
    let at = message.iter().position(|byte| *byte == b' ')?;
    let time: Timestamp = std::str::from_utf8(message.get(..at)?).ok()?.parse().ok()?;
    let text = String::from_utf8_lossy(message.get(at.checked_add(1)?..)?).into_owned();
    Some(LogRecord { time, stream, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_its_time_and_stream() {
        let message = "2026-01-02T03:04:05.000000006Z one two\n".into();
        let expected = LogRecord {
            time: "2026-01-02T03:04:05.000000006Z".parse().unwrap(),
            stream: LogStream::Stderr,
            text: "one two\n".to_owned(),
        };
        assert_eq!(record(&LogOutput::StdErr { message }), Some(expected));
        for message in ["", "no time", "2026-01-02T03:04:05Z"] {
            let message = message.into();
            assert_eq!(record(&LogOutput::StdOut { message }), None);
        }
    }
}
