//! What this machine is, for people who ask.

use essaim_objects::{DiscreteResource, GenericResource, NamedResource, NodeResources, Platform};
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
    pub(crate) fn look(generic: &[(String, String)]) -> Self {
        let generic = generic_resources(generic);
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            platform: Platform {
                architecture: Some(std::env::consts::ARCH.to_owned()),
                os: Some(std::env::consts::OS.to_owned()),
                ..Platform::default()
            },
            resources: NodeResources {
                generic_resources: (!generic.is_empty()).then_some(generic),
                ..machine_resources()
            },
            operating_system: pretty_name(&release).unwrap_or("Linux").to_owned(),
            kernel_version: kernel.trim().to_owned(),
        }
    }
}

/// Resources of the operator's own kinds: a number of a kind, or one by its name.
pub(crate) fn generic_resources(given: &[(String, String)]) -> Vec<GenericResource> {
    let resource = |(kind, value): &(String, String)| {
        let kind = Some(kind.clone());
        let mut resource = GenericResource::default();
        match value.parse::<i64>() {
            Ok(number) => {
                resource.discrete = Some(DiscreteResource {
                    kind,
                    value: Some(number),
                    ..DiscreteResource::default()
                });
            }
            Err(_) => {
                resource.named = Some(NamedResource {
                    kind,
                    value: Some(value.clone()),
                    ..NamedResource::default()
                });
            }
        }
        resource
    };
    given.iter().map(resource).collect()
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
    fn resources_are_counted_or_named() {
        let given =
            [("disk", "2"), ("gpu", "GPU-1")].map(|(kind, value)| (kind.to_owned(), value.to_owned()));
        let found = serde_json::to_value(generic_resources(&given)).unwrap();
        let expected = serde_json::json!([
            {"DiscreteResourceSpec": {"Kind": "disk", "Value": 2}},
            {"NamedResourceSpec": {"Kind": "gpu", "Value": "GPU-1"}},
        ]);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_system_is_known_by_its_name_for_people() {
        let release = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(pretty_name(release), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(pretty_name("NAME=x\n"), None);
    }
}
