use super::*;
use serde_json::json;

fn made(gateways: &[&str]) -> CniInterface {
    CniInterface {
        mac: "02:42:0a:01:00:02".to_owned(),
        mtu: 1450,
        addresses: vec!["10.1.0.2/24".parse().unwrap(), "fd00:1::2/64".parse().unwrap()],
        gateways: gateways.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

#[test]
fn a_result_has_the_interface_its_addresses_and_the_resolver() {
    let told = added(&made(&[]), "eth0", "/run/netns/box", None, None);
    assert_eq!(
        serde_json::to_value(told).unwrap(),
        json!({
            "interfaces": [{
                "name": "eth0", "mac": "02:42:0a:01:00:02", "mtu": 1450, "sandbox": "/run/netns/box",
            }],
            "ips": [
                { "interface": 0, "address": "10.1.0.2/24" },
                { "interface": 0, "address": "fd00:1::2/64" },
            ],
            "routes": [{ "dst": "10.1.0.0/24" }, { "dst": "fd00:1::/64" }],
            "dns": { "nameservers": ["127.0.0.11"] },
        })
    );
}

#[test]
fn a_result_follows_those_before_and_says_where_the_default_route_leads() {
    let before: CNIResult = serde_json::from_value(json!({
        "interfaces": [{ "name": "br0" }, { "name": "net0", "sandbox": "/run/netns/box" }],
        "ips": [{ "interface": 1, "address": "192.0.2.5/24", "gateway": "192.0.2.1" }],
        "dns": { "nameservers": ["192.0.2.53"], "search": ["example.org"] },
    }))
    .unwrap();
    let told = added(
        &made(&["10.1.0.1", "fd00:1::1"]),
        "eth0",
        "/run/netns/box",
        Some(&before),
        None,
    );
    let told = serde_json::to_value(told).unwrap();
    assert_eq!(told["interfaces"][2]["name"], "eth0");
    assert_eq!(
        told["ips"][1],
        json!({ "interface": 2, "address": "10.1.0.2/24", "gateway": "10.1.0.1" })
    );
    assert_eq!(
        told["routes"],
        json!([
            { "dst": "10.1.0.0/24" }, { "dst": "fd00:1::/64" },
            { "dst": "0.0.0.0/0", "gw": "10.1.0.1" }, { "dst": "::/0", "gw": "fd00:1::1" },
        ])
    );
    assert_eq!(
        told["dns"],
        json!({ "nameservers": ["127.0.0.11"], "search": ["example.org"] })
    );
}

#[test]
fn what_was_told_is_compared_with_what_is() {
    let told = added(&made(&[]), "eth0", "/run/netns/box", None, None);
    assert_eq!(compare(&made(&[]), "eth0", "/run/netns/box", Some(&told)), Ok(()));
    let other = |change: fn(&mut CniInterface)| {
        let mut found = made(&[]);
        change(&mut found);
        compare(&found, "eth0", "/run/netns/box", Some(&told))
    };
    let cases = [
        (
            compare(&made(&[]), "eth0", "/run/netns/box", None),
            7,
            "prevResult is missing",
        ),
        (
            compare(&made(&[]), "eth1", "/run/netns/box", Some(&told)),
            102,
            "no interface eth1",
        ),
        (
            compare(&made(&[]), "eth0", "/run/netns/x", Some(&told)),
            102,
            "in /run/netns/x",
        ),
        (other(|found| found.mac.clear()), 102, "expected 02:42"),
        (
            other(|found| found.addresses.truncate(1)),
            102,
            "expected fd00:1::2/64 among them",
        ),
    ];
    for (found, code, says) in cases {
        let error = found.unwrap_err();
        assert_eq!(u32::from(&error), code, "{error}");
        assert!(error.details().contains(says), "{error}");
    }
}

#[test]
fn each_refusal_has_its_code() {
    let codes = [
        (CniFault::Unreadable, 6),
        (CniFault::Network, 7),
        (CniFault::NoNamespace, 3),
        (CniFault::Unknown, 3),
        (CniFault::Namespace, 8),
        (CniFault::Exists, 101),
        (CniFault::Refused, 100),
        (CniFault::Differs, 102),
        (CniFault::Later, 11),
    ];
    for (kind, code) in codes {
        let error = refused(&CniRefusal::new(kind, "the reason"));
        assert_eq!(u32::from(&error), code, "{kind:?}");
        assert_eq!(error.details(), "the reason");
    }
}
