//! The container of a task.

use crate::object::spec;
use crate::{ConfigId, Driver, Extra, Labels, Nanoseconds, SecretId, Sensitive};

spec! {
    /// The container of a task.
    ContainerSpec {
        /// The image.
        "Image" image: Option<String>,
        /// Its labels.
        "Labels" labels: Option<Labels>,
        /// In place of the image's entry point.
        "Command" command: Option<Vec<String>>,
        /// Arguments of the command.
        "Args" args: Option<Vec<String>>,
        /// Its host name; may hold placeholders.
        "Hostname" hostname: Option<String>,
        /// Environment variables, `NAME=VALUE`; may hold placeholders.
        "Env" env: Option<Vec<String>>,
        /// Its working directory.
        "Dir" dir: Option<String>,
        /// Its user.
        "User" user: Option<String>,
        /// Further groups of the user.
        "Groups" groups: Option<Vec<String>>,
        /// Security options.
        "Privileges" privileges: Option<Privileges>,
        /// Whether an init process reaps children.
        "Init" init: Option<bool>,
        /// The signal that asks it to stop.
        "StopSignal" stop_signal: Option<String>,
        /// Whether it has a terminal.
        "TTY" tty: Option<bool>,
        /// Whether its standard input stays open.
        "OpenStdin" open_stdin: Option<bool>,
        /// Whether its root file system is read-only.
        "ReadOnly" read_only: Option<bool>,
        /// What is mounted; sources and targets may hold placeholders.
        "Mounts" mounts: Option<Vec<Mount>>,
        /// How long it is given to stop before it is killed.
        "StopGracePeriod" stop_grace_period: Option<Nanoseconds>,
        /// How it is checked.
        "Healthcheck" healthcheck: Option<HealthConfig>,
        /// Lines of its hosts file, `ADDRESS NAME…`.
        "Hosts" hosts: Option<Vec<String>>,
        /// How it resolves names.
        "DNSConfig" dns_config: Option<DnsConfig>,
        /// Secrets, as files.
        "Secrets" secrets: Option<Vec<SecretReference>>,
        /// Configs, as files.
        "Configs" configs: Option<Vec<ConfigReference>>,
        /// Of Windows.
        "Isolation" isolation: Option<String>,
        /// Kernel parameters of its namespaces.
        "Sysctls" sysctls: Option<Labels>,
        /// Capabilities beyond the default.
        "CapabilityAdd" capability_add: Option<Vec<String>>,
        /// Capabilities of the default that it does without.
        "CapabilityDrop" capability_drop: Option<Vec<String>>,
        /// Limits of its processes.
        "Ulimits" ulimits: Option<Vec<Ulimit>>,
        /// How readily the kernel kills it when memory is short, -1000 to 1000.
        "OomScoreAdj" oom_score_adj: Option<i64>,
        /// How its image is pulled. Docker's API has no such member: it is set from a request's header and never shown.
        "PullOptions" pull_options: Option<PullOptions>,
    }
}

spec! {
    /// How an image is pulled.
    PullOptions {
        /// Who asks the registry: the value of a request's `X-Registry-Auth`, JSON in base64url.
        "RegistryAuth" registry_auth: Option<Sensitive>,
    }
}

impl ContainerSpec {
    /// How long it is given to stop before it is killed; 10 seconds where nothing is said.
    pub fn stop_grace_period(&self) -> Nanoseconds {
        self.stop_grace_period.unwrap_or(Nanoseconds::from_secs(10))
    }

    /// Who asks the registry for its image, as a client sent it.
    pub fn registry_auth(&self) -> Option<&str> {
        let auth = self.pull_options.as_ref()?.registry_auth.as_ref()?;
        Some(auth.0.as_str()).filter(|auth| !auth.is_empty())
    }

    /// Its secrets.
    pub fn secrets(&self) -> &[SecretReference] {
        self.secrets.as_deref().unwrap_or_default()
    }

    /// Its configs.
    pub fn configs(&self) -> &[ConfigReference] {
        self.configs.as_deref().unwrap_or_default()
    }
}

spec! {
    /// Security options of a container.
    Privileges {
        /// Of Windows.
        "CredentialSpec" credential_spec: Option<CredentialSpec>,
        /// `SELinux` labels.
        "SELinuxContext" selinux_context: Option<Extra>,
        /// System call filter.
        "Seccomp" seccomp: Option<Extra>,
        /// `AppArmor` profile.
        "AppArmor" app_armor: Option<Extra>,
        /// Whether it can never gain privileges.
        "NoNewPrivileges" no_new_privileges: Option<bool>,
    }
}

spec! {
    /// Credentials of Windows.
    CredentialSpec {
        /// The config that holds them.
        "Config" config: Option<String>,
        /// A file.
        "File" file: Option<String>,
        /// A registry key.
        "Registry" registry: Option<String>,
    }
}

spec! {
    /// Something mounted in a container.
    Mount {
        /// `bind`, `volume`, `tmpfs`, `npipe`, `cluster` or `image`.
        "Type" kind: Option<String>,
        /// Where it comes from.
        "Source" source: Option<String>,
        /// Where the container sees it.
        "Target" target: Option<String>,
        /// Whether the container cannot write there.
        "ReadOnly" read_only: Option<bool>,
        /// Of Docker Desktop.
        "Consistency" consistency: Option<String>,
        /// Options of a bind.
        "BindOptions" bind_options: Option<BindOptions>,
        /// Options of a volume.
        "VolumeOptions" volume_options: Option<VolumeOptions>,
        /// Options of a tmpfs.
        "TmpfsOptions" tmpfs_options: Option<TmpfsOptions>,
    }
}

spec! {
    /// Options of a bind mount.
    BindOptions {
        /// `private`, `rprivate`, `shared`, `rshared`, `slave` or `rslave`.
        "Propagation" propagation: Option<String>,
        /// Whether mounts below the source stay out.
        "NonRecursive" non_recursive: Option<bool>,
        /// Whether a missing source is made.
        "CreateMountpoint" create_mountpoint: Option<bool>,
    }
}

spec! {
    /// Options of a volume.
    VolumeOptions {
        /// Whether what the image has at the target stays out.
        "NoCopy" no_copy: Option<bool>,
        /// Labels of the volume.
        "Labels" labels: Option<Labels>,
        /// The volume's driver.
        "DriverConfig" driver_config: Option<Driver>,
        /// A folder in the volume.
        "Subpath" subpath: Option<String>,
    }
}

spec! {
    /// Options of a tmpfs.
    TmpfsOptions {
        /// Its size; 0 without limit.
        "SizeBytes" size_bytes: Option<i64>,
        /// Its mode.
        "Mode" mode: Option<u32>,
    }
}

spec! {
    /// How a container is checked.
    HealthConfig {
        /// The test: `NONE`; or `CMD` or `CMD-SHELL`, and a command. Empty: the image's own.
        "Test" test: Option<Vec<String>>,
        /// From one check to the next; 30 seconds where nothing is said.
        "Interval" interval: Option<Nanoseconds>,
        /// How long one may take; 30 seconds where nothing is said.
        "Timeout" timeout: Option<Nanoseconds>,
        /// How long after the start failures do not count.
        "StartPeriod" start_period: Option<Nanoseconds>,
        /// From one check to the next meanwhile; 5 seconds where nothing is said.
        "StartInterval" start_interval: Option<Nanoseconds>,
        /// So many failures in a row count; 3 where nothing is said.
        "Retries" retries: Option<i64>,
    }
}

spec! {
    /// How a container resolves names.
    DnsConfig {
        /// Servers.
        "Nameservers" nameservers: Option<Vec<String>>,
        /// Domains tried after a short name.
        "Search" search: Option<Vec<String>>,
        /// Options of the resolver.
        "Options" options: Option<Vec<String>>,
    }
}

spec! {
    /// Where a secret or config is a file.
    FileTarget {
        /// Its name, under `/run/secrets` or `/` where it is not absolute.
        "Name" name: Option<String>,
        /// The owner's number.
        "UID" uid: Option<String>,
        /// The group's number.
        "GID" gid: Option<String>,
        /// The mode; 0444 where nothing is said.
        "Mode" mode: Option<u32>,
    }
}

spec! {
    /// A secret of a container.
    SecretReference {
        /// The file.
        "File" file: Option<FileTarget>,
        /// The secret.
        "SecretID" secret_id: Option<SecretId>,
        /// Its name.
        "SecretName" secret_name: Option<String>,
    }
}

spec! {
    /// A config of a container.
    ConfigReference {
        /// The file.
        "File" file: Option<FileTarget>,
        /// Set where the config is used by the runtime itself, not as a file.
        "Runtime" runtime: Option<Extra>,
        /// The config.
        "ConfigID" config_id: Option<ConfigId>,
        /// Its name.
        "ConfigName" config_name: Option<String>,
    }
}

spec! {
    /// A limit of processes.
    Ulimit {
        /// Which, such as `nofile`.
        "Name" name: Option<String>,
        /// What a process may raise it to.
        "Hard" hard: Option<i64>,
        /// What it is.
        "Soft" soft: Option<i64>,
    }
}
