use super::reader::Malformed;
use super::*;
use crate::claim::{Claim, Statement};
use crate::epoch::{Epoch, Incarnation, Version};
use crate::fact::{Fact, Record, Scope};
use crate::view::MemberState;
use essaim_ipsec::{Generation, Salt};
use essaim_model::{NetworkName, NodeName, TaskId, TaskState};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::IpAddr;

fn node() -> impl Strategy<Value = NodeName> {
    "[a-z0-9][a-z0-9._-]{0,62}".prop_map(|text| NodeName::new(&text).unwrap())
}

fn network() -> impl Strategy<Value = NetworkName> {
    "[a-z0-9][a-z0-9._-]{0,20}".prop_map(|text| NetworkName::new(&text).unwrap())
}

fn task() -> impl Strategy<Value = TaskId> {
    "[a-z0-9][a-z0-9._-]{0,126}".prop_map(|text| TaskId::new(&text).unwrap())
}

fn epoch() -> impl Strategy<Value = Epoch> {
    (1..=u64::MAX).prop_map(Epoch::from_number)
}

fn version() -> impl Strategy<Value = Version> {
    any::<u64>().prop_map(Version::from_number)
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![Just(Scope::Node), network().prop_map(Scope::Network)]
}

fn statement() -> impl Strategy<Value = Statement> {
    let state = prop_oneof![
        Just(MemberState::Alive),
        Just(MemberState::Suspect),
        Just(MemberState::Down)
    ];
    (node(), any::<u64>(), any::<u32>(), state).prop_map(|(about, epoch, incarnation, state)| Statement {
        about,
        claim: Claim {
            epoch: Epoch::from_number(epoch),
            incarnation: Incarnation::from_number(incarnation),
            state,
        },
    })
}

fn head() -> impl Strategy<Value = Head> {
    (node(), epoch(), version()).prop_map(|(owner, epoch, version)| Head {
        owner,
        epoch,
        version,
    })
}

fn node_fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        any::<Option<IpAddr>>().prop_map(Fact::Vtep),
        any::<u64>().prop_map(Fact::CatalogApplied),
        (any::<[u8; 16]>(), any::<Option<(u64, u32)>>()).prop_map(|(salt, held)| Fact::Ipsec {
            salt: Salt(salt),
            held: held.map(|(oldest, more)| {
                let newest = oldest.saturating_add(more.into());
                (Generation(oldest), Generation(newest))
            }),
        }),
        (node(), any::<Option<([u8; 16], [u8; 16])>>()).prop_map(|(peer, salts)| Fact::Hears {
            peer,
            salts: salts.map(|(theirs, own)| (Salt(theirs), Salt(own))),
        }),
        (network(), any::<bool>()).prop_map(|(network, takes_part)| Fact::Interest { network, takes_part }),
    ]
}

fn task_fact() -> impl Strategy<Value = Fact> {
    let state = prop_oneof![
        Just(None),
        Just(Some(TaskState::Starting)),
        Just(Some(TaskState::Ready)),
        Just(Some(TaskState::Draining)),
        Just(Some(TaskState::Gone)),
    ];
    (task(), state).prop_map(|(task, state)| Fact::Task { task, state })
}

fn delta() -> impl Strategy<Value = Delta> {
    let facts = prop_oneof![
        (Just(Scope::Node), vec(node_fact(), 0..8)),
        (network().prop_map(Scope::Network), vec(task_fact(), 0..8)),
    ];
    (node(), epoch(), any::<bool>(), 0..u64::MAX / 2, facts).prop_map(
        |(owner, epoch, is_whole, start, (scope, facts))| {
            let versions = start + 1..;
            let record = |(version, fact)| Record {
                version: Version::from_number(version),
                fact,
            };
            Delta {
                owner,
                scope,
                epoch,
                from: (!is_whole).then_some(Version::from_number(start)),
                to: Version::from_number(start + 8),
                records: versions.zip(facts).map(record).collect(),
            }
        },
    )
}

fn part() -> impl Strategy<Value = Part> {
    let subject = prop_oneof![Just(Subject::Members), scope().prop_map(Subject::Facts)];
    let hashes = (0_u32..7).prop_flat_map(|power| vec(any::<u32>(), 1 << power));
    prop_oneof![
        any::<u64>().prop_map(|number| Part::Ping { number }),
        any::<u64>().prop_map(|number| Part::Ack { number }),
        (any::<u64>(), node()).prop_map(|(number, target)| Part::ProbeFor { number, target }),
        vec(statement(), 0..5).prop_map(Part::Claims),
        (any::<u64>(), vec(statement(), 0..5))
            .prop_map(|(leaves, statements)| Part::Census { leaves, statements }),
        delta().prop_map(Part::Delta),
        (subject, hashes).prop_map(|(subject, hashes)| Part::Digest { subject, hashes }),
        (scope(), any::<u64>(), vec(head(), 0..5)).prop_map(|(scope, leaves, heads)| Part::Heads {
            scope,
            leaves,
            heads
        }),
        (scope(), vec(head(), 0..5)).prop_map(|(scope, heads)| Part::Pull { scope, heads }),
        (scope(), epoch(), version()).prop_map(|(scope, epoch, version)| Part::Confirm {
            scope,
            epoch,
            version
        }),
        (scope(), epoch(), version()).prop_map(|(scope, epoch, version)| Part::Applied {
            scope,
            epoch,
            version
        }),
    ]
}

fn packed(parts: &[Part]) -> Vec<u8> {
    let mut packer = Packer::new(usize::MAX);
    for part in parts {
        assert!(packer.push(part));
    }
    packer.into_content(Incarnation::from_number(3))
}

proptest! {
    #[test]
    fn what_was_written_is_read_back(parts in vec(part(), 0..6)) {
        let content = decode(&packed(&parts)).unwrap();
        prop_assert_eq!(content.incarnation.number(), 3);
        prop_assert_eq!(content.parts, parts);
    }

    #[test]
    fn what_was_read_is_written_the_same(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(content) = decode(&bytes) {
            let mut packer = Packer::new(usize::MAX);
            for part in &content.parts {
                packer.push(part);
            }
            prop_assert_eq!(packer.into_content(content.incarnation), bytes);
        }
    }

    #[test]
    fn a_changed_byte_never_panics(parts in vec(part(), 1..4), at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = packed(&parts);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode(&bytes);
        let _ = decode(&bytes[..at]);
    }

    #[test]
    fn a_packer_never_exceeds_its_size(parts in vec(part(), 0..6), statements in vec(statement(), 0..20),
                                       heads in vec(head(), 0..20), most in 10_usize..900) {
        let mut packer = Packer::new(most);
        for part in &parts {
            packer.push(part);
        }
        packer.push_claims(&statements);
        packer.push_pull(&Scope::Node, &heads);
        let bytes = packer.into_content(Incarnation::from_number(3));
        prop_assert!(bytes.len() <= most);
        prop_assert!(decode(&bytes).is_ok());
    }

    #[test]
    fn a_delta_is_cut_to_its_room(delta in delta(), room in 0_usize..600) {
        let empty = Delta { records: Vec::new(), ..delta.clone() };
        if let Some(mut writer) = DeltaWriter::new(empty, room) {
            let all = delta.records.iter().all(|record| writer.push(record));
            let written = if all { Some(writer.whole()) } else { writer.cut() };
            if let Some(written) = written {
                let mut packer = Packer::new(room + 5);
                prop_assert!(packer.push(&Part::Delta(written)));
            }
        }
    }
}

#[test]
fn a_datagram_reads_byte_for_byte() {
    let parts = [
        Part::Ping { number: 300 },
        Part::Delta(Delta {
            owner: NodeName::new("n1").unwrap(),
            scope: Scope::Network(NetworkName::new("app").unwrap()),
            epoch: Epoch::from_number(5),
            from: Some(Version::from_number(1)),
            to: Version::from_number(2),
            records: vec![Record {
                version: Version::from_number(2),
                fact: Fact::Task {
                    task: TaskId::new("web.1").unwrap(),
                    state: Some(TaskState::Ready),
                },
            }],
        }),
    ];
    let expected = [
        &[3, 1, 0xac, 0x02][..],
        &[6, 2, b'n', b'1', 1, 3, b'a', b'p', b'p', 5, 1, 2, 1],
        &[2, 9, 5, b'w', b'e', b'b', b'.', b'1'],
    ];
    assert_eq!(packed(&parts), expected.concat());
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let rows: &[(&str, &[u8])] = &[
        ("nothing at all", &[]),
        ("an unknown part", &[0, 99]),
        ("a number in more bytes than it needs", &[0, 1, 0x80, 0x00]),
        (
            "a number of more than 64 bits",
            &[0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        ),
        ("a name of no length", &[0, 3, 1, 0]),
        ("a name that is no name", &[0, 3, 1, 2, b'-', b'a']),
        (
            "a list longer than its bytes",
            &[0, 4, 0xff, 0xff, 0xff, 0xff, 0x0f],
        ),
        ("three hashes", &[0, 7, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("no hash", &[0, 7, 2, 0]),
        ("a fourth state of a member", &[0, 4, 1, 1, b'a', 0, 0, 3]),
        ("a stream of the members", &[0, 9, 2, 0]),
        ("a delta of no epoch", &[0, 6, 1, b'a', 0, 0, 1, 2, 0]),
        ("a delta that goes back", &[0, 6, 1, b'a', 0, 5, 2, 1, 0]),
        (
            "a record outside its delta",
            &[0, 6, 1, b'a', 0, 5, 1, 2, 1, 3, 1],
        ),
        (
            "a task in a node's own stream",
            &[0, 6, 1, b'a', 0, 5, 1, 2, 1, 2, 9, 1, b't'],
        ),
        (
            "a VTEP in a network's stream",
            &[0, 6, 1, b'a', 1, 1, b'n', 5, 1, 2, 1, 2, 1],
        ),
    ];
    for (what, bytes) in rows {
        assert_eq!(decode(bytes), Err(Malformed), "{what}");
    }
}
