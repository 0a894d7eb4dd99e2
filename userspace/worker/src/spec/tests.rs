use super::*;
use essaim_objects::{NetworkAttachment, NetworkId, NodeId, TaskId};
use essaim_runner::{Capability, LogOptions, Mount, MountSource, Propagation, Resources, Ulimit};
use serde_json::{Value, json};

fn node() -> Facts {
    Facts {
        id: NodeId::from_bits(9),
        hostname: "one".to_owned(),
        architecture: "x86_64".to_owned(),
        os: "linux".to_owned(),
    }
}

fn task(spec: Value) -> Task {
    let mut task = Task::new(
        TaskId::from_bits(1),
        None,
        Arc::new(serde_json::from_value(spec).unwrap()),
    );
    task.slot = Some(2);
    task
}

fn made(task: &Task, secrets: &[Secret], configs: &[Config]) -> Result<ProcessSpec, Unsupported> {
    let secrets = secrets
        .iter()
        .map(|secret| (secret.id, Arc::new(secret.clone())))
        .collect();
    let configs = configs
        .iter()
        .map(|config| (config.id, Arc::new(config.clone())))
        .collect();
    let node = node();
    let given = Given {
        node: &node,
        secrets: &secrets,
        configs: &configs,
    };
    match task_spec(task, given, "/run/resolv.conf".into())? {
        TaskSpec::Process(spec) => Ok(*spec),
        TaskSpec::Container(_) => panic!("it is a container"),
    }
}

fn spec(spec: Value) -> ProcessSpec {
    made(&task(spec), &[], &[]).unwrap()
}

/// A container that runs, with these members, too.
fn container(members: &Value) -> Value {
    let mut container = json!({"Image": "host", "Args": ["/bin/true"]});
    for (name, value) in members.as_object().unwrap() {
        container[name] = value.clone();
    }
    json!({"ContainerSpec": container})
}

#[test]
fn the_node_itself_is_an_image_of_two_names() {
    let of = |image: &str| made(&task(container(&json!({"Image": image}))), &[], &[]);
    let written = |image| serde_json::to_value(of(image).unwrap()).unwrap();
    assert_eq!(written("host"), written("host:latest"));
    assert_eq!(of("").unwrap_err().field, "ContainerSpec.Image");
    for other in ["host:1", "registry/host", "nginx"] {
        let task = task(container(&json!({"Image": other})));
        let given = Given {
            node: &node(),
            secrets: &BTreeMap::new(),
            configs: &BTreeMap::new(),
        };
        let spec = task_spec(&task, given, "/run/resolv.conf".into()).unwrap();
        assert!(matches!(spec, TaskSpec::Container(_)), "{other}: {spec:?}");
    }
}

#[test]
fn a_bare_task_has_dockers_defaults() {
    let made = spec(container(&json!({})));
    assert_eq!((made.command.len(), made.args), (0, vec!["/bin/true".to_owned()]));
    assert_eq!(
        made.network,
        NetworkNamespace::Create(format!("es-{}", TaskId::from_bits(1)))
    );
    assert_eq!(made.hostname.as_deref(), Some("000000000000"));
    assert_eq!(made.stop_signal, StopSignal::TERM);
    assert_eq!(made.stop_grace, Duration::from_secs(10));
    assert_eq!(made.resolv_conf, Some(EtcFile::File("/run/resolv.conf".into())));
    assert_eq!(made.log, LogOptions::default());
    assert_eq!(made.resources, Resources::default());
    assert!(!made.init && !made.read_only_root && !made.no_new_privileges);
}

#[test]
fn everything_that_a_spec_says_is_taken_over() {
    let mut all = container(&json!({
        "Command": ["/bin/sh"], "Args": ["-c", "true"], "Dir": "/srv", "User": "1000:1000", "Groups": ["12"],
        "Env": ["A=1", "A=2=3", "NONE"], "StopSignal": "SIGINT", "StopGracePeriod": 3_000_000_000u64, "Init": true,
        "ReadOnly": true, "CapabilityAdd": ["CAP_NET_ADMIN"], "CapabilityDrop": ["ALL"], "OomScoreAdj": -5,
        "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}], "Sysctls": {"net.core.somaxconn": "99"},
        "Privileges": {"NoNewPrivileges": true, "SELinuxContext": {"Disable": true}},
        "Mounts": [
            {"Type": "bind", "Source": "/srv", "Target": "/data", "ReadOnly": true,
             "BindOptions": {"Propagation": "rslave", "NonRecursive": true}},
            {"Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": {"SizeBytes": 4096, "Mode": 0o700}}],
    }));
    all["Resources"] = json!({"Limits": {"NanoCPUs": 500_000_000, "MemoryBytes": 64 << 20, "Pids": 7},
        "Reservations": {"MemoryBytes": 32 << 20}, "SwapBytes": 0});
    all["LogDriver"] = json!({"Name": "json-file", "Options": {"max-size": "10m", "max-file": "3"}});
    let made = spec(all);
    assert_eq!(made.command, ["/bin/sh"]);
    assert_eq!(made.dir, Some("/srv".into()));
    assert_eq!(
        (made.user.as_str(), made.groups),
        ("1000:1000", vec!["12".to_owned()])
    );
    assert_eq!(made.env, BTreeMap::from([("A".to_owned(), "2=3".to_owned())]));
    assert_eq!(made.stop_signal.to_string(), "SIGINT");
    assert_eq!(made.stop_grace, Duration::from_secs(3));
    assert!(made.init && made.read_only_root && made.no_new_privileges);
    assert_eq!(made.cap_add, ["NET_ADMIN".parse::<Capability>().unwrap()]);
    assert_eq!(made.cap_drop, [Capability::All]);
    assert_eq!(made.oom_score_adj, Some(-5));
    let nofile = Ulimit {
        name: "nofile".to_owned(),
        soft: 10,
        hard: 20,
    };
    assert_eq!(made.ulimits, [nofile]);
    assert_eq!(made.sysctls["net.core.somaxconn"], "99");
    let bind = MountSource::Bind {
        path: "/srv".into(),
        non_recursive: true,
        propagation: Propagation::Slave,
    };
    let tmpfs = MountSource::Tmpfs {
        size: Some(4096),
        mode: Some(0o700),
    };
    let mount = |target: &str, read_only, source| Mount {
        target: target.into(),
        read_only,
        source,
    };
    assert_eq!(
        made.mounts,
        [mount("/data", true, bind), mount("/scratch", false, tmpfs)]
    );
    let resources = Resources {
        nano_cpus: Some(500_000_000),
        memory_bytes: Some(64 << 20),
        memory_reservation_bytes: Some(32 << 20),
        swap_bytes: Some(0),
        pids: Some(7),
    };
    assert_eq!(made.resources, resources);
    assert_eq!((made.log.max_size, made.log.max_file), (10 << 20, 3));
}

#[test]
fn placeholders_are_filled_in_and_those_of_the_service_need_its_annotations() {
    let templated = container(&json!({
        "Hostname": "{{.Node.Hostname}}-{{.Task.Slot}}",
        "Env": ["WHO={{.Service.Name}}/{{index .Service.Labels \"tier\"}}", "ME={{.Task.Name}}"],
        "Mounts": [{"Type": "bind", "Source": "/srv/{{.Task.Slot}}", "Target": "/data"}],
    }));
    let mut task = task(templated);
    let refused = made(&task, &[], &[]).unwrap_err();
    assert_eq!(refused.field, "ServiceAnnotations");
    let annotations = json!({"Name": "web", "Labels": {"tier": "front"}});
    task.extra.insert("ServiceAnnotations".to_owned(), annotations);
    let made = made(&task, &[], &[]).unwrap();
    assert_eq!(made.hostname.as_deref(), Some("one-2"));
    assert_eq!(made.env["WHO"], "web/front");
    assert_eq!(made.env["ME"], format!("web.2.{}", task.id));
    assert!(matches!(&made.mounts[0].source, MountSource::Bind { path, .. } if path.ends_with("srv/2")));
}

#[test]
fn the_hosts_file_is_dockers() {
    let mut task = task(container(
        &json!({"Hostname": "web", "Hosts": ["192.0.2.7 db  db.example"]}),
    ));
    let addresses = vec!["10.0.0.3/24".parse().unwrap(), "fd00::3/64".parse().unwrap()];
    task.networks_attachments = vec![NetworkAttachment::new(NetworkId::from_bits(1), addresses)];
    let expected = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
        ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n\
        192.0.2.7\tdb db.example\n10.0.0.3\tweb\nfd00::3\tweb\n";
    assert_eq!(
        made(&task, &[], &[]).unwrap().hosts,
        Some(EtcFile::Text(expected.to_owned()))
    );
}

fn secret(data: &[u8], templating: &Value) -> Secret {
    let data = data_encoding::BASE64.encode(data);
    let spec = json!({"Name": "key", "Data": data, "Templating": templating});
    Secret::new(SecretId::from_bits(1), serde_json::from_value(spec).unwrap())
}

#[test]
fn secrets_and_configs_are_files_with_their_owner_mode_and_contents() {
    let config = json!({"Name": "app.conf", "Data": data_encoding::BASE64.encode(b"on {{.Node.Hostname}}"),
        "Templating": {"Name": "golang"}});
    let config = Config::new(ConfigId::from_bits(1), serde_json::from_value(config).unwrap());
    let task = task(container(&json!({
        "Secrets": [{"SecretID": SecretId::from_bits(1), "SecretName": "key"},
            {"SecretID": SecretId::from_bits(1), "SecretName": "key",
             "File": {"Name": "/etc/key", "UID": "5", "GID": "6", "Mode": 0o400}}],
        "Configs": [{"ConfigID": ConfigId::from_bits(1), "ConfigName": "app.conf", "File": {"Name": "app.conf"}}],
    })));
    let spec = made(&task, &[secret(b"hunter{{2", &Value::Null)], &[config]).unwrap();
    let files: Vec<String> = spec
        .files
        .iter()
        .map(|file| {
            let (kind, target) = (file.kind, file.target.display());
            let text = std::str::from_utf8(file.contents.bytes().unwrap()).unwrap();
            format!(
                "{kind:?} {target} {:o} {} {} {text}",
                file.mode, file.uid, file.gid
            )
        })
        .collect();
    let expected = [
        "Secret key 444 0 0 hunter{{2",
        "Secret /etc/key 400 5 6 hunter{{2",
        "Config app.conf 444 0 0 on one",
    ];
    assert_eq!(files, expected);
    assert!(!format!("{spec:?}").contains("hunter"));
    let error = made(&task, &[], &[]).unwrap_err();
    let expected = "ContainerSpec.Secrets[key]: the secret was not assigned to this node";
    assert_eq!(error.to_string(), expected);
    // Nothing of a secret stands in an error.
    let broken = secret(b"{{.Hunter}}", &json!({"Name": "golang"}));
    let error = made(&task, &[broken], &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ContainerSpec.Secrets[key]: its placeholders cannot be filled in"
    );
}

#[test]
fn what_this_node_does_not_have_is_refused_with_its_field() {
    for (members, field) in [
        (json!({"Image": ""}), "ContainerSpec.Image"),
        (json!({"TTY": true}), "ContainerSpec.TTY"),
        (json!({"OpenStdin": true}), "ContainerSpec.OpenStdin"),
        (json!({"Isolation": "hyperv"}), "ContainerSpec.Isolation"),
        (
            json!({"Privileges": {"Seccomp": {"Mode": "custom"}}}),
            "ContainerSpec.Privileges.Seccomp",
        ),
        (
            json!({"Privileges": {"AppArmor": {"Mode": "default"}}}),
            "ContainerSpec.Privileges.AppArmor",
        ),
        (
            json!({"Privileges": {"SELinuxContext": {"User": "u"}}}),
            "ContainerSpec.Privileges.SELinuxContext",
        ),
        (
            json!({"Privileges": {"CredentialSpec": {"File": "f"}}}),
            "ContainerSpec.Privileges.CredentialSpec",
        ),
        (
            json!({"Mounts": [{"Type": "volume", "Source": "v", "Target": "/v"}]}),
            "ContainerSpec.Mounts[/v]",
        ),
        (
            json!({"Mounts": [{"Type": "bind", "Source": "/s", "Target": "/v",
                "BindOptions": {"CreateMountpoint": true}}]}),
            "ContainerSpec.Mounts[/v]",
        ),
        (
            json!({"Mounts": [{"Type": "bind", "Source": "/s", "Target": "/v", "ReadOnly": true,
                "BindOptions": {"ReadOnlyForceRecursive": true, "ReadOnlyNonRecursive": true}}]}),
            "ContainerSpec.Mounts[/v].BindOptions.ReadOnlyNonRecursive",
        ),
        (
            json!({"Mounts": [{"Type": "tmpfs", "Target": "/v", "TmpfsOptions": {"Options": [["exec"]]}}]}),
            "ContainerSpec.Mounts[/v].TmpfsOptions.Options",
        ),
        (json!({"StopSignal": "SIGNONE"}), "ContainerSpec.StopSignal"),
        (json!({"CapabilityAdd": ["FLY"]}), "ContainerSpec.CapabilityAdd"),
        (json!({"Sysctls": {"kernel.shmmax": "1"}}), "sysctl kernel.shmmax"),
        (
            json!({"Healthcheck": {"Test": ["SOMETHING"]}}),
            "ContainerSpec.Healthcheck",
        ),
        (json!({"Env": ["A={{.Nothing}}"]}), "ContainerSpec"),
    ] {
        let error = made(&task(container(&members)), &[], &[]).unwrap_err();
        assert_eq!(error.field, field, "{members}");
    }
    for (spec, field) in [
        (
            json!({"NetworkAttachmentSpec": {"ContainerID": "c"}, "Runtime": "attachment"}),
            "Runtime",
        ),
        (json!({"PluginSpec": {}, "Runtime": "plugin"}), "Runtime"),
        (json!({}), "ContainerSpec"),
    ] {
        assert_eq!(made(&task(spec), &[], &[]).unwrap_err().field, field);
    }
    let mut whole = container(&json!({}));
    whole["LogDriver"] = json!({"Name": "syslog"});
    assert_eq!(
        made(&task(whole.clone()), &[], &[]).unwrap_err().field,
        "LogDriver"
    );
    whole["LogDriver"] = json!({"Name": "local", "Options": {"compress": "true"}});
    let error = made(&task(whole.clone()), &[], &[]).unwrap_err();
    assert_eq!(error.field, "LogDriver.Options[compress]");
    whole["LogDriver"] = Value::Null;
    whole["Resources"] = json!({"MemorySwappiness": 10});
    assert_eq!(
        made(&task(whole), &[], &[]).unwrap_err().field,
        "Resources.MemorySwappiness"
    );
}

#[test]
fn generic_resources_are_in_the_environment() {
    let mut task = task(container(&json!({})));
    let given = json!([{"NamedResourceSpec": {"Kind": "gpu", "Value": "a"}},
        {"NamedResourceSpec": {"Kind": "gpu", "Value": "b"}}, {"DiscreteResourceSpec": {"Kind": "ssd", "Value": 3}}]);
    task.generic_resources = Some(serde_json::from_value(given).unwrap());
    let made = made(&task, &[], &[]).unwrap();
    assert_eq!(made.env["DOCKER_RESOURCE_GPU"], "a,b");
    assert_eq!(made.env["DOCKER_RESOURCE_SSD"], "3");
}

#[test]
fn a_health_check_has_dockers_meaning() {
    let check = |health: Value| {
        let task = task(container(&json!({"Healthcheck": health})));
        health_check(task.spec.container.as_ref().unwrap()).unwrap()
    };
    assert_eq!(check(json!({"Test": ["NONE"]})), None);
    assert_eq!(check(json!({"Interval": 5})), None);
    let given =
        check(json!({"Test": ["CMD-SHELL", "true"], "Interval": 2_000_000_000u64, "Retries": 5})).unwrap();
    assert_eq!(given.probe(), &Probe::shell("true").unwrap());
    let pace = Pace {
        interval: Duration::from_secs(2),
        retries: 5,
        ..Pace::default()
    };
    assert_eq!(*given.pace(), pace);
}
