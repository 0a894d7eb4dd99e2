//! What flags name, and the identities that the API wants in its place.

use crate::error::Error;
use crate::parse::{AttachmentFlag, FileFlag};
use essaim_objects::{ConfigId, ConfigReference, SecretId, SecretReference};
use std::collections::{BTreeMap, BTreeSet};

/// Names that must be looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    pub(crate) networks: BTreeSet<String>,
    pub(crate) secrets: BTreeSet<String>,
    pub(crate) configs: BTreeSet<String>,
}

impl References {
    pub(crate) fn of(networks: &[AttachmentFlag], secrets: &[FileFlag], configs: &[FileFlag]) -> Self {
        Self {
            networks: networks.iter().map(|flag| flag.network.clone()).collect(),
            secrets: secrets.iter().map(|flag| flag.source.clone()).collect(),
            configs: configs.iter().map(|flag| flag.source.clone()).collect(),
        }
    }
}

/// The identities by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) networks: BTreeMap<String, String>,
    pub(crate) secrets: BTreeMap<String, SecretId>,
    pub(crate) configs: BTreeMap<String, ConfigId>,
}

impl Names {
    /// A network's identity.
    pub(crate) fn network(&self, name: &str) -> Result<&str, Error> {
        self.networks
            .get(name)
            .map(String::as_str)
            .ok_or_else(|| Error::Missing(format!("network {name} not found")))
    }

    pub(crate) fn secrets(&self, flags: &[FileFlag]) -> Result<Vec<SecretReference>, Error> {
        let of_flag = |flag: &FileFlag| {
            let id = self
                .secrets
                .get(&flag.source)
                .ok_or_else(|| Error::Missing(format!("secret {} not found", flag.source)))?;
            Ok(SecretReference {
                file: Some(flag.file.clone()),
                secret_id: Some(*id),
                secret_name: Some(flag.source.clone()),
                ..SecretReference::default()
            })
        };
        flags.iter().map(of_flag).collect()
    }

    pub(crate) fn configs(&self, flags: &[FileFlag]) -> Result<Vec<ConfigReference>, Error> {
        let of_flag = |flag: &FileFlag| {
            let id = self
                .configs
                .get(&flag.source)
                .ok_or_else(|| Error::Missing(format!("config {} not found", flag.source)))?;
            Ok(ConfigReference {
                file: Some(flag.file.clone()),
                config_id: Some(*id),
                config_name: Some(flag.source.clone()),
                ..ConfigReference::default()
            })
        };
        flags.iter().map(of_flag).collect()
    }
}
