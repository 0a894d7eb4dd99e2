//! Total entry points for fuzzing: no input makes them panic, and what they promise is asserted inside.

use crate::asker::{AskerInfo, Outside};
use crate::cache::Cache;
use crate::kernel::handed_over;
use crate::respond::{Responder, Sources, Transport, Verdict};
use crate::upstream::{Accepted, Sent, Servers, accept};
use crate::wire::{Query, flags};
use crate::zone::Zone;
use essaim_model::{Catalog, Liveness, example};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Instant;

static EXAMPLE: LazyLock<(Zone, AskerInfo)> = LazyLock::new(|| {
    let Ok(catalog) = Catalog::parse(example()) else {
        return (Zone::default(), AskerInfo::new([], Outside::Node));
    };
    let networks = catalog
        .networks
        .iter()
        .map(|network| (&network.name, network.vni));
    let asker = AskerInfo::new(networks, Outside::Node);
    (Zone::new(&catalog, &Liveness::of(&catalog)), asker)
});

/// A message of a client: any bytes, over UDP and TCP.
#[doc(hidden)]
pub fn fuzz_query(message: &[u8]) {
    let (zone, asker) = &*EXAMPLE;
    let servers = Arc::new(Servers::at(1, Vec::new()));
    let cache = Mutex::new(Cache::new(4096));
    let sources = Sources {
        zone,
        asker,
        servers: Some(&servers),
        cache: &cache,
        now: Instant::now(),
    };
    let mut responder = Responder::new(1);
    let mut buffer = vec![0; 65_535];
    for (transport, most) in [(Transport::Udp(4096), 4096), (Transport::Tcp, 65_535)] {
        match responder.respond(message, transport, &sources, &mut buffer) {
            Verdict::Reply { length, .. } => {
                assert!(length <= most, "an answer of {length} bytes");
                assert_eq!(
                    buffer.get(..2),
                    message.get(..2),
                    "an answer has the id of its question"
                );
                assert!(
                    buffer.get(2).is_some_and(|flags| flags & 0x80 != 0),
                    "an answer is a response"
                );
            }
            Verdict::Forward => assert!(Query::parse(message).is_ok(), "only what was read is forwarded"),
            Verdict::Drop(_) => {}
        }
    }
}

/// A question, any bytes, for names that have one address: what is handed to the kernel for it is what another question
/// with the same key is answered with.
#[doc(hidden)]
pub fn fuzz_kernel(message: &[u8]) {
    let (zone, asker) = &*EXAMPLE;
    let cache = Mutex::new(Cache::new(4096));
    let sources = Sources {
        zone,
        asker,
        servers: None,
        cache: &cache,
        now: Instant::now(),
    };
    let mut responder = Responder::new(1);
    let mut reply = |message: &[u8]| {
        let mut buffer = vec![0; 4096];
        match responder.respond(message, Transport::Udp(4096), &sources, &mut buffer) {
            Verdict::Reply { length, .. } => {
                buffer.truncate(length);
                Some(buffer)
            }
            Verdict::Drop(_) | Verdict::Forward => None,
        }
    };
    let Some(key) = essaim_packet::dns::key_of(7, message) else {
        return;
    };
    assert!(Query::parse(message).is_ok(), "the kernel reads what we do not");
    let Some(replied) = reply(message) else { return };
    let handed = handed_over(1, 7, message, &replied);
    // The plainest question with this key.
    let plain = plain_question(&key);
    assert_eq!(essaim_packet::dns::key_of(7, &plain), Some(key));
    let of_plain = reply(&plain).and_then(|reply| handed_over(1, 7, &plain, &reply));
    assert_eq!(handed, of_plain, "two answers for one key");
}

/// The plainest question with a key.
fn plain_question(key: &essaim_abi::DnsKey) -> Vec<u8> {
    use essaim_abi::DnsFlags;
    let bit = |flag, value: u8| if key.flags.has(flag) { value } else { 0 };
    let edns = bit(DnsFlags::EDNS, 1);
    let mut message = vec![
        0,
        0,
        bit(DnsFlags::RECURSION_DESIRED, 1),
        bit(DnsFlags::CHECKING_DISABLED, 0x10),
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        edns,
    ];
    let name: Vec<u8> = key.name.iter().flat_map(|word| word.to_ne_bytes()).collect();
    message.extend(name.iter().take(key.len.into()));
    message.extend(key.kind.to_ne_bytes());
    message.extend([0, 1]);
    if edns == 1 {
        message.extend([0, 0, 41, 2, 0, 0, 0, bit(DnsFlags::DNSSEC_OK, 0x80), 0, 0, 0]);
    }
    message
}

/// A message of an upstream server: any bytes, as the answer to a question for `a.`.
#[doc(hidden)]
pub fn fuzz_upstream(message: &[u8]) {
    let id = message.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    let sent = Sent {
        id,
        name: (*b"\x01a\0").into(),
        kind: 1,
    };
    let Accepted::Answer(stored) = accept(&sent, message) else {
        return;
    };
    // The client's question, with and without EDNS.
    let plain = *b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01A\0\0\x01\0\x01";
    let mut edns = plain.to_vec();
    edns.extend(*b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
    if let Some(additional) = edns.get_mut(11) {
        *additional = 1;
    }
    for question in [&plain[..], &edns] {
        let Ok(query) = Query::parse(question) else {
            continue;
        };
        for limit in [512, 1232, 65_535] {
            let mut buffer = vec![0; limit];
            let length = stored.write(&mut buffer, &query, limit, 1);
            assert!(length.is_some_and(|length| length <= limit), "an answer fits");
            let header = buffer
                .get(2..4)
                .and_then(|flags| flags.try_into().ok())
                .map(u16::from_be_bytes);
            assert!(
                header.is_some_and(|header| header & flags::RESPONSE != 0),
                "an answer is a response"
            );
        }
    }
}
