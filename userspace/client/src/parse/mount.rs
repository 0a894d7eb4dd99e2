//! `--mount`: `type=bind,src=/a,dst=/b,readonly`.

use super::{Bytes, Expected, fields, key_value, switch};
use essaim_objects::{BindOptions, Driver, Labels, Mount, TmpfsOptions, VolumeOptions};
use std::str::FromStr;

const TYPES: &[&str] = &["bind", "volume", "tmpfs"];
const PROPAGATIONS: &[&str] = &["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// A mount of one flag.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MountFlag(pub(crate) Mount);

#[derive(Default)]
struct Parts {
    kind: Option<String>,
    mount: Mount,
    bind: Option<BindOptions>,
    volume: Option<VolumeOptions>,
    tmpfs: Option<TmpfsOptions>,
}

impl FromStr for MountFlag {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let mut parts = Parts::default();
        for field in fields(text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (field.as_str(), None),
            };
            parts.set(&key.to_ascii_lowercase(), value)?;
        }
        parts.finish().map(Self)
    }
}

impl Parts {
    fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), Expected> {
        match key {
            "readonly" | "ro" => {
                self.mount.read_only = switch(key, value)?.then_some(true);
                return Ok(());
            }
            "volume-nocopy" => {
                self.volume().no_copy = switch(key, value)?.then_some(true);
                return Ok(());
            }
            "bind-nonrecursive" => {
                self.bind().non_recursive = switch(key, value)?.then_some(true);
                return Ok(());
            }
            _ => {}
        }
        let value = value.ok_or_else(|| Expected::new(format!("{key}=VALUE")))?;
        match key {
            "type" => self.kind = Some(one_of(&value.to_ascii_lowercase(), "type", TYPES)?),
            "source" | "src" => self.mount.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => self.mount.target = Some(value.to_owned()),
            "bind-propagation" => {
                self.bind().propagation = Some(one_of(&value.to_ascii_lowercase(), key, PROPAGATIONS)?);
            }
            "volume-subpath" => self.volume().subpath = Some(value.to_owned()),
            "volume-driver" => self.driver().name = Some(value.to_owned()),
            "volume-label" => {
                let (name, value) = key_value(value)?;
                self.volume()
                    .labels
                    .get_or_insert_with(Labels::new)
                    .insert(name, value);
            }
            "volume-opt" => {
                let (name, value) = key_value(value)?;
                self.driver()
                    .options
                    .get_or_insert_with(Labels::new)
                    .insert(name, value);
            }
            "tmpfs-size" => self.tmpfs().size_bytes = Some(value.parse::<Bytes>()?.0),
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8)
                    .map_err(|_| Expected::new("tmpfs-mode=MODE in octal digits"))?;
                self.tmpfs().mode = Some(mode);
            }
            _ => {
                return Err(Expected::new(
                    "type, source, target, readonly, bind-propagation, bind-nonrecursive, volume-nocopy, volume-subpath, \
                     volume-driver, volume-label, volume-opt, tmpfs-size and tmpfs-mode as fields",
                ));
            }
        }
        Ok(())
    }

    fn bind(&mut self) -> &mut BindOptions {
        self.bind.get_or_insert_default()
    }

    /// Docker sends a driver with every option of a volume.
    fn volume(&mut self) -> &mut VolumeOptions {
        let options = self.volume.get_or_insert_default();
        options.driver_config.get_or_insert_default();
        options
    }

    fn driver(&mut self) -> &mut Driver {
        self.volume().driver_config.get_or_insert_default()
    }

    fn tmpfs(&mut self) -> &mut TmpfsOptions {
        self.tmpfs.get_or_insert_default()
    }

    fn finish(self) -> Result<Mount, Expected> {
        let Self {
            kind,
            mut mount,
            bind,
            volume,
            tmpfs,
        } = self;
        let kind = kind.unwrap_or_else(|| "volume".to_owned());
        let foreign = [
            ("bind", bind.is_some()),
            ("volume", volume.is_some()),
            ("tmpfs", tmpfs.is_some()),
        ];
        for (prefix, given) in foreign {
            if given && prefix != kind {
                return Err(Expected::new(format!(
                    "no {prefix}-* field for a mount of type {kind}"
                )));
            }
        }
        if mount.target.as_deref().is_none_or(str::is_empty) {
            return Err(Expected::new("target=PATH"));
        }
        if kind == "bind" && mount.source.as_deref().is_none_or(str::is_empty) {
            return Err(Expected::new("source=PATH for a bind mount"));
        }
        mount.kind = Some(kind);
        mount.bind_options = bind;
        mount.volume_options = volume;
        mount.tmpfs_options = tmpfs;
        Ok(mount)
    }
}

fn one_of(value: &str, key: &str, known: &[&str]) -> Result<String, Expected> {
    if known.contains(&value) {
        Ok(value.to_owned())
    } else {
        Err(Expected::new(format!("{key}={}", known.join(" or "))))
    }
}
