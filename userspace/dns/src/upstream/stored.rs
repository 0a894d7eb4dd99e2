//! An answer of an upstream server, kept to be given to clients.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use crate::wire::{HEADER_LEN, OPT_LEN, Query, Rcode, flags, opt_record};

/// An answer or denial as the server wrote it, without its EDNS record: that is between the server and us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Header, question and records.
    pub(super) message: Box<[u8]>,
    /// Where the records' TTLs are.
    pub(super) ttls: Box<[u16]>,
    /// For how many seconds it may be kept; 0: not at all.
    pub(super) ttl: u32,
    /// It says that there is no such name, or no such record.
    pub(super) denial: bool,
}

impl Stored {
    pub(crate) const fn ttl(&self) -> u32 {
        self.ttl
    }

    pub(crate) const fn is_denial(&self) -> bool {
        self.denial
    }

    /// How much memory it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        size_of_val(&*self.message).saturating_add(size_of_val(&*self.ttls))
    }

    /// NOERROR or NXDOMAIN: nothing else is stored.
    pub(crate) fn response_code(&self) -> Rcode {
        if self.flags() & flags::RCODE == Rcode::NoError.number() {
            Rcode::NoError
        } else {
            Rcode::NxDomain
        }
    }

    fn flags(&self) -> u16 {
        let flags = self.message.get(2..4).and_then(|flags| flags.try_into().ok());
        flags.map_or(0, u16::from_be_bytes)
    }

    /// Writes it as the answer to the query of a client that takes `limit` bytes, `age` seconds after it came; what
    /// is longer is cut to the question, with a word that there is more. Gives the length.
    pub(crate) fn write(
        &self,
        buffer: &mut [u8],
        query: &Query<'_>,
        limit: usize,
        age: u32,
    ) -> Option<usize> {
        let edns = query.edns.map(|edns| opt_record(edns.dnssec_ok, 0));
        let reserve = if edns.is_some() { OPT_LEN } else { 0 };
        let question = query.question.end();
        let whole = self.message.len().checked_add(reserve)? <= limit.min(buffer.len());
        let body = if whole {
            &*self.message
        } else {
            self.message.get(..question)?
        };
        buffer.get_mut(..body.len())?.copy_from_slice(body);
        if whole {
            for at in &self.ttls {
                let at = usize::from(*at);
                let place = buffer.get_mut(at..at.checked_add(4)?)?;
                let ttl = u32::from_be_bytes((&*place).try_into().ok()?);
                place.copy_from_slice(&ttl.saturating_sub(age).to_be_bytes());
            }
        } else {
            buffer.get_mut(6..HEADER_LEN)?.fill(0);
        }
        let kept = flags::RECURSION_DESIRED | flags::CHECKING_DISABLED;
        let mut flags = self.flags() & (flags::AUTHENTIC | flags::RCODE)
            | query.flags & kept
            | flags::RESPONSE
            | flags::RECURSION_AVAILABLE;
        if !whole {
            flags |= flags::TRUNCATED;
        }
        buffer.get_mut(..2)?.copy_from_slice(&query.id.to_be_bytes());
        buffer.get_mut(2..4)?.copy_from_slice(&flags.to_be_bytes());
        // The same name, in the case in which this client wrote it, and the class in which it asked.
        let name_end = question.checked_sub(4)?;
        buffer
            .get_mut(HEADER_LEN..name_end)?
            .copy_from_slice(query.question.asked);
        buffer
            .get_mut(name_end.checked_add(2)?..question)?
            .copy_from_slice(&query.question.class.to_be_bytes());
        let Some(opt) = edns else { return Some(body.len()) };
        let end = body.len().checked_add(OPT_LEN)?;
        buffer.get_mut(body.len()..end)?.copy_from_slice(&opt);
        let count = buffer.get_mut(10..HEADER_LEN)?;
        let additional = u16::from_be_bytes((&*count).try_into().ok()?).checked_add(1)?;
        count.copy_from_slice(&additional.to_be_bytes());
        Some(end)
    }
}
