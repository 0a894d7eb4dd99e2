use super::*;
use crate::{Slice, view};
use essaim_abi::DNS_RECORDS_LEN;
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;

const CLIENT: [u8; 4] = [127, 0, 0, 1];
const OURS: [u8; 4] = [127, 0, 0, 11];

fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2([0; 6], [0; 6])
        .ipv4(CLIENT, OURS, 64)
        .udp(40_000, 41_000);
    builder.write(&mut frame, message).unwrap();
    frame
}

/// Header, name, type, class and EDNS of a question.
fn message(flags: u16, name: &[u8], kind: u16, edns: Option<&[u8]>) -> Vec<u8> {
    let mut message = vec![0x12, 0x34];
    for word in [flags, 1, 0, 0, u16::from(edns.is_some())] {
        message.extend(word.to_be_bytes());
    }
    message.extend(name);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message.extend(edns.unwrap_or_default());
    message
}

const OPT_RECORD: &[u8] = &[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0];
/// As dig sends it: with a cookie.
const WITH_COOKIE: &[u8] = &[
    0, 0, 41, 0x04, 0xd0, 0, 0, 0x80, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8,
];
const WEB: &[u8] = b"\x03wEb\x03App\0";

fn name_of(key: &DnsKey) -> Vec<u8> {
    let bytes: Vec<u8> = key.name.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let (name, rest) = bytes.split_at(key.len.into());
    assert!(rest.iter().all(|byte| *byte == 0), "zero behind the name");
    name.to_vec()
}

#[test]
fn what_the_answer_depends_on_is_in_the_key_and_nothing_else() {
    let rd = DnsFlags::RECURSION_DESIRED;
    let edns = DnsFlags::EDNS;
    for (flags, record, expected) in [
        (0x0000, None, DnsFlags::NONE),
        (0x0100, None, rd),
        // AA, TC, RA, Z and AD of a question say nothing.
        (0x07e0, None, rd),
        (0x000f, None, DnsFlags::NONE),
        (0x0110, None, rd.with(DnsFlags::CHECKING_DISABLED)),
        (0x0120, Some(OPT_RECORD), rd.with(edns)),
        (0x0120, Some(WITH_COOKIE), rd.with(edns).with(DnsFlags::DNSSEC_OK)),
    ] {
        let key = key_of(7, &message(flags, WEB, 28, record)).unwrap();
        assert_eq!(key.flags, expected, "{flags:#x}");
        assert_eq!((key.asker, u16::from_be(key.kind)), (7, 28));
        assert_eq!(name_of(&key), b"\x03web\x03app\0");
    }
}

#[test]
fn questions_that_are_not_plain_are_left_to_the_server() {
    let good = message(0x0100, WEB, 1, Some(OPT_RECORD));
    assert!(key_of(1, &good).is_some());
    let changed = |at: usize, value: u8| {
        let mut message = good.clone();
        message[at] = value;
        message
    };
    let name_end = 12 + WEB.len();
    let record = name_end + 4;
    for (what, bad) in [
        ("a response", changed(2, 0x81)),
        ("a status request", changed(2, 0x10)),
        ("an update", changed(2, 0x28)),
        ("no question", changed(5, 0)),
        ("two questions", changed(5, 2)),
        ("256 questions more", changed(4, 1)),
        ("an answer", changed(7, 1)),
        ("256 answers", changed(6, 1)),
        ("an authority", changed(9, 1)),
        ("two additional records", changed(11, 2)),
        ("256 additional records more", changed(10, 1)),
        ("a record that is not counted", changed(11, 0)),
        ("a pointer", changed(12, 0xc0)),
        ("a pointer to itself behind a label", changed(16, 0xc0)),
        ("a reserved form", changed(12, 0x43)),
        ("a label past the end", changed(16, 63)),
        ("class CH", changed(name_end + 3, 3)),
        ("class ANY", changed(name_end + 2, 255)),
        ("an additional record with a name", changed(record, 1)),
        ("a pointer for the owner", changed(record, 0xc0)),
        ("another additional record", changed(record + 2, 250)),
        ("another version", changed(record + 6, 1)),
        ("options past the end", changed(record + 10, 1)),
        ("options far past the end", changed(record + 9, 1)),
        ("bytes behind the end", [&good[..], &[0]].concat()),
        (
            "bytes behind the question",
            [&message(0, WEB, 1, None)[..], &[0]].concat(),
        ),
    ] {
        assert_eq!(key_of(1, &bad), None, "{what}");
    }
    for len in 0..good.len() {
        assert_eq!(key_of(1, &good[..len]), None, "cut to {len}");
    }
    assert_eq!(key_of(1, &[]), None);
    assert_eq!(key_of(1, &vec![0; 70_000]), None);
}

#[test]
fn names_up_to_the_limit_are_read() {
    let label = |len: u8| [vec![len], vec![b'X'; len.into()]].concat();
    for (name, reads) in [
        (vec![0], true),
        ([label(61), vec![0]].concat(), true),
        ([label(62), vec![0]].concat(), true),
        ([label(63), vec![0]].concat(), false),
        ([label(30), label(31), vec![0]].concat(), true),
        ([label(30), label(32), vec![0]].concat(), false),
        ([label(1).repeat(16), vec![0]].concat(), true),
        ([label(1).repeat(17), vec![0]].concat(), false),
    ] {
        let key = key_of(1, &message(0, &name, 1, None));
        assert_eq!(key.is_some(), reads, "{name:?}");
        assert!(key.is_none_or(|key| name_of(&key) == name.to_ascii_lowercase()));
    }
}

#[test]
fn only_letters_are_folded() {
    let all: Vec<u8> = (0..=255).collect();
    for bytes in all.chunks_exact(8) {
        let word = lower(u64::from_le_bytes(*bytes.first_chunk().unwrap()));
        assert_eq!(word.to_le_bytes().to_vec(), bytes.to_ascii_lowercase());
    }
}

#[test]
fn only_whole_datagrams_to_the_resolver_are_looked_at() {
    let good = frame(&message(0x0100, WEB, 1, Some(OPT_RECORD)));
    let asked = |frame: &[u8]| {
        let headers = view::<HEADERS>(&Slice(frame), 0);
        headers.is_ok_and(|headers| is_asked(&headers, frame.len()))
    };
    assert!(asked(&good));
    assert_eq!(
        ends(&view(&Slice(&good), 0).unwrap()),
        (
            u32::from_ne_bytes(CLIENT),
            u32::from_ne_bytes(OURS),
            40_000_u16.to_be(),
            41_000_u16.to_be()
        )
    );
    // The same bytes with a fragment's flags, options, and so on.
    for (what, at, value) in [
        ("ARP", 13, 6),
        ("IPv6", 12, 0x86),
        ("options", 14, 0x46),
        ("version 6", 14, 0x65),
        ("another address", 33, 12),
        ("TCP", 23, 6),
        ("more fragments", 20, 0x20),
        ("a later fragment", 21, 1),
        ("shorter than it is, says IP", 17, good[17] - 1),
        ("longer than it is, says IP", 16, 1),
        ("shorter than it is, says UDP", 39, good[39] - 1),
        ("longer than it is, says UDP", 38, 1),
        ("no length, says UDP", 39, 0),
        ("a response", 44, 0x81),
    ] {
        let mut bad = good.clone();
        assert_ne!(bad[at], value, "{what}");
        bad[at] = value;
        assert!(!asked(&bad), "{what}");
    }
    assert!(!asked(&[&good[..], &[0]].concat()), "padding");
    assert!(!asked(&frame(&[0; 12])) && !asked(&frame(&[])), "no question");
    let longest = [&message(0, WEB, 1, None)[..], &[0; 200]].concat();
    assert!(asked(&frame(&longest[..LONGEST - MESSAGE])));
    assert!(!asked(&frame(&longest[..=LONGEST - MESSAGE])), "too long");
}

/// The whole way on the host: the frame as `dns_tc` leaves it.
fn given(frame: &[u8], answered: &DnsAnswer) -> Vec<u8> {
    let mut buffer = Buffer::default();
    buffer.frame()[..frame.len()].copy_from_slice(frame);
    let mut key = DnsKey::default();
    question(&buffer, frame.len(), &mut key).unwrap();
    let len = answer(&mut buffer, key.len, answered).unwrap();
    let at = records_at(key.len);
    let mut out = frame[..at].to_vec();
    out[..HEADERS].copy_from_slice(&buffer.frame()[..HEADERS]);
    let records: Vec<u8> = answered
        .records
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    out.extend(&records[..answered.len.into()]);
    assert_eq!(out.len(), len);
    out
}

fn labels() -> impl Strategy<Value = Vec<u8>> {
    let label = prop::collection::vec(any::<u8>(), 1..12);
    prop::collection::vec(label, 0..5).prop_map(|labels| {
        let mut name = Vec::new();
        for label in labels {
            name.push(u8::try_from(label.len()).unwrap());
            name.extend(label);
        }
        name.push(0);
        name
    })
}

proptest! {
    #[test]
    fn a_reply_comes_back_byte_for_byte(
        name in labels(),
        kind in any::<u16>(),
        flags in 0_u16..0x0800,
        edns in any::<bool>(),
        head in any::<[u8; 10]>(),
        records in prop::collection::vec(any::<u8>(), 1..=DNS_RECORDS_LEN),
    ) {
        let asked = message(flags, &name, kind, edns.then_some(WITH_COOKIE));
        let key = key_of(3, &asked).unwrap();
        prop_assert_eq!(name_of(&key), name.to_ascii_lowercase());
        let end = 12 + name.len() + 4;
        let reply = [&asked[..2], &head, &asked[12..end], &records].concat();
        let handed = answer_of(9, &key, &asked, &reply).unwrap();
        prop_assert_eq!(handed.sealed, handed.seal(&key));
        let out = given(&frame(&asked), &handed);
        let packet = SlicedPacket::from_ethernet(&out).unwrap();
        let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!() };
        prop_assert_eq!((ip.header().source(), ip.header().destination()), (OURS, CLIENT));
        prop_assert_eq!(ip.header().header_checksum(), ip.header().to_header().calc_header_checksum());
        let Some(TransportSlice::Udp(udp)) = &packet.transport else { panic!() };
        prop_assert_eq!((udp.source_port(), udp.destination_port(), udp.checksum()), (41_000, 40_000, 0));
        prop_assert_eq!(udp.payload(), &reply[..]);
        // A question in another case, under another number, has the same answer, in its own case.
        let mut other = asked;
        other[0] ^= 0xff;
        other[12..end - 4].make_ascii_uppercase();
        prop_assert_eq!(key_of(3, &other).unwrap(), key);
        let out = given(&frame(&other), &handed);
        prop_assert_eq!(&out[MESSAGE..], &[&other[..2], &head, &other[12..end], &records].concat()[..]);
    }

    #[test]
    fn no_bytes_are_read_as_more_than_they_are(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Some(key) = key_of(1, &bytes) {
            let end = 12 + usize::from(key.len);
            prop_assert_eq!(name_of(&key), bytes[12..end].to_ascii_lowercase());
        }
    }

    #[test]
    fn replies_to_other_questions_and_long_ones_are_not_taken(
        at in 0_usize..28, value in 1_u8..=255, more in 1_usize..100,
    ) {
        let asked = message(0x0100, WEB, 1, None);
        let key = key_of(1, &asked).unwrap();
        let reply = [&asked[..], &[7; DNS_RECORDS_LEN]].concat();
        prop_assert!(answer_of(1, &key, &asked, &reply).is_some());
        prop_assert!(answer_of(1, &key, &asked, &[&reply[..], &vec![0; more]].concat()).is_none());
        prop_assert!(answer_of(1, &key, &asked, &asked).is_none(), "no records");
        prop_assert!(answer_of(1, &key, &asked, &reply[..more.min(24)]).is_none(), "no question");
        let at = at.min(asked.len() - 1);
        let mut other = reply;
        other[at] ^= value;
        let header = (2..12).contains(&at);
        prop_assert_eq!(answer_of(1, &key, &asked, &other).is_some(), header);
    }
}
