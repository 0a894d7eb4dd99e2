use super::*;
use essaim_objects::{ServiceId, TaskId};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// A plan of a task with these members of its container, and these of its spec.
fn plan(members: &Value, others: &Value) -> Result<ContainerTask, PlanError> {
    let mut container = json!({"Image": "web"});
    for (name, value) in members.as_object().unwrap() {
        container[name] = value.clone();
    }
    let mut spec = json!({"ContainerSpec": container});
    for (name, value) in others.as_object().unwrap() {
        spec[name] = value.clone();
    }
    let task = Task::new(
        TaskId::from_bits(1),
        Some(ServiceId::from_bits(2)),
        Arc::new(serde_json::from_value(spec).unwrap()),
    );
    ContainerTask::plan(Asked {
        task: &task,
        container: task.spec.container.as_ref().unwrap(),
        node: NodeId::from_bits(3),
        service_name: "shop",
        task_name: "shop.1.task",
        hostname: "box",
        env: &["DOCKER_RESOURCE_GPU=1".to_owned()],
        files: &[],
        hosts: "127.0.0.1\tlocalhost\n",
        resolv_conf: Path::new("/run/resolv.conf"),
        netns: "es-task",
    })
}

fn planned(members: &Value) -> Value {
    serde_json::to_value(plan(members, &json!({})).unwrap()).unwrap()
}

fn id(bits: u128) -> String {
    TaskId::from_bits(bits).to_string()
}

#[test]
fn a_bare_task_is_in_the_namespace_of_its_sandbox() {
    let plan = planned(&json!({}));
    let sandbox = format!("essaim-sandbox-{}", id(1));
    for (member, expected) in [
        ("/name", json!("shop.1.task")),
        ("/image", json!("web:latest")),
        ("/netns", json!("es-task")),
        ("/resolv_conf", json!("/run/resolv.conf")),
        ("/stop_grace", json!({"secs": 10, "nanos": 0})),
        ("/container/Image", json!("web:latest")),
        (
            "/container/HostConfig/NetworkMode",
            json!(format!("container:{sandbox}")),
        ),
        ("/container/HostConfig/RestartPolicy", json!({"Name": "no"})),
        ("/container/StopTimeout", json!(10)),
        ("/container/Env", json!(["DOCKER_RESOURCE_GPU=1"])),
        // Refused by the engine beside the network of another container.
        ("/container/Hostname", Value::Null),
        ("/container/Entrypoint", Value::Null),
        ("/container/Cmd", Value::Null),
        ("/sandbox/Hostname", json!("box")),
        ("/sandbox/Image", json!("essaim-sandbox:1")),
        ("/sandbox/Entrypoint", json!(["/pause"])),
        ("/sandbox/HostConfig/NetworkMode", json!("none")),
        ("/sandbox/HostConfig/CapDrop", json!(["ALL"])),
        ("/sandbox/HostConfig/RestartPolicy", json!({"Name": "no"})),
        ("/sandbox/Labels", json!({"io.essaim.task": id(1)})),
    ] {
        assert_eq!(
            plan.pointer(member).unwrap_or(&Value::Null),
            &expected,
            "{member}"
        );
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a line for each member")]
fn each_member_of_a_container_reaches_the_engine() {
    let profile = data_encoding::BASE64.encode(b"{\"defaultAction\":\"SCMP_ACT_ALLOW\"}");
    let host = "/container/HostConfig";
    let security = format!("{host}/SecurityOpt");
    let rows = [
        (
            json!({"Image": "a/b:1"}),
            "/container/Image".to_owned(),
            json!("a/b:1"),
        ),
        (
            json!({"Image": "h:5000/a"}),
            "/container/Image".to_owned(),
            json!("h:5000/a:latest"),
        ),
        (
            json!({"Image": "a@sha256:00"}),
            "/container/Image".to_owned(),
            json!("a@sha256:00"),
        ),
        (
            json!({"Command": ["sh", "-c"]}),
            "/container/Entrypoint".to_owned(),
            json!(["sh", "-c"]),
        ),
        (json!({"Args": ["x"]}), "/container/Cmd".to_owned(), json!(["x"])),
        (
            json!({"Env": ["A=1", "B"]}),
            "/container/Env".to_owned(),
            json!(["A=1", "B", "DOCKER_RESOURCE_GPU=1"]),
        ),
        (
            json!({"Dir": "/srv"}),
            "/container/WorkingDir".to_owned(),
            json!("/srv"),
        ),
        (json!({"User": "5:6"}), "/container/User".to_owned(), json!("5:6")),
        (json!({"Groups": ["7"]}), format!("{host}/GroupAdd"), json!(["7"])),
        (
            json!({"Labels": {"a": "b"}}),
            "/container/Labels/a".to_owned(),
            json!("b"),
        ),
        (json!({"TTY": true}), "/container/Tty".to_owned(), json!(true)),
        (
            json!({"OpenStdin": true}),
            "/container/OpenStdin".to_owned(),
            json!(true),
        ),
        (
            json!({"ReadOnly": true}),
            format!("{host}/ReadonlyRootfs"),
            json!(true),
        ),
        (json!({"Init": true}), format!("{host}/Init"), json!(true)),
        (
            json!({"StopSignal": "SIGINT"}),
            "/container/StopSignal".to_owned(),
            json!("SIGINT"),
        ),
        (
            json!({"StopGracePeriod": 1_500_000_000_u64}),
            "/container/StopTimeout".to_owned(),
            json!(2),
        ),
        (
            json!({"Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000, "Timeout": 2_000_000_000,
                "Retries": 4, "StartPeriod": 5_000_000_000_u64, "StartInterval": 6_000_000_000_u64}}),
            "/container/Healthcheck".to_owned(),
            json!({"Test": ["CMD", "true"], "Interval": 1_000_000_000, "Timeout": 2_000_000_000,
                "Retries": 4, "StartPeriod": 5_000_000_000_u64, "StartInterval": 6_000_000_000_u64}),
        ),
        (
            json!({"Privileges": {"NoNewPrivileges": true}}),
            security.clone(),
            json!(["no-new-privileges"]),
        ),
        (
            json!({"Privileges": {"Seccomp": {"Mode": "unconfined"}, "AppArmor": {"Mode": "disabled"}}}),
            security.clone(),
            json!(["seccomp=unconfined", "apparmor=unconfined"]),
        ),
        (
            json!({"Privileges": {"Seccomp": {"Mode": "custom", "Profile": profile}}}),
            security.clone(),
            json!(["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"]),
        ),
        (
            json!({"Privileges": {"SELinuxContext": {"User": "u", "Level": "s0"}}}),
            security.clone(),
            json!(["label=user:u", "label=level:s0"]),
        ),
        (
            json!({"Privileges": {"SELinuxContext": {"Disable": true}}}),
            security,
            json!(["label=disable"]),
        ),
        (
            json!({"CapabilityAdd": ["CAP_SYS_TIME"]}),
            format!("{host}/CapAdd"),
            json!(["CAP_SYS_TIME"]),
        ),
        (
            json!({"CapabilityDrop": ["ALL"]}),
            format!("{host}/CapDrop"),
            json!(["ALL"]),
        ),
        (json!({"OomScoreAdj": 7}), format!("{host}/OomScoreAdj"), json!(7)),
        (
            json!({"Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}]}),
            format!("{host}/Ulimits"),
            json!([{"Name": "nofile", "Soft": 1, "Hard": 2}]),
        ),
        (
            json!({"Sysctls": {"kernel.msgmax": "1", "net.ipv4.ip_forward": "1"}}),
            format!("{host}/Sysctls"),
            json!({"kernel.msgmax": "1"}),
        ),
        // The network is the sandbox's.
        (
            json!({"Sysctls": {"kernel.msgmax": "1", "net.ipv4.ip_forward": "1"}}),
            "/sandbox/HostConfig/Sysctls".to_owned(),
            json!({"net.ipv4.ip_forward": "1"}),
        ),
        (
            json!({"Mounts": [{"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true,
                "BindOptions": {"Propagation": "rslave", "NonRecursive": true}}]}),
            format!("{host}/Mounts"),
            json!([{"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true,
                "BindOptions": {"Propagation": "rslave", "NonRecursive": true}}]),
        ),
        (
            json!({"Mounts": [{"Type": "volume", "Source": "v", "Target": "/v", "VolumeOptions": {"NoCopy": true,
                "Labels": {"a": "b"}, "DriverConfig": {"Name": "local", "Options": {"type": "nfs"}}}}]}),
            format!("{host}/Mounts"),
            json!([{"Type": "volume", "Source": "v", "Target": "/v", "VolumeOptions": {"NoCopy": true,
                "Labels": {"a": "b"}, "DriverConfig": {"Name": "local", "Options": {"type": "nfs"}}}}]),
        ),
        (
            json!({"Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 9, "Mode": 0o700}}]}),
            format!("{host}/Mounts"),
            json!([{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 9, "Mode": 0o700}}]),
        ),
    ];
    for (members, pointer, expected) in rows {
        let plan = planned(&members);
        assert_eq!(plan.pointer(&pointer), Some(&expected), "{members} at {pointer}");
    }
}

#[test]
fn limits_and_the_log_driver_are_of_the_task() {
    let limits = json!({"NanoCPUs": 5, "MemoryBytes": 100, "Pids": 7});
    let rows = [
        (json!({"Resources": {"Limits": limits}}), "NanoCpus", json!(5)),
        (json!({"Resources": {"Limits": limits}}), "Memory", json!(100)),
        (json!({"Resources": {"Limits": limits}}), "PidsLimit", json!(7)),
        (
            json!({"Resources": {"Limits": limits, "SwapBytes": 20}}),
            "MemorySwap",
            json!(120),
        ),
        (json!({"Resources": {"SwapBytes": -1}}), "MemorySwap", json!(-1)),
        (
            json!({"Resources": {"MemorySwappiness": 3}}),
            "MemorySwappiness",
            json!(3),
        ),
        (
            json!({"Resources": {"Reservations": {"MemoryBytes": 50}}}),
            "MemoryReservation",
            json!(50),
        ),
        (
            json!({"LogDriver": {"Name": "json-file", "Options": {"max-size": "1m"}}}),
            "LogConfig",
            json!({"Type": "json-file", "Config": {"max-size": "1m"}}),
        ),
    ];
    for (others, member, expected) in rows {
        let plan = serde_json::to_value(plan(&json!({}), &others).unwrap()).unwrap();
        let pointer = format!("/container/HostConfig/{member}");
        assert_eq!(plan.pointer(&pointer), Some(&expected), "{others}");
    }
}

#[test]
fn swarms_labels_are_there_and_cannot_be_taken() {
    let plan = planned(&json!({"Labels": {"com.docker.swarm.task.id": "mine", "own": "1"}}));
    let labels = plan.pointer("/container/Labels").unwrap();
    let expected = json!({
        "com.docker.swarm.task": "",
        "com.docker.swarm.task.id": id(1),
        "com.docker.swarm.task.name": "shop.1.task",
        "com.docker.swarm.node.id": id(3),
        "com.docker.swarm.service.id": id(2),
        "com.docker.swarm.service.name": "shop",
        "io.essaim.task": id(1),
        "own": "1",
    });
    assert_eq!(labels, &expected);
}

#[test]
fn what_a_container_cannot_have_is_refused_with_its_field() {
    let none = json!({});
    let rows = [
        (json!({"Image": ""}), none.clone(), "ContainerSpec.Image"),
        (
            json!({"Isolation": "hyperv"}),
            none.clone(),
            "ContainerSpec.Isolation",
        ),
        (
            json!({"Privileges": {"CredentialSpec": {"File": "f"}}}),
            none.clone(),
            "ContainerSpec.Privileges.CredentialSpec",
        ),
        (
            json!({"Privileges": {"Seccomp": {"Mode": "custom", "Profile": "?"}}}),
            none.clone(),
            "ContainerSpec.Privileges.Seccomp",
        ),
        (
            json!({"Privileges": {"Seccomp": {"Mode": "some"}}}),
            none.clone(),
            "ContainerSpec.Privileges.Seccomp",
        ),
        (
            json!({"Privileges": {"AppArmor": {"Mode": "some"}}}),
            none.clone(),
            "ContainerSpec.Privileges.AppArmor",
        ),
        (
            json!({"Mounts": [{"Type": "npipe", "Source": "p", "Target": "/p"}]}),
            none.clone(),
            "ContainerSpec.Mounts[/p]",
        ),
        (
            json!({"Mounts": [{"Type": "bind", "Source": "/p", "Target": "/p", "BindOptions": {"Propagation": "x"}}]}),
            none.clone(),
            "ContainerSpec.Mounts[/p]",
        ),
        (
            json!({"Mounts": [{"Type": "tmpfs", "Target": "/p", "New": true}]}),
            none.clone(),
            "ContainerSpec.Mounts[/p].New",
        ),
        (
            json!({"PullOptions": {"RegistryAuth": "?"}}),
            none,
            "ContainerSpec.PullOptions.RegistryAuth",
        ),
        (
            json!({}),
            json!({"Resources": {"SwapBytes": 1}}),
            "Resources.SwapBytes",
        ),
    ];
    for (members, others, field) in rows {
        assert_eq!(
            plan(&members, &others).unwrap_err().field,
            field,
            "{members}{others}"
        );
    }
}

#[test]
fn credentials_are_kept_in_memory_only() {
    let auth = data_encoding::BASE64URL.encode(b"{\"username\":\"me\",\"password\":\"hunter2>>>???\"}");
    let plan = plan(&json!({"PullOptions": {"RegistryAuth": auth}}), &json!({})).unwrap();
    let password = plan.credentials.clone().unwrap().password;
    assert_eq!(password.as_deref(), Some("hunter2>>>???"));
    let written = serde_json::to_string(&plan).unwrap();
    assert!(
        !written.contains("hunter2") && !written.contains(&auth),
        "{written}"
    );
}
