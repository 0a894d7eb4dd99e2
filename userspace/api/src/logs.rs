//! Logs: `/services/{id}/logs`, `/tasks/{id}/logs`.

use crate::change::view;
use crate::find::find;
use crate::reply::{Answer, stream};
use crate::request::{Minor, Query, Request};
use crate::{Engine, EngineError, moment};
use bytes::{BufMut, Bytes, BytesMut};
use essaim_objects::{Service, Task, TaskSpec, Timestamp};
use essaim_protocol::{LogMessage, LogSelector, LogSubscription, LogSubscriptionId, Stream};
use futures_util::StreamExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// From this version on the kind of the stream is told.
const TELLS_KIND: Minor = Minor(42);
/// What Docker leaves as it is in the values of details.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The number of Docker's stream for errors of the engine itself.
const SYSTEM_ERRORS: u8 = 3;

/// `GET /services/{id}/logs`.
pub(crate) async fn of_service(engine: &impl Engine, text: &str, request: &Request) -> Answer {
    let asked = Asked::of(&request.query)?;
    let service = find::<Service>(&view(engine).await?, text)?;
    let selector = LogSelector {
        services: vec![service.id],
        tasks: Vec::new(),
        nodes: Vec::new(),
    };
    logs(
        engine,
        request,
        asked,
        selector,
        has_terminal(&service.spec.task_template),
    )
    .await
}

/// `GET /tasks/{id}/logs`.
pub(crate) async fn of_task(engine: &impl Engine, text: &str, request: &Request) -> Answer {
    let asked = Asked::of(&request.query)?;
    let task = find::<Task>(&view(engine).await?, text)?;
    let selector = LogSelector {
        services: Vec::new(),
        tasks: vec![task.id],
        nodes: Vec::new(),
    };
    logs(engine, request, asked, selector, has_terminal(&task.spec)).await
}

fn has_terminal(spec: &TaskSpec) -> bool {
    spec.container.as_ref().and_then(|container| container.tty) == Some(true)
}

async fn logs(
    engine: &impl Engine,
    request: &Request,
    asked: Asked,
    selector: LogSelector,
    is_raw: bool,
) -> Answer {
    let Asked {
        streams,
        follow,
        since,
        until,
        tail,
        format,
    } = asked;
    let subscription = LogSubscription {
        id: LogSubscriptionId(0),
        selector,
        tail,
        since,
        until,
        follow,
        streams,
        resume: Vec::new(),
        round: 0,
    };
    let lines = engine.logs(subscription).await?;
    let kind = match (request.version >= TELLS_KIND, is_raw) {
        (false, _) => None,
        (true, true) => Some("application/vnd.docker.raw-stream"),
        (true, false) => Some("application/vnd.docker.multiplexed-stream"),
    };
    let pieces = lines.map(move |line| match line {
        Ok(message) => format.line(&message, is_raw),
        Err(error) => framed(SYSTEM_ERRORS, format!("{error}\n").as_bytes(), is_raw),
    });
    Ok(stream(kind, pieces))
}

/// What is asked of logs.
#[derive(Debug)]
struct Asked {
    streams: Vec<Stream>,
    follow: bool,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    tail: Option<u64>,
    format: Format,
}

impl Asked {
    fn of(query: &Query) -> Result<Self, EngineError> {
        let streams = [("stdout", Stream::Stdout), ("stderr", Stream::Stderr)];
        let streams: Vec<_> = streams
            .into_iter()
            .filter(|(name, _)| query.flag(name))
            .map(|(_, stream)| stream)
            .collect();
        if streams.is_empty() {
            return Err(EngineError::invalid(
                "Bad parameters: you must choose at least one stream",
            ));
        }
        let now = Timestamp::now();
        let moment = |name| moment::parse(query.get(name), now).map_err(EngineError::invalid);
        let tail = match query.get("tail") {
            "" | "all" => None,
            text => Some(text.parse().map_err(|_| {
                EngineError::invalid(format_args!(
                    "tail is {text:?}, expected \"all\" or a number of lines"
                ))
            })?),
        };
        Ok(Self {
            streams,
            follow: query.flag("follow"),
            since: moment("since")?,
            until: moment("until")?,
            tail,
            format: Format {
                timestamps: query.flag("timestamps"),
                details: query.flag("details"),
            },
        })
    }
}

/// What goes before each line.
#[derive(Clone, Copy, Debug)]
struct Format {
    timestamps: bool,
    details: bool,
}

impl Format {
    fn line(self, message: &LogMessage, is_raw: bool) -> Bytes {
        let mut line = Vec::new();
        if self.timestamps {
            line.extend_from_slice(format!("{:.9} ", message.timestamp).as_bytes());
        }
        if self.details {
            let service = message.source.service.map(|id| id.to_string());
            let details = [
                ("com.docker.swarm.node.id", message.source.node.to_string()),
                ("com.docker.swarm.service.id", service.unwrap_or_default()),
                ("com.docker.swarm.task.id", message.source.task.to_string()),
            ];
            let details =
                details.map(|(name, value)| format!("{name}={}", utf8_percent_encode(&value, ESCAPED)));
            line.extend_from_slice(details.join(",").as_bytes());
            line.push(b' ');
        }
        line.extend_from_slice(message.data.as_bytes());
        let number = match message.stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        framed(number, &line, is_raw)
    }
}

/// A piece of a stream: its number, three zeros, its length, and it; alone where a terminal mixes the streams.
fn framed(number: u8, piece: &[u8], is_raw: bool) -> Bytes {
    if is_raw {
        return Bytes::copy_from_slice(piece);
    }
    let mut frame = BytesMut::with_capacity(8 + piece.len());
    // A line is cut long before it is so long.
    let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
    frame.put_slice(&[number, 0, 0, 0]);
    frame.put_u32(length);
    frame.put_slice(piece.get(..length as usize).unwrap_or(piece));
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_objects::{Data, NodeId, ServiceId, TaskId};
    use essaim_protocol::LogSource;

    fn message() -> LogMessage {
        LogMessage {
            source: LogSource {
                node: NodeId::from_bits(1),
                service: Some(ServiceId::from_bits(2)),
                task: TaskId::from_bits(3),
            },
            timestamp: Timestamp::new(60, 5).unwrap(),
            stream: Stream::Stderr,
            data: Data::from(b"hello\n".to_vec()),
        }
    }

    #[test]
    fn a_line_has_its_frame_and_what_was_asked_for() {
        let zeros = "0".repeat(24);
        let details = format!(
            "com.docker.swarm.node.id={zeros}1,com.docker.swarm.service.id={zeros}2,com.docker.swarm.task.id={zeros}3 "
        );
        for (timestamps, wants_details, prefix) in [
            (false, false, String::new()),
            (true, false, "1970-01-01T00:01:00.000000005Z ".to_owned()),
            (false, true, details.clone()),
            (true, true, format!("1970-01-01T00:01:00.000000005Z {details}")),
        ] {
            let format = Format {
                timestamps,
                details: wants_details,
            };
            let text = format!("{prefix}hello\n");
            assert_eq!(format.line(&message(), true), text.as_bytes());
            let framed = format.line(&message(), false);
            let mut expected = vec![2, 0, 0, 0];
            expected.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            expected.extend(text.as_bytes());
            assert_eq!(framed, expected);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (query, says) in [
            ("", "at least one stream"),
            ("stdout=0&stderr=false", "at least one stream"),
            ("stdout=1&tail=-1", "tail is \"-1\""),
            ("stdout=1&tail=x", "tail is \"x\""),
            ("stdout=1&since=x", "invalid time \"x\""),
        ] {
            let error = Asked::of(&Query::parse(query)).unwrap_err();
            assert!(error.message.contains(says), "{query}: {error}");
            assert_eq!(error.kind, crate::ErrorKind::Invalid);
        }
        let asked = Asked::of(&Query::parse("stderr=1&tail=7&follow=1&since=60")).unwrap();
        assert_eq!(
            (asked.tail, asked.follow, asked.streams),
            (Some(7), true, vec![Stream::Stderr])
        );
        assert_eq!(asked.since, Some(Timestamp::new(60, 0).unwrap()));
        assert_eq!(Asked::of(&Query::parse("stdout=1&tail=all")).unwrap().tail, None);
    }
}
