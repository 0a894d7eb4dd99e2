//! The checks of containers.

use super::Problems;
use crate::{ContainerSpec, FileTarget, HealthConfig, Labels, Mount, Nanoseconds};
use essaim_model::ResolverOption;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The least time of a health check.
const MIN_CHECK_TIME: Nanoseconds = Nanoseconds(1_000_000);

pub(super) fn check(problems: &mut Problems, container: &ContainerSpec) {
    let image = container.image.as_deref().unwrap_or_default();
    if image.is_empty() || image.contains(|c: char| c.is_whitespace() || c.is_control()) {
        problems.text("Image", image, "the name of an image");
    }
    problems.labels("Labels", container.labels.as_ref());
    problems.template("Hostname", container.hostname.as_deref());
    problems.each("Env", container.env.as_deref(), |problems, variable| {
        if variable.is_empty() || variable.starts_with('=') || variable.contains('\0') {
            problems.text("", variable, "NAME=VALUE");
        }
        problems.template("", Some(variable));
    });
    let mut targets = BTreeSet::new();
    problems.each("Mounts", container.mounts.as_deref(), |problems, found| {
        mount(problems, found);
        let target = found.target.clone().unwrap_or_default();
        if !target.is_empty() && !targets.insert(target.clone()) {
            problems.text("Target", &target, "a path that is not mounted twice");
        }
    });
    problems.span("StopGracePeriod", container.stop_grace_period);
    if let Some(found) = &container.healthcheck {
        problems.within("Healthcheck", |problems| health(problems, found));
    }
    problems.each("Hosts", container.hosts.as_deref(), |problems, line| {
        let mut words = line.split_whitespace();
        let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
        if address.is_none() || words.next().is_none() {
            problems.text("", line, "an address and its names");
        }
    });
    let dns = container.dns_config.as_ref();
    problems.within("DNSConfig", |problems| {
        let servers = dns.and_then(|dns| dns.nameservers.as_deref());
        problems.each("Nameservers", servers, |problems, server| {
            if server.parse::<IpAddr>().is_err() {
                problems.text("", server, "an IP address");
            }
        });
        let search = dns.and_then(|dns| dns.search.as_deref());
        problems.each("Search", search, |problems, domain| {
            problems.host_name("", domain);
        });
        let options = dns.and_then(|dns| dns.options.as_deref());
        problems.each("Options", options, |problems, option| {
            if ResolverOption::new(option).is_err() {
                problems.text("", option, "an option of resolv.conf, such as rotate or ndots:2");
            }
        });
    });
    references(problems, container);
    problems.labels("Sysctls", container.sysctls.as_ref());
    problems.each("Ulimits", container.ulimits.as_deref(), |problems, limit| {
        let [soft, hard] = [limit.soft, limit.hard].map(Option::unwrap_or_default);
        if hard >= 0 && (soft > hard || soft < 0) {
            problems.add("Soft", soft, format_args!("0 to {hard}, the hard limit"));
        }
    });
    problems.number("OomScoreAdj", container.oom_score_adj, -1000, 1000);
}

fn mount(problems: &mut Problems, mount: &Mount) {
    let [kind, source, target] =
        [&mount.kind, &mount.source, &mount.target].map(|text| text.as_deref().unwrap_or_default());
    if !target.starts_with(['/', '{']) {
        problems.text("Target", target, "an absolute path");
    }
    match kind {
        "bind" if !source.starts_with(['/', '{']) => problems.text("Source", source, "an absolute path"),
        "tmpfs" if !source.is_empty() => problems.text("Source", source, "none for a tmpfs"),
        "bind" | "tmpfs" | "volume" | "" => {}
        other => problems.text("Type", other, "bind, volume or tmpfs"),
    }
    for (name, text) in [("Source", source), ("Target", target)] {
        problems.template(name, Some(text));
    }
    for (name, is_given, expected) in [
        ("BindOptions", mount.bind_options.is_some(), "bind"),
        ("VolumeOptions", mount.volume_options.is_some(), "volume"),
        ("TmpfsOptions", mount.tmpfs_options.is_some(), "tmpfs"),
    ] {
        let is_meant = kind == expected || kind.is_empty() && expected == "volume";
        if is_given && !is_meant {
            problems.add(name, "given", format_args!("none for a {kind} mount"));
        }
    }
    if let Some(options) = &mount.tmpfs_options {
        problems.number("TmpfsOptions.SizeBytes", options.size_bytes, 0, i64::MAX);
        problems.number("TmpfsOptions.Mode", options.mode, 0, 0o7777);
    }
    if let Some(options) = &mount.volume_options {
        let driver = options
            .driver_config
            .as_ref()
            .and_then(|driver| driver.options.as_ref());
        for text in options.labels.iter().chain(driver).flat_map(Labels::values) {
            problems.template("VolumeOptions", Some(text));
        }
    }
}

fn health(problems: &mut Problems, check: &HealthConfig) {
    let test = check.test.as_deref().unwrap_or_default();
    match test.first().map_or("", String::as_str) {
        "" | "NONE" => {}
        "CMD" | "CMD-SHELL" if test.len() > 1 => {}
        "CMD" | "CMD-SHELL" => problems.add("Test", "no command", "a command"),
        other => problems.text("Test[0]", other, "NONE, CMD or CMD-SHELL"),
    }
    for (name, time) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ] {
        if let Some(time) = time.filter(|time| time.0 != 0 && *time < MIN_CHECK_TIME) {
            problems.add(
                name,
                format_args!("{} ns", time.0),
                "0 for the default, or 1 ms or more",
            );
        }
    }
    problems.number("Retries", check.retries, 0, i64::MAX);
}

/// Secrets and configs, whose files must be apart.
fn references(problems: &mut Problems, container: &ContainerSpec) {
    let mut targets = BTreeSet::new();
    problems.each("Secrets", container.secrets.as_deref(), |problems, secret| {
        if secret.secret_id.is_none() {
            problems.add("SecretID", "absent", "the identity of a secret");
        }
        named(problems, "SecretName", secret.secret_name.as_deref());
        match &secret.file {
            Some(target) => file(problems, target, "/run/secrets/", &mut targets),
            None => problems.add("File", "absent", "where the secret goes"),
        }
    });
    problems.each("Configs", container.configs.as_deref(), |problems, config| {
        if config.config_id.is_none() {
            problems.add("ConfigID", "absent", "the identity of a config");
        }
        named(problems, "ConfigName", config.config_name.as_deref());
        match (&config.file, &config.runtime) {
            (Some(target), None) => file(problems, target, "/", &mut targets),
            (None, Some(_)) => {}
            (Some(_), Some(_)) => problems.add("", "both File and Runtime", "one of them"),
            (None, None) => problems.add("File", "absent", "where the config goes"),
        }
    });
}

fn named(problems: &mut Problems, name: &str, found: Option<&str>) {
    if found.unwrap_or_default().is_empty() {
        problems.add(name, "absent", "its name");
    }
}

fn file(problems: &mut Problems, file: &FileTarget, folder: &str, targets: &mut BTreeSet<String>) {
    let name = file.name.as_deref().unwrap_or_default();
    let path = if name.starts_with('/') {
        name.to_owned()
    } else {
        format!("{folder}{name}")
    };
    if name.is_empty() || path.split('/').any(|part| part == "..") {
        problems.text("File.Name", name, "a path without \"..\"");
    } else if !targets.insert(path) {
        problems.text("File.Name", name, "a path that no other secret or config has");
    }
    for (member, number) in [("File.UID", &file.uid), ("File.GID", &file.gid)] {
        let text = number.as_deref().unwrap_or_default();
        if !text.is_empty() && text.parse::<u32>().is_err() {
            problems.text(member, text, "a number");
        }
    }
    problems.number("File.Mode", file.mode, 0, 0o7777);
}
