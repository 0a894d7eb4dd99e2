use super::*;
use proptest::prelude::*;

fn task(bits: u128) -> TaskId {
    TaskId::from_bits(bits)
}

fn network(bits: u128) -> NetworkId {
    NetworkId::from_bits(bits)
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn endpoint(id: &str) -> Endpoint {
    Endpoint {
        id: id.to_owned(),
        network: format!("shadow of {id}"),
    }
}

/// A book with a lease of one address, placed at an endpoint.
fn placed(book: &mut Book, bits: u128, on: u128, address: &str, id: &str) {
    let address = net(address);
    book.ask(task(bits), network(on), None);
    book.take(task(bits), vec![address]);
    assert_eq!(book.tell(task(bits), address.trunc()), Some(address));
    assert_eq!(book.place(endpoint(id), &[address.addr()]), Ok(task(bits)));
}

#[test]
fn endpoints_of_one_sandbox_are_one_container_under_the_first_ones_task() {
    let mut book = Book::default();
    placed(&mut book, 1, 7, "10.1.0.5/24", "a");
    placed(&mut book, 2, 8, "10.2.0.5/24", "b");
    placed(&mut book, 3, 7, "10.1.0.6/24", "c");
    assert_eq!(book.join("b", "/ns/x"), Ok(task(2)));
    assert_eq!(book.join("a", "/ns/x"), Ok(task(2)));
    assert_eq!(book.join("c", "/ns/y"), Ok(task(3)));
    assert!(book.name("a", "cafe", vec!["web".to_owned()]));
    assert!(!book.name("a", "cafe", vec!["web".to_owned()]));

    let said = book.said().containers;
    let ids: Vec<_> = said
        .iter()
        .map(|container| (container.task, container.is_joined))
        .collect();
    assert_eq!(ids, [(task(2), true), (task(3), true)]);
    assert_eq!(said[0].container.as_deref(), Some("cafe"));
    let networks: Vec<_> = said[0].networks.iter().map(|place| place.network).collect();
    assert_eq!(
        networks,
        [network(8), network(7)],
        "in the order of the interfaces"
    );
    assert_eq!(said[0].networks[1].names, ["web"]);

    // The first goes: the container stays what it was.
    let mut leave = |id: &str, anew| (book.leave(id, task(anew)), book.said().containers);
    let (ended, said) = leave("b", 4);
    assert_eq!(ended, None);
    assert_eq!((said[0].task, said[0].networks.len()), (task(2), 1));
    // What is kept until its address is given back has not run, and so has another task.
    let (ended, said) = leave("a", 5);
    assert_eq!(ended, Some(task(2)));
    let kept: Vec<_> = said.iter().filter(|container| !container.is_joined).collect();
    assert_eq!([kept[0].task, kept[1].task], [task(4), task(5)]);
    assert_eq!(kept[1].networks[0].addresses, [ip("10.1.0.5")]);
    let (ended, _) = leave("a", 6);
    assert_eq!(ended, None, "it has left");
    assert_eq!(book.join("a", "/ns/x"), Ok(task(5)), "and may come again");
    assert_eq!(book.remove(task(5)), Some(task(5)));
    assert_eq!(book.remove(task(4)), None);
}

#[test]
fn a_lease_ends_with_its_last_address() {
    let mut book = Book::default();
    let both = vec![net("10.1.0.5/24"), net("fd00:1::5/64")];
    book.ask(task(1), network(7), None);
    book.take(task(1), both);
    assert_eq!(
        book.half_told(network(7), net("fd00:1::/64")),
        None,
        "nothing is told"
    );
    book.tell(task(1), net("10.1.0.0/24"));
    assert!(book.is_half_told(network(7)));
    assert_eq!(book.half_told(network(7), net("10.1.0.0/24")), None);
    assert_eq!(book.half_told(network(8), net("fd00:1::/64")), None);
    assert_eq!(book.half_told(network(7), net("fd00:1::/64")), Some(task(1)));
    book.tell(task(1), net("fd00:1::/64"));
    assert!(!book.is_half_told(network(7)));
    book.give_back(network(8), ip("10.1.0.5"));
    book.give_back(network(7), ip("10.1.0.5"));
    book.give_back(network(7), ip("10.1.0.5"));
    assert_eq!(book.leases.len(), 1);
    book.give_back(network(7), ip("fd00:1::5"));
    assert_eq!(book, Book::default());
}

#[test]
fn what_was_not_handed_out_is_refused_by_name() {
    let mut book = Book::default();
    placed(&mut book, 1, 7, "10.1.0.5/24", "a");
    placed(&mut book, 2, 7, "10.1.0.6/24", "b");
    let refused = [
        (book.place(endpoint("c"), &[ip("10.1.0.9")]), "address 10.1.0.9"),
        (
            book.place(endpoint("c"), &[ip("10.1.0.5"), ip("10.1.0.6")]),
            "addresses 10.1.0.5 and 10.1.0.6 were handed out to two",
        ),
        (book.place(endpoint("c"), &[]), "endpoint c"),
        (book.join("c", "/ns/x"), "endpoint c is not known"),
    ];
    for (found, says) in refused {
        let error = found.unwrap_err().to_string();
        assert!(error.starts_with(says), "{error}");
    }
}

fn interface(container: &str, name: &str) -> Interface {
    Interface {
        attachment: CniAttachment {
            config: "conf".to_owned(),
            container: container.to_owned(),
            interface: name.to_owned(),
        },
        is_default: name == "eth1",
        boot: "this".to_owned(),
    }
}

#[test]
fn interfaces_of_a_runtime_go_one_by_one_and_with_the_machines_start() {
    let mut book = Book::default();
    for (bits, name) in [(1, "eth0"), (2, "eth1")] {
        book.ask(task(bits), network(bits), None);
        book.take(task(bits), vec![net(&format!("10.{bits}.0.5/24"))]);
        let occupied = book.occupy(
            task(bits),
            interface("c", name),
            "netns:4:7",
            vec![format!("n{bits}")],
        );
        assert_eq!(occupied, Ok(task(1)));
    }
    placed(&mut book, 3, 7, "10.7.0.5/24", "engine's");
    let said = book.said().containers;
    assert_eq!(said[0].container.as_deref(), Some("c"));
    let interfaces: Vec<_> = said[0]
        .networks
        .iter()
        .map(|place| place.interface.clone())
        .collect();
    let expected = [("eth0", false), ("eth1", true)].map(|(name, is_default)| {
        let name = name.to_owned();
        Some(ContainerInterface { name, is_default })
    });
    assert_eq!(interfaces, expected);
    assert_eq!(said[1].networks[0].interface, None);
    assert_eq!(
        book.interfaces("conf"),
        ["eth0", "eth1"].map(|name| interface("c", name).attachment)
    );
    assert_eq!(book.interfaces("other"), []);
    let written = serde_json::to_string(&book).unwrap();
    assert_eq!(serde_json::from_str::<Book>(&written).unwrap(), book);

    let mut later = book.clone();
    assert_eq!((later.start_anew("this"), later.start_anew("next")), (0, 2));
    assert_eq!(later.leases.len(), 1, "the engine tells of its own");

    let first = interface("c", "eth0").attachment;
    let left = book.vacate(&first).unwrap();
    assert_eq!((left.task, left.is_last), (Some(task(1)), false));
    assert_eq!(left.address, Some(ip("10.1.0.5")));
    assert_eq!(book.vacate(&first), None, "it is gone");
    let left = book.vacate(&interface("c", "eth1").attachment).unwrap();
    assert_eq!((left.task, left.is_last), (Some(task(1)), true));
    assert_eq!(book.leases.len(), 1);
    let none = book.occupy(task(9), interface("d", "eth0"), "netns:4:8", Vec::new());
    assert_eq!(
        none.unwrap_err().to_string(),
        "endpoint cni/conf/d/eth0 is not known"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Run(u8, u8),
    Leave(u8),
    Release(u8),
}

proptest! {
    /// Whatever comes and goes: the managers are told of each address once, under the network that it is of, no task
    /// that has run is kept for later, and a book that was written down and read is the same.
    #[test]
    fn every_address_is_said_once(steps in prop::collection::vec(prop_oneof![
        (0_u8..6, 0_u8..4).prop_map(|(at, sandbox)| Step::Run(at, sandbox)),
        (0_u8..6).prop_map(Step::Leave),
        (0_u8..6).prop_map(Step::Release),
    ], 0..40)) {
        let mut book = Book::default();
        let mut leases = 0;
        let mut has_run = std::collections::BTreeSet::new();
        for step in steps {
            match step {
                Step::Run(at, sandbox) => {
                    let (address, id) = (format!("10.{}.0.{at}/24", at % 2), format!("e{at}"));
                    if book.leases.values().any(|lease| lease.addresses == [net(&address)]) {
                        continue;
                    }
                    leases += 1;
                    placed(&mut book, leases, u128::from(at % 2), &address, &id);
                    book.join(&id, &format!("/ns/{sandbox}")).unwrap();
                }
                Step::Leave(at) => {
                    leases += 1;
                    book.leave(&format!("e{at}"), task(leases));
                }
                Step::Release(at) => {
                    leases += 1;
                    book.leave(&format!("e{at}"), task(leases));
                    book.remove_endpoint(&format!("e{at}"));
                    book.give_back(network(u128::from(at % 2)), ip(&format!("10.{}.0.{at}", at % 2)));
                }
            }
            let said = book.said();
            let mut addresses: Vec<_> = said
                .containers
                .iter()
                .flat_map(|container| &container.networks)
                .flat_map(|place| place.addresses.iter().map(move |address| (place.network, *address)))
                .collect();
            addresses.sort_unstable();
            let before = addresses.len();
            addresses.dedup();
            prop_assert_eq!(addresses.len(), before, "an address is said twice: {:?}", said);
            let mut tasks: Vec<_> = said.containers.iter().map(|container| container.task).collect();
            tasks.sort_unstable();
            tasks.dedup();
            prop_assert_eq!(tasks.len(), said.containers.len(), "a task is said twice: {:?}", said);
            for lease in book.leases.values() {
                let is_said = lease.addresses.iter().all(|own| addresses.contains(&(lease.network, own.addr())));
                prop_assert!(is_said, "{:?} is not in {:?}", lease, said);
            }
            for container in &said.containers {
                let has_run = has_run.contains(&container.task);
                prop_assert!(container.is_joined || !has_run, "what has run is said not to: {:?}", said);
            }
            has_run.extend(book.joined());
            let written = serde_json::to_string(&book).unwrap();
            prop_assert_eq!(serde_json::from_str::<Book>(&written).unwrap(), book.clone());
        }
    }
}
