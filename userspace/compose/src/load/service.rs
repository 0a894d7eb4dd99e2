//! One service.

use super::{DEPRECATED, FORBIDDEN, Loader, UNSUPPORTED, env_file};
use crate::model::{Attachment, FileUse, Health, MountUse, Service};
use crate::read::{Cursor, Fields};
use crate::yaml::Value;
use essaim_objects::written::{LIMITS, capability, ports};
use essaim_objects::{Driver, FileTarget, HealthConfig, Labels, PortConfig, Protocol, PublishMode};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

/// Every key of a service that has an effect.
const KNOWN: &[&str] = &[
    "cap_add",
    "cap_drop",
    "command",
    "configs",
    "deploy",
    "dns",
    "dns_search",
    "entrypoint",
    "env_file",
    "environment",
    "extra_hosts",
    "group_add",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "isolation",
    "labels",
    "logging",
    "networks",
    "oom_score_adj",
    "ports",
    "read_only",
    "restart",
    "secrets",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "user",
    "volumes",
    "working_dir",
];

/// The most ports of a service; ranges make many of a few characters.
const MOST_PORTS: usize = 20_000;

impl Loader<'_> {
    pub(super) fn service(&mut self, cursor: &Cursor<'_>) -> Option<Service> {
        let mut known = KNOWN.to_vec();
        known.extend(UNSUPPORTED);
        known.extend(DEPRECATED.iter().chain(FORBIDDEN).map(|(name, _)| name));
        let fields = cursor.fields(&mut self.findings, &known, true);
        if !matches!(cursor.value(), Value::Map(_)) {
            return None;
        }
        self.without_effect(&fields);
        let deploy = fields
            .get("deploy")
            .map(|deploy| self.deploy(deploy))
            .unwrap_or_default();
        let mut volumes = self.mounts(&fields);
        volumes.extend(self.tmpfs_mounts(&fields));
        let service = Service {
            at: cursor.at(),
            environment: self.environment(&fields),
            healthcheck: fields.get("healthcheck").map(|health| self.health(health)),
            logging: fields.get("logging").map(|logging| self.logging(logging)),
            ports: self.ports(&fields),
            networks: self.attachments(&fields),
            secrets: self.file_uses(&fields, "secrets"),
            configs: self.file_uses(&fields, "configs"),
            volumes,
            restart: fields.get("restart").and_then(|restart| self.restart(restart)),
            ulimits: self.ulimits(&fields),
            extra_hosts: self.extra_hosts(&fields),
            cap_add: self.capabilities(&fields, "cap_add"),
            cap_drop: self.capabilities(&fields, "cap_drop"),
            dns: self.name_servers(&fields),
            groups: self.groups(&fields),
            deploy,
            image: fields.text("image", &mut self.findings),
            entrypoint: fields
                .get("entrypoint")
                .and_then(|words| words.words(&mut self.findings)),
            command: fields
                .get("command")
                .and_then(|words| words.words(&mut self.findings)),
            labels: fields.labels("labels", &mut self.findings),
            hostname: fields.text("hostname", &mut self.findings),
            user: fields.text("user", &mut self.findings),
            working_dir: fields.text("working_dir", &mut self.findings),
            stop_signal: fields.text("stop_signal", &mut self.findings),
            stop_grace_period: fields.span("stop_grace_period", &mut self.findings),
            isolation: fields.text("isolation", &mut self.findings),
            tty: fields.truth("tty", &mut self.findings),
            stdin_open: fields.truth("stdin_open", &mut self.findings),
            init: fields.truth("init", &mut self.findings),
            read_only: fields.truth("read_only", &mut self.findings),
            dns_search: fields.text_or_texts("dns_search", &mut self.findings),
            sysctls: fields.labels("sysctls", &mut self.findings),
            oom_score_adj: fields
                .get("oom_score_adj")
                .and_then(|score| score.whole(&mut self.findings, "a whole number, without quotes")),
        };
        Some(service)
    }

    /// Takes down the keys that are read over, and refuses those that are not.
    fn without_effect(&mut self, fields: &Fields<'_>) {
        for name in UNSUPPORTED {
            if fields.has(name) {
                self.unsupported.insert((*name).to_owned());
            }
        }
        for (name, why) in DEPRECATED {
            if fields.has(name) {
                self.deprecated.insert((*name).to_owned(), (*why).to_owned());
            }
        }
        for (name, why) in FORBIDDEN {
            if let Some(cursor) = fields.get(name) {
                cursor.problem(&mut self.findings, *why);
            }
        }
    }

    /// The variables: those of files, then the service's own in their place. One without a value, or with an empty one,
    /// takes the operator's.
    fn environment(&mut self, fields: &Fields<'_>) -> BTreeMap<String, Option<String>> {
        let mut environment = BTreeMap::new();
        let variable = self.around.variable;
        let mut set = |name: String, value: Option<String>| {
            let value = match value {
                Some(value) if !value.is_empty() => Some(value),
                other => variable(&name).or(other),
            };
            environment.insert(name, value);
        };
        if let Some(cursor) = fields.get("env_file") {
            for file in cursor.text_or_texts(&mut self.findings) {
                let path = self.absolute(&file);
                match (self.around.read)(Path::new(&path)) {
                    Err(error) => self.unreadable(cursor.at(), &cursor.path, &path, &error),
                    Ok(bytes) => match env_file(&String::from_utf8_lossy(&bytes), variable) {
                        Ok(variables) => variables
                            .into_iter()
                            .for_each(|(name, value)| set(name, Some(value))),
                        Err(error) => cursor.problem(&mut self.findings, format!("the file {path}: {error}")),
                    },
                }
            }
        }
        if let Some(cursor) = fields.get("environment") {
            for (name, value) in cursor.pairs(&mut self.findings) {
                set(name, value);
            }
        }
        environment
    }

    fn health(&mut self, cursor: &Cursor<'_>) -> Health {
        let findings = &mut self.findings;
        let known = [
            "test",
            "interval",
            "timeout",
            "retries",
            "start_period",
            "start_interval",
            "disable",
        ];
        let fields = cursor.fields(findings, &known, false);
        let test = fields.get("test").map(|test| match test.value() {
            Value::Text(text) | Value::Filled(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
            Value::List(_) => {
                let words = test.texts(findings);
                let first = words.first().map(String::as_str);
                if !matches!(first, None | Some("NONE" | "CMD" | "CMD-SHELL")) {
                    test.problem(findings, "expected NONE, CMD or CMD-SHELL first in the list");
                }
                words
            }
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Map(_) => {
                test.refuse(findings, "text or a list");
                Vec::new()
            }
        });
        Health {
            disable: fields.truth("disable", findings),
            config: HealthConfig {
                test: test.filter(|test| !test.is_empty()),
                interval: fields.span("interval", findings),
                timeout: fields.span("timeout", findings),
                start_period: fields.span("start_period", findings),
                start_interval: fields.span("start_interval", findings),
                retries: fields
                    .get("retries")
                    .and_then(|retries| {
                        retries.whole::<u32>(findings, "a whole number of 0 or more, without quotes")
                    })
                    .map(i64::from),
                ..HealthConfig::default()
            },
        }
    }

    fn logging(&mut self, cursor: &Cursor<'_>) -> Driver {
        let fields = cursor.fields(&mut self.findings, &["driver", "options"], false);
        let options = self.options(&fields, "options");
        Driver {
            name: fields.text("driver", &mut self.findings),
            options: (!options.is_empty()).then_some(options),
            ..Driver::default()
        }
    }

    fn ports(&mut self, fields: &Fields<'_>) -> Vec<PortConfig> {
        let mut all = Vec::new();
        for cursor in fields.items("ports", &mut self.findings) {
            match cursor.value() {
                Value::Map(_) => all.push(self.long_port(&cursor)),
                Value::Integer(number) => self.short_ports(&cursor, &number.to_string(), &mut all),
                Value::Text(text) | Value::Filled(text) => self.short_ports(&cursor, text, &mut all),
                Value::Null | Value::Bool(_) | Value::Float(_) | Value::List(_) => {
                    cursor.refuse(&mut self.findings, "PUBLISHED:TARGET, or a mapping");
                }
            }
        }
        if let Some(cursor) = fields.get("ports")
            && all.len() > MOST_PORTS
        {
            cursor.problem(
                &mut self.findings,
                format!("found {} ports, expected at most {MOST_PORTS}", all.len()),
            );
            all.clear();
        }
        all
    }

    /// `[ADDRESS:][PUBLISHED:]TARGET[/PROTOCOL]`; ports are open at every address.
    fn short_ports(&mut self, cursor: &Cursor<'_>, text: &str, all: &mut Vec<PortConfig>) {
        let without = |colons: usize| {
            let mut found = text.match_indices(':').rev();
            let (at, _) = found.nth(colons - 1)?;
            text.get(..at).zip(text.get(at + 1..))
        };
        // Of three parts and more the last two are ports.
        let rest = match without(2) {
            Some((address, rest)) => {
                let bare = address
                    .strip_prefix('[')
                    .and_then(|inner| inner.strip_suffix(']'));
                if bare.unwrap_or(address).parse::<IpAddr>().is_err() {
                    cursor.refuse(
                        &mut self.findings,
                        "[ADDRESS:]PUBLISHED:TARGET with an IP address",
                    );
                    return;
                }
                cursor.word(
                    &mut self.findings,
                    format!("the address {address} is ignored: the port is open at every address"),
                );
                rest
            }
            None => text,
        };
        match ports(rest.strip_prefix(':').unwrap_or(rest)) {
            Ok(ports) => all.extend(ports),
            Err(expected) => cursor.refuse(&mut self.findings, &expected.0),
        }
    }

    fn long_port(&mut self, cursor: &Cursor<'_>) -> PortConfig {
        let findings = &mut self.findings;
        let fields = cursor.fields(findings, &["target", "published", "protocol", "mode"], false);
        let expected = "a port of 1 to 65535, without quotes";
        let target = fields
            .get("target")
            .and_then(|port| port.whole::<u16>(findings, expected))
            .map(u32::from)
            .filter(|port| *port != 0);
        if target.is_none() {
            cursor.problem(findings, format!("target is missing, expected {expected}"));
        }
        PortConfig {
            target_port: target,
            published_port: fields
                .get("published")
                .and_then(|port| port.whole::<u16>(findings, "a port of 0 to 65535, without quotes"))
                .filter(|port| *port != 0)
                .map(u32::from),
            protocol: fields
                .get("protocol")
                .and_then(|word| word.word_of::<Protocol>(findings, &["tcp", "udp", "sctp"])),
            publish_mode: fields
                .get("mode")
                .and_then(|word| word.word_of::<PublishMode>(findings, &["ingress", "host"])),
            ..PortConfig::default()
        }
    }

    fn attachments(&mut self, fields: &Fields<'_>) -> BTreeMap<String, Attachment> {
        let mut attachments = BTreeMap::new();
        let Some(cursor) = fields.get("networks") else {
            return attachments;
        };
        let bare = |cursor: &Cursor<'_>| Attachment {
            at: cursor.at(),
            aliases: Vec::new(),
            driver_opts: Labels::new(),
        };
        if matches!(cursor.value(), Value::List(_)) {
            for item in cursor.items(&mut self.findings) {
                if let Some(name) = item.text(&mut self.findings) {
                    attachments.insert(name, bare(&item));
                }
            }
            return attachments;
        }
        for (key, cursor) in cursor.entries(&mut self.findings) {
            let mut attachment = bare(&cursor);
            if !cursor.is_null() {
                let known = ["aliases", "driver_opts", "ipv4_address", "ipv6_address"];
                let fields = cursor.fields(&mut self.findings, &known, false);
                attachment.aliases = fields.texts("aliases", &mut self.findings);
                attachment.driver_opts = self.options(&fields, "driver_opts");
                for address in ["ipv4_address", "ipv6_address"] {
                    if fields.has(address) {
                        self.unsupported.insert(address.to_owned());
                    }
                }
            }
            attachments.insert(key.name.clone(), attachment);
        }
        attachments
    }

    fn file_uses(&mut self, fields: &Fields<'_>, name: &str) -> Vec<FileUse> {
        let mut uses = Vec::new();
        for cursor in fields.items(name, &mut self.findings) {
            let findings = &mut self.findings;
            let (source, file) = match cursor.value() {
                Value::Text(text) | Value::Filled(text) => (Some(text.clone()), FileTarget::default()),
                Value::Map(_) => {
                    let known = ["source", "target", "uid", "gid", "mode"];
                    let fields = cursor.fields(findings, &known, false);
                    if !fields.has("source") {
                        cursor.problem(findings, "source is missing, expected a name");
                    }
                    let file = FileTarget {
                        name: fields
                            .text("target", findings)
                            .filter(|target| !target.is_empty()),
                        uid: fields.text("uid", findings).filter(|uid| !uid.is_empty()),
                        gid: fields.text("gid", findings).filter(|gid| !gid.is_empty()),
                        mode: fields
                            .get("mode")
                            .and_then(|mode| mode.whole(findings, "a mode such as 0440, without quotes")),
                        ..FileTarget::default()
                    };
                    (fields.text("source", findings), file)
                }
                Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::List(_) => {
                    cursor.refuse(findings, "a name, or a mapping");
                    continue;
                }
            };
            uses.extend(source.map(|source| FileUse {
                at: cursor.at(),
                source,
                file,
            }));
        }
        uses
    }

    fn mounts(&mut self, fields: &Fields<'_>) -> Vec<MountUse> {
        let items = fields.items("volumes", &mut self.findings);
        items.iter().filter_map(|item| self.mount(item)).collect()
    }

    fn tmpfs_mounts(&mut self, fields: &Fields<'_>) -> Vec<MountUse> {
        let Some(cursor) = fields.get("tmpfs") else {
            return Vec::new();
        };
        let lines = cursor.text_or_texts(&mut self.findings);
        lines.iter().map(|line| self.tmpfs(cursor, line)).collect()
    }

    fn ulimits(&mut self, fields: &Fields<'_>) -> BTreeMap<String, (i64, i64)> {
        let mut limits = BTreeMap::new();
        let Some(cursor) = fields.get("ulimits") else {
            return limits;
        };
        let findings = &mut self.findings;
        let expected = "a whole number, or soft and hard, without quotes";
        for (key, cursor) in cursor.entries(findings) {
            let name = key.name.as_str();
            if !LIMITS.contains(&name) {
                cursor.problem(
                    findings,
                    format!("there is no such limit, expected one of {}", LIMITS.join(", ")),
                );
            }
            let both = if matches!(cursor.value(), Value::Map(_)) {
                let fields = cursor.fields(findings, &["soft", "hard"], false);
                let mut get = |name: &str| {
                    let Some(limit) = fields.get(name) else {
                        cursor.problem(findings, format!("{name} is missing"));
                        return None;
                    };
                    limit.whole::<i64>(findings, "a whole number, without quotes")
                };
                let (soft, hard) = (get("soft"), get("hard"));
                soft.zip(hard)
            } else {
                cursor
                    .whole::<i64>(findings, expected)
                    .map(|limit| (limit, limit))
            };
            if let Some(both) = both {
                limits.insert(name.to_owned(), both);
            }
        }
        limits
    }

    /// `NAME:ADDRESS` of a list, or of a mapping.
    fn extra_hosts(&mut self, fields: &Fields<'_>) -> Vec<String> {
        let Some(cursor) = fields.get("extra_hosts") else {
            return Vec::new();
        };
        let findings = &mut self.findings;
        if matches!(cursor.value(), Value::Map(_)) {
            let mut hosts = Vec::new();
            for (key, cursor) in cursor.entries(findings) {
                if let Some(Some(address)) = cursor.written(findings) {
                    hosts.push(format!("{}:{address}", key.name));
                }
            }
            hosts.sort();
            return hosts;
        }
        let hosts = cursor.texts(findings);
        for host in &hosts {
            if host
                .split_once(':')
                .is_none_or(|(name, address)| name.is_empty() || address.is_empty())
            {
                cursor.problem(findings, format!("found {host:?}, expected NAME:ADDRESS"));
            }
        }
        hosts
    }

    fn capabilities(&mut self, fields: &Fields<'_>, name: &str) -> Vec<String> {
        let items = fields.items(name, &mut self.findings);
        let parse = |item: &Cursor<'_>| item.parsed(&mut self.findings, capability);
        items.iter().filter_map(parse).collect()
    }

    fn name_servers(&mut self, fields: &Fields<'_>) -> Vec<String> {
        let servers = fields.text_or_texts("dns", &mut self.findings);
        if let Some(cursor) = fields.get("dns") {
            for server in &servers {
                if server.parse::<IpAddr>().is_err() {
                    cursor.problem(
                        &mut self.findings,
                        format!("found {server:?}, expected an IP address"),
                    );
                }
            }
        }
        servers
    }

    fn groups(&mut self, fields: &Fields<'_>) -> Vec<String> {
        let items = fields.items("group_add", &mut self.findings);
        let groups = items.iter().filter_map(|item| {
            let group = item.written(&mut self.findings)?;
            if group.is_none() {
                item.refuse(&mut self.findings, "a group's name or number");
            }
            group
        });
        groups.collect()
    }
}
