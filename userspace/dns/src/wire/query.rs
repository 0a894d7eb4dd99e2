//! What a client asks: a header, one question, and perhaps EDNS.

use super::{HEADER_LEN, Name, OWN_UDP_SIZE, PLAIN_UDP_SIZE, Rcode, Reader, class, flags, kind};

/// How many additional records of a question are looked through for EDNS: it, a signature, and one to spare.
const MOST_ADDITIONAL: u16 = 3;

/// Why something gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DropReason {
    /// Shorter than a header.
    Short,
    /// A response: to answer one could go on for ever.
    Response,
}

/// What somebody wants to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'m> {
    /// The name as it was asked, to be given back in the same case (draft-vixie-dnsext-dns0x20).
    pub(crate) asked: &'m [u8],
    /// The name.
    pub(crate) name: Name,
    /// The type.
    pub(crate) kind: u16,
    /// The class.
    pub(crate) class: u16,
}

/// The sender's EDNS (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    /// The largest UDP message it takes, in bytes.
    pub(crate) size: u16,
    /// It wants DNSSEC's records.
    pub(crate) dnssec_ok: bool,
}

/// A question as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'m> {
    pub(crate) id: u16,
    /// The header's flags.
    pub(crate) flags: u16,
    pub(crate) question: Question<'m>,
    pub(crate) edns: Option<Edns>,
    /// The version of its EDNS; 0 also where it has none.
    version: u8,
}

/// A message that is no question that can be answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unfit {
    /// It is not answered.
    Drop(DropReason),
    /// It is answered with a header only, since no question could be read.
    Header { id: u16, flags: u16, rcode: Rcode },
}

impl<'m> Query<'m> {
    /// Reads a message (RFC 1035, 4.1; RFC 9619: exactly one question; RFC 8906: what is not known is said so).
    pub(crate) fn parse(message: &'m [u8]) -> Result<Self, Unfit> {
        let mut reader = Reader::new(message, 0);
        let mut word = || reader.u16();
        let (Some(id), Some(flags), Some(questions), Some(answers), Some(authority), Some(additional)) =
            (word(), word(), word(), word(), word(), word())
        else {
            return Err(Unfit::Drop(DropReason::Short));
        };
        if flags & flags::RESPONSE != 0 {
            return Err(Unfit::Drop(DropReason::Response));
        }
        let refused = |rcode| Unfit::Header { id, flags, rcode };
        if flags & flags::OPCODE != 0 {
            return Err(refused(Rcode::NotImp));
        }
        if (questions, answers, authority) != (1, 0, 0) || additional > MOST_ADDITIONAL {
            return Err(refused(Rcode::FormErr));
        }
        let malformed = || refused(Rcode::FormErr);
        let question = Question::read(message).ok_or_else(malformed)?;
        let mut query = Self {
            id,
            flags,
            question,
            edns: None,
            version: 0,
        };
        let mut reader = Reader::new(message, question.end());
        query.additional(&mut reader, additional).ok_or_else(malformed)?;
        if !reader.is_at_end() {
            return Err(malformed());
        }
        Ok(query)
    }

    /// What is said to a question that is well-formed and yet not for us (RFC 6891, 6.1.3; RFC 8906, 3).
    pub(crate) const fn refusal(&self) -> Option<Rcode> {
        match (self.version, self.question.class, self.question.kind) {
            (1.., _, _) => Some(Rcode::BadVers),
            (0, _, kind::OPT) => Some(Rcode::FormErr),
            (0, class::IN | class::ANY, kind::TKEY | kind::TSIG | kind::MAILA | kind::MAILB) => {
                Some(Rcode::NotImp)
            }
            (0, class::IN | class::ANY, kind::AXFR | kind::IXFR) => Some(Rcode::Refused),
            (0, class::IN | class::ANY, _) => None,
            (0, _, _) => Some(Rcode::Refused),
        }
    }

    /// Reads the additional records of which only EDNS says anything to us.
    fn additional(&mut self, reader: &mut Reader<'_>, count: u16) -> Option<()> {
        for _ in 0..count {
            let start = reader.at();
            reader.skip_name()?;
            let is_root = reader.at() == start.checked_add(1)?;
            let (record, size, ttl, length) = (reader.u16()?, reader.u16()?, reader.u32()?, reader.u16()?);
            reader.take(usize::from(length))?;
            if record != kind::OPT {
                continue;
            }
            if self.edns.is_some() || !is_root {
                return None;
            }
            let [_, version, dnssec, _] = ttl.to_be_bytes();
            self.version = version;
            self.edns = Some(Edns {
                size,
                dnssec_ok: dnssec & 0x80 != 0,
            });
        }
        Some(())
    }

    /// The largest UDP message that its sender takes, up to `most`.
    pub(crate) fn udp_limit(&self, most: u16) -> usize {
        let size = self
            .edns
            .map_or(PLAIN_UDP_SIZE, |edns| edns.size.clamp(PLAIN_UDP_SIZE, most));
        usize::from(size)
    }
}

impl<'m> Question<'m> {
    /// The question of a message that has one.
    pub(crate) fn read(message: &'m [u8]) -> Option<Self> {
        let mut reader = Reader::new(message, HEADER_LEN);
        let name = Name::read(&mut reader)?;
        let asked = message.get(HEADER_LEN..reader.at())?;
        Some(Self {
            asked,
            name,
            kind: reader.u16()?,
            class: reader.u16()?,
        })
    }

    /// Where in its message it ends.
    pub(crate) const fn end(&self) -> usize {
        // A name, a type and a class; it saturates nowhere, since a name has at most 255 bytes.
        HEADER_LEN.saturating_add(self.asked.len()).saturating_add(4)
    }
}

/// A question for an upstream server.
pub(crate) fn encode_query(id: u16, name: &[u8], kind: u16, cd: bool, edns: Option<Edns>) -> Vec<u8> {
    let mut message = Vec::with_capacity(name.len().saturating_add(32));
    let mut flags = flags::RECURSION_DESIRED;
    if cd {
        flags |= flags::CHECKING_DISABLED;
    }
    for word in [id, flags, 1, 0, 0, u16::from(edns.is_some())] {
        message.extend(word.to_be_bytes());
    }
    message.extend_from_slice(name);
    message.extend(kind.to_be_bytes());
    message.extend(class::IN.to_be_bytes());
    if let Some(edns) = edns {
        message.extend(opt_record(edns.dnssec_ok, 0));
    }
    message
}

/// Our EDNS record.
pub(crate) fn opt_record(dnssec_ok: bool, extended_rcode: u8) -> [u8; 11] {
    let [_, opt] = kind::OPT.to_be_bytes();
    let [high, low] = OWN_UDP_SIZE.to_be_bytes();
    [
        0,
        0,
        opt,
        high,
        low,
        extended_rcode,
        0,
        u8::from(dnssec_ok) << 7,
        0,
        0,
        0,
    ]
}
