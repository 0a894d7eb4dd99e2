//! Asking the tasks' resolver, as programs do.

use anyhow::{Context as _, ensure};
use essaim_lab::{Cluster, eventually};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a name may take to be as it should where nothing is measured.
const SOON: Duration = Duration::from_secs(10);

/// What `dig` is answered: the status, and the answers' data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `NOERROR`, `NXDOMAIN`, …
    pub status: String,
    /// The data of the answers, as `dig` writes it.
    pub data: BTreeSet<String>,
}

impl Answer {
    /// An answer with this data.
    pub fn of(data: impl IntoIterator<Item = impl ToString>) -> Self {
        Self {
            status: "NOERROR".to_owned(),
            data: data.into_iter().map(|data| data.to_string()).collect(),
        }
    }

    /// The name exists, and has nothing of this type.
    pub fn empty() -> Self {
        Self::of(std::iter::empty::<String>())
    }

    /// There is no such name.
    pub fn unknown() -> Self {
        Self {
            status: "NXDOMAIN".to_owned(),
            data: BTreeSet::new(),
        }
    }
}

/// Asks from within a task, as its `resolv.conf` says, with more arguments of `dig` such as `+tcp`.
///
/// # Errors
/// When there is no answer.
pub fn dig(cluster: &Cluster, task: &str, name: &str, kind: &str, more: &[&str]) -> anyhow::Result<Answer> {
    let question = [
        "dig",
        "+time=2",
        "+tries=1",
        "+noall",
        "+comments",
        "+answer",
        "-t",
        kind,
        name,
    ];
    let printed = cluster.exec(task, &[&question[..], more].concat())?.ok()?;
    let status = printed
        .split("status: ")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    let status = status.with_context(|| format!("dig {name} {kind} printed\n{printed}"))?;
    let answers = printed
        .lines()
        .filter(|line| !line.starts_with(';') && !line.trim().is_empty());
    // NAME TTL CLASS TYPE DATA
    let data = answers.map(|line| line.split_whitespace().skip(4).collect::<Vec<_>>().join(" "));
    Ok(Answer {
        status: status.to_owned(),
        data: data.collect(),
    })
}

/// Waits until a name is answered so.
///
/// # Errors
/// When it is not in time.
pub fn answered(
    cluster: &Cluster,
    task: &str,
    name: &str,
    kind: &str,
    expected: &Answer,
) -> anyhow::Result<()> {
    eventually(SOON, &format!("{task} is answered for {name} {kind}"), || {
        let found = dig(cluster, task, name, kind, &[])?;
        ensure!(found == *expected, "found {found:?}, expected {expected:?}");
        Ok(())
    })
}
