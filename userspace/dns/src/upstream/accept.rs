//! Whether what came back is an answer to what was asked (RFC 5452, 9.1).
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use super::Stored;
use crate::wire::{HEADER_LEN, Question, Rcode, Reader, class, flags, kind};

/// A question as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) id: u16,
    /// On the wire, in lower case.
    pub(crate) name: Box<[u8]>,
    pub(crate) kind: u16,
}

/// What a message from a server's address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// An answer or a denial.
    Answer(Stored),
    /// There is more than fits in UDP.
    Truncated,
    /// The server did not understand; it may do without EDNS.
    NotUnderstood,
    /// The server has no answer, or its answer is broken.
    Failed,
    /// Not an answer to this question: the right one may still come.
    NotOurs,
}

/// Judges a message that came from the server's address and port.
pub(crate) fn accept(sent: &Sent, message: &[u8]) -> Accepted {
    let mut reader = Reader::new(message, 0);
    let (Some(id), Some(header), Some(questions)) = (reader.u16(), reader.u16(), reader.u16()) else {
        return Accepted::NotOurs;
    };
    if id != sent.id || header & flags::RESPONSE == 0 || header & flags::OPCODE != 0 {
        return Accepted::NotOurs;
    }
    let rcode = header & flags::RCODE;
    let not_understood = [Rcode::FormErr, Rcode::NotImp]
        .map(Rcode::number)
        .contains(&rcode);
    // A server that cannot read the question cannot repeat it.
    if questions == 0 && not_understood {
        return Accepted::NotUnderstood;
    }
    let question = Question::read(message).filter(|_| questions == 1);
    let same = |question: &Question<'_>| {
        question.name.as_bytes() == &*sent.name && question.kind == sent.kind && question.class == class::IN
    };
    let Some(question) = question.filter(same) else {
        return Accepted::NotOurs;
    };
    if not_understood {
        return Accepted::NotUnderstood;
    }
    if header & flags::TRUNCATED != 0 {
        return Accepted::Truncated;
    }
    if ![Rcode::NoError, Rcode::NxDomain]
        .map(Rcode::number)
        .contains(&rcode)
    {
        return Accepted::Failed;
    }
    let stored = Records::read(message, question.end(), sent.kind);
    stored
        .and_then(|records| records.into_stored(message, header))
        .map_or(Accepted::Failed, Accepted::Answer)
}

/// What the records of a message say.
#[derive(Default)]
struct Records {
    ttls: Vec<u16>,
    /// The smallest TTL of the answer.
    answer_ttl: Option<u32>,
    /// The answer has a record of the type that was asked for.
    answered: bool,
    /// For how long a denial holds (RFC 2308, 5).
    denial_ttl: Option<u32>,
    /// Where what is kept ends.
    end: usize,
    /// How many additional records are kept.
    additional: u16,
}

impl Records {
    /// Walks over all records; nothing where one is malformed, or where the server could not answer after all.
    fn read(message: &[u8], start: usize, asked: u16) -> Option<Self> {
        let mut counts = Reader::new(message, 6);
        let counts = [counts.u16()?, counts.u16()?, counts.u16()?];
        let mut records = Self {
            end: start,
            ..Self::default()
        };
        let mut reader = Reader::new(message, start);
        let mut edns = false;
        for (section, count) in counts.into_iter().enumerate() {
            for _ in 0..count {
                reader.skip_name()?;
                let kind = reader.u16()?;
                let _class = reader.u16()?;
                let place = u16::try_from(reader.at()).ok()?;
                let ttl = reader.u32()?;
                let length = reader.u16()?;
                let data = reader.take(usize::from(length))?;
                if kind == kind::OPT {
                    // The upper bits of the response code must be clear as well. Nothing after it is needed.
                    if section != 2 || ttl >> 24 != 0 {
                        return None;
                    }
                    edns = true;
                    continue;
                }
                if edns {
                    continue;
                }
                // RFC 2181, 8: a TTL with its upper bit set is 0.
                let ttl = if ttl >> 31 == 0 { ttl } else { 0 };
                match section {
                    0 => {
                        records.answer_ttl = Some(records.answer_ttl.map_or(ttl, |least| least.min(ttl)));
                        records.answered |= kind == asked || asked == kind::ANY;
                    }
                    1 if kind == kind::SOA => {
                        let minimum = data
                            .last_chunk()
                            .map_or(0, |minimum| u32::from_be_bytes(*minimum));
                        records.denial_ttl = Some(ttl.min(minimum));
                    }
                    1 => {}
                    _ => records.additional = records.additional.checked_add(1)?,
                }
                records.ttls.push(place);
                records.end = reader.at();
            }
        }
        Some(records)
    }

    fn into_stored(self, message: &[u8], header: u16) -> Option<Stored> {
        let exists = header & flags::RCODE == Rcode::NoError.number();
        let denial = !exists || !self.answered;
        if denial && exists && self.denial_ttl.is_none() && self.answer_ttl.is_none() {
            // Neither an answer nor a denial: a server that only knows whom else to ask.
            if header & flags::RECURSION_AVAILABLE == 0 {
                return None;
            }
        }
        let ttl = if denial {
            // RFC 2308, 5: a denial without SOA is not kept.
            self.denial_ttl
                .map_or(0, |ttl| self.answer_ttl.map_or(ttl, |answer| answer.min(ttl)))
        } else {
            self.answer_ttl.unwrap_or(0)
        };
        let mut message: Box<[u8]> = message.get(..self.end)?.into();
        message
            .get_mut(10..HEADER_LEN)?
            .copy_from_slice(&self.additional.to_be_bytes());
        Some(Stored {
            message,
            ttls: self.ttls.into(),
            ttl,
            denial,
        })
    }
}
