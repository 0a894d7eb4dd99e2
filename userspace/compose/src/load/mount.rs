//! What a service mounts: `SOURCE:TARGET:OPTIONS`, or a mapping.

use super::Loader;
use crate::model::MountUse;
use crate::read::Cursor;
use crate::yaml::Value;
use essaim_objects::{BindOptions, Mount, TmpfsOptions, VolumeOptions};

const PROPAGATIONS: &[&str] = &["private", "rprivate", "shared", "rshared", "slave", "rslave"];

impl Loader<'_> {
    pub(super) fn mount(&mut self, cursor: &Cursor<'_>) -> Option<MountUse> {
        let mut mount = match cursor.value() {
            Value::Map(_) => self.long_mount(cursor)?,
            Value::Text(text) | Value::Filled(text) => self.short_mount(cursor, text)?,
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::List(_) => {
                cursor.refuse(&mut self.findings, "SOURCE:TARGET, or a mapping");
                return None;
            }
        };
        if mount.target.as_deref().is_none_or(str::is_empty) {
            cursor.problem(&mut self.findings, "the target is missing, expected a path");
        }
        if mount.kind.as_deref() == Some("bind") {
            self.bind_source(cursor, &mut mount);
        }
        Some(MountUse {
            at: cursor.at(),
            mount,
        })
    }

    fn short_mount(&mut self, cursor: &Cursor<'_>, text: &str) -> Option<Mount> {
        let mut mount = Mount::default();
        let sections: Vec<&str> = text.split(':').collect();
        if sections.iter().any(|section| section.is_empty()) {
            cursor.refuse(
                &mut self.findings,
                "TARGET, SOURCE:TARGET or SOURCE:TARGET:OPTIONS",
            );
            return None;
        }
        let (source, target, options) = match sections.as_slice() {
            [target] => (None, *target, ""),
            [source, target] => (Some(*source), *target, ""),
            [source, target, options] => (Some(*source), *target, *options),
            _ => {
                cursor.refuse(
                    &mut self.findings,
                    "TARGET, SOURCE:TARGET or SOURCE:TARGET:OPTIONS",
                );
                return None;
            }
        };
        let bind = source.is_some_and(|source| source.starts_with(['.', '/', '~']));
        mount.kind = Some(if bind { "bind" } else { "volume" }.to_owned());
        mount.source = source.map(str::to_owned);
        mount.target = Some(target.to_owned());
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => mount.read_only = Some(true),
                "rw" => mount.read_only = None,
                "nocopy" if !bind => {
                    mount.volume_options = Some(VolumeOptions {
                        no_copy: Some(true),
                        ..VolumeOptions::default()
                    });
                }
                propagation if bind && PROPAGATIONS.contains(&propagation) => {
                    mount.bind_options = Some(BindOptions {
                        propagation: Some(propagation.to_owned()),
                        ..BindOptions::default()
                    });
                }
                other if other == "nocopy" || PROPAGATIONS.contains(&other) => {
                    let kind = if bind { "bind" } else { "volume" };
                    cursor.problem(
                        &mut self.findings,
                        format!("the option {other} in a mount of type {kind}"),
                    );
                }
                other => cursor.word(
                    &mut self.findings,
                    format!("the option {other} has no meaning here"),
                ),
            }
        }
        Some(mount)
    }

    fn long_mount(&mut self, cursor: &Cursor<'_>) -> Option<Mount> {
        let known = [
            "type",
            "source",
            "target",
            "read_only",
            "consistency",
            "bind",
            "volume",
            "tmpfs",
        ];
        let fields = cursor.fields(&mut self.findings, &known, false);
        let Some(kind) = fields.get("type") else {
            cursor.problem(
                &mut self.findings,
                "type is missing, expected bind, volume or tmpfs",
            );
            return None;
        };
        let kind: String = kind.word_of(&mut self.findings, &["bind", "volume", "tmpfs"])?;
        for other in ["bind", "volume", "tmpfs"] {
            if let Some(options) = fields.get(other)
                && other != kind
            {
                options.problem(
                    &mut self.findings,
                    format!("options of {other} in a mount of type {kind}"),
                );
            }
        }
        let mut mount = Mount {
            source: fields.text("source", &mut self.findings),
            target: fields.text("target", &mut self.findings),
            read_only: fields
                .truth("read_only", &mut self.findings)
                .filter(|read_only| *read_only),
            consistency: fields.text("consistency", &mut self.findings),
            ..Mount::default()
        };
        if kind == "tmpfs" && mount.source.is_some() {
            cursor.problem(
                &mut self.findings,
                "source and type tmpfs are both given, expected no source",
            );
        }
        mount.kind = Some(kind);
        if let Some(bind) = fields.get("bind") {
            let fields = bind.fields(&mut self.findings, &["propagation"], false);
            let propagation = fields.get("propagation");
            let options = BindOptions {
                propagation: propagation.and_then(|word| word.word_of(&mut self.findings, PROPAGATIONS)),
                ..BindOptions::default()
            };
            mount.bind_options = Some(options).filter(|options| *options != BindOptions::default());
        }
        if let Some(volume) = fields.get("volume") {
            let fields = volume.fields(&mut self.findings, &["nocopy", "subpath"], false);
            let options = VolumeOptions {
                no_copy: fields.truth("nocopy", &mut self.findings).filter(|on| *on),
                subpath: fields.text("subpath", &mut self.findings),
                ..VolumeOptions::default()
            };
            mount.volume_options = Some(options).filter(|options| *options != VolumeOptions::default());
        }
        if let Some(tmpfs) = fields.get("tmpfs") {
            let fields = tmpfs.fields(&mut self.findings, &["size", "mode"], false);
            let size = fields.get("size").and_then(|size| size.size(&mut self.findings));
            let mode = fields
                .get("mode")
                .and_then(|mode| mode.whole(&mut self.findings, "a mode such as 01777, without quotes"));
            let options = TmpfsOptions {
                size_bytes: size.filter(|size| *size != 0),
                mode,
                ..TmpfsOptions::default()
            };
            mount.tmpfs_options = Some(options).filter(|options| *options != TmpfsOptions::default());
        }
        Some(mount)
    }

    /// A path on the nodes: `~` is the operator's home, other paths start at the files' folder.
    fn bind_source(&mut self, cursor: &Cursor<'_>, mount: &mut Mount) {
        let Some(source) = mount.source.as_deref().filter(|source| !source.is_empty()) else {
            cursor.problem(&mut self.findings, "the source is missing, expected a path");
            return;
        };
        let source = match (source.strip_prefix('~'), (self.around.variable)("HOME")) {
            (None, _) => source.to_owned(),
            (Some(rest), Some(home)) => format!("{home}{rest}"),
            (Some(_), None) => {
                cursor.problem(&mut self.findings, "~ stands for nothing, for HOME is not set");
                return;
            }
        };
        mount.source = Some(if source.starts_with('/') {
            source
        } else {
            self.absolute(&source)
        });
    }

    /// A line of a service's `tmpfs`: `TARGET`, or `TARGET:size=64m,mode=1777`.
    pub(super) fn tmpfs(&mut self, cursor: &Cursor<'_>, text: &str) -> MountUse {
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let mut tmpfs = None;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let set: &mut TmpfsOptions = tmpfs.get_or_insert_default();
            let known = match option.split_once('=') {
                Some(("size", size)) => {
                    set.size_bytes = size
                        .parse::<essaim_objects::written::Bytes>()
                        .ok()
                        .map(|size| size.0);
                    set.size_bytes.is_some()
                }
                Some(("mode", mode)) => {
                    set.mode = u32::from_str_radix(mode, 8).ok();
                    set.mode.is_some()
                }
                _ => false,
            };
            if !known {
                cursor.problem(
                    &mut self.findings,
                    format!("found the option {option:?}, expected size=SIZE or mode=MODE"),
                );
            }
        }
        if target.is_empty() {
            cursor.problem(&mut self.findings, "the target is missing, expected a path");
        }
        MountUse {
            at: cursor.at(),
            mount: Mount {
                kind: Some("tmpfs".to_owned()),
                target: Some(target.to_owned()),
                tmpfs_options: tmpfs,
                ..Mount::default()
            },
        }
    }
}
