use super::*;
use essaim_objects::{Node, TaskId};
use essaim_store::{Object, Store, allocate};
use serde_json::{Value, json};

const NODE: u128 = 11;
const OTHER: u128 = 12;
/// `app`, which is attachable; `closed`, which is not.
const APP: u128 = 3;
const CLOSED: u128 = 4;

struct Lab {
    store: Store,
    index: u64,
}

impl Lab {
    fn new() -> Self {
        let mut lab = Self {
            store: Store::new(),
            index: 0,
        };
        lab.create::<essaim_objects::Cluster>(
            1,
            json!({"Spec": {"Name": "default"}, "DefaultAddrPool": ["10.0.0.0/8"], "SubnetSize": 24}),
        );
        for (bits, name, is_open) in [(APP, "app", true), (CLOSED, "closed", false)] {
            let subnet = format!("10.{bits}.0.0/24");
            lab.create::<Network>(
                bits,
                json!({"Spec": {"Name": name, "Attachable": is_open, "IPAMOptions": {"Configs": [{"Subnet": subnet}]}}}),
            );
        }
        // A catalog is not whole without.
        lab.create::<Network>(
            6,
            json!({"Spec": {"Name": "ingress", "Ingress": true, "IPAMOptions": {"Configs": [{"Subnet": "10.6.0.0/24"}]}}}),
        );
        for (bits, address) in [(NODE, "192.0.2.1"), (OTHER, "192.0.2.2")] {
            lab.create::<Node>(bits, json!({"Status": {"State": "ready", "Addr": address}}));
        }
        lab
    }

    fn create<T: serde::de::DeserializeOwned + Into<Object>>(&mut self, bits: u128, mut members: Value) {
        members["ID"] = NodeId::from_bits(bits).to_string().into();
        let mut transaction = Transaction::new();
        transaction.create(serde_json::from_value::<T>(members).unwrap());
        self.commit(transaction);
    }

    fn commit(&mut self, mut transaction: Transaction) {
        allocate(self.store.view(), &mut transaction).unwrap();
        self.index += 1;
        self.store
            .apply(self.index, &transaction, Timestamp::UNIX_EPOCH)
            .unwrap();
    }

    /// What a node says, until the store follows; how many changes that took.
    fn say(&mut self, node: u128, containers: &[AttachedContainer]) -> (AttachmentsHeld, usize) {
        let node = NodeId::from_bits(node);
        let said = Attachments {
            containers: containers.to_vec(),
        };
        let mut changes = 0;
        loop {
            let transaction = hold(self.store.view(), node, &said, Timestamp::UNIX_EPOCH);
            if transaction.changes.is_empty() {
                assert_eq!(essaim_store::audit(self.store.view()), []);
                return (held(self.store.view(), node, &said), changes);
            }
            changes += transaction.changes.len();
            self.commit(transaction);
        }
    }

    fn task(&self, bits: u128) -> Option<&Arc<Task>> {
        self.store.view().task(TaskId::from_bits(bits))
    }
}

fn container(task: u128, networks: &[(u128, &[&str])]) -> AttachedContainer {
    let place = |(network, addresses): &(u128, &[&str])| ContainerNetwork {
        network: NetworkId::from_bits(*network),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        names: vec![format!("name-of-{task}")],
        interface: None,
    };
    AttachedContainer {
        task: TaskId::from_bits(task),
        container: None,
        networks: networks.iter().map(place).collect(),
        is_joined: false,
    }
}

fn addresses(held: &AttachmentsHeld) -> Vec<String> {
    let all = held.places.iter().flat_map(|place| &place.addresses);
    all.map(ToString::to_string).collect()
}

fn why(held: &AttachmentsHeld) -> Vec<&str> {
    held.refused.iter().map(|refused| refused.why.as_str()).collect()
}

#[test]
fn a_new_container_is_given_an_address_that_it_keeps_and_gives_back() {
    let mut lab = Lab::new();
    let (held, _) = lab.say(NODE, &[container(21, &[(APP, &[])])]);
    assert_eq!(
        (addresses(&held), why(&held)),
        (vec!["10.3.0.2/24".to_owned()], vec![])
    );
    assert_eq!(lab.task(21).unwrap().status.state, TaskState::Ready);

    let named = AttachedContainer {
        is_joined: true,
        container: Some("c".repeat(64)),
        ..container(21, &[(APP, &["10.3.0.2"])])
    };
    let (again, changes) = lab.say(NODE, std::slice::from_ref(&named));
    assert_eq!((addresses(&again), changes), (addresses(&held), 1));
    assert_eq!(lab.task(21).unwrap().status.state, TaskState::Running);
    assert_eq!(lab.say(NODE, &[named]).1, 0, "the same is said again");

    assert_eq!(lab.say(NODE, &[]).1, 1);
    assert_eq!(lab.task(21), None);
    let other = container(22, &[(APP, &["10.3.0.2"])]);
    assert_eq!(addresses(&lab.say(OTHER, &[other]).0), ["10.3.0.2/24"]);
}

#[test]
fn an_address_goes_from_one_of_the_nodes_containers_to_another() {
    let mut lab = Lab::new();
    lab.create::<Network>(
        5,
        json!({"Spec": {"Name": "db", "Attachable": true, "IPAMOptions": {"Configs": [{"Subnet": "10.5.0.0/24"}]}}}),
    );
    lab.say(NODE, &[container(21, &[(APP, &[])]), container(22, &[(5, &[])])]);
    let both = container(21, &[(APP, &["10.3.0.2"]), (5, &["10.5.0.2"])]);
    let (held, _) = lab.say(NODE, &[both]);
    assert_eq!(addresses(&held), ["10.3.0.2/24", "10.5.0.2/24"]);
    assert_eq!(lab.task(22), None);
}

#[test]
fn what_has_run_is_not_kept_and_holds_up_no_other() {
    let mut lab = Lab::new();
    let ran = container(21, &[(APP, &[])]);
    let runs = AttachedContainer {
        is_joined: true,
        ..ran.clone()
    };
    lab.say(NODE, std::slice::from_ref(&ran));
    lab.say(NODE, &[runs]);
    let containers = vec![ran, container(22, &[(APP, &[])])];
    let said = Attachments { containers };
    lab.commit(hold(
        lab.store.view(),
        NodeId::from_bits(NODE),
        &said,
        Timestamp::UNIX_EPOCH,
    ));
    assert_eq!(lab.task(21), None);
    assert!(lab.task(22).is_some());
}

#[test]
fn what_cannot_be_is_refused_with_the_reason_and_takes_nothing_from_the_others() {
    let mut lab = Lab::new();
    let mine = container(21, &[(APP, &[])]);
    lab.say(NODE, std::slice::from_ref(&mine));
    lab.say(OTHER, &[container(31, &[(APP, &["10.3.0.9"])])]);
    for (asked, says) in [
        (
            container(22, &[(CLOSED, &[])]),
            "network closed not manually attachable",
        ),
        (container(22, &[(99, &[])]), "not found"),
        (
            container(22, &[(APP, &["10.4.0.9"])]),
            "address 10.4.0.9 is not in a subnet of network app; choose one of 10.3.0.0/24",
        ),
        (
            container(22, &[(APP, &["10.3.0.9"])]),
            "address 10.3.0.9 on network app is in use by task",
        ),
        (
            container(22, &[(APP, &["10.3.0.1"])]),
            "address 10.3.0.1 on network app is in use by network",
        ),
        (
            container(22, &[(APP, &["10.3.0.2"])]),
            "address 10.3.0.2 on network app is in use by task",
        ),
        (container(31, &[(APP, &[])]), "is not an attachment of this node"),
        (
            container(22, &[(APP, &["10.3.0.7"]), (CLOSED, &[])]),
            "network closed not manually attachable",
        ),
    ] {
        let (held, _) = lab.say(NODE, &[mine.clone(), asked.clone()]);
        assert_eq!(addresses(&held), ["10.3.0.2/24"], "{asked:?}");
        let why = why(&held);
        assert!(
            matches!(why[..], [why] if why.contains(says)),
            "{why:?}, expected {says}"
        );
        assert!(lab.task(22).is_none());
    }
    assert!(lab.task(31).is_some(), "another node's");
}

#[test]
fn what_was_let_in_stays_when_the_network_is_closed() {
    let mut lab = Lab::new();
    lab.say(NODE, &[container(21, &[(APP, &[])])]);
    let mut network = Network::clone(lab.store.view().network(NetworkId::from_bits(APP)).unwrap());
    network.spec.attachable = Some(false);
    let mut transaction = Transaction::new();
    transaction.update(network);
    lab.commit(transaction);
    let (held, _) = lab.say(NODE, &[container(21, &[(APP, &["10.3.0.2"])])]);
    assert_eq!(
        (addresses(&held), why(&held)),
        (vec!["10.3.0.2/24".to_owned()], vec![])
    );
}

#[test]
fn a_full_network_says_so_and_keeps_what_it_has() {
    let mut lab = Lab::new();
    lab.create::<Network>(
        5,
        json!({"Spec": {"Name": "small", "Attachable": true, "IPAMOptions": {"Configs": [{"Subnet": "10.5.0.0/30"}]}}}),
    );
    lab.say(NODE, &[container(21, &[(5, &[])])]);
    let asked = [container(21, &[(5, &["10.5.0.2"])]), container(22, &[(5, &[])])];
    let (held, _) = lab.say(NODE, &asked);
    assert_eq!(addresses(&held), ["10.5.0.2/30"]);
    assert!(
        why(&held)[0].contains("addresses in 10.5.0.0/30 of network small are used"),
        "{held:?}"
    );
}

#[test]
fn a_network_is_found_by_name_and_by_the_only_beginning_of_an_identity() {
    let lab = Lab::new();
    let view = lab.store.view();
    let id = NetworkId::from_bits(APP).to_string();
    for text in ["app", id.as_str()] {
        assert_eq!(
            find_network(view, text).map(|found| found.name()),
            Some("app"),
            "{text}"
        );
    }
    assert!(find_network(view, &id[..5]).is_none(), "both begin so");
    assert!(find_network(view, "").is_none());
    assert!(find_network(view, "none").is_none());
}

#[test]
fn an_interface_of_the_data_planes_is_in_the_catalog_as_it_was_asked_for() {
    let mut lab = Lab::new();
    let asked = |interface: Option<(&str, bool)>| {
        let mut asked = container(21, &[(APP, &["10.3.0.9"])]);
        asked.is_joined = true;
        asked.networks[0].interface = interface.map(|(name, is_default)| ContainerInterface {
            name: name.to_owned(),
            is_default,
        });
        asked
    };
    let mut planned = |interface| {
        let (held, _) = lab.say(NODE, &[asked(interface)]);
        assert_eq!(why(&held), [] as [&str; 0]);
        let catalog = crate::catalog_of(lab.store.view());
        assert_eq!(catalog.check(), Ok(()));
        let service = &catalog.services[0];
        let task = &service.tasks[0];
        let endpoint = &task.endpoints[0];
        let name = endpoint.interface.as_ref().map(ToString::to_string);
        (
            task.handover,
            name,
            endpoint.default_route,
            service.default_network.is_some(),
        )
    };
    assert_eq!(planned(None), (true, None, true, false), "an engine's");
    assert_eq!(
        planned(Some(("eth5", false))),
        (false, Some("eth5".to_owned()), false, false)
    );
    assert_eq!(
        planned(Some(("eth5", true))),
        (false, Some("eth5".to_owned()), true, true)
    );
}
