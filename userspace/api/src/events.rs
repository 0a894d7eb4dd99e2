//! What happens to the cluster's objects, and in the node's Docker Engine: `/events`.

mod of_engine;
mod tell;

use crate::filter::{Filters, has_label};
use crate::passthrough::DockerEngine;
use crate::reply::{Answer, stream};
use crate::request::Request;
use crate::{Engine, EngineError, moment};
use bytes::Bytes;
use essaim_manager::{Notice, Replica};
use essaim_objects::Timestamp;
use essaim_store::Event;
use futures_util::{StreamExt, stream as streams};
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;
use tell::Told;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::sleep;

/// How often a node that is no manager, or has no Docker Engine, is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long the Docker Engine may take to end its events after the moment that was asked for.
const ENGINE_ENDS_WITHIN: Duration = Duration::from_secs(5);

/// `GET /events`: from now on, after what is remembered where `since` or `until` ask for it.
pub(crate) async fn follow<E: Engine>(engine: &E, request: &Request) -> Answer {
    const KNOWN: &[&str] = &[
        "type",
        "scope",
        "event",
        "label",
        "service",
        "node",
        "network",
        "secret",
        "config",
        "id",
        "container",
        "image",
        "volume",
        "plugin",
        "daemon",
    ];
    let filters = Filters::of(&request.query, KNOWN)?;
    let now = Timestamp::now();
    let moment = |name| moment::parse(request.query.get(name), now).map_err(EngineError::invalid);
    let (since, until) = (moment("since")?, moment("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(EngineError::invalid(format_args!(
            "since is {since}, after until, {until}"
        )));
    }
    let mut watch = Watch {
        notices: None,
        engine: engine.clone(),
        filters,
        waiting: VecDeque::new(),
    };
    let mut past = Vec::new();
    if let Some(replica) = engine.replica() {
        let (remembered, notices) = replica.notices_with_past();
        watch.notices = Some(notices);
        if since.is_some() || until.is_some() {
            let asked = |time: Timestamp| {
                since.is_none_or(|since| time >= since) && until.is_none_or(|until| time <= until)
            };
            let told = remembered.iter().filter(|(time, _)| asked(*time));
            past.extend(told.filter_map(|(time, event)| watch.told(event, *time)));
        }
    }
    let lines = streams::unfold(watch, |mut watch| async move {
        let line = watch.next().await;
        Some((line, watch))
    });
    let left = until.map(|until| Duration::try_from(until.duration_since(now)).unwrap_or_default());
    let lines = lines.take_until(Box::pin(end(left)));
    let own = streams::iter(past).chain(lines);
    // The engine ends its part by itself, a little later if at all.
    let left = left.map(|left| left + ENGINE_ENDS_WITHIN);
    let theirs = of_engine::lines(DockerEngine::of(engine), request.clone(), until.is_none()).await;
    let theirs = theirs.take_until(Box::pin(end(left)));
    let both = streams::select(Box::pin(own), Box::pin(theirs));
    Ok(stream(Some("application/json"), both))
}

async fn end(left: Option<Duration>) {
    match left {
        Some(left) => sleep(left).await,
        None => std::future::pending().await,
    }
}

struct Watch<E> {
    engine: E,
    notices: Option<Receiver<Notice>>,
    filters: Filters,
    waiting: VecDeque<Bytes>,
}

impl<E: Engine> Watch<E> {
    /// The line of an event, if it is one of those that are asked for.
    fn told(&self, event: &Event, time: Timestamp) -> Option<Bytes> {
        let told = Told::of(event, time).filter(|told| fits(told, &self.filters))?;
        Some(line(&told.shown()))
    }

    /// The next line, whenever it comes.
    async fn next(&mut self) -> Bytes {
        loop {
            if let Some(line) = self.waiting.pop_front() {
                return line;
            }
            let Some(notices) = &mut self.notices else {
                // It may become a manager.
                sleep(LOOK_AGAIN).await;
                self.notices = self.engine.replica().as_ref().map(Replica::notices);
                continue;
            };
            match notices.recv().await {
                Ok(Notice::Changed { events, .. }) => {
                    let lines = events
                        .iter()
                        .filter_map(|event| self.told(event, Timestamp::now()));
                    let lines: Vec<_> = lines.collect();
                    self.waiting.extend(lines);
                }
                // What a snapshot or being too slow has passed over is not told.
                Ok(Notice::Restored) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => self.notices = None,
            }
        }
    }
}

fn line(event: &Value) -> Bytes {
    let mut line = event.to_string();
    line.push('\n');
    line.into()
}

/// Whether an event is one of those that are asked for.
fn fits(told: &Told, filters: &Filters) -> bool {
    let is_object = |asked: &str| told.id == asked || told.name == asked || told.id.starts_with(asked);
    let kinds = [
        "service",
        "node",
        "network",
        "secret",
        "config",
        "container",
        "image",
        "volume",
        "plugin",
        "daemon",
    ];
    let mut named = kinds
        .iter()
        .filter(|kind| !filters.values(kind).is_empty())
        .peekable();
    let is_named = named.peek().is_none()
        || named.any(|kind| *kind == told.kind && filters.values(kind).iter().any(|asked| is_object(asked)));
    is_named
        && filters.any("type", |kind| kind == told.kind)
        && filters.any("scope", |scope| scope == "swarm")
        && filters.any("event", |action| action == told.action)
        && filters.any("id", is_object)
        && filters
            .values("label")
            .iter()
            .all(|asked| has_label(told.labels.as_ref(), asked))
}

#[cfg(test)]
mod tests;
