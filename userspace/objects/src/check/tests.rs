use super::*;
use crate::{ClusterSpec, MTU_OPTION, NetworkSpec, ServiceSpec, VNI_OPTION};
use proptest::prelude::*;
use serde_json::{Value, json};

fn problems(result: Result<(), Vec<Invalid>>) -> Vec<String> {
    result
        .err()
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// Puts a value at a path such as `A.B`, making what is missing.
fn put(object: &mut Value, path: &str, value: Value) {
    let mut place = object;
    for name in path.split('.') {
        place = &mut place[name];
    }
    *place = value;
}

fn service(path: &str, value: Value) -> Vec<String> {
    let mut spec = json!({"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "nginx"}}});
    put(&mut spec, path, value);
    problems(serde_json::from_value::<ServiceSpec>(spec).unwrap().check())
}

#[test]
fn what_real_clients_post_is_accepted() {
    let recorded: Vec<Value> =
        serde_json::from_str(include_str!("../../testdata/service-specs.json")).unwrap();
    for spec in recorded {
        let spec: ServiceSpec = serde_json::from_value(spec).unwrap();
        assert_eq!(problems(spec.check()), Vec::<String>::new(), "{}", spec.name());
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table with a row for each rule")]
fn a_service_is_refused_with_the_field_and_the_reason() {
    const TEMPLATE: &str = "TaskTemplate";
    let container = |name: &str| format!("TaskTemplate.ContainerSpec.{name}");
    let template = |name: &str| format!("{TEMPLATE}.{name}");
    let file = |name: &str| json!({"Name": name, "UID": "0", "GID": "0", "Mode": 292});
    let id = "8ndmfqyjknwbf6qu2vwspt9ci";
    for (path, value, expected) in [
        (
            "Name".to_owned(),
            json!("a.b"),
            "Name is \"a.b\", expected 1 to 63 letters, digits, '-' and '_', a letter or digit first and last",
        ),
        (
            "Labels".into(),
            json!({"": "x"}),
            "Labels is a label without a name, expected a name for each label",
        ),
        (
            "TaskTemplate".into(),
            json!({}),
            "TaskTemplate.ContainerSpec is absent, expected a container",
        ),
        (
            template("Runtime"),
            json!("plugin"),
            "TaskTemplate.Runtime is plugin, expected container",
        ),
        (
            container("Image"),
            json!(""),
            "TaskTemplate.ContainerSpec.Image is \"\", expected the name of an image",
        ),
        (
            container("Image"),
            json!("a b"),
            "TaskTemplate.ContainerSpec.Image is \"a b\", expected the name of an image",
        ),
        (
            container("Env"),
            json!(["A=1", "=x"]),
            "TaskTemplate.ContainerSpec.Env[1] is \"=x\", expected NAME=VALUE",
        ),
        (
            container("Hostname"),
            json!("{{.Nope}}"),
            "TaskTemplate.ContainerSpec.Hostname is unknown placeholder \".Nope\"",
        ),
        (
            container("Env"),
            json!(["A={{.Task"]),
            "TaskTemplate.ContainerSpec.Env[0] is \"{{.Task\" has {{ without }}, expected placeholders that are known",
        ),
        (
            container("StopGracePeriod"),
            json!(-1),
            "TaskTemplate.ContainerSpec.StopGracePeriod is -1 ns, expected 0 or more",
        ),
        (
            container("Mounts"),
            json!([{"Type": "bind", "Source": "x", "Target": "/a"}]),
            "TaskTemplate.ContainerSpec.Mounts[0].Source is \"x\", expected an absolute path",
        ),
        (
            container("Mounts"),
            json!([{"Type": "volume", "Target": "a"}]),
            "TaskTemplate.ContainerSpec.Mounts[0].Target is \"a\", expected an absolute path",
        ),
        (
            container("Mounts"),
            json!([{"Type": "volume", "Target": "/a"}, {"Type": "tmpfs", "Target": "/a"}]),
            "TaskTemplate.ContainerSpec.Mounts[1].Target is \"/a\", expected a path that is not mounted twice",
        ),
        (
            container("Mounts"),
            json!([{"Type": "npipe", "Target": "/a"}]),
            "TaskTemplate.ContainerSpec.Mounts[0].Type is \"npipe\", expected bind, volume or tmpfs",
        ),
        (
            container("Mounts"),
            json!([{"Type": "tmpfs", "Target": "/a", "VolumeOptions": {}}]),
            "TaskTemplate.ContainerSpec.Mounts[0].VolumeOptions is given, expected none for a tmpfs mount",
        ),
        (
            container("Healthcheck"),
            json!({"Test": ["SHELL", "x"]}),
            "TaskTemplate.ContainerSpec.Healthcheck.Test[0] is \"SHELL\", expected NONE, CMD or CMD-SHELL",
        ),
        (
            container("Healthcheck"),
            json!({"Test": ["CMD"]}),
            "TaskTemplate.ContainerSpec.Healthcheck.Test is no command, expected a command",
        ),
        (
            container("Healthcheck"),
            json!({"Interval": 999_999}),
            "TaskTemplate.ContainerSpec.Healthcheck.Interval is 999999 ns, expected 0 for the default, or 1 ms or more",
        ),
        (
            container("Hosts"),
            json!(["10.0.0.1"]),
            "TaskTemplate.ContainerSpec.Hosts[0] is \"10.0.0.1\", expected an address and its names",
        ),
        (
            container("DNSConfig"),
            json!({"Nameservers": ["x"]}),
            "TaskTemplate.ContainerSpec.DNSConfig.Nameservers[0] is \"x\", expected an IP address",
        ),
        (
            container("Ulimits"),
            json!([{"Name": "nofile", "Soft": 2, "Hard": 1}]),
            "TaskTemplate.ContainerSpec.Ulimits[0].Soft is 2, expected 0 to 1, the hard limit",
        ),
        (
            container("OomScoreAdj"),
            json!(1001),
            "TaskTemplate.ContainerSpec.OomScoreAdj is 1001, expected -1000 to 1000",
        ),
        (
            container("Secrets"),
            json!([{"SecretName": "a", "File": file("a")}]),
            "TaskTemplate.ContainerSpec.Secrets[0].SecretID is absent, expected the identity of a secret",
        ),
        (
            container("Secrets"),
            json!([{"SecretName": "a", "SecretID": id}]),
            "TaskTemplate.ContainerSpec.Secrets[0].File is absent, expected where the secret goes",
        ),
        (
            container("Secrets"),
            json!([{"SecretName": "a", "SecretID": id, "File": file("../x")}]),
            "TaskTemplate.ContainerSpec.Secrets[0].File.Name is \"../x\", expected a path without \"..\"",
        ),
        (
            container("Secrets"),
            json!([{"SecretName": "a", "SecretID": id, "File": file("x")}, {"SecretName": "b", "SecretID": id, "File": file("/run/secrets/x")}]),
            "TaskTemplate.ContainerSpec.Secrets[1].File.Name is \"/run/secrets/x\", expected a path that no other secret or config has",
        ),
        (
            container("Configs"),
            json!([{"ConfigName": "a", "ConfigID": id, "File": file("x"), "Runtime": {}}]),
            "TaskTemplate.ContainerSpec.Configs[0] is both File and Runtime, expected one of them",
        ),
        (
            container("Configs"),
            json!([{"ConfigName": "a", "ConfigID": id, "File": {"Name": "x", "UID": "root"}}]),
            "TaskTemplate.ContainerSpec.Configs[0].File.UID is \"root\", expected a number",
        ),
        (
            template("Resources"),
            json!({"Reservations": {"NanoCPUs": 999_999}}),
            "TaskTemplate.Resources.Reservations.NanoCPUs is 999999, expected 1000000 (0.001 of a processor) or more",
        ),
        (
            template("Resources"),
            json!({"Limits": {"MemoryBytes": 4_194_303}}),
            "TaskTemplate.Resources.Limits.MemoryBytes is 4194303, expected 4194304 (4 MiB) or more",
        ),
        (
            template("Resources"),
            json!({"MemorySwappiness": 101}),
            "TaskTemplate.Resources.MemorySwappiness is 101, expected -1 to 100",
        ),
        (
            template("RestartPolicy"),
            json!({"Delay": -5}),
            "TaskTemplate.RestartPolicy.Delay is -5 ns, expected 0 or more",
        ),
        (
            template("Placement"),
            json!({"Constraints": ["node.role==boss"]}),
            "TaskTemplate.Placement.Constraints[0] is \"node.role==boss\", expected node.role cannot be \"boss\", expected worker or manager",
        ),
        (
            template("Networks"),
            json!([{"Target": "a"}, {"Target": "a"}]),
            "TaskTemplate.Networks[1].Target is \"a\", expected a network that is not given twice",
        ),
        (
            template("Networks"),
            json!([{"Target": "a", "Aliases": ["x y"]}]),
            "TaskTemplate.Networks[0].Aliases[0] is \"x y\", expected a DNS name",
        ),
        (
            template("Networks"),
            json!([{"Target": "a", "Aliases": ["-x"]}]),
            "TaskTemplate.Networks[0].Aliases[0] is \"-x\", expected a DNS name",
        ),
        (
            container("DNSConfig"),
            json!({"Search": ["example.com", "."]}),
            "TaskTemplate.ContainerSpec.DNSConfig.Search[1] is \".\", expected a DNS name",
        ),
        (
            container("DNSConfig"),
            json!({"Options": ["ndots:2", "ndots:x"]}),
            "TaskTemplate.ContainerSpec.DNSConfig.Options[1] is \"ndots:x\", expected an option of resolv.conf",
        ),
        (
            "Mode".into(),
            json!({"Global": {}, "Replicated": {}}),
            "Mode is Replicated and Global, expected one of them",
        ),
        (
            "UpdateConfig".into(),
            json!({"MaxFailureRatio": 1.5}),
            "UpdateConfig.MaxFailureRatio is 1.5, expected 0 to 1",
        ),
        (
            "UpdateConfig".into(),
            json!({"Monitor": -1}),
            "UpdateConfig.Monitor is -1 ns, expected 0 or more",
        ),
        (
            "RollbackConfig".into(),
            json!({"FailureAction": "rollback"}),
            "RollbackConfig.FailureAction is rollback, expected pause or continue: a rollback is never rolled back",
        ),
        (
            "EndpointSpec".into(),
            json!({"Ports": [{"Protocol": "sctp", "TargetPort": 9, "PublishedPort": 9009}]}),
            "EndpointSpec.Ports[0].PublishedPort is 9009, expected 9, the target port: SCTP's checksum covers the ports",
        ),
        (
            "EndpointSpec".into(),
            json!({"Ports": [{"Protocol": "udp", "TargetPort": 9, "PublishedPort": 7946}]}),
            "EndpointSpec.Ports[0].PublishedPort is 7946/udp, expected another: this is the port of gossip",
        ),
        (
            "EndpointSpec".into(),
            json!({"Ports": [{"TargetPort": 9, "PublishedPort": 2377}]}),
            "EndpointSpec.Ports[0].PublishedPort is 2377/tcp, expected another: this is the port of the managers",
        ),
        (
            "EndpointSpec".into(),
            json!({"Ports": [{"TargetPort": 9, "PublishedPort": 61000}]}),
            "EndpointSpec.Ports[0].PublishedPort is 61000, expected another: 61000 to 65535 are for what tasks send to the world",
        ),
        (
            "EndpointSpec".into(),
            json!({"Mode": "dnsrr", "Ports": [{"TargetPort": 80}]}),
            "EndpointSpec.Ports[0].PublishMode is ingress, expected host: endpoint mode dnsrr has no virtual address for ingress",
        ),
        (
            "EndpointSpec".into(),
            json!({"Ports": [{"TargetPort": 80, "PublishedPort": 8080}, {"TargetPort": 81, "PublishedPort": 8080}]}),
            "EndpointSpec.Ports[1].PublishedPort is 8080/tcp, expected a port that is not given twice",
        ),
        (
            "EndpointSpec".into(),
            json!({"Ports": [{"PublishedPort": 8080}]}),
            "EndpointSpec.Ports[0].TargetPort is 0, expected 1 to 65535",
        ),
        (
            "EndpointSpec".into(),
            json!({"Ports": [{"TargetPort": 1, "PublishedPort": 65_536}]}),
            "EndpointSpec.Ports[0].PublishedPort is 65536, expected 0 to 65535",
        ),
    ] {
        let found = service(&path, value.clone());
        assert_eq!(found.len(), 1, "{path}: {value}: {found:?}");
        assert!(found[0].starts_with(expected), "{path}: {value}: {found:?}");
    }
}

#[test]
fn what_is_at_the_limit_is_accepted() {
    for (path, value) in [
        ("Name", json!("a".repeat(63))),
        ("Name", json!("a-_b")),
        (
            "TaskTemplate.Resources",
            json!({"Reservations": {"NanoCPUs": 1_000_000, "MemoryBytes": 4_194_304}, "Limits": {"NanoCPUs": 0}}),
        ),
        (
            "TaskTemplate.ContainerSpec.Healthcheck",
            json!({"Test": ["NONE"], "Interval": 1_000_000}),
        ),
        (
            "EndpointSpec",
            json!({"Ports": [{"TargetPort": 80, "PublishedPort": 53, "Protocol": "udp"}, {"TargetPort": 80, "PublishedPort": 53}]}),
        ),
        (
            "EndpointSpec",
            json!({"Ports": [{"TargetPort": 80}, {"TargetPort": 81}]}),
        ),
        (
            "EndpointSpec",
            json!({"Mode": "dnsrr", "Ports": [{"TargetPort": 80, "PublishMode": "host"}]}),
        ),
        (
            "UpdateConfig",
            json!({"MaxFailureRatio": 1, "FailureAction": "rollback"}),
        ),
    ] {
        assert_eq!(
            service(path, value.clone()),
            Vec::<String>::new(),
            "{path}: {value}"
        );
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let spec: ServiceSpec =
        serde_json::from_str(r#"{"Name":"","TaskTemplate":{"ContainerSpec":{}}}"#).unwrap();
    let fields: Vec<_> = spec
        .check()
        .unwrap_err()
        .into_iter()
        .map(|invalid| invalid.field)
        .collect();
    assert_eq!(fields, ["Name", "TaskTemplate.ContainerSpec.Image"]);
}

#[test]
fn a_job_has_no_update_config() {
    let mut spec =
        json!({"Name": "j", "TaskTemplate": {"ContainerSpec": {"Image": "x"}}, "Mode": {"GlobalJob": {}}});
    assert!(
        serde_json::from_value::<ServiceSpec>(spec.clone())
            .unwrap()
            .check()
            .is_ok()
    );
    spec["UpdateConfig"] = json!({});
    let found = problems(serde_json::from_value::<ServiceSpec>(spec).unwrap().check());
    assert_eq!(
        found,
        ["UpdateConfig is given, expected none: a job is not updated task by task"]
    );
}

fn network(config: &Value) -> Vec<String> {
    let mut spec = json!({"Name": "app"});
    for (name, value) in config.as_object().unwrap() {
        spec[name] = value.clone();
    }
    problems(serde_json::from_value::<NetworkSpec>(spec).unwrap().check())
}

#[test]
fn a_network_is_refused_with_the_field_and_the_reason() {
    let subnet = |config: Value| json!({"IPAMOptions": {"Configs": [config]}});
    for (config, expected) in [
        (json!({"Name": "-a"}), "Name is \"-a\", expected 1 to 64 letters"),
        (json!({"Name": "a".repeat(65)}), "Name is "),
        (
            json!({"DriverConfiguration": {"Name": "bridge"}}),
            "DriverConfiguration.Name is \"bridge\", expected overlay",
        ),
        (
            json!({"DriverConfiguration": {"Options": {VNI_OPTION: "16777216"}}}),
            "DriverConfiguration.Options.com.docker.network.driver.overlay.vxlanid_list is \"16777216\", expected a number from 1 to 16777215",
        ),
        (
            json!({"DriverConfiguration": {"Options": {MTU_OPTION: "625"}}}),
            "DriverConfiguration.Options.com.docker.network.driver.mtu is \"625\", expected a number from 626 to 65515",
        ),
        (
            json!({"IPv6Enabled": true, "DriverConfiguration": {"Options": {MTU_OPTION: "1329"}}}),
            "DriverConfiguration.Options.com.docker.network.driver.mtu is \"1329\", expected a number from 1330 to 65515",
        ),
        (
            json!({"DriverConfiguration": {"Options": {"parent": "eth0"}}}),
            "DriverConfiguration.Options is \"parent\", expected one of com.docker.network.driver.mtu, ",
        ),
        (
            json!({"IPAMOptions": {"Driver": {"Options": {"serial": "true"}}}}),
            "IPAMOptions.Driver.Options is \"serial\", expected none: the default driver has no options",
        ),
        (
            json!({"Ingress": true, "Attachable": true}),
            "Attachable is true, expected false for the ingress network",
        ),
        (json!({"IPv4Enabled": false}), "IPv4Enabled is false"),
        (
            json!({"ConfigFrom": {"Network": "plan"}, "IPv6Enabled": true}),
            "IPv6Enabled is given, expected none beside ConfigFrom",
        ),
        (
            json!({"ConfigFrom": {"Network": "plan"}, "ConfigOnly": true}),
            "ConfigOnly is given, expected none beside ConfigFrom",
        ),
        (
            subnet(json!({"Subnet": "10.0.0"})),
            "IPAMOptions.Configs[0].Subnet is \"10.0.0\", expected a subnet such as",
        ),
        (
            subnet(json!({"Subnet": "10.0.0.1/24"})),
            "IPAMOptions.Configs[0].Subnet is \"10.0.0.1/24\", expected 10.0.0.0/24, without host bits",
        ),
        (
            subnet(json!({"Subnet": "10.0.0.0/31"})),
            "IPAMOptions.Configs[0].Subnet's prefix length is 31, expected 8 to 30",
        ),
        (
            subnet(json!({"Subnet": "127.0.0.0/24"})),
            "IPAMOptions.Configs[0].Subnet is \"127.0.0.0/24\", expected addresses that a host can have",
        ),
        (
            subnet(json!({"Subnet": "10.0.0.0/24", "Range": "10.0.1.0/25"})),
            "IPAMOptions.Configs[0].Range is \"10.0.1.0/25\", expected a part of 10.0.0.0/24",
        ),
        (
            subnet(json!({"Subnet": "10.0.0.0/24", "Gateway": "10.0.0.255"})),
            "IPAMOptions.Configs[0].Gateway is \"10.0.0.255\", expected an address of a host in 10.0.0.0/24",
        ),
        (
            subnet(json!({"Subnet": "10.0.0.0/24", "AuxiliaryAddresses": {"a": "x"}})),
            "IPAMOptions.Configs[0].AuxiliaryAddresses is \"x\", expected an IP address",
        ),
        (
            subnet(json!({"Gateway": "10.0.0.1"})),
            "IPAMOptions.Configs[0].Subnet is absent",
        ),
        (
            json!({"IPAMOptions": {"Configs": [{"Subnet": "10.0.0.0/24"}, {"Subnet": "10.0.1.0/24"}]}}),
            "IPAMOptions.Configs[1].Subnet is \"10.0.1.0/24\", expected at most one subnet of IPv4 and one of IPv6",
        ),
    ] {
        let found = network(&config);
        assert_eq!(found.len(), 1, "{config}: {found:?}");
        assert!(found[0].starts_with(expected), "{config}: {found:?}");
    }
    for good in [
        json!({}),
        json!({"Ingress": true}),
        json!({"DriverConfiguration": {"Options": {MTU_OPTION: "9000", VNI_OPTION: "5000", "dsr": "", "encrypted": ""}}}),
        json!({"IPAMOptions": {"Driver": {"Name": "default", "Options": {}}}}),
        json!({"IPv6Enabled": true, "IPv4Enabled": false}),
        json!({"IPAMOptions": {"Configs": [{"Subnet": ""}]}}),
        json!({"IPAMOptions": {"Configs": [{"Subnet": "10.9.0.0/16", "Range": "10.9.1.0/24", "Gateway": "10.9.0.1"}, {"Subnet": "fd00:1::/64", "Gateway": "fd00:1::1"}]}}),
    ] {
        assert_eq!(network(&good), Vec::<String>::new(), "{good}");
    }
}

#[test]
fn secrets_and_configs_have_their_limits() {
    let secret = |length: usize| SecretSpec {
        name: Some("a".to_owned()),
        data: Some(vec![0; length].into()),
        ..SecretSpec::default()
    };
    assert!(secret(1).check().is_ok() && secret(MAX_SECRET_SIZE - 1).check().is_ok());
    assert_eq!(
        problems(secret(0).check()),
        ["Data is 0 bytes, expected 1 to 511999 bytes"]
    );
    assert_eq!(
        problems(secret(MAX_SECRET_SIZE).check()),
        ["Data is 512000 bytes, expected 1 to 511999 bytes"]
    );
    let config = |length: usize, templating: &str| ConfigSpec {
        name: Some("a".to_owned()),
        data: Some([b"{{.Nope}}".as_slice(), &vec![b'x'; length]].concat().into()),
        templating: (!templating.is_empty()).then(|| Driver {
            name: Some(templating.to_owned()),
            ..Driver::default()
        }),
        ..ConfigSpec::default()
    };
    assert!(config(MAX_CONFIG_SIZE - 10, "").check().is_ok());
    assert_eq!(
        problems(config(MAX_CONFIG_SIZE - 9, "").check()),
        ["Data is 1024000 bytes, expected 1 to 1023999 bytes"]
    );
    assert_eq!(
        problems(config(1, "jinja").check()),
        ["Templating.Name is \"jinja\", expected golang"]
    );
    assert!(problems(config(1, "golang").check())[0].starts_with("Data is unknown placeholder \".Nope\""));
}

#[test]
fn a_cluster_is_refused_with_the_field_and_the_reason() {
    for (spec, expected) in [
        (json!({"Name": "x"}), "Name is \"x\", expected default"),
        (
            json!({"Dispatcher": {"HeartbeatPeriod": -1}}),
            "Dispatcher.HeartbeatPeriod is -1 ns, expected 0 or more",
        ),
        (
            json!({"Raft": {"ElectionTick": 1, "HeartbeatTick": 1}}),
            "Raft.ElectionTick is 1, expected more than HeartbeatTick, 1",
        ),
        (
            json!({"CAConfig": {"NodeCertExpiry": 3_599_999_999_999_u64}}),
            "CAConfig.NodeCertExpiry is 3599999999999 ns, expected 1 hour or more",
        ),
        (
            json!({"CAConfig": {"ExternalCAs": [{"Protocol": "cfssl", "URL": "http://x"}]}}),
            "CAConfig.ExternalCAs[0].URL is \"http://x\", expected https://HOST…",
        ),
        (
            json!({"CAConfig": {"ExternalCAs": [{"Protocol": "cfssl", "URL": "https://:443/x"}]}}),
            "CAConfig.ExternalCAs[0].URL is \"https://:443/x\", expected https://HOST…",
        ),
        (
            json!({"CAConfig": {"ExternalCAs": [
                {"Protocol": "CFSSL", "URL": "https://[::1]:8888/sign"},
                {"Protocol": "acme", "URL": "https://x"},
            ]}}),
            "CAConfig.ExternalCAs[1].Protocol is \"acme\", expected cfssl",
        ),
        (
            json!({"CAConfig": {"ExternalCAs": vec![json!({"Protocol": "cfssl", "URL": "https://x"}); 9]}}),
            "CAConfig.ExternalCAs is 9 authorities, expected at most 8",
        ),
        (
            json!({"TaskDefaults": {"LogDriver": {"Name": "syslog"}}}),
            "TaskDefaults.LogDriver is \"syslog\", expected none: a service names its own",
        ),
    ] {
        let found = problems(
            serde_json::from_value::<ClusterSpec>(spec.clone())
                .unwrap()
                .check(),
        );
        assert_eq!(found, [expected], "{spec}");
    }
    assert_eq!(
        problems(check_data_path_port(1023)),
        ["DataPathPort is 1023, expected 1024 to 49151"]
    );
    assert_eq!(
        problems(check_data_path_port(7946)),
        ["DataPathPort is 7946, expected another: this is the port of gossip"]
    );
    assert!(check_data_path_port(0).is_ok() && check_data_path_port(7777).is_ok());
}

#[test]
fn pools_hold_subnets_and_do_not_overlap() {
    let check = |pools: &[&str], size| {
        let pools: Vec<_> = pools.iter().map(|&pool| pool.to_owned()).collect();
        problems(check_address_pools(&pools, size))
    };
    assert!(check(&["10.0.0.0/8", "20.20.0.0/16", "fd00::/48"], Some(24)).is_empty());
    assert_eq!(
        check(&["10.0.0.0/8"], Some(30)),
        ["SubnetSize is 30, expected at most 29: a smaller subnet has no room for tasks"]
    );
    assert_eq!(
        check(&["10.0.0.0/25"], None),
        ["DefaultAddrPool[0] is \"10.0.0.0/25\", expected a prefix of at most /24, the size of a subnet"]
    );
    assert_eq!(
        check(&["10.0.0.0/8", "10.1.0.0/16"], None),
        ["DefaultAddrPool[1] is \"10.1.0.0/16\", expected no overlap with 10.0.0.0/8"]
    );
    assert_eq!(
        check(&["x"], None),
        ["DefaultAddrPool[0] is \"x\", expected a prefix such as 10.0.0.0/8 or fd00::/48"]
    );
}

#[test]
fn a_node_has_names_it_can_be_asked_for_by() {
    let check = |spec: Value| problems(serde_json::from_value::<NodeSpec>(spec).unwrap().check());
    assert!(check(json!({"Role": "MANAGER", "Availability": "drain", "Name": ""})).is_empty());
    assert_eq!(
        check(json!({"Labels": {" ": "x"}})),
        ["Labels is a label without a name, expected a name for each label"]
    );
    assert!(
        serde_json::from_value::<NodeSpec>(json!({"Role": "boss"}))
            .unwrap_err()
            .to_string()
            .contains("expected one of worker, manager")
    );
}

proptest! {
    #[test]
    fn no_text_in_a_spec_panics(text in "\\PC{0,20}", number in any::<i64>()) {
        let mount = json!([{"Type": text, "Source": text, "Target": text}]);
        service("TaskTemplate.ContainerSpec.Mounts", mount);
        service("TaskTemplate.ContainerSpec.Env", json!([text]));
        service("TaskTemplate.Placement", json!({"Constraints": [text, format!("{text}=={text}")]}));
        service("TaskTemplate.ContainerSpec.StopGracePeriod", json!(number));
        network(&json!({"IPAMOptions": {"Configs": [{"Subnet": text, "Gateway": text, "Range": text}]}}));
    }
}

#[test]
fn what_has_no_effect_is_taken_and_told() {
    let spec = json!({"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "i"},
        "Placement": {"Preferences": [
            {"Spread": {"SpreadDescriptor": "zone"}}, {"Spread": {"SpreadDescriptor": "node.labels.zone"}},
        ]},
        "Networks": [{"Target": "a", "DriverOpts": {"x": "y"}}],
    }});
    let spec: ServiceSpec = serde_json::from_value(spec).unwrap();
    assert_eq!(spec.check(), Ok(()));
    assert_eq!(
        spec.without_effect(),
        [
            "TaskTemplate.Placement.Preferences[0].Spread.SpreadDescriptor is \"zone\", expected cannot spread over \"zone\", expected node.labels.NAME or engine.labels.NAME; it has no effect",
            "TaskTemplate.Networks[0].DriverOpts is \"x\", expected none: a task's place on a network has no options; it has no effect",
        ]
    );
}
