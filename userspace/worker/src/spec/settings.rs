//! Mounts, limits and what the process runner lacks.

use super::{Unsupported, driver};
use essaim_objects::{
    BindOptions, ContainerSpec, Driver, Extra, Mount, Privileges, ResourceRequirements, Task, first_asked,
};
use essaim_runner::{Capability, LogOptions, MountSource, Propagation, Resources, Ulimit};
use std::path::PathBuf;

/// Refuses what a task of the process runner cannot have.
pub(super) fn refuse_what_is_not_there(container: &ContainerSpec) -> Result<(), Unsupported> {
    let refuse = |field: &str, reason: &str| Err(Unsupported::new(format!("ContainerSpec.{field}"), reason));
    if container.tty == Some(true) {
        return refuse("TTY", "tasks of this node have no terminals");
    }
    if container.open_stdin == Some(true) {
        return refuse("OpenStdin", "tasks of this node have no standard input");
    }
    match container.isolation.as_deref().unwrap_or_default() {
        "" | "default" => {}
        _ => return refuse("Isolation", "there is none on Linux, expected \"default\""),
    }
    if let Some(Privileges {
        credential_spec,
        selinux_context,
        seccomp,
        app_armor,
        no_new_privileges: _,
        extra: _,
    }) = &container.privileges
    {
        let asks = |given: &Option<Extra>, none: &str| {
            let mode = |given: &Extra| given.get("Mode").and_then(serde_json::Value::as_str) == Some(none);
            given
                .as_ref()
                .is_some_and(|given| !given.is_empty() && !mode(given))
        };
        let is_off = |context: &Extra| context.get("Disable") == Some(&serde_json::Value::Bool(true));
        if credential_spec.is_some() {
            return refuse("Privileges.CredentialSpec", "is of Windows");
        }
        if selinux_context
            .as_ref()
            .is_some_and(|context| !context.is_empty() && !is_off(context))
        {
            return refuse("Privileges.SELinuxContext", "tasks of this node have no labels");
        }
        if asks(seccomp, "unconfined") {
            return refuse(
                "Privileges.Seccomp",
                "tasks of this node have no filter of system calls",
            );
        }
        if asks(app_armor, "disabled") {
            return refuse("Privileges.AppArmor", "tasks of this node have no profile");
        }
    }
    Ok(())
}

pub(super) fn mounts(container: &ContainerSpec) -> Result<Vec<essaim_runner::Mount>, Unsupported> {
    container.mounts.iter().flatten().map(mount).collect()
}

fn mount(mount: &Mount) -> Result<essaim_runner::Mount, Unsupported> {
    let target = mount.target.clone().unwrap_or_default();
    let field = format!("ContainerSpec.Mounts[{target}]");
    refuse_unknown(&field, &mount.extra)?;
    let source = match mount.kind.as_deref().unwrap_or_default() {
        "bind" => bind(mount, &field)?,
        "tmpfs" => {
            let options = mount.tmpfs_options.as_ref();
            if let Some(options) = options {
                refuse_unknown(&format!("{field}.TmpfsOptions"), &options.extra)?;
            }
            let size = options.and_then(|options| options.size_bytes).unwrap_or_default();
            let size = u64::try_from(size).map_err(|_| Unsupported::new(&field, "SizeBytes is negative"))?;
            MountSource::Tmpfs {
                size: (size != 0).then_some(size),
                mode: options.and_then(|options| options.mode).filter(|mode| *mode != 0),
            }
        }
        kind => {
            let reason =
                format!("this node has no mounts of type \"{kind}\", expected \"bind\" or \"tmpfs\"");
            return Err(Unsupported::new(field, reason));
        }
    };
    Ok(essaim_runner::Mount {
        target: PathBuf::from(target),
        read_only: mount.read_only.unwrap_or(false),
        source,
    })
}

/// Refuses members that this version does not know and that ask for something.
fn refuse_unknown(field: &str, extra: &Extra) -> Result<(), Unsupported> {
    match first_asked(extra) {
        Some(name) => Err(Unsupported::new(
            format!("{field}.{name}"),
            "is not known to this node",
        )),
        None => Ok(()),
    }
}

fn bind(mount: &Mount, field: &str) -> Result<MountSource, Unsupported> {
    let BindOptions {
        propagation,
        non_recursive,
        create_mountpoint,
        mut extra,
    } = mount.bind_options.clone().unwrap_or_default();
    // Read-only is so for what is mounted below, too.
    extra.remove("ReadOnlyForceRecursive");
    refuse_unknown(&format!("{field}.BindOptions"), &extra)?;
    if create_mountpoint == Some(true) {
        let reason = "BindOptions.CreateMountpoint: sources are not made, expected one that is there";
        return Err(Unsupported::new(field, reason));
    }
    let propagation = match propagation.as_deref().unwrap_or_default() {
        "" | "private" | "rprivate" => Propagation::Private,
        "slave" | "rslave" => Propagation::Slave,
        "shared" | "rshared" => Propagation::Shared,
        other => {
            let reason = format!("BindOptions.Propagation: \"{other}\" is none");
            return Err(Unsupported::new(field, reason));
        }
    };
    Ok(MountSource::Bind {
        path: PathBuf::from(mount.source.clone().unwrap_or_default()),
        non_recursive: non_recursive.unwrap_or(false),
        propagation,
    })
}

pub(super) fn capabilities(field: &str, names: Option<&[String]>) -> Result<Vec<Capability>, Unsupported> {
    let names = names.unwrap_or_default().iter();
    let parsed = names.map(|name| {
        name.parse::<Capability>()
            .map_err(|error| Unsupported::new(field, error.to_string()))
    });
    parsed.collect()
}

pub(super) fn ulimits(container: &ContainerSpec) -> Vec<Ulimit> {
    let limits = container.ulimits.iter().flatten();
    let limits = limits.map(|limit| Ulimit {
        name: limit.name.clone().unwrap_or_default(),
        soft: limit.soft.unwrap_or_default(),
        hard: limit.hard.unwrap_or_default(),
    });
    limits.collect()
}

pub(super) fn oom_score_adj(container: &ContainerSpec) -> Result<Option<i32>, Unsupported> {
    let score = container.oom_score_adj.map(i32::try_from).transpose();
    score.map_err(|error| Unsupported::new("ContainerSpec.OomScoreAdj", error.to_string()))
}

pub(super) fn resources(task: &Task) -> Result<Resources, Unsupported> {
    let Some(ResourceRequirements {
        limits,
        reservations,
        swap_bytes,
        memory_swappiness,
        extra: _,
    }) = &task.spec.resources
    else {
        return Ok(Resources::default());
    };
    // Zero and what is below stand for no limit, as in Docker.
    let above_zero = |value: Option<i64>| {
        value
            .and_then(|value| u64::try_from(value).ok())
            .filter(|value| *value > 0)
    };
    if memory_swappiness.is_some_and(|value| value >= 0) {
        let reason = "tasks of this node have no swappiness of their own";
        return Err(Unsupported::new("Resources.MemorySwappiness", reason));
    }
    let limits = limits.clone().unwrap_or_default();
    let reserved = reservations
        .as_ref()
        .and_then(|reservations| reservations.memory_bytes);
    Ok(Resources {
        nano_cpus: above_zero(limits.nano_cpus),
        memory_bytes: above_zero(limits.memory_bytes),
        memory_reservation_bytes: above_zero(reserved),
        // -1 stands for any amount.
        swap_bytes: swap_bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        pids: above_zero(limits.pids),
    })
}

pub(super) fn log_options(log_driver: Option<&Driver>) -> Result<LogOptions, Unsupported> {
    const FIELD: &str = "LogDriver";
    let (name, options) = driver(log_driver);
    if !matches!(name, "" | "json-file" | "local") {
        let reason = format!("this node has no log driver \"{name}\", expected \"json-file\" or \"local\"");
        return Err(Unsupported::new(FIELD, reason));
    }
    let mut log = LogOptions::default();
    for (option, value) in options {
        let field = format!("{FIELD}.Options[{option}]");
        match option.as_str() {
            "max-size" => {
                let bytes = size(value).ok_or_else(|| {
                    Unsupported::new(
                        &field,
                        format!("\"{value}\" is no size, expected one such as \"10m\""),
                    )
                })?;
                log.max_size = bytes;
            }
            "max-file" => {
                let count = value.parse();
                log.max_file = count
                    .map_err(|_| Unsupported::new(&field, format!("\"{value}\" is no number of files")))?;
            }
            _ => {
                return Err(Unsupported::new(
                    field,
                    "is not known, expected max-size or max-file",
                ));
            }
        }
    }
    Ok(log)
}

/// A size as Docker writes it: a number and, in any case, `k`, `m`, `g` or `t` (of 1024), with or without `b` or `ib`.
fn size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = lower.get(digits.len()..)?;
    let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}
