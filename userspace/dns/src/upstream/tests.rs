use super::{Accepted, Sent, Stored, accept};
use crate::testing::{line, query, with_edns};
use crate::wire::Query;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Asked, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, NS, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::Ipv4Addr;

mod exchanges;

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

fn a(owner: &str, ttl: u32, last: u8) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A(Ipv4Addr::new(192, 0, 2, last))))
}

fn soa(ttl: u32, minimum: u32) -> Record {
    let data = SOA::new(
        name("ns.example.org"),
        name("root.example.org"),
        1,
        2,
        3,
        4,
        minimum,
    );
    Record::from_rdata(name("example.org"), ttl, RData::SOA(data))
}

/// The answer of a server to `www.example.org A`, id 7.
fn response(code: ResponseCode) -> Message {
    let mut message = Message::new(7, MessageType::Response, OpCode::Query);
    message.metadata.response_code = code;
    message.metadata.recursion_available = true;
    message.add_query(Asked::query(name("www.example.org"), RecordType::A));
    message
}

fn judged(message: &Message) -> Accepted {
    accept_bytes(&message.to_vec().unwrap())
}

fn accept_bytes(message: &[u8]) -> Accepted {
    let name = (*b"\x03www\x07example\x03org\0").into();
    accept(&Sent { id: 7, name, kind: 1 }, message)
}

fn stored(message: &Message) -> Stored {
    match judged(message) {
        Accepted::Answer(stored) => stored,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_the_answer_to_the_question_is_taken() {
    let mut good = response(ResponseCode::NoError);
    good.add_answer(a("www.example.org", 60, 1));
    assert!(matches!(judged(&good), Accepted::Answer(_)));
    let changed = |change: &dyn Fn(&mut Message)| {
        let mut message = good.clone();
        change(&mut message);
        judged(&message)
    };
    let other_name = |message: &mut Message| message.queries[0].name = name("w.example.org");
    let other_case = |message: &mut Message| message.queries[0].name = name("wWw.EXAMPLE.org");
    assert_eq!(changed(&|message| message.metadata.id = 8), Accepted::NotOurs);
    assert_eq!(
        changed(&|message| message.metadata.message_type = MessageType::Query),
        Accepted::NotOurs
    );
    assert_eq!(
        changed(&|message| message.metadata.op_code = OpCode::Notify),
        Accepted::NotOurs
    );
    assert_eq!(changed(&other_name), Accepted::NotOurs);
    assert_eq!(
        changed(&|message| message.queries[0].query_type = RecordType::AAAA),
        Accepted::NotOurs
    );
    assert_eq!(changed(&|message| message.queries.clear()), Accepted::NotOurs);
    assert_eq!(
        changed(&|message| message.metadata.truncation = true),
        Accepted::Truncated
    );
    assert!(matches!(changed(&other_case), Accepted::Answer(_)));
    for (code, expected) in [
        (ResponseCode::ServFail, Accepted::Failed),
        (ResponseCode::Refused, Accepted::Failed),
        (ResponseCode::FormErr, Accepted::NotUnderstood),
        (ResponseCode::NotImp, Accepted::NotUnderstood),
    ] {
        assert_eq!(
            changed(&|message| message.metadata.response_code = code),
            expected
        );
    }
    let headless = |message: &mut Message| {
        message.queries.clear();
        message.metadata.response_code = ResponseCode::FormErr;
    };
    assert_eq!(changed(&headless), Accepted::NotUnderstood);
    let bytes = good.to_vec().unwrap();
    for length in 0..bytes.len() {
        assert!(
            !matches!(accept_bytes(&bytes[..length]), Accepted::Answer(_)),
            "{length}"
        );
    }
}

#[test]
fn an_answer_holds_as_long_as_its_shortest_record() {
    let mut message = response(ResponseCode::NoError);
    let alias = RData::CNAME(CNAME(name("web.example.org")));
    message.add_answer(Record::from_rdata(name("www.example.org"), 90, alias));
    message.add_answer(a("web.example.org", 60, 1));
    message.add_answer(a("web.example.org", 70, 2));
    let kept = stored(&message);
    assert_eq!((kept.ttl(), kept.is_denial()), (60, false));
}

#[test]
fn a_denial_holds_as_long_as_its_zone_says() {
    for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
        let mut message = response(code);
        message.add_authority(soa(300, 20));
        assert_eq!((stored(&message).ttl(), stored(&message).is_denial()), (20, true));
        let mut message = response(code);
        message.add_authority(soa(10, 20));
        assert_eq!(stored(&message).ttl(), 10);
        // RFC 2308, 5: without a SOA it is given out, and not kept.
        assert_eq!(
            (stored(&response(code)).ttl(), stored(&response(code)).is_denial()),
            (0, true)
        );
    }
    let mut message = response(ResponseCode::NoError);
    let alias = RData::CNAME(CNAME(name("web.example.org")));
    message.add_answer(Record::from_rdata(name("www.example.org"), 5, alias));
    message.add_authority(soa(300, 20));
    assert_eq!(
        (stored(&message).ttl(), stored(&message).is_denial()),
        (5, true),
        "an alias of nothing"
    );
}

#[test]
fn a_server_that_only_knows_whom_to_ask_has_no_answer() {
    let mut message = response(ResponseCode::NoError);
    message.metadata.recursion_available = false;
    message.add_authority(Record::from_rdata(
        name("org"),
        300,
        RData::NS(NS(name("ns.example.org"))),
    ));
    assert_eq!(judged(&message), Accepted::Failed);
}

/// What a client gets that asks as in `asked`.
fn given(stored: &Stored, asked: &Message, limit: usize, age: u32) -> Message {
    let bytes = asked.to_vec().unwrap();
    let query = Query::parse(&bytes).unwrap();
    let mut buffer = vec![0; 65_535];
    let length = stored.write(&mut buffer, &query, limit, age).unwrap();
    assert!(length <= limit);
    Message::from_vec(&buffer[..length]).unwrap()
}

#[test]
fn a_client_gets_the_answer_as_to_its_own_question() {
    let mut message = response(ResponseCode::NoError);
    message.add_answer(a("www.example.org", 60, 1));
    message.add_authority(soa(30, 20));
    message.add_additional(a("ns.example.org", 90, 53));
    message.set_edns(Edns::new());
    let kept = stored(&message);
    let asked = query("WWW.example.ORG", RecordType::A);
    let answer = given(&kept, &asked, 512, 25);
    assert_eq!(answer.metadata.id, asked.metadata.id);
    assert!(answer.queries[0].name.eq_case(&asked.queries[0].name));
    assert_eq!(line(&answer), "NoError 192.0.2.1");
    assert!(answer.metadata.recursion_available && !answer.metadata.authoritative);
    let ttls = [&answer.answers[0], &answer.authorities[0], &answer.additionals[0]].map(|record| record.ttl);
    assert_eq!(ttls, [35, 5, 65]);
    // The server's EDNS is not the client's.
    assert!(answer.edns.is_none());
    let answer = given(&kept, &with_edns(asked, 1232, true), 1232, 200);
    assert!(answer.edns.as_ref().unwrap().flags().dnssec_ok);
    assert_eq!((answer.answers[0].ttl, answer.additionals.len()), (0, 1));
}

#[test]
fn an_answer_too_long_for_the_client_is_asked_for_again_over_tcp() {
    let mut message = response(ResponseCode::NoError);
    for last in 0..100 {
        message.add_answer(a("www.example.org", 60, last));
    }
    let kept = stored(&message);
    let asked = query("www.example.org", RecordType::A);
    for asked in [asked.clone(), with_edns(asked.clone(), 1232, false)] {
        let answer = given(&kept, &asked, 512, 0);
        assert!(answer.metadata.truncation && answer.answers.is_empty());
        assert_eq!(answer.edns.is_some(), asked.edns.is_some());
    }
    assert_eq!(given(&kept, &asked, 65_535, 0).answers.len(), 100);
}

#[test]
fn types_that_nobody_knows_are_passed_on_as_they_are() {
    let mut message = response(ResponseCode::NoError);
    message.add_answer(a("www.example.org", 60, 1));
    let odd = RData::TXT(TXT::new(vec!["x".repeat(200)]));
    message.add_additional(Record::from_rdata(name("odd.example.org"), 60, odd));
    let mut bytes = message.to_vec().unwrap();
    // The additional record becomes one of type 65280, for private use.
    let at = bytes.len() - 201 - 10;
    assert_eq!(bytes[at..at + 2], [0, 16]);
    bytes[at..at + 2].copy_from_slice(&[0xff, 0]);
    let Accepted::Answer(kept) = accept_bytes(&bytes) else {
        panic!()
    };
    let answer = given(&kept, &query("www.example.org", RecordType::A), 512, 0);
    assert_eq!(u16::from(answer.additionals[0].record_type()), 65_280);
}

#[test]
fn a_name_that_points_forwards_or_round_is_no_answer() {
    let mut message = response(ResponseCode::NoError);
    message.add_answer(a("www.example.org", 60, 1));
    let bytes = message.to_vec().unwrap();
    let owner = bytes.len() - 16;
    assert_eq!(bytes[owner..owner + 2], [0xc0, 12]);
    for target in [owner, owner + 1, owner + 2, 5, 0x3fff] {
        let mut bytes = bytes.clone();
        let pointer = 0xc000 | u16::try_from(target).unwrap();
        bytes[owner..owner + 2].copy_from_slice(&pointer.to_be_bytes());
        assert_eq!(accept_bytes(&bytes), Accepted::Failed, "{target}");
    }
    // EDNS that is not the last, and a response code that only EDNS has.
    let mut message = response(ResponseCode::NoError);
    message.add_answer(a("www.example.org", 60, 1));
    let mut bytes = message.to_vec().unwrap();
    bytes[11] = 2;
    let plain = bytes.clone();
    bytes.extend(*b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
    bytes.extend(*b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x01\x02\x03\x04");
    let Accepted::Answer(kept) = accept_bytes(&bytes) else {
        panic!()
    };
    let answer = given(&kept, &query("www.example.org", RecordType::A), 512, 0);
    assert_eq!((answer.answers.len(), answer.additionals.len()), (1, 0));
    let mut bytes = plain;
    bytes[11] = 1;
    bytes.extend(*b"\0\0\x29\x04\xd0\x01\0\0\0\0\0");
    assert_eq!(accept_bytes(&bytes), Accepted::Failed);
}
