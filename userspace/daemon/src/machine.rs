//! What this machine is, for people who ask.

use essaim_objects::{NodeResources, Platform};
use essaim_worker::machine_resources;

/// What is known of the machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) platform: Platform,
    pub(crate) resources: NodeResources,
    pub(crate) operating_system: String,
    pub(crate) kernel_version: String,
}

impl Machine {
    /// As it is now.
    pub(crate) fn look() -> Self {
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            platform: Platform {
                architecture: Some(std::env::consts::ARCH.to_owned()),
                os: Some(std::env::consts::OS.to_owned()),
                ..Platform::default()
            },
            resources: machine_resources(),
            operating_system: pretty_name(&release).unwrap_or("Linux").to_owned(),
            kernel_version: kernel.trim().to_owned(),
        }
    }
}

/// The name for people in os-release(5).
fn pretty_name(release: &str) -> Option<&str> {
    let line = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_known_by_its_name_for_people() {
        let release = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(pretty_name(release), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(pretty_name("NAME=x\n"), None);
    }
}
