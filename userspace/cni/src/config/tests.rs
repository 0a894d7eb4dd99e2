use super::*;
use rscni_plugin::test_util::ArgsBuilder;
use serde_json::json;

fn conf(more: &Value) -> NetConf {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "conf", "type": "essaim-cni" });
    for (key, value) in more.as_object().unwrap() {
        conf[key] = value.clone();
    }
    serde_json::from_value(conf).unwrap()
}

fn args(container: &str, interface: &str, given: &str, more: &Value) -> Args {
    let builder = ArgsBuilder::new().container_id(container).unwrap();
    let builder = builder.netns("/run/netns/box").ifname(interface).unwrap();
    let conf = serde_json::to_string(&conf(more)).unwrap();
    builder.args(given).config(&conf).unwrap().build().unwrap()
}

fn wishes(given: &str, more: &Value) -> Result<Wishes, Error> {
    let args = args(&"ab".repeat(32), "eth0", given, more);
    let attachment = Config::read(args.config())?.attachment(&args)?;
    Wishes::read(&args, &attachment)
}

#[track_caller]
fn is_refused<T: std::fmt::Debug>(found: Result<T, Error>, code: u32, says: &[&str]) {
    let error = found.unwrap_err();
    assert_eq!(u32::from(&error), code, "{error}");
    for says in says {
        assert!(error.details().contains(says), "{error} does not say {says:?}");
    }
}

#[test]
fn a_configuration_names_its_network_or_is_called_as_it_is() {
    let own = Config::read(&conf(&json!({}))).unwrap();
    assert_eq!(
        own,
        Config {
            name: "conf".to_owned(),
            network: "conf".to_owned(),
            socket: "/run/essaim/cni.sock".into(),
            is_default: false,
        }
    );
    let other = json!({
        "network": "app", "socket": "/x/y.sock", "isDefaultGateway": true,
        "cni.dev/attachments": [], "dns": { "search": ["example.org"] }, "ipam": {"type": ""},
    });
    let found = Config::read(&conf(&other)).unwrap();
    assert_eq!((found.network.as_str(), found.is_default), ("app", true));
    assert_eq!(found.socket, PathBuf::from("/x/y.sock"));
}

#[test]
fn what_a_configuration_may_not_say_is_refused_with_key_and_value() {
    let cases = [
        (json!({"mtu": 1400}), 2, ["mtu is 1400", "no such setting"]),
        (
            json!({"ipam": {"type": "host-local"}}),
            2,
            ["ipam is \"host-local\"", "managers choose"],
        ),
        (
            json!({"dns": {"nameservers": ["192.0.2.1"]}}),
            2,
            ["192.0.2.1", "dns.nameservers"],
        ),
        (json!({"network": 7}), 7, ["network is 7", "name of a network"]),
        (
            json!({"network": ""}),
            7,
            ["network is \"\"", "name of a network"],
        ),
        (
            json!({"socket": "cni.sock"}),
            7,
            ["socket is \"cni.sock\"", "path"],
        ),
        (
            json!({"isDefaultGateway": "yes"}),
            7,
            ["isDefaultGateway is \"yes\"", "true or false"],
        ),
    ];
    for (more, code, says) in cases {
        is_refused(Config::read(&conf(&more)), code, &says);
    }
}

#[test]
fn interfaces_that_the_catalog_cannot_name_are_refused() {
    for (name, says) in [("lo", "already"), ("eth@0", "eth@0"), ("_x", "_x")] {
        let args = args("c1", name, "", &json!({}));
        let config = Config::read(args.config()).unwrap();
        is_refused(config.attachment(&args), 4, &["CNI_IFNAME", says]);
    }
}

#[test]
fn names_and_addresses_come_from_where_runtimes_say_them() {
    let more = json!({
        "runtimeConfig": { "ips": ["10.1.0.7/24"], "aliases": { "conf": ["db"], "other": ["no"] } },
        "args": { "cni": { "ips": ["fd00:1::7"], "aliases": ["db", "pal"], "labels": [] } },
    });
    let found = wishes("IgnoreUnknown=1;K8S_POD_NAME=box;NOMAD_ALLOC=7", &more).unwrap();
    assert_eq!(found.names, ["box", "db", "pal"]);
    let expected: [IpAddr; 2] = ["10.1.0.7".parse().unwrap(), "fd00:1::7".parse().unwrap()];
    assert_eq!(found.addresses, expected);
    let listed = json!({ "runtimeConfig": { "aliases": ["x"], "bandwidth": null, "portMappings": [] } });
    let found = wishes("IP=10.1.0.9", &listed).unwrap();
    assert_eq!((found.names, found.addresses.len()), (vec!["x".to_owned()], 1));
}

#[test]
fn identities_that_are_none_of_an_engines_are_names_by_their_beginning() {
    for (id, expected) in [
        ("8d1d7c3e-4b1a-4f0e-9c53-52a40d9e65aa", &["8d1d7c3e-4b1"][..]),
        ("short", &["short"]),
        ("0123456789ab", &[]),
        ("8d1d7c3e4b1-4f0e-9c53-52a40d9e65aa", &[]),
    ] {
        let args = args(id, "eth0", "", &json!({}));
        let attachment = Config::read(args.config()).unwrap().attachment(&args).unwrap();
        assert_eq!(Wishes::read(&args, &attachment).unwrap().names, expected, "{id}");
    }
}

#[test]
fn wishes_that_have_no_effect_are_refused() {
    let none = json!({});
    is_refused(
        wishes("NOMAD_ALLOC=7", &none),
        4,
        &["CNI_ARGS", "NOMAD_ALLOC=7", "IgnoreUnknown"],
    );
    is_refused(wishes("IgnoreUnknown=0;X=1", &none), 4, &["CNI_ARGS", "X=1"]);
    is_refused(wishes("nothing", &none), 4, &["CNI_ARGS", "KEY=VALUE"]);
    is_refused(wishes("IP=here", &none), 4, &["CNI_ARGS", "IP is \"here\""]);
    is_refused(
        wishes("K8S_POD_NAME=a b", &none),
        4,
        &["CNI_ARGS", "K8S_POD_NAME", "a b"],
    );
    let settings = [
        (
            json!({"mac": "02:00:00:00:00:01"}),
            2,
            "runtimeConfig.mac is \"02:00:00:00:00:01\"",
        ),
        (
            json!({"portMappings": [{"hostPort": 80, "containerPort": 80}]}),
            2,
            "portMappings",
        ),
        (
            json!({"bandwidth": {"ingressRate": 1}}),
            2,
            "runtimeConfig.bandwidth",
        ),
        (json!({"ips": ["x"]}), 7, "runtimeConfig.ips is \"x\""),
        (json!({"aliases": ["-"]}), 7, "runtimeConfig.aliases is \"-\""),
        (json!({"aliases": {"conf": 1}}), 7, "runtimeConfig.aliases is 1"),
    ];
    for (runtime, code, says) in settings {
        is_refused(wishes("", &json!({ "runtimeConfig": runtime })), code, &[says]);
    }
}
