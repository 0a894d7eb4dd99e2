//! A table of what every form of every key becomes.

use crate::{Files, file, load_all, posted};
use serde_json::{Value, json};

const CONTAINER: &str = "/TaskTemplate/ContainerSpec";

/// Of a service with these lines, what stands at a place of what is posted.
fn part(service: &str, sections: &str, pointer: &str) -> Value {
    let files = Files::of(&[
        ("/srv/app/a.env", "FROM=file\nSET=\nBOTH=file\n"),
        ("/srv/app/f", "data"),
    ]);
    let text = file(service, sections);
    match posted(&text, &files) {
        Ok(spec) => spec.pointer(pointer).cloned().unwrap_or(Value::Null),
        Err(problems) => panic!("{text}\n{problems}"),
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table with a row for each form")]
fn keys_of_the_container() {
    let cases = [
        ("command: a 'b c' d", "Args", json!(["a", "b c", "d"])),
        ("command: [a, 'b c']", "Args", json!(["a", "b c"])),
        ("command: []", "Args", json!(null)),
        ("entrypoint: /run.sh -x", "Command", json!(["/run.sh", "-x"])),
        (
            "environment: {A: 1, B: x, C: , D: 1.50, SET: }",
            "Env",
            json!(["A=1", "B=x", "C", "D=1.5", "SET=value"]),
        ),
        (
            "environment: [A=1=2, B, SET=, C=]",
            "Env",
            json!(["A=1=2", "B", "C=", "SET=value"]),
        ),
        (
            "environment: {A: 0440, B: 'yes'}",
            "Env",
            json!(["A=288", "B=yes"]),
        ),
        (
            "env_file: a.env",
            "Env",
            json!(["BOTH=file", "FROM=file", "SET=value"]),
        ),
        (
            "env_file: [./a.env]\nenvironment: {BOTH: own}",
            "Env",
            json!(["BOTH=own", "FROM=file", "SET=value"]),
        ),
        (
            "labels: {a: 1, b: }",
            "Labels",
            json!({"a": "1", "b": "", "com.docker.stack.namespace": "s"}),
        ),
        (
            "labels: [a=1, b]",
            "Labels",
            json!({"a": "1", "b": "", "com.docker.stack.namespace": "s"}),
        ),
        ("hostname: h", "Hostname", json!("h")),
        ("user: '0:0'", "User", json!("0:0")),
        ("working_dir: /w", "Dir", json!("/w")),
        ("group_add: [audio, 7]", "Groups", json!(["audio", "7"])),
        ("stop_signal: SIGINT", "StopSignal", json!("SIGINT")),
        (
            "stop_grace_period: 1m30s",
            "StopGracePeriod",
            json!(90_000_000_000_i64),
        ),
        ("stop_grace_period: 0s", "StopGracePeriod", json!(0)),
        ("isolation: default", "Isolation", json!("default")),
        ("tty: true", "TTY", json!(true)),
        ("tty: ${TRUE}", "TTY", json!(true)),
        ("tty: false", "TTY", json!(null)),
        ("stdin_open: yes", "OpenStdin", json!(true)),
        ("init: false", "Init", json!(false)),
        ("init: on", "Init", json!(true)),
        ("read_only: true", "ReadOnly", json!(true)),
        (
            "cap_add: [NET_ADMIN, cap_chown]",
            "CapabilityAdd",
            json!(["CAP_CHOWN", "CAP_NET_ADMIN"]),
        ),
        (
            "cap_drop: [ALL]\ncap_add: [CHOWN]",
            "CapabilityDrop",
            json!(["ALL"]),
        ),
        ("dns: 8.8.8.8", "DNSConfig", json!({"Nameservers": ["8.8.8.8"]})),
        (
            "dns: [8.8.8.8, '::1']\ndns_search: a.test",
            "DNSConfig",
            json!({"Nameservers": ["8.8.8.8", "::1"], "Search": ["a.test"]}),
        ),
        (
            "extra_hosts: ['a:1.2.3.4', 'b:::1']",
            "Hosts",
            json!(["1.2.3.4 a", "::1 b"]),
        ),
        (
            "extra_hosts: {b: 1.2.3.4, a: host-gateway}",
            "Hosts",
            json!(["host-gateway a", "1.2.3.4 b"]),
        ),
        (
            "sysctls: {net.core.somaxconn: 1024}",
            "Sysctls",
            json!({"net.core.somaxconn": "1024"}),
        ),
        ("sysctls: [a.b=1]", "Sysctls", json!({"a.b": "1"})),
        (
            "ulimits: {nproc: 65535, nofile: {soft: 2, hard: 4}}",
            "Ulimits",
            json!([{"Name": "nofile", "Soft": 2, "Hard": 4}, {"Name": "nproc", "Soft": 65535, "Hard": 65535}]),
        ),
        (
            "ulimits: {memlock: -1}",
            "Ulimits",
            json!([{"Name": "memlock", "Soft": -1, "Hard": -1}]),
        ),
        ("oom_score_adj: -500", "OomScoreAdj", json!(-500)),
        (
            "healthcheck: {test: curl x}",
            "Healthcheck",
            json!({"Test": ["CMD-SHELL", "curl x"]}),
        ),
        (
            "healthcheck: {test: [CMD, a, b], interval: 5s, timeout: 1s, start_period: 2s, start_interval: 3s, retries: 4}",
            "Healthcheck",
            json!({"Test": ["CMD", "a", "b"], "Interval": 5_000_000_000_i64, "Timeout": 1_000_000_000, "StartPeriod": 2_000_000_000,
                "StartInterval": 3_000_000_000_i64, "Retries": 4}),
        ),
        (
            "healthcheck: {test: [NONE]}",
            "Healthcheck",
            json!({"Test": ["NONE"]}),
        ),
        (
            "healthcheck: {disable: true}",
            "Healthcheck",
            json!({"Test": ["NONE"]}),
        ),
        (
            "healthcheck: {interval: 0s, retries: 0}",
            "Healthcheck",
            json!({}),
        ),
        (
            "tmpfs: /run",
            "Mounts",
            json!([{"Type": "tmpfs", "Target": "/run"}]),
        ),
        (
            "tmpfs: ['/run:size=64m,mode=1777', /tmp]",
            "Mounts",
            json!([{"Type": "tmpfs", "Target": "/run", "TmpfsOptions": {"SizeBytes": 67_108_864, "Mode": 0o1777}}, {"Type": "tmpfs", "Target": "/tmp"}]),
        ),
        (
            "image: '${SET}/web:${UNSET:-1.0}'",
            "Image",
            json!("value/web:1.0"),
        ),
        (
            "image: registry:5000/alpine:frozen",
            "Image",
            json!("registry:5000/alpine:frozen"),
        ),
    ];
    for (service, member, expected) in cases {
        // The image is given once more in some: YAML would refuse that.
        let found = if service.starts_with("image") {
            let text = format!("services:\n  web:\n    {service}\n");
            posted(&text, &Files::none()).unwrap()["TaskTemplate"]["ContainerSpec"][member].clone()
        } else {
            part(service, "", &format!("{CONTAINER}/{member}"))
        };
        assert_eq!(found, expected, "{service}");
    }
}

#[test]
fn what_is_mounted() {
    let label = json!({"com.docker.stack.namespace": "s"});
    let volumes = "volumes:\n  data:\n  own: {driver: nfs, driver_opts: {size: 1}, labels: [a=b], name: mine}\n  out: {external: true}\n  old: {external: {name: older}}\n";
    let cases = [
        ("/anonymous", json!({"Type": "volume", "Target": "/anonymous"})),
        ("/a:/b", json!({"Type": "bind", "Source": "/a", "Target": "/b"})),
        (
            "./a/../c:/b:ro,rshared",
            json!({"Type": "bind", "Source": "/srv/app/c", "Target": "/b", "ReadOnly": true, "BindOptions": {"Propagation": "rshared"}}),
        ),
        (
            ".:/b",
            json!({"Type": "bind", "Source": "/srv/app", "Target": "/b"}),
        ),
        (
            "../../../x:/b:rw",
            json!({"Type": "bind", "Source": "/x", "Target": "/b"}),
        ),
        (
            "~/a:/b",
            json!({"Type": "bind", "Source": "/root/a", "Target": "/b"}),
        ),
        (
            "data:/b:nocopy",
            json!({"Type": "volume", "Source": "s_data", "Target": "/b", "VolumeOptions": {"NoCopy": true, "Labels": label}}),
        ),
        (
            "own:/b",
            json!({"Type": "volume", "Source": "mine", "Target": "/b", "VolumeOptions": {
            "Labels": {"a": "b", "com.docker.stack.namespace": "s"}, "DriverConfig": {"Name": "nfs", "Options": {"size": "1"}}}}),
        ),
        (
            "out:/b",
            json!({"Type": "volume", "Source": "out", "Target": "/b", "VolumeOptions": {}}),
        ),
        (
            "old:/b",
            json!({"Type": "volume", "Source": "older", "Target": "/b", "VolumeOptions": {}}),
        ),
        (
            "{type: volume, source: data, target: /b, read_only: true, volume: {nocopy: true, subpath: x}}",
            json!({"Type": "volume", "Source": "s_data", "Target": "/b", "ReadOnly": true, "VolumeOptions": {"NoCopy": true, "Subpath": "x", "Labels": label}}),
        ),
        (
            "{type: volume, target: /b}",
            json!({"Type": "volume", "Target": "/b"}),
        ),
        (
            "{type: bind, source: ./o, target: /b, consistency: cached, bind: {propagation: private}}",
            json!({"Type": "bind", "Source": "/srv/app/o", "Target": "/b", "Consistency": "cached", "BindOptions": {"Propagation": "private"}}),
        ),
        (
            "{type: tmpfs, target: /b, tmpfs: {size: 10000}}",
            json!({"Type": "tmpfs", "Target": "/b", "TmpfsOptions": {"SizeBytes": 10000}}),
        ),
        (
            "{type: tmpfs, target: /b, tmpfs: {size: 1k, mode: 0700}}",
            json!({"Type": "tmpfs", "Target": "/b", "TmpfsOptions": {"SizeBytes": 1024, "Mode": 0o700}}),
        ),
    ];
    for (volume, expected) in cases {
        let line = if volume.starts_with('{') {
            volume.to_owned()
        } else {
            format!("'{volume}'")
        };
        let found = part(
            &format!("volumes: [{line}]"),
            volumes,
            &format!("{CONTAINER}/Mounts"),
        );
        assert_eq!(found, json!([expected]), "{volume}");
    }
}

#[test]
fn secrets_and_configs() {
    let sections = "secrets:\n  a: {file: f}\n  b: {external: true, name: real}\nconfigs:\n  a: {file: ./f}\n  c: {external: {name: theirs}}\n";
    let file = |name: &str, mode: u32| json!({"Name": name, "UID": "0", "GID": "0", "Mode": mode});
    let cases = [
        (
            "secrets: [a]",
            "Secrets",
            json!([{"File": file("a", 0o444), "SecretName": "s_a"}]),
        ),
        (
            "secrets: [b, a]",
            "Secrets",
            json!([{"File": file("b", 0o444), "SecretName": "real"}, {"File": file("a", 0o444), "SecretName": "s_a"}]),
        ),
        (
            "secrets: [{source: a, target: t, uid: '1', gid: '2', mode: 0440}]",
            "Secrets",
            json!([{"File": {"Name": "t", "UID": "1", "GID": "2", "Mode": 288}, "SecretName": "s_a"}]),
        ),
        (
            "configs: [{source: a, target: /c, mode: 0o400}]",
            "Configs",
            json!([{"File": file("/c", 256), "ConfigName": "s_a"}]),
        ),
        (
            "configs: [c]",
            "Configs",
            json!([{"File": file("c", 0o444), "ConfigName": "theirs"}]),
        ),
    ];
    for (service, member, expected) in cases {
        assert_eq!(
            part(service, sections, &format!("{CONTAINER}/{member}")),
            expected,
            "{service}"
        );
    }
}

#[test]
fn ports_and_the_endpoint() {
    let port = |target: u32, published: u32| json!({"Protocol": "tcp", "TargetPort": target, "PublishedPort": published, "PublishMode": "ingress"});
    let cases = [
        (
            "[3000]",
            json!([{"Protocol": "tcp", "TargetPort": 3000, "PublishMode": "ingress"}]),
        ),
        ("['8080:80']", json!([port(80, 8080)])),
        ("['8081:80', '8080:80']", json!([port(80, 8080), port(80, 8081)])),
        (
            "['9090-9091:8080-8081']",
            json!([port(8080, 9090), port(8081, 9091)]),
        ),
        ("['9090-9091:80']", json!([port(80, 9090), port(80, 9091)])),
        ("[\"127.0.0.1:8001:80\"]", json!([port(80, 8001)])),
        ("['[::1]:8001:80']", json!([port(80, 8001)])),
        (
            "['53:53/udp']",
            json!([{"Protocol": "udp", "TargetPort": 53, "PublishedPort": 53, "PublishMode": "ingress"}]),
        ),
        (
            "[{target: 80, published: 8080, protocol: tcp, mode: host}]",
            json!([{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}]),
        ),
        ("[{target: 80}]", json!([{"TargetPort": 80}])),
        (
            "[{target: 80, published: '${NUMBER}'}]",
            json!([{"TargetPort": 80, "PublishedPort": 3}]),
        ),
    ];
    for (ports, expected) in cases {
        let found = part(&format!("ports: {ports}"), "", "/EndpointSpec");
        assert_eq!(found, json!({"Ports": expected}), "{ports}");
    }
    assert_eq!(
        part("deploy: {endpoint_mode: VIP}", "", "/EndpointSpec"),
        json!({"Mode": "vip"})
    );
    assert_eq!(part("user: a", "", "/EndpointSpec"), json!({}));
}

#[test]
fn networks_of_a_service() {
    let sections =
        "networks:\n  front:\n  named: {name: real}\n  out: {external: true}\n  host: {external: true}\n";
    let cases = [
        ("user: a", json!([{"Target": "s_default", "Aliases": ["web"]}])),
        (
            "networks: [front, named]",
            json!([{"Target": "real", "Aliases": ["web"]}, {"Target": "s_front", "Aliases": ["web"]}]),
        ),
        (
            "networks: {front: {aliases: [a, b], driver_opts: {x: 1}}, out: }",
            json!([
            {"Target": "out", "Aliases": ["web"]}, {"Target": "s_front", "Aliases": ["a", "b", "web"], "DriverOpts": {"x": "1"}}]),
        ),
        ("networks: [host]", json!([{"Target": "host"}])),
    ];
    for (service, expected) in cases {
        assert_eq!(
            part(service, sections, "/TaskTemplate/Networks"),
            expected,
            "{service}"
        );
    }
}

#[test]
fn how_a_service_is_deployed() {
    let cases = [
        ("deploy: {mode: global}", "/Mode", json!({"Global": {}})),
        (
            "deploy: {mode: replicated, replicas: 0}",
            "/Mode",
            json!({"Replicated": {"Replicas": 0}}),
        ),
        (
            "deploy: {replicas: '${NUMBER}'}",
            "/Mode",
            json!({"Replicated": {"Replicas": 3}}),
        ),
        ("deploy: ", "/Mode", json!({"Replicated": {}})),
        (
            "deploy: {mode: replicated-job, replicas: 2}",
            "/Mode",
            json!({"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 2}}),
        ),
        ("deploy: {mode: global-job}", "/Mode", json!({"GlobalJob": {}})),
        (
            "deploy: {labels: [a=b]}",
            "/Labels",
            json!({"a": "b", "com.docker.stack.image": "i", "com.docker.stack.namespace": "s"}),
        ),
        (
            "deploy: {update_config: {}}",
            "/UpdateConfig",
            json!({"Parallelism": 1, "MaxFailureRatio": 0, "Order": ""}),
        ),
        (
            "deploy: {rollback_config: {parallelism: 2, delay: 1s, failure_action: continue, monitor: 2s, max_failure_ratio: 0.3, order: start-first}}",
            "/RollbackConfig",
            json!({"Parallelism": 2, "Delay": 1_000_000_000, "FailureAction": "continue", "Monitor": 2_000_000_000, "MaxFailureRatio": 0.3, "Order": "start-first"}),
        ),
        (
            "deploy: {restart_policy: {condition: on-failure, delay: 5s, max_attempts: 3, window: 2m}}",
            "/TaskTemplate/RestartPolicy",
            json!({"Condition": "on-failure", "Delay": 5_000_000_000_i64, "MaxAttempts": 3, "Window": 120_000_000_000_i64}),
        ),
        (
            "restart: always",
            "/TaskTemplate/RestartPolicy",
            json!({"Condition": "any"}),
        ),
        (
            "restart: on-failure:4",
            "/TaskTemplate/RestartPolicy",
            json!({"Condition": "on-failure", "MaxAttempts": 4}),
        ),
        ("restart: 'no'", "/TaskTemplate/RestartPolicy", json!(null)),
        (
            "restart: always\ndeploy: {restart_policy: {condition: none}}",
            "/TaskTemplate/RestartPolicy",
            json!({"Condition": "none"}),
        ),
        (
            "deploy: {resources: {limits: {cpus: '0.001', memory: 50M, pids: 100}}}",
            "/TaskTemplate/Resources",
            json!({"Limits": {"NanoCPUs": 1_000_000, "MemoryBytes": 52_428_800, "Pids": 100}}),
        ),
        (
            "deploy: {resources: {reservations: {cpus: '1', memory: 1g, generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]}}}",
            "/TaskTemplate/Resources",
            json!({"Reservations": {"NanoCPUs": 1_000_000_000, "MemoryBytes": 1_073_741_824,
                "GenericResources": [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": 2}}]}}),
        ),
        (
            "deploy: {placement: {constraints: [node.role==worker], preferences: [{spread: node.labels.az}], max_replicas_per_node: 5}}",
            "/TaskTemplate/Placement",
            json!({"Constraints": ["node.role==worker"], "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.az"}}], "MaxReplicas": 5}),
        ),
        (
            "logging: {driver: syslog, options: {a: 1, b: x}}",
            "/TaskTemplate/LogDriver",
            json!({"Name": "syslog", "Options": {"a": "1", "b": "x"}}),
        ),
        ("x-mine: {anything: [goes]}", "/TaskTemplate/Placement", json!({})),
    ];
    for (service, pointer, expected) in cases {
        assert_eq!(part(service, "", pointer), expected, "{service}");
    }
}

#[test]
fn networks_secrets_and_configs_of_a_stack() {
    let text = "
version: '3'
services:
  web: {image: i, networks: [plain, full, out, default]}
  other: {image: i}
networks:
  plain:
  unused:
  full:
    name: real
    driver: overlay
    driver_opts: {encrypted: '', mtu: 1400}
    ipam: {driver: default, config: [{subnet: 10.9.0.0/24}, {subnet: 'fd00::/64'}]}
    internal: true
    attachable: true
    labels: [a=b]
    x-mine: 1
  out: {external: true, name: theirs}
secrets:
  file: {file: ../f, labels: {a: b}}
  driven: {driver: vault, driver_opts: {k: 1}, name: v, template_driver: golang}
  out: {external: true}
configs:
  c: {file: /f, template_driver: golang}
";
    let files = Files::of(&[("/srv/f", "one"), ("/f", "two")]);
    let loaded = load_all(&[text], &files).unwrap();
    let plan = loaded.stack.plan("s", &files.around()).unwrap();
    assert_eq!(plan.external_networks.iter().collect::<Vec<_>>(), ["theirs"]);
    let label = json!({"com.docker.stack.namespace": "s"});
    let bare = |name: &str| {
        json!({"Name": name, "Driver": "overlay", "Scope": "", "Internal": false, "Attachable": false, "Ingress": false,
        "ConfigOnly": false, "Labels": label})
    };
    assert_eq!(
        json!(plan.networks),
        json!([
            {"Name": "real", "Driver": "overlay", "Scope": "", "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.9.0.0/24"}, {"Subnet": "fd00::/64"}]},
                "Internal": true, "Attachable": true, "Ingress": false, "ConfigOnly": false, "Options": {"encrypted": "", "mtu": "1400"},
                "Labels": {"a": "b", "com.docker.stack.namespace": "s"}},
            bare("s_default"),
            bare("s_plain"),
        ])
    );
    assert_eq!(
        json!(plan.secrets),
        json!([
            {"Name": "v", "Labels": label, "Driver": {"Name": "vault", "Options": {"k": "1"}}, "Templating": {"Name": "golang"}},
            {"Name": "s_file", "Labels": {"a": "b", "com.docker.stack.namespace": "s"}, "Data": "b25l"},
        ])
    );
    assert_eq!(
        json!(plan.configs),
        json!([{"Name": "s_c", "Labels": label, "Data": "dHdv", "Templating": {"Name": "golang"}}])
    );
    let names: Vec<_> = plan
        .services
        .iter()
        .map(essaim_objects::ServiceSpec::name)
        .collect();
    assert_eq!(names, ["s_other", "s_web"]);
}
