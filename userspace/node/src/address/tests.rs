use super::*;

fn interfaces(list: &[(&str, &str)]) -> Vec<Interface> {
    let one = |(name, address): &(&str, &str)| Interface {
        name: (*name).to_owned(),
        address: address.parse().unwrap(),
    };
    list.iter().map(one).collect()
}

#[test]
fn each_form_of_a_listen_address_is_read() {
    let machine = interfaces(&[
        ("lo", "127.0.0.1"),
        ("eth0", "192.0.2.1"),
        ("eth0", "fe80::1"),
        ("eth1", "198.51.100.1"),
        ("eth1", "198.51.100.2"),
        ("six", "2001:db8::1"),
    ]);
    for (asked, found) in [
        (None, Ok("0.0.0.0:2377")),
        (Some(""), Ok("0.0.0.0:2377")),
        (Some("192.0.2.9"), Ok("192.0.2.9:2377")),
        (Some("192.0.2.9:7"), Ok("192.0.2.9:7")),
        (Some("[::]:2377"), Ok("[::]:2377")),
        (Some("2001:db8::2"), Ok("[2001:db8::2]:2377")),
        (Some("[2001:db8::2]"), Ok("[2001:db8::2]:2377")),
        (Some("eth0"), Ok("192.0.2.1:2377")),
        (Some("eth0:99"), Ok("192.0.2.1:99")),
        (Some("lo"), Ok("127.0.0.1:2377")),
        (Some("six:1"), Ok("[2001:db8::1]:1")),
        (
            Some("eth9"),
            Err("listen address must be an IP address or network interface"),
        ),
        (
            Some("eth0:x"),
            Err("listen address must be an IP address or network interface"),
        ),
        (Some("eth0:70000"), Err("listen address must be")),
        (
            Some("eth1"),
            Err("interface eth1 has more than one IP address (198.51.100.1 and 198.51.100.2)"),
        ),
    ] {
        let answer = listen(asked, &machine);
        match found {
            Ok(address) => assert_eq!(answer, Ok(address.parse().unwrap()), "{asked:?}"),
            Err(text) => {
                let error = answer.unwrap_err().to_string();
                assert!(error.starts_with(text), "{asked:?}: {error}");
            }
        }
    }
}

#[test]
fn the_address_to_advertise_is_given_or_obvious_or_asked_for() {
    let any: SocketAddr = "0.0.0.0:2377".parse().unwrap();
    let one = interfaces(&[
        ("lo", "127.0.0.1"),
        ("eth0", "192.0.2.1"),
        ("eth0", "2001:db8::1"),
    ]);
    let same = interfaces(&[("eth0", "192.0.2.1"), ("eth0", "192.0.2.2")]);
    let two = interfaces(&[("eth0", "192.0.2.1"), ("eth1", "198.51.100.1")]);
    let six = interfaces(&[("lo", "::1"), ("eth0", "fe80::1"), ("eth0", "2001:db8::1")]);
    let on = |machine: &[Interface], asked, towards| {
        advertise(asked, any, towards, machine)
            .map(|it| it.to_string())
            .map_err(|error| error.to_string())
    };
    assert_eq!(on(&one, None, None), Ok("192.0.2.1:2377".to_owned()));
    assert_eq!(on(&six, None, None), Ok("[2001:db8::1]:2377".to_owned()));
    assert_eq!(on(&two, Some("eth1:5"), None), Ok("198.51.100.1:5".to_owned()));
    assert_eq!(
        on(&two, None, Some([192, 0, 2, 1].into())),
        Ok("192.0.2.1:2377".to_owned())
    );
    assert_eq!(
        on(&[], None, None),
        Err("could not find the system's IP address - specify one with --advertise-addr".to_owned())
    );
    assert_eq!(
        on(&two, None, None).unwrap_err(),
        "could not choose an IP address to advertise since this system has multiple addresses on different \
         interfaces (192.0.2.1 on eth0 and 198.51.100.1 on eth1) - specify one with --advertise-addr"
    );
    assert!(
        on(&same, None, None)
            .unwrap_err()
            .contains("on interface eth0 (192.0.2.1 and 192.0.2.2)")
    );
    for bad in ["0.0.0.0", "[::]:2377", "eth7", "no such thing"] {
        let error = on(&two, Some(bad), None).unwrap_err();
        assert!(
            error.starts_with("advertise address must be a non-zero IP address"),
            "{error}"
        );
    }
    // What it listens at is what others reach.
    let listen = "203.0.113.1:99".parse().unwrap();
    assert_eq!(advertise(None, listen, None, &two), Ok(listen));
}

#[test]
fn the_data_path_has_an_address_and_no_port() {
    let machine = interfaces(&[("eth1", "198.51.100.1")]);
    assert_eq!(data_path(None, &machine), Ok(None));
    assert_eq!(
        data_path(Some("eth1"), &machine),
        Ok(Some([198, 51, 100, 1].into()))
    );
    for bad in ["eth1:4789", "0.0.0.0", "eth2"] {
        assert!(data_path(Some(bad), &machine).is_err(), "{bad}");
    }
}

#[test]
fn a_first_node_that_advertises_loopback_has_its_data_path_elsewhere() {
    let machine = interfaces(&[
        ("lo", "127.0.0.1"),
        ("docker0", "172.17.0.1"),
        ("eth0", "192.0.2.1"),
        ("br-0123456789ab", "172.18.0.1"),
    ]);
    let loopback = [127, 0, 0, 1].into();
    let found = first_data_path(None, loopback, &machine);
    assert_eq!(found, Ok(Some([192, 0, 2, 1].into())));
    assert_eq!(
        first_data_path(Some("lo"), loopback, &machine),
        Ok(Some(loopback))
    );
    assert_eq!(first_data_path(None, [192, 0, 2, 1].into(), &machine), Ok(None));
    assert_eq!(first_data_path(None, loopback, &machine[..1]), Ok(None));
    // What an engine has bridged is no address to choose between.
    let any = "0.0.0.0:2377".parse().unwrap();
    assert_eq!(
        advertise(None, any, None, &machine),
        Ok("192.0.2.1:2377".parse().unwrap())
    );
}

#[test]
fn remotes_are_addresses_or_names_and_get_the_port() {
    for (text, found) in [
        ("192.0.2.1", "192.0.2.1:2377"),
        (" 192.0.2.1:5 ", "192.0.2.1:5"),
        ("2001:db8::1", "[2001:db8::1]:2377"),
        ("[2001:db8::1]:5", "[2001:db8::1]:5"),
        ("manager-1.example", "manager-1.example:2377"),
        ("manager:99", "manager:99"),
    ] {
        assert_eq!(remote(text), Ok(found.to_owned()));
    }
    for bad in ["", ":2377", "host:port", "a b", "http://x/", "x:99999"] {
        assert!(remote(bad).is_err(), "{bad}");
    }
}
