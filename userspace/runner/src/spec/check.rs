use super::{EtcFile, FileKind, MountSource, NetworkNamespace, ProcessSpec, Root};
use std::path::{Component, Path};

#[cfg(test)]
mod tests;

/// Smallest memory limit, in bytes; below, not even the start of a program fits. As Docker's.
const LEAST_MEMORY: u64 = 6 << 20;
/// Smallest share of a processor, in 10⁻⁹: 1 ms in each 100 ms, which is the kernel's least.
const LEAST_CPUS: u64 = 10_000_000;
/// Smallest log file, in bytes: the longest record fits.
const LEAST_LOG: u64 = 128 << 10;
/// Longest name of a machine (`__NEW_UTS_LEN`).
const LONGEST_HOSTNAME: usize = 64;
/// The names that setrlimit(2) has, as Docker writes them.
pub(crate) const ULIMITS: [&str; 15] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "sigpending",
    "stack",
];

/// A spec that cannot be run; nothing was made of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct SpecError {
    /// The part of the spec.
    pub field: String,
    /// What is wrong with it, and what is expected.
    pub reason: String,
}

fn refuse(field: impl Into<String>, reason: impl Into<String>) -> Result<(), SpecError> {
    Err(SpecError {
        field: field.into(),
        reason: reason.into(),
    })
}

impl ProcessSpec {
    /// Whether it can be run, as far as it says itself.
    ///
    /// # Errors
    /// [`SpecError`], with the first part that is wrong.
    pub fn check(&self) -> Result<(), SpecError> {
        self.check_command()?;
        self.check_network()?;
        if let Root::Directory(root) = &self.root {
            absolute("root", root)?;
        }
        for mount in &self.mounts {
            let field = format!("mount {}", mount.target.display());
            below_root(&field, &mount.target)?;
            match &mount.source {
                MountSource::Bind { path, .. } => absolute(&field, path)?,
                MountSource::Tmpfs { mode, .. } => {
                    if mode.is_some_and(|mode| mode > 0o7777) {
                        refuse(field, "the mode has bits beyond 7777")?;
                    }
                }
            }
        }
        self.check_files()?;
        for (name, file) in [("resolv_conf", &self.resolv_conf), ("hosts", &self.hosts)] {
            if let Some(EtcFile::File(path)) = file {
                absolute(name, path)?;
            }
        }
        self.check_limits()
    }

    fn check_command(&self) -> Result<(), SpecError> {
        if self.argv().next().is_none_or(str::is_empty) {
            refuse("command", "is empty, expected a program")?;
        }
        if self.argv().any(|argument| argument.contains('\0')) {
            refuse("command", "an argument holds a zero byte")?;
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                refuse(
                    format!("env {name:?}"),
                    "expected a name without `=`, and no zero bytes",
                )?;
            }
        }
        if let Some(dir) = &self.dir {
            absolute("dir", dir)?;
        }
        if let Some(hostname) = &self.hostname
            && (hostname.is_empty() || hostname.len() > LONGEST_HOSTNAME || hostname.contains(['\0', '\n']))
        {
            refuse(
                "hostname",
                format!("expected 1 to {LONGEST_HOSTNAME} bytes in one line"),
            )?;
        }
        Ok(())
    }

    fn check_network(&self) -> Result<(), SpecError> {
        match &self.network {
            NetworkNamespace::Host if !self.sysctls.is_empty() => {
                return refuse(
                    "sysctls",
                    "the task is in the node's own network namespace, whose settings are not its",
                );
            }
            NetworkNamespace::Host => {}
            NetworkNamespace::Create(name) => {
                let plain = Path::new(name)
                    .components()
                    .eq([Component::Normal(name.as_ref())]);
                if !plain || name.len() > 255 || name.contains('\0') {
                    refuse("network", format!("{name:?} is no name of a file in /run/netns"))?;
                }
            }
            NetworkNamespace::Existing(path) => absolute("network", path)?,
        }
        for (name, value) in &self.sysctls {
            let field = format!("sysctl {name}");
            let plain = |part: &str| !part.is_empty() && !part.contains(['/', '\0']);
            if !name.starts_with("net.") || !name.split('.').all(plain) {
                refuse(
                    field,
                    "only settings of the network namespace (net.…) can be given to a task",
                )?;
            } else if value.contains('\0') {
                refuse(field, "the value holds a zero byte")?;
            }
        }
        Ok(())
    }

    fn check_files(&self) -> Result<(), SpecError> {
        for file in &self.files {
            let kind = match file.kind {
                FileKind::Secret => "secret",
                FileKind::Config => "config",
            };
            let field = format!("{kind} {}", file.target.display());
            below_root(&field, &Path::new("/").join(&file.target))?;
            if file.mode > 0o7777 {
                refuse(field, "the mode has bits beyond 7777")?;
            }
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), SpecError> {
        for limit in &self.ulimits {
            let field = format!("ulimit {}", limit.name);
            if !ULIMITS.contains(&limit.name.as_str()) {
                refuse(field, format!("expected one of {}", ULIMITS.join(", ")))?;
            } else if limit.soft < -1 || limit.hard < -1 {
                refuse(field, "expected a number, or -1 for no limit")?;
            } else if limit.hard != -1 && (limit.soft == -1 || limit.soft > limit.hard) {
                refuse(
                    field,
                    format!(
                        "the soft limit {} exceeds the hard one {}",
                        limit.soft, limit.hard
                    ),
                )?;
            }
        }
        if self
            .oom_score_adj
            .is_some_and(|score| !(-1000..=1000).contains(&score))
        {
            refuse("oom_score_adj", "expected -1000 to 1000")?;
        }
        let resources = &self.resources;
        let at_least = |field: &str, value: Option<u64>, least: u64| match value {
            Some(value) if value < least => {
                refuse(field, format!("found {value}, expected at least {least}"))
            }
            Some(value) if i64::try_from(value).is_err() => refuse(field, format!("{value} is too large")),
            _ => Ok(()),
        };
        at_least("resources.nano_cpus", resources.nano_cpus, LEAST_CPUS)?;
        at_least("resources.memory_bytes", resources.memory_bytes, LEAST_MEMORY)?;
        at_least(
            "resources.memory_reservation_bytes",
            resources.memory_reservation_bytes,
            1,
        )?;
        at_least("resources.pids", resources.pids, 1)?;
        if resources.swap_bytes.is_some() && resources.memory_bytes.is_none() {
            refuse("resources.swap_bytes", "needs a limit of memory, too")?;
        }
        if let (Some(limit), Some(reserved)) = (resources.memory_bytes, resources.memory_reservation_bytes)
            && reserved > limit
        {
            refuse(
                "resources.memory_reservation_bytes",
                format!("{reserved} exceeds the limit {limit}"),
            )?;
        }
        at_least("log.max_size", Some(self.log.max_size), LEAST_LOG)?;
        at_least("log.max_file", Some(self.log.max_file.into()), 1)
    }
}

fn absolute(field: &str, path: &Path) -> Result<(), SpecError> {
    let zero = path.as_os_str().as_encoded_bytes().contains(&0);
    if zero || !path.is_absolute() {
        refuse(field, format!("{} is no absolute path", path.display()))?;
    }
    Ok(())
}

/// An absolute path to something below `/` that does not go up.
fn below_root(field: &str, path: &Path) -> Result<(), SpecError> {
    absolute(field, path)?;
    let mut parts = path.components().skip(1).peekable();
    if parts.peek().is_none() || parts.any(|part| part == Component::ParentDir) {
        refuse(field, format!("{} is no place below /", path.display()))?;
    }
    Ok(())
}
