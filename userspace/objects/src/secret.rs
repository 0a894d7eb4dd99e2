//! Secrets and configs.

use crate::object::{object, spec};
use crate::{ConfigId, Data, Driver, Labels, SecretId, Timestamp, Version};

object! {
    /// Bytes that only the tasks that use them may see.
    Secret {
        /// Its identity.
        "ID" id: SecretId,
        /// The log index of its last change.
        "Version" version: Version,
        /// When it was made.
        "CreatedAt" created_at: Timestamp,
        /// When it was last changed.
        "UpdatedAt" updated_at: Timestamp,
        /// What it is.
        "Spec" spec: SecretSpec,
    }
}

impl Secret {
    /// A new secret; the store gives it version and times.
    pub fn new(id: SecretId, spec: SecretSpec) -> Self {
        Self {
            id,
            version: Version::default(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            spec,
            extra: crate::Extra::new(),
        }
    }

    /// As the API may show it: without the data.
    #[must_use]
    pub fn to_public(&self) -> Self {
        let mut public = self.clone();
        public.spec.data = None;
        public
    }
}

spec! {
    /// What a secret is.
    SecretSpec {
        /// Its name.
        "Name" name: Option<String>,
        /// Its labels.
        "Labels" labels: Option<Labels>,
        /// The bytes.
        "Data" data: Option<Data>,
        /// Who gives the bytes, where the cluster does not keep them.
        "Driver" driver: Option<Driver>,
        /// What fills in placeholders.
        "Templating" templating: Option<Driver>,
    }
}

object! {
    /// Bytes that the tasks that use them see as a file.
    Config {
        /// Its identity.
        "ID" id: ConfigId,
        /// The log index of its last change.
        "Version" version: Version,
        /// When it was made.
        "CreatedAt" created_at: Timestamp,
        /// When it was last changed.
        "UpdatedAt" updated_at: Timestamp,
        /// What it is.
        "Spec" spec: ConfigSpec,
    }
}

impl Config {
    /// A new config; the store gives it version and times.
    pub fn new(id: ConfigId, spec: ConfigSpec) -> Self {
        Self {
            id,
            version: Version::default(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            spec,
            extra: crate::Extra::new(),
        }
    }
}

spec! {
    /// What a config is.
    ConfigSpec {
        /// Its name.
        "Name" name: Option<String>,
        /// Its labels.
        "Labels" labels: Option<Labels>,
        /// The bytes.
        "Data" data: Option<Data>,
        /// What fills in placeholders.
        "Templating" templating: Option<Driver>,
    }
}
