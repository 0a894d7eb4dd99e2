//! What the spec has mounted.

use super::PlanError;
use bollard::models::{
    Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions, MountType,
    MountVolumeOptions, MountVolumeOptionsDriverConfig,
};
use essaim_objects::{BindOptions, ContainerSpec, Extra, TmpfsOptions, VolumeOptions, first_asked};

pub(super) fn mounts(container: &ContainerSpec) -> Result<Vec<Mount>, PlanError> {
    container.mounts.iter().flatten().map(mount).collect()
}

fn mount(mount: &essaim_objects::Mount) -> Result<Mount, PlanError> {
    let target = mount.target.clone().unwrap_or_default();
    let field = format!("ContainerSpec.Mounts[{target}]");
    refuse_unknown(&field, &mount.extra)?;
    let typ = match mount.kind.as_deref().unwrap_or_default() {
        "bind" => MountType::BIND,
        "volume" => MountType::VOLUME,
        "tmpfs" => MountType::TMPFS,
        kind => {
            let reason = format!(
                "a container of a service has no mounts of type \"{kind}\", expected \"bind\", \"volume\" or \"tmpfs\""
            );
            return Err(PlanError::new(field, reason));
        }
    };
    let bind = mount.bind_options.as_ref();
    let volume = mount.volume_options.as_ref();
    let tmpfs = mount.tmpfs_options.as_ref();
    Ok(Mount {
        typ: Some(typ),
        target: Some(target),
        source: mount.source.clone().filter(|source| !source.is_empty()),
        read_only: mount.read_only,
        consistency: mount.consistency.clone(),
        bind_options: bind.map(|options| bind_options(&field, options)).transpose()?,
        volume_options: volume
            .map(|options| volume_options(&field, options))
            .transpose()?,
        tmpfs_options: tmpfs.map(|options| tmpfs_options(&field, options)).transpose()?,
        image_options: None,
    })
}

fn bind_options(field: &str, options: &BindOptions) -> Result<MountBindOptions, PlanError> {
    let flag = |name: &str| options.extra.get(name).and_then(serde_json::Value::as_bool);
    let mut unknown = options.extra.clone();
    unknown.remove("ReadOnlyNonRecursive");
    unknown.remove("ReadOnlyForceRecursive");
    refuse_unknown(&format!("{field}.BindOptions"), &unknown)?;
    let propagation = match options.propagation.as_deref().unwrap_or_default() {
        "" => None,
        text => Some(
            text.parse::<MountBindOptionsPropagationEnum>()
                .map_err(|_| PlanError::new(field, format!("BindOptions.Propagation: \"{text}\" is none")))?,
        ),
    };
    Ok(MountBindOptions {
        propagation,
        non_recursive: options.non_recursive,
        create_mountpoint: options.create_mountpoint,
        read_only_non_recursive: flag("ReadOnlyNonRecursive"),
        read_only_force_recursive: flag("ReadOnlyForceRecursive"),
    })
}

fn volume_options(field: &str, options: &VolumeOptions) -> Result<MountVolumeOptions, PlanError> {
    refuse_unknown(&format!("{field}.VolumeOptions"), &options.extra)?;
    let driver = options.driver_config.as_ref();
    Ok(MountVolumeOptions {
        no_copy: options.no_copy,
        labels: options
            .labels
            .as_ref()
            .map(|labels| labels.clone().into_iter().collect()),
        driver_config: driver.map(|driver| MountVolumeOptionsDriverConfig {
            name: driver.name.clone(),
            options: driver
                .options
                .as_ref()
                .map(|options| options.clone().into_iter().collect()),
        }),
        subpath: options.subpath.clone(),
    })
}

fn tmpfs_options(field: &str, options: &TmpfsOptions) -> Result<MountTmpfsOptions, PlanError> {
    refuse_unknown(&format!("{field}.TmpfsOptions"), &options.extra)?;
    Ok(MountTmpfsOptions {
        size_bytes: options.size_bytes,
        mode: options.mode.map(i64::from),
        options: None,
    })
}

/// Refuses members that this version does not know and that ask for something.
fn refuse_unknown(field: &str, extra: &Extra) -> Result<(), PlanError> {
    match first_asked(extra) {
        Some(name) => Err(PlanError::new(
            format!("{field}.{name}"),
            "is not known to this node",
        )),
        None => Ok(()),
    }
}
