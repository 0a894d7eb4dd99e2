//! Writes an answer into a buffer, up to what its receiver takes.

use super::query::opt_record;
use super::{HEADER_LEN, Query, Rcode, class, flags};

/// Length of our EDNS record.
pub(crate) const OPT_LEN: usize = 11;

/// Whose record it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner {
    /// The name at this place of the message.
    At(u16),
    /// The root.
    Root,
}

impl Owner {
    /// The question's name, which comes right after the header.
    #[expect(clippy::cast_possible_truncation, reason = "12")]
    pub(crate) const QUESTION: Self = Self::At(HEADER_LEN as u16);
}

/// The section that a record goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Answer,
    Authority,
    Additional,
}

/// An answer that is being written.
#[derive(Debug)]
pub(crate) struct Reply<'b> {
    buffer: &'b mut [u8],
    at: usize,
    /// Where records must end.
    limit: usize,
    flags: u16,
    edns: Option<bool>,
    counts: [u16; 3],
}

impl<'b> Reply<'b> {
    /// Begins the answer to a question, of at most `limit` bytes. Nothing where not even the question fits.
    pub(crate) fn begin(buffer: &'b mut [u8], query: &Query<'_>, limit: usize) -> Option<Self> {
        let kept = flags::RECURSION_DESIRED | flags::CHECKING_DISABLED;
        let edns = query.edns.map(|edns| edns.dnssec_ok);
        let reserve = if edns.is_some() { OPT_LEN } else { 0 };
        let limit = limit.min(buffer.len()).checked_sub(reserve)?;
        let mut reply = Self {
            buffer,
            at: 0,
            limit,
            flags: flags::RESPONSE | query.flags & kept | flags::RECURSION_AVAILABLE,
            edns,
            counts: [0; 3],
        };
        let question = &query.question;
        reply.put(&query.id.to_be_bytes())?;
        // The flags and the counts are known last.
        reply.put(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
        reply.put(question.asked)?;
        reply.put(&question.kind.to_be_bytes())?;
        reply.put(&question.class.to_be_bytes())?;
        Some(reply)
    }

    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at.checked_add(bytes.len())?;
        if end > self.limit {
            return None;
        }
        self.buffer.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }

    /// Says that we are the one who knows.
    pub(crate) const fn authoritative(&mut self) {
        self.flags |= flags::AUTHORITATIVE;
    }

    /// Says that it did not all fit.
    pub(crate) const fn truncated(&mut self) {
        self.flags |= flags::TRUNCATED;
    }

    /// How many bytes more fit.
    pub(crate) const fn room(&self) -> usize {
        self.limit.saturating_sub(self.at)
    }

    /// Where the next byte goes.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// Writes a record of class IN with the data in these pieces. Where it does not fit, nothing of it is left.
    fn record(&mut self, section: Section, owner: Owner, kind: u16, ttl: u32, data: &[&[u8]]) -> Option<()> {
        let length: usize = data.iter().map(|piece| piece.len()).sum();
        let length = u16::try_from(length).ok()?;
        let mut head = [0; 12];
        let head = match owner {
            Owner::At(place) => {
                let [high, low] = place.to_be_bytes();
                head.get_mut(..2)?.copy_from_slice(&[high | 0xc0, low]);
                &mut head[..]
            }
            Owner::Root => head.get_mut(1..)?,
        };
        let fixed = head.len().checked_sub(10)?;
        let tail = head.get_mut(fixed..)?;
        tail.get_mut(..2)?.copy_from_slice(&kind.to_be_bytes());
        tail.get_mut(2..4)?.copy_from_slice(&class::IN.to_be_bytes());
        tail.get_mut(4..8)?.copy_from_slice(&ttl.to_be_bytes());
        tail.get_mut(8..)?.copy_from_slice(&length.to_be_bytes());
        let start = self.at;
        let written = self
            .put(head)
            .and_then(|()| data.iter().try_for_each(|piece| self.put(piece)));
        if written.is_none() {
            self.at = start;
            return None;
        }
        let count = self.counts.get_mut(section as usize)?;
        *count = count.checked_add(1)?;
        Some(())
    }

    /// Adds a record to the answer, or says that it did not fit.
    pub(crate) fn answer(&mut self, owner: Owner, kind: u16, ttl: u32, data: &[&[u8]]) -> Option<()> {
        let written = self.record(Section::Answer, owner, kind, ttl, data);
        if written.is_none() {
            self.truncated();
        }
        written
    }

    /// Adds a record to the authority section; what does not fit is left out.
    pub(crate) fn authority(&mut self, owner: Owner, kind: u16, ttl: u32, data: &[&[u8]]) {
        let _ = self.record(Section::Authority, owner, kind, ttl, data);
    }

    /// Adds a record to the additional section; what does not fit is left out.
    pub(crate) fn additional(&mut self, owner: Owner, kind: u16, ttl: u32, data: &[&[u8]]) {
        let _ = self.record(Section::Additional, owner, kind, ttl, data);
    }

    /// Writes what was known last, and gives the length.
    pub(crate) fn finish(mut self, rcode: Rcode) -> Option<usize> {
        let rcode = rcode.number();
        if let Some(dnssec_ok) = self.edns {
            self.limit = self.limit.checked_add(OPT_LEN)?;
            self.put(&opt_record(dnssec_ok, u8::try_from(rcode >> 4).ok()?))?;
            let [_, _, additional] = &mut self.counts;
            *additional = additional.checked_add(1)?;
        }
        let flags = self.flags | rcode & flags::RCODE;
        let [answers, authority, additional] = self.counts;
        let words = [flags, 1, answers, authority, additional];
        let places = self.buffer.get_mut(2..HEADER_LEN)?.chunks_exact_mut(2);
        for (place, word) in places.zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        Some(self.at)
    }
}

/// Writes an answer that is a header only.
pub(crate) fn header_only(buffer: &mut [u8], id: u16, asked: u16, rcode: Rcode) -> Option<usize> {
    let kept = flags::OPCODE | flags::RECURSION_DESIRED | flags::CHECKING_DISABLED;
    let header = buffer.get_mut(..HEADER_LEN)?;
    header.fill(0);
    let flags = flags::RESPONSE | asked & kept | rcode.number() & flags::RCODE;
    header.get_mut(..2)?.copy_from_slice(&id.to_be_bytes());
    header.get_mut(2..4)?.copy_from_slice(&flags.to_be_bytes());
    Some(HEADER_LEN)
}
