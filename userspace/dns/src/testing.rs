//! What the tests share: a cluster, and hickory as the other end of the wire.

use crate::asker::AskerInfo;
use crate::cache::Cache;
use crate::respond::{Responder, Sources, Transport, Verdict};
use crate::upstream::Servers;
use crate::zone::Zone;
use essaim_model::{Catalog, Liveness, Service, Task};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Three networks; `web` with VIPs on `app` and tasks' addresses on `back`, `db` on `back` only, `lone` apart.
pub(crate) const CLUSTER: &str = r#"
revision = 7
[cluster]
ingress_subnets = ["10.255.0.0/16"]
[[nodes]]
name = "n1"
address = "192.168.50.11"
overlay = ["10.255.0.11"]
[[networks]]
name = "app"
vni = 100
subnets = ["10.0.1.0/24", "fd00:1::/64"]
[[networks]]
name = "back"
vni = 200
subnets = ["10.0.2.0/24"]
internal = true
[[networks]]
name = "Far.Away"
vni = 50
subnets = ["10.0.3.0/24"]

[[services]]
name = "web"
networks = [
  { name = "app", vips = ["10.0.1.2", "fd00:1::2"], aliases = ["www", "Site.Example.Org"] },
  { name = "back", aliases = ["www"] },
]
ports = [
  { published = 8080, target = 80, name = "http" },
  { published = 8081, target = 80, name = "http" },
  { published = 8053, target = 53, protocol = "udp" },
]
[[services.tasks]]
id = "q1w2"
node = "n1"
netns = "a"
slot = 1
hostname = "Alpha"
container = "0123456789abcdef"
endpoints = [
  { network = "app", addresses = ["10.0.1.11", "fd00:1::11"], aliases = ["one"] },
  { network = "back", addresses = ["10.0.2.11"] },
]
[[services.tasks]]
id = "e3r4"
node = "n1"
netns = "b"
slot = 2
hostname = "beta"
endpoints = [
  { network = "app", addresses = ["10.0.1.12", "fd00:1::12"], aliases = ["both"] },
  { network = "back", addresses = ["10.0.2.12"] },
]
[[services.tasks]]
id = "t5y6"
node = "n1"
netns = "c"
slot = 2
state = "starting"
endpoints = [{ network = "app", addresses = ["10.0.1.13", "fd00:1::13"], aliases = ["both"] }]

[[services]]
name = "db"
networks = [{ name = "back", aliases = ["www", "store"] }]
[[services.tasks]]
id = "db.1"
node = "n1"
netns = "d"
endpoints = [{ network = "back", addresses = ["10.0.2.21"] }]
[[services.tasks]]
id = "db.2"
node = "n1"
netns = "e"
state = "draining"
endpoints = [{ network = "back", addresses = ["10.0.2.22"] }]
[[services.tasks]]
id = "db.3"
node = "n1"
netns = "f"
state = "gone"
endpoints = [{ network = "back", addresses = ["10.0.2.23"] }]

[[services]]
name = "lone"
networks = [{ name = "Far.Away", vips = ["10.0.3.2"] }]
[[services.tasks]]
id = "lone.1"
node = "n1"
netns = "g"
state = "starting"
endpoints = [{ network = "Far.Away", addresses = ["10.0.3.11"] }]
"#;

/// A cluster, with one of its tasks as the asker.
pub(crate) struct Scene {
    pub(crate) catalog: Catalog,
    pub(crate) liveness: Liveness,
    pub(crate) zone: Zone,
    pub(crate) asker: AskerInfo,
    pub(crate) servers: Option<Arc<Servers>>,
    pub(crate) cache: Mutex<Cache>,
    pub(crate) responder: Responder,
}

impl Scene {
    /// The cluster above as seen by a task.
    pub(crate) fn of(task: &str) -> Self {
        Self::of_catalog(
            Catalog::parse(CLUSTER).unwrap_or_else(|errors| panic!("{errors}")),
            task,
        )
    }

    pub(crate) fn of_catalog(catalog: Catalog, task: &str) -> Self {
        let liveness = Liveness::of(&catalog);
        let (service, task) = find(&catalog, task);
        Self {
            zone: Zone::new(&catalog, &liveness),
            asker: AskerInfo::of(&catalog, service, task),
            servers: Some(Arc::new(Servers::at(1, Vec::new()))),
            cache: Mutex::new(Cache::new(1 << 20)),
            responder: Responder::new(1),
            catalog,
            liveness,
        }
    }

    pub(crate) fn sources(&self) -> Sources<'_> {
        Sources {
            zone: &self.zone,
            asker: &self.asker,
            servers: self.servers.as_ref(),
            cache: &self.cache,
            now: Instant::now(),
        }
    }

    /// What becomes of a message, and the answer.
    pub(crate) fn respond(&mut self, message: &[u8], transport: Transport) -> (Verdict, Vec<u8>) {
        let mut buffer = vec![0xee; 65_535];
        let mut responder = std::mem::replace(&mut self.responder, Responder::new(0));
        let verdict = responder.respond(message, transport, &self.sources(), &mut buffer);
        self.responder = responder;
        let length = match verdict {
            Verdict::Reply { length, .. } => length,
            Verdict::Drop(_) | Verdict::Forward => 0,
        };
        buffer.truncate(length);
        (verdict, buffer)
    }

    /// The answer to a question, as hickory reads it; nothing where it is forwarded.
    pub(crate) fn message(&mut self, name: &str, kind: RecordType) -> Option<Message> {
        let query = query(name, kind);
        let (verdict, answer) = self.respond(&query.to_vec().unwrap(), Transport::Tcp);
        if verdict == Verdict::Forward {
            return None;
        }
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(answer.metadata.message_type, MessageType::Response);
        assert_eq!(answer.metadata.id, query.metadata.id);
        assert_eq!(answer.queries.len(), 1);
        assert!(
            answer.queries[0].name.eq_case(&query.queries[0].name),
            "the question's case is kept"
        );
        Some(answer)
    }

    /// The answer to a question in a line: `forwarded`, or the response code with the answer's records in order.
    pub(crate) fn ask(&mut self, name: &str, kind: &str) -> String {
        match self.message(name, kind.parse().unwrap()) {
            Some(message) => line(&message),
            None => "forwarded".to_owned(),
        }
    }
}

/// A message's response code and answer in a line.
pub(crate) fn line(message: &Message) -> String {
    let mut records: Vec<String> = message.answers.iter().map(text).collect();
    records.sort();
    let code = format!("{:?}", message.metadata.response_code);
    std::iter::once(code).chain(records).collect::<Vec<_>>().join(" ")
}

pub(crate) fn text(record: &Record) -> String {
    match &record.data {
        RData::A(address) => address.to_string(),
        RData::AAAA(address) => address.to_string(),
        RData::PTR(name) => name.to_string(),
        RData::SRV(srv) => format!("{}:{}", srv.target, srv.port),
        other => format!("{other:?}"),
    }
}

pub(crate) fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    message.add_query(Query::query(name, kind));
    message
}

pub(crate) fn with_edns(mut message: Message, size: u16, dnssec_ok: bool) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(size).set_dnssec_ok(dnssec_ok);
    message.set_edns(edns);
    message
}

pub(crate) fn find<'c>(catalog: &'c Catalog, id: &str) -> (&'c Service, &'c Task) {
    let mut tasks = catalog
        .services
        .iter()
        .flat_map(|service| service.tasks.iter().map(move |task| (service, task)));
    tasks.find(|(_, task)| task.id.as_str() == id).unwrap()
}
