//! What the answers of `essaim-peer whoami` say, counted.

use anyhow::{Context as _, ensure};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Answers of one kind of request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    /// By the name of the task.
    by_task: BTreeMap<String, usize>,
    /// By the client address that the task saw.
    by_client: BTreeMap<IpAddr, usize>,
}

impl Answers {
    /// Counts one answer.
    pub(crate) fn add(&mut self, text: &str) -> anyhow::Result<()> {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let task = field("Name:").with_context(|| format!("the answer has no name: {text:?}"))?;
        let client =
            field("RemoteAddr:").with_context(|| format!("the answer has no client address: {text:?}"))?;
        let client = client
            .parse::<std::net::SocketAddr>()
            .with_context(|| format!("client address {client:?}"))?;
        *self.by_task.entry(task.to_owned()).or_default() += 1;
        *self.by_client.entry(client.ip()).or_default() += 1;
        Ok(())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_task.values().sum()
    }

    /// Checks that exactly these tasks answered.
    pub(crate) fn came_from(&self, tasks: &[impl AsRef<str>]) -> anyhow::Result<()> {
        let found: Vec<_> = self.by_task.keys().map(String::as_str).collect();
        let tasks: Vec<_> = tasks.iter().map(AsRef::as_ref).collect();
        ensure!(
            found == tasks,
            "answers came from {}, expected {}",
            found.join(", "),
            tasks.join(", ")
        );
        Ok(())
    }

    /// Checks that the tasks saw this client, and no other address.
    pub(crate) fn saw_client(&self, client: IpAddr) -> anyhow::Result<()> {
        let other = self.by_client.keys().find(|seen| **seen != client);
        ensure!(
            other.is_none(),
            "a task saw {}, expected the client's own {client}",
            other.copied().unwrap_or(client)
        );
        Ok(())
    }

    /// Checks that each task got its share, give or take a part of it.
    pub(crate) fn spread_within(&self, tolerance: f64) -> anyhow::Result<()> {
        #[expect(clippy::cast_precision_loss, reason = "some hundred requests")]
        let (total, tasks) = (self.len() as f64, self.by_task.len() as f64);
        let share = total / tasks;
        for (task, count) in &self.by_task {
            #[expect(clippy::cast_precision_loss, reason = "some hundred requests")]
            let off = (*count as f64 - share).abs() / share;
            ensure!(
                off <= tolerance,
                "{task} got {count}, expected {share:.0} give or take {:.0} %",
                tolerance * 100.0
            );
        }
        Ok(())
    }
}

impl std::fmt::Display for Answers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<_> = self
            .by_task
            .iter()
            .map(|(task, count)| format!("{task} {count}"))
            .collect();
        formatter.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(names: &[&str]) -> Answers {
        let mut answers = Answers::default();
        for name in names {
            answers
                .add(&format!(
                    "Name: {name}\nIP: 10.1.1.0\nRemoteAddr: 172.30.0.201:999\nGET / HTTP/1.1\n"
                ))
                .unwrap();
        }
        answers
    }

    #[test]
    fn answers_are_counted_by_task_and_client() {
        let answers = answers(&["web.2", "web.1", "web.2"]);
        assert_eq!(
            (answers.to_string().as_str(), answers.len()),
            ("web.1 1, web.2 2", 3)
        );
        answers.came_from(&["web.1", "web.2"]).unwrap();
        assert!(answers.came_from(&["web.1"]).is_err());
        answers.saw_client(IpAddr::from([172, 30, 0, 201])).unwrap();
        assert!(answers.saw_client(IpAddr::from([172, 30, 0, 11])).is_err());
    }

    #[test]
    fn uneven_spread_is_told() {
        answers(&["a", "b", "a", "b"]).spread_within(0.0).unwrap();
        assert!(answers(&["a", "b", "b", "b"]).spread_within(0.4).is_err());
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        assert!(Answers::default().add("<html>").is_err());
        assert!(Answers::default().add("Name: a\nRemoteAddr: nobody\n").is_err());
    }
}
