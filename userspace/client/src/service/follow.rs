//! Reading the lines of a service's tasks.

use super::logs;
use crate::api::encode;
use crate::console::{Exit, Session};
use crate::error::Error;
use crate::parse::duration;
use crate::tasks::TaskNames;
use essaim_objects::{Task, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Session<'_, '_> {
    pub(super) async fn service_logs(&mut self, args: &logs::LogsArgs) -> Result<Exit, Error> {
        let name = encode(&args.service);
        let mut tty = false;
        let folder = match self.find_service(&args.service).await {
            Ok(service) => {
                tty |= service
                    .spec
                    .task_template
                    .container
                    .as_ref()
                    .and_then(|container| container.tty)
                    == Some(true);
                "services"
            }
            Err(error) if error.is_missing() => {
                match self.client.get::<Task>(&format!("/tasks/{name}"), &[]).await {
                    Ok(task) => {
                        tty |= task.spec.container.as_ref().and_then(|container| container.tty) == Some(true);
                        "tasks"
                    }
                    Err(error) if error.is_missing() => {
                        return Err(Error::Missing(format!(
                            "no such task or service: {}",
                            args.service
                        )));
                    }
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        let since = args
            .since
            .as_deref()
            .map(|since| since_seconds(since, self.now()))
            .transpose()?;
        let mut query = Vec::new();
        if !args.raw || args.details {
            query.push(("details", "1"));
        }
        if args.follow {
            query.push(("follow", "1"));
        }
        query.extend(since.as_deref().map(|since| ("since", since)));
        query.extend([("stderr", "1"), ("stdout", "1"), ("tail", args.tail.as_str())]);
        if args.timestamps {
            query.push(("timestamps", "1"));
        }
        let mut stream = self
            .client
            .stream(&format!("/{folder}/{name}/logs"), &query)
            .await?;
        let mut frames = logs::Frames::default();
        let mut names = BTreeMap::new();
        while let Some(bytes) = stream.next().await? {
            if tty {
                self.console.out.write_all(&bytes)?;
                self.console.out.flush()?;
                continue;
            }
            frames.push(&bytes);
            while let Some((output, data)) = frames.next().map_err(bad_frame)? {
                let text = match logs::line(&data, args.timestamps).filter(|_| !args.raw) {
                    Some(line) => {
                        if let std::collections::btree_map::Entry::Vacant(entry) = names.entry(line.task) {
                            entry.insert(self.log_prefix(&line, args).await?);
                        }
                        line.print(
                            names.get(&line.task).map(String::as_str).unwrap_or_default(),
                            args.details,
                        )
                    }
                    None => data,
                };
                match output {
                    logs::Output::Standard => self.console.out.write_all(&text)?,
                    logs::Output::Error => self.console.err.write_all(&text)?,
                }
            }
            self.console.out.flush()?;
        }
        if !frames.is_empty() {
            return Err(Error::NotConverged(
                "the daemon's stream of logs ended within a line".to_owned(),
            ));
        }
        Ok(Exit::Done)
    }

    /// `web.1.TASK@NODE`.
    async fn log_prefix(&mut self, line: &logs::Line, args: &logs::LogsArgs) -> Result<String, Error> {
        let task = match self
            .client
            .get::<Task>(&format!("/tasks/{}", line.task), &[])
            .await
        {
            Ok(task) => task,
            // The task may be gone while its lines are not.
            Err(error) if error.is_missing() => {
                let mut task = Task::new(line.task, line.service, Arc::default());
                task.node_id = Some(line.node);
                task
            }
            Err(error) => return Err(error),
        };
        let names = if args.no_resolve {
            TaskNames::default()
        } else {
            self.task_names(std::slice::from_ref(&task)).await?
        };
        let id = task.id.to_string();
        let id = if args.no_trunc {
            id
        } else {
            crate::human::short(&id)
        };
        let task_id = if args.no_task_ids {
            String::new()
        } else {
            format!(".{id}")
        };
        Ok(format!(
            "{}{task_id}@{}",
            names.task(&task),
            names.node(Some(line.node))
        ))
    }
}

fn bad_frame(bad: logs::BadFrame) -> Error {
    Error::NotConverged(match bad {
        logs::BadFrame::Complaint(text) => text,
        logs::BadFrame::Kind(kind) => {
            format!("the daemon's stream of logs has a frame of kind {kind}, expected 1 or 2")
        }
        logs::BadFrame::Length(length) => {
            format!("the daemon's stream of logs has a frame of {length} bytes, expected at most 16 MiB")
        }
    })
}

/// A time, or a span before now, in seconds of Unix time as the API takes it.
pub(super) fn since_seconds(text: &str, now: Timestamp) -> Result<String, Error> {
    if let Ok(span) = duration(text) {
        let then = now.as_nanosecond() - i128::from(span.0);
        return Ok(seconds(then));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(seconds(time.as_nanosecond()));
    }
    let day = text
        .parse::<jiff::civil::DateTime>()
        .ok()
        .and_then(|time| jiff::tz::Offset::UTC.to_timestamp(time).ok());
    if let Some(day) = day {
        return Ok(seconds(day.as_nanosecond()));
    }
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    if whole.parse::<u32>().is_ok() && text.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Ok(text.to_owned());
    }
    Err(Error::Usage(format!(
        "--since is {text:?}, expected a time such as 2013-01-02T13:23:37Z or a span such as 42m"
    )))
}

fn seconds(nanoseconds: i128) -> String {
    format!(
        "{}.{:09}",
        nanoseconds.div_euclid(1_000_000_000),
        nanoseconds.rem_euclid(1_000_000_000)
    )
}
