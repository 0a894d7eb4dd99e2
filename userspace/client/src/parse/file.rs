//! `--secret` and `--config`: `NAME` or `source=NAME,target=FILE,mode=0400`; `--network`: `NAME` or `name=NAME,alias=X`.

use super::{Expected, fields, key_value};
use essaim_objects::{FileTarget, Labels, NetworkTarget};
use std::str::FromStr;

/// A secret or config that a service is to have as a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FileFlag {
    pub(crate) source: String,
    pub(crate) file: FileTarget,
}

impl FromStr for FileFlag {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let (mut source, mut target, mut uid, mut gid, mut mode) =
            (None, None, "0".to_owned(), "0".to_owned(), 0o444);
        let fields = fields(text)?;
        if let [name] = fields.as_slice()
            && !name.contains('=')
        {
            source = Some(name.clone());
        } else {
            for field in fields {
                let (key, value) = field
                    .split_once('=')
                    .ok_or_else(|| Expected::new("KEY=VALUE fields"))?;
                match key.to_ascii_lowercase().as_str() {
                    "source" | "src" => source = Some(value.to_owned()),
                    "target" => target = Some(value.to_owned()),
                    "uid" => value.clone_into(&mut uid),
                    "gid" => value.clone_into(&mut gid),
                    "mode" => {
                        mode = u32::from_str_radix(value, 8)
                            .map_err(|_| Expected::new("mode=MODE in octal digits"))?;
                    }
                    _ => return Err(Expected::new("source, target, uid, gid and mode as fields")),
                }
            }
        }
        let source = source
            .filter(|source| !source.is_empty())
            .ok_or_else(|| Expected::new("source=NAME"))?;
        let file = FileTarget {
            name: Some(target.unwrap_or_else(|| source.clone())),
            uid: Some(uid),
            gid: Some(gid),
            mode: Some(mode),
            ..FileTarget::default()
        };
        Ok(Self { source, file })
    }
}

impl FileFlag {
    /// The file's name.
    pub(crate) fn target(&self) -> &str {
        self.file.name.as_deref().unwrap_or_default()
    }
}

/// A network that a service's tasks are to be on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AttachmentFlag {
    pub(crate) network: String,
    aliases: Vec<String>,
    options: Labels,
}

impl FromStr for AttachmentFlag {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let (mut network, mut aliases, mut options) = (None, Vec::new(), Labels::new());
        if text.contains('=') {
            for field in fields(text)? {
                let (key, value) = field
                    .split_once('=')
                    .ok_or_else(|| Expected::new("KEY=VALUE fields"))?;
                match key.trim().to_ascii_lowercase().as_str() {
                    "name" => network = Some(value.to_owned()),
                    "alias" => aliases.push(value.to_owned()),
                    "driver-opt" => {
                        let (name, value) = key_value(value)?;
                        options.insert(name, value);
                    }
                    _ => return Err(Expected::new("name, alias and driver-opt as fields")),
                }
            }
        } else {
            network = Some(text.to_owned());
        }
        let network = network
            .filter(|name| !name.is_empty())
            .ok_or_else(|| Expected::new("name=NETWORK"))?;
        Ok(Self {
            network,
            aliases,
            options,
        })
    }
}

impl AttachmentFlag {
    /// The attachment to the network of this identity.
    pub(crate) fn to_target(&self, id: &str) -> NetworkTarget {
        NetworkTarget {
            target: Some(id.to_owned()),
            aliases: (!self.aliases.is_empty()).then(|| self.aliases.clone()),
            driver_opts: (!self.options.is_empty()).then(|| self.options.clone()),
            ..NetworkTarget::default()
        }
    }
}
