use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// Where a task said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

impl fmt::Display for LogStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

/// A line that a task said, or a part of one that is longer than 16 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// When the shim read it.
    pub time: Timestamp,
    /// Where it was said.
    pub stream: LogStream,
    /// What, with the line's end; a part that others follow has none. Bytes that are no UTF-8 are replaced (U+FFFD).
    pub text: String,
}

/// A record as it stands in a file; the names and their order are Docker's (`jsonlog.JSONLogs`).
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    log: Cow<'a, str>,
    stream: LogStream,
    time: Timestamp,
}

/// Adds a record to `to`, as a line.
pub(crate) fn write_line(to: &mut Vec<u8>, time: Timestamp, stream: LogStream, bytes: &[u8]) {
    let log = String::from_utf8_lossy(bytes);
    // Nothing in it can fail to be written to memory.
    let _ = serde_json::to_writer(&mut *to, &Line { log, stream, time });
    to.push(b'\n');
}

impl LogRecord {
    /// Reads a line of a file; `None` where it is none.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let Line { log, stream, time } = serde_json::from_slice(line).ok()?;
        let text = log.into_owned();
        Some(Self { time, stream, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_written_as_docker_writes_it() {
        let time: Timestamp = "2026-11-28T20:31:14.123456789Z".parse().unwrap();
        let mut line = Vec::new();
        write_line(&mut line, time, LogStream::Stderr, b"say \"hi\"\t\xc3\xa9\xff\n");
        let expected = "{\"log\":\"say \\\"hi\\\"\\t\u{e9}\u{fffd}\\n\",\"stream\":\"stderr\",\
                        \"time\":\"2026-11-28T20:31:14.123456789Z\"}\n";
        assert_eq!(String::from_utf8(line.clone()).unwrap(), expected);
        let record = LogRecord::parse(&line).unwrap();
        assert_eq!(record.text, "say \"hi\"\t\u{e9}\u{fffd}\n");
        assert_eq!((record.time, record.stream), (time, LogStream::Stderr));
    }

    #[test]
    fn what_is_no_record_is_none() {
        for line in [
            "",
            "{}",
            "{\"log\":\"a\"}",
            "{\"log\":\"a\",\"stream\":\"x\",\"time\":\"2026-11-28T20:31:14Z\"}",
        ] {
            assert_eq!(LogRecord::parse(line.as_bytes()), None, "{line}");
        }
    }
}
