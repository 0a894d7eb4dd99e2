use super::{Transport, Verdict};
use crate::testing::{Scene, line, query, with_edns};
use crate::wire::{DropReason, Rcode};
use essaim_model::{Catalog, Endpoint, Task, TaskId};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use proptest::prelude::*;

const UDP: Transport = Transport::Udp(4096);

/// `web A`, by hand: id 0xabcd, recursion desired.
const WEB: &[u8] = b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0\x03WeB\0\0\x01\0\x01";
/// An EDNS record: 1232 bytes, version 0.
const OPT: &[u8] = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";

/// The message with some bytes replaced.
fn patched(message: &[u8], patches: &[(usize, u8)]) -> Vec<u8> {
    let mut message = message.to_vec();
    for (at, byte) in patches {
        message[*at] = *byte;
    }
    message
}

fn with_additional(records: &[&[u8]]) -> Vec<u8> {
    let mut message = patched(WEB, &[(11, u8::try_from(records.len()).unwrap())]);
    for record in records {
        message.extend_from_slice(record);
    }
    message
}

#[test]
fn a_question_is_answered_byte_for_byte() {
    let (verdict, answer) = Scene::of("q1w2").respond(WEB, UDP);
    assert_eq!(
        verdict,
        Verdict::Reply {
            length: 37,
            rcode: Rcode::NoError,
            cached: false
        }
    );
    assert_eq!(
        answer,
        b"\xab\xcd\x85\x80\0\x01\0\x01\0\0\0\0\x03WeB\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x02\0\x04\x0a\0\x01\x02"
    );
}

#[test]
fn what_is_no_question_is_not_answered() {
    let mut scene = Scene::of("q1w2");
    for length in 0..12 {
        assert_eq!(
            scene.respond(&WEB[..length], UDP).0,
            Verdict::Drop(DropReason::Short),
            "{length}"
        );
    }
    let response = patched(WEB, &[(2, 0x81)]);
    assert_eq!(
        scene.respond(&response, UDP).0,
        Verdict::Drop(DropReason::Response)
    );
}

#[test]
fn what_is_malformed_is_told_so_with_a_header() {
    let mut scene = Scene::of("q1w2");
    let opt_of_a_name = b"\x01a\0\0\x29\x04\xd0\0\0\0\0\0\0";
    let short_opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\x04";
    for (what, message) in [
        ("no question", WEB[..12].to_vec()),
        ("no questions counted", patched(WEB, &[(5, 0)])),
        (
            "two questions",
            [&patched(WEB, &[(5, 2)])[..], &WEB[12..]].concat(),
        ),
        ("an answer", patched(WEB, &[(7, 1)])),
        ("an authority", patched(WEB, &[(9, 1)])),
        ("a missing additional record", patched(WEB, &[(11, 1)])),
        (
            "too many additional records",
            with_additional(&[OPT, b"", b"", b""]),
        ),
        ("a name that is cut", WEB[..15].to_vec()),
        ("no class", WEB[..19].to_vec()),
        (
            "a name that points to itself",
            patched(WEB, &[(12, 0xc0), (13, 0x0c)]),
        ),
        ("a reserved label", patched(WEB, &[(12, 0x43)])),
        ("something after the question", [WEB, b"x"].concat()),
        ("two EDNS records", with_additional(&[OPT, OPT])),
        ("an EDNS record with a name", with_additional(&[opt_of_a_name])),
        ("an EDNS record that is cut", with_additional(&[short_opt])),
    ] {
        let (verdict, answer) = scene.respond(&message, UDP);
        assert_eq!(
            verdict,
            Verdict::Reply {
                length: 12,
                rcode: Rcode::FormErr,
                cached: false
            },
            "{what}"
        );
        assert_eq!(answer, b"\xab\xcd\x81\x01\0\0\0\0\0\0\0\0", "{what}");
    }
}

#[test]
fn a_name_longer_than_names_are_is_malformed() {
    let mut message = WEB[..12].to_vec();
    for _ in 0..4 {
        message.push(63);
        message.extend([b'x'; 63]);
    }
    message.extend(*b"\0\0\x01\0\x01");
    let (verdict, _) = Scene::of("q1w2").respond(&message, UDP);
    assert_eq!(
        verdict,
        Verdict::Reply {
            length: 12,
            rcode: Rcode::FormErr,
            cached: false
        }
    );
}

#[test]
fn other_opcodes_are_not_implemented() {
    let mut scene = Scene::of("q1w2");
    for opcode in 1..16_u8 {
        let (_, answer) = scene.respond(&patched(WEB, &[(2, opcode << 3 | 1)]), UDP);
        assert_eq!(
            answer,
            [0xab, 0xcd, 0x81 | opcode << 3, 4, 0, 0, 0, 0, 0, 0, 0, 0],
            "{opcode}"
        );
    }
}

#[test]
fn what_nobody_may_ask_is_refused_by_name() {
    let mut scene = Scene::of("q1w2");
    for (kind, class, code) in [
        (252, 1, ResponseCode::Refused),
        (251, 1, ResponseCode::Refused),
        (250, 1, ResponseCode::NotImp),
        (249, 1, ResponseCode::NotImp),
        (253, 1, ResponseCode::NotImp),
        (254, 1, ResponseCode::NotImp),
        (41, 1, ResponseCode::FormErr),
        (1, 3, ResponseCode::Refused),
        (16, 3, ResponseCode::Refused),
        (1, 254, ResponseCode::Refused),
    ] {
        let (_, answer) = scene.respond(&patched(WEB, &[(18, kind), (20, class)]), UDP);
        assert_eq!(
            answer[3] & 0x0f,
            u8::try_from(u16::from(code)).unwrap(),
            "type {kind} class {class}"
        );
        assert_eq!(answer[12..], patched(WEB, &[(18, kind), (20, class)])[12..]);
    }
    let (_, answer) = scene.respond(&patched(WEB, &[(20, 255)]), UDP);
    assert_eq!(
        Message::from_vec(&answer).unwrap().queries[0].query_class,
        DNSClass::ANY
    );
    assert!(answer.ends_with(b"\x0a\0\x01\x02"), "class ANY is answered as IN");
}

#[test]
fn edns_is_answered_with_edns() {
    let mut scene = Scene::of("q1w2");
    let web = || query("web", RecordType::A);
    for dnssec_ok in [false, true] {
        let question = with_edns(web(), 4000, dnssec_ok).to_vec().unwrap();
        let answer = Message::from_vec(&scene.respond(&question, UDP).1).unwrap();
        let edns = answer.edns.as_ref().unwrap();
        assert_eq!((edns.version(), edns.max_payload()), (0, 1232));
        assert_eq!(edns.flags().dnssec_ok, dnssec_ok);
        assert_eq!(line(&answer), "NoError 10.0.1.2");
    }
    let answer = Message::from_vec(&scene.respond(&web().to_vec().unwrap(), UDP).1).unwrap();
    assert!(answer.edns.is_none());
}

#[test]
fn a_later_version_of_edns_is_told_ours() {
    let mut scene = Scene::of("q1w2");
    let later = patched(OPT, &[(6, 1)]);
    let (verdict, answer) = scene.respond(&with_additional(&[&later]), UDP);
    assert!(matches!(
        verdict,
        Verdict::Reply {
            rcode: Rcode::BadVers,
            ..
        }
    ));
    let answer = Message::from_vec(&answer).unwrap();
    // 16 is BADVERS here, and BADSIG in a signature.
    assert_eq!(u16::from(answer.metadata.response_code), 16);
    assert_eq!(answer.edns.unwrap().version(), 0);
    assert_eq!(answer.answers.len(), 0);
}

#[test]
fn options_and_records_that_are_not_understood_are_passed_over() {
    let mut scene = Scene::of("q1w2");
    // A cookie (RFC 7873), and a record of another type before it.
    let cookie = b"\0\0\x29\x04\xd0\0\0\0\0\0\x0c\0\x0a\0\x08abcdefgh";
    let other = b"\xc0\x0c\0\x10\0\x01\0\0\0\0\0\x02\x01x";
    let (_, answer) = scene.respond(&with_additional(&[other, cookie]), UDP);
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(line(&answer), "NoError 10.0.1.2");
    assert!(answer.edns.is_some());
}

#[test]
fn flags_of_the_question_come_back() {
    let mut scene = Scene::of("q1w2");
    for (second, third) in [(0, 0), (1, 0), (0, 0x10), (1, 0x10)] {
        let (_, answer) = scene.respond(&patched(WEB, &[(2, second), (3, third)]), UDP);
        assert_eq!(answer[2..4], [0x84 | second, 0x80 | third]);
    }
}

/// A service of as many tasks.
fn crowd(tasks: u16) -> Scene {
    let mut catalog = Catalog::parse(crate::testing::CLUSTER).unwrap();
    let service = &mut catalog.services[1];
    let node = service.tasks[0].node.clone();
    service.tasks.truncate(1);
    for number in 0..tasks - 1 {
        let address = format!("10.1.{}.{}", number / 256, number % 256).parse().unwrap();
        service.tasks.push(Task {
            endpoints: vec![Endpoint::new("back".parse().unwrap(), vec![address])],
            ..Task::new(TaskId::new(&format!("many.{number}")).unwrap(), node.clone(), "x")
        });
    }
    Scene::of_catalog(catalog, "db.1")
}

#[test]
fn an_answer_is_cut_to_what_the_client_takes() {
    let mut scene = crowd(500);
    let plain = query("db", RecordType::A);
    // Header, question `db A`, EDNS, and 16 bytes a record.
    for (question, transport, limit, records) in [
        (plain.clone(), UDP, 512, 30),
        (with_edns(plain.clone(), 100, false), UDP, 512, 30),
        (with_edns(plain.clone(), 1232, false), UDP, 1232, 75),
        (with_edns(plain.clone(), 9000, false), UDP, 4096, 254),
        (plain.clone(), Transport::Tcp, 65_535, 500),
    ] {
        let (_, answer) = scene.respond(&question.to_vec().unwrap(), transport);
        assert!(answer.len() <= limit);
        let message = Message::from_vec(&answer).unwrap();
        assert_eq!(message.answers.len(), records, "{limit}");
        assert_eq!(message.metadata.truncation, records < 500);
        let mut addresses: Vec<String> = message.answers.iter().map(crate::testing::text).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), records, "each address once");
    }
}

#[test]
fn services_that_do_not_fit_are_cut_between_records() {
    let mut scene = crowd(100);
    scene.catalog.services[1]
        .ports
        .push(essaim_model::Port::new(9000, 5432));
    let mut scene = Scene::of_catalog(scene.catalog, "db.1");
    let question = query("_5432._tcp.db", RecordType::SRV).to_vec().unwrap();
    let (_, answer) = scene.respond(&question, UDP);
    let message = Message::from_vec(&answer).unwrap();
    assert!(message.metadata.truncation && !message.answers.is_empty() && message.additionals.is_empty());
    let (_, answer) = scene.respond(&question, Transport::Tcp);
    let message = Message::from_vec(&answer).unwrap();
    assert_eq!((message.answers.len(), message.additionals.len()), (100, 100));
    assert!(!message.metadata.truncation);
}

/// A question of any name, type and EDNS, as hickory writes it.
fn questions() -> impl Strategy<Value = Message> {
    let label = prop_oneof![
        Just("web".to_owned()),
        Just("tasks".to_owned()),
        Just("app".to_owned()),
        Just("_http".to_owned()),
        Just("_tcp".to_owned()),
        "[a-zA-Z0-9_][a-zA-Z0-9_-]{0,19}",
    ];
    let name = prop::collection::vec(label, 1..6);
    let kind = prop_oneof![
        Just(1_u16),
        Just(28),
        Just(33),
        Just(12),
        Just(255),
        Just(16),
        1_u16..40
    ];
    let edns = prop::option::of((any::<u16>(), any::<bool>()));
    (name, kind, edns, any::<u16>()).prop_filter_map("OPT is no question", |(name, kind, edns, id)| {
        let mut message = query(&name.join("."), RecordType::from(kind));
        message.metadata.id = id;
        let message = match edns {
            Some((size, dnssec_ok)) => with_edns(message, size, dnssec_ok),
            None => message,
        };
        (kind != 41).then_some(message)
    })
}

proptest! {
    #[test]
    fn hickory_reads_every_answer(question in questions()) {
        let bytes = question.to_vec().unwrap();
        for transport in [UDP, Transport::Tcp] {
            let (verdict, answer) = Scene::of("q1w2").respond(&bytes, transport);
            if verdict == Verdict::Forward {
                continue;
            }
            let answer = Message::from_vec(&answer).unwrap();
            prop_assert_eq!(answer.metadata.id, question.metadata.id);
            prop_assert_eq!(&answer.queries, &question.queries);
            prop_assert!(answer.queries[0].name.eq_case(&question.queries[0].name));
            prop_assert_eq!(answer.edns.is_some(), question.edns.is_some());
            for record in &answer.answers {
                prop_assert_eq!(&record.name, &question.queries[0].name);
                let asked = question.queries[0].query_type;
                prop_assert!(asked == RecordType::ANY || record.record_type() == asked);
            }
            // Written again by hickory it says the same.
            let again = Message::from_vec(&answer.to_vec().unwrap()).unwrap();
            prop_assert_eq!(again, answer);
        }
    }

    #[test]
    fn our_reader_agrees_with_hickory(question in questions()) {
        let bytes = question.to_vec().unwrap();
        let Ok(read) = crate::wire::Query::parse(&bytes) else { return Ok(()) };
        prop_assert_eq!(read.id, question.metadata.id);
        prop_assert_eq!(read.question.kind, u16::from(question.queries[0].query_type));
        let edns = question.edns.as_ref().map(|edns| (edns.max_payload(), edns.flags().dnssec_ok));
        prop_assert_eq!(read.edns.map(|edns| (edns.size.max(512), edns.dnssec_ok)), edns);
        let name = format!("{:?}", read.question.name);
        prop_assert_eq!(name, question.queries[0].name.to_lowercase().to_string());
    }

    #[test]
    fn no_bytes_are_too_hostile(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        crate::fuzz_query(&bytes);
        crate::fuzz_upstream(&bytes);
    }

    #[test]
    fn no_damage_is_too_hostile(
        question in questions(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = question.to_vec().unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        crate::fuzz_query(&bytes);
        crate::fuzz_upstream(&bytes);
        crate::fuzz_query(&bytes[..cut.index(bytes.len())]);
    }
}
