use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a task has used and uses; what the kernel does not count here is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Processor time since its start.
    pub cpu: Option<Duration>,
    /// Bytes of memory, without the part of the page cache that it could do without; as `docker stats`.
    pub memory_bytes: Option<u64>,
    /// The most that it may have, in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// What the files say.
#[derive(Debug, Default)]
pub(super) struct Readings {
    pub(super) cpuacct: Option<String>,
    pub(super) cpu_stat: Option<String>,
    pub(super) memory: Option<String>,
    pub(super) memory_stat: Option<String>,
    pub(super) memory_limit: Option<String>,
    pub(super) pids: Option<String>,
}

/// The number beside a name, in lines of `name number`.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

impl Readings {
    pub(super) fn stats(&self) -> Stats {
        let number = |text: &Option<String>| text.as_ref()?.trim().parse::<u64>().ok();
        let legacy = number(&self.cpuacct).map(Duration::from_nanos);
        let unified = || field(self.cpu_stat.as_ref()?, "usage_usec").map(Duration::from_micros);
        let idle = self
            .memory_stat
            .as_ref()
            .and_then(|text| field(text, "total_inactive_file").or_else(|| field(text, "inactive_file")));
        // Version 1 has no word for no limit: a number near the largest of pages.
        let limit = number(&self.memory_limit).filter(|limit| *limit < (1 << 62));
        Stats {
            cpu: legacy.or_else(unified),
            memory_bytes: number(&self.memory).map(|used| used.saturating_sub(idle.unwrap_or_default())),
            memory_limit_bytes: limit,
            pids: number(&self.pids),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        let legacy = Readings {
            cpuacct: Some("1500000000\n".into()),
            cpu_stat: Some("usage_usec 7\n".into()),
            memory: Some("1000\n".into()),
            memory_stat: Some("inactive_file 1\ntotal_inactive_file 400\n".into()),
            memory_limit: Some("9223372036854771712\n".into()),
            pids: Some("3\n".into()),
        };
        let expected = Stats {
            cpu: Some(Duration::from_millis(1500)),
            memory_bytes: Some(600),
            memory_limit_bytes: None,
            pids: Some(3),
        };
        assert_eq!(legacy.stats(), expected);
        let unified = Readings {
            cpuacct: None,
            cpu_stat: Some("usage_usec 1500000\nuser_usec 1\n".into()),
            memory_stat: Some("anon 5\ninactive_file 400\n".into()),
            memory_limit: Some("max\n".into()),
            ..legacy
        };
        assert_eq!(unified.stats(), expected);
        let limited = Readings {
            memory_limit: Some("4096\n".into()),
            ..Readings::default()
        };
        assert_eq!(limited.stats().memory_limit_bytes, Some(4096));
    }

    #[test]
    fn what_is_missing_or_nonsense_is_none() {
        assert_eq!(Readings::default().stats(), Stats::default());
        let nonsense = Readings {
            cpuacct: Some("x".into()),
            pids: Some(String::new()),
            ..Readings::default()
        };
        assert_eq!(nonsense.stats(), Stats::default());
        assert_eq!(
            field("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", "oom_kill"),
            Some(2)
        );
    }
}
