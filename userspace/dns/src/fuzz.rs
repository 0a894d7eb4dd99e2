//! Total entry points for fuzzing: no input makes them panic, and what they promise is asserted inside.

use crate::asker::{AskerInfo, Outside};
use crate::cache::Cache;
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
    let servers = Arc::new(Servers {
        number: 1,
        addresses: Vec::new(),
    });
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
