//! The events of the node's Docker Engine, for as long as there is one, and again when it is back.

use super::LOOK_AGAIN;
use crate::passthrough::{DockerEngine, Lines, left_out};
use crate::request::Request;
use bytes::Bytes;
use essaim_objects::Timestamp;
use futures_util::{Stream, stream};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::sleep;

struct Watch {
    docker: DockerEngine,
    request: Request,
    /// What it tells now.
    told: Option<Told>,
    /// Whether it is asked again when it has ended.
    is_endless: bool,
}

struct Told {
    body: Incoming,
    lines: Lines,
}

/// Lines of events, whole ones. What happens after this returns is not missed where the engine is there.
pub(super) async fn lines(
    docker: DockerEngine,
    request: Request,
    is_endless: bool,
) -> impl Stream<Item = Bytes> {
    let mut watch = Watch {
        docker,
        request,
        told: None,
        is_endless,
    };
    watch.begin().await;
    stream::unfold(watch, |mut watch| async move {
        let lines = watch.next().await?;
        Some((lines, watch))
    })
}

impl Watch {
    async fn begin(&mut self) {
        match self.docker.follow(&self.request).await {
            Ok(body) => {
                let lines = Lines::default();
                self.told = Some(Told { body, lines });
            }
            Err(why) => left_out(&why),
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let Some(told) = &mut self.told else {
                if !self.is_endless {
                    return None;
                }
                sleep(LOOK_AGAIN).await;
                self.begin().await;
                continue;
            };
            if let Some(lines) = told.next().await {
                return Some(lines);
            }
            self.told = None;
            self.request.set_query("since", &seconds(Timestamp::now()));
        }
    }
}

impl Told {
    /// The next lines; nothing when it has ended, or tells nonsense.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let frame = match self.body.frame().await? {
                Ok(frame) => frame,
                Err(error) => {
                    tracing::debug!(%error, "the Docker Engine's events ended early");
                    return None;
                }
            };
            let Ok(piece) = frame.into_data() else { continue };
            match self.lines.push(&piece) {
                Ok(None) => {}
                Ok(Some(lines)) => return Some(lines),
                Err(length) => {
                    tracing::warn!(length, "the Docker Engine tells an event without end");
                    return None;
                }
            }
        }
    }
}

/// A moment as the engine reads it: `SECONDS.NANOSECONDS`.
fn seconds(moment: Timestamp) -> String {
    let nanoseconds = moment.as_nanosecond().max(0);
    format!(
        "{}.{:09}",
        nanoseconds / 1_000_000_000,
        nanoseconds % 1_000_000_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_all_its_digits() {
        let moment = Timestamp::from_nanosecond(1_700_000_000_000_000_042).unwrap();
        assert_eq!(seconds(moment), "1700000000.000000042");
    }
}
