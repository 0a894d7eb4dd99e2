//! Questions for names (RFC 1035) that the kernel answers by itself, and the answers.
//!
//! Only the plainest are read here: a UDP datagram to the resolver's address with one question of class IN, and at most an
//! EDNS record (RFC 6891) behind it. All else is the server's, malformed messages too, so nothing here answers with an
//! error. The server makes the keys of the answers that it hands over by the same code ([`key_of`]).

use crate::frame::settled;
use crate::wire::{ethernet, ipv4, protocol, udp};
use crate::{View, checksum};
use essaim_abi::{DNS_NAME_LEN, DnsAnswer, DnsFlags, DnsKey};

/// Where tasks find their resolver, 127.0.0.11, in network order.
pub const RESOLVER: u32 = 0x7f00_000b_u32.to_be();
/// Offset of the message in a frame.
const MESSAGE: usize = ethernet::LEN + ipv4::LEN + udp::LEN;
/// Length of a message's header.
const HEADER_LEN: usize = 12;
/// Headers of a frame that holds a message, the message's included.
pub const HEADERS: usize = MESSAGE + HEADER_LEN;
/// Shortest frame that is looked at: the question for the root.
pub const SHORTEST: usize = HEADERS + 1 + FIXED_LEN;
/// Longest frame that is looked at: a length fits a byte.
pub const LONGEST: usize = 255;
/// Type and class behind a question's name.
const FIXED_LEN: usize = 4;
/// Length of an EDNS record without options.
const OPT_LEN: usize = 11;
/// Most labels of a name, the root left out. Names of [`DNS_NAME_LEN`] could have twice as many; those of services, with
/// their networks, have four, and reverse names of IPv4 six.
const LABELS: usize = 16;
const MAX_LABEL: u8 = 63;
/// Class IN, in network order.
const IN: [u8; 2] = [0, 1];
/// Type of the EDNS record, in network order.
const OPT: [u8; 2] = [0, 41];

/// Where a frame begins in a buffer, so that the question's name is aligned.
const START: usize = 2;
/// Where the name begins in a buffer.
const NAME: usize = START + HEADERS;
const _: () = assert!(NAME.is_multiple_of(8));

/// A copy of a frame.
#[repr(C, align(8))]
#[derive(Clone, Debug)]
pub struct Buffer([u8; START + LONGEST + 7]);

impl Default for Buffer {
    fn default() -> Self {
        Self([0; START + LONGEST + 7])
    }
}

impl Buffer {
    /// Where the frame goes: [`LONGEST`] bytes at least.
    #[inline(always)]
    pub fn frame(&mut self) -> &mut [u8] {
        self.0.split_at_mut(START).1
    }

    #[inline(always)]
    fn byte(&self, at: usize) -> Option<u8> {
        self.0.get(settled(at)).copied()
    }

    #[inline(always)]
    fn two(&self, at: usize) -> Option<[u8; 2]> {
        Some([self.byte(at)?, self.byte(at + 1)?])
    }

    /// A word of the frame's headers, at a constant offset.
    #[inline(always)]
    fn header<const N: usize>(&mut self, at: usize) -> Option<&mut [u8; N]> {
        self.0.get_mut(START + at..)?.first_chunk_mut()
    }
}

/// Whether a frame of `len` bytes is a datagram to the resolver that is worth a closer look: whole, without options, and
/// a question as far as its header tells.
#[expect(
    clippy::manual_range_contains,
    reason = "comparisons as the verifier is to see them"
)]
#[inline(always)]
pub fn is_asked(frame: &View<'_, HEADERS>, len: usize) -> bool {
    const IP: usize = ethernet::LEN;
    const UDP: usize = IP + ipv4::LEN;
    const IHL: u8 = 0x45;
    /// Response, opcode.
    const NO_QUESTION: u8 = 0xf8;
    frame.get::<u32>(IP + ipv4::DESTINATION) == RESOLVER
        && frame.get::<u16>(ethernet::TYPE) == ethernet::IPV4
        && frame.get::<u8>(IP) == IHL
        && frame.get::<u8>(IP + ipv4::PROTOCOL) == protocol::UDP
        && frame.get::<u16>(IP + ipv4::FRAGMENT) & !ipv4::DF == 0
        && frame.get::<u8>(MESSAGE + 2) & NO_QUESTION == 0
        && len >= SHORTEST
        && len <= LONGEST
        && usize::from(u16::from_be(frame.get::<u16>(IP + ipv4::TOTAL_LEN))) + IP == len
        && usize::from(u16::from_be(frame.get::<u16>(UDP + udp::LENGTH))) + UDP == len
}

/// Addresses and ports of a datagram, as they lie: source, destination, source port, destination port.
#[inline(always)]
pub fn ends(frame: &View<'_, HEADERS>) -> (u32, u32, u16, u16) {
    const UDP: usize = ethernet::LEN + ipv4::LEN;
    (
        frame.get(ethernet::LEN + ipv4::SOURCE),
        frame.get(ethernet::LEN + ipv4::DESTINATION),
        frame.get(UDP + udp::SOURCE_PORT),
        frame.get(UDP + udp::DESTINATION_PORT),
    )
}

/// Reads the question of a frame of `len` bytes into the key, all but who asks. Nothing where it is none that the kernel
/// answers; the key means nothing then.
#[inline(always)]
pub fn question(buffer: &Buffer, len: usize, key: &mut DnsKey) -> Option<()> {
    const COUNTS: usize = START + MESSAGE + 4;
    /// Response, opcode.
    const NO_QUESTION: u8 = 0xf8;
    const RECURSION_DESIRED: u8 = 0x01;
    const CHECKING_DISABLED: u8 = 0x10;
    const DNSSEC_OK: u8 = 0x80;

    let (first, second) = (buffer.byte(COUNTS - 2)?, buffer.byte(COUNTS - 1)?);
    let questions = buffer.two(COUNTS)?;
    let others = u16::from_ne_bytes(buffer.two(COUNTS + 2)?) | u16::from_ne_bytes(buffer.two(COUNTS + 4)?);
    let additional = buffer.two(COUNTS + 6)?;
    if first & NO_QUESTION != 0
        || questions != [0, 1]
        || others != 0
        || (additional != [0, 0] && additional != [0, 1])
    {
        return None;
    }
    let mut flags = 0;
    if first & RECURSION_DESIRED != 0 {
        flags |= DnsFlags::RECURSION_DESIRED.0;
    }
    if second & CHECKING_DISABLED != 0 {
        flags |= DnsFlags::CHECKING_DISABLED.0;
    }
    let name_len = name_len(buffer)?;
    let fixed = NAME + name_len;
    let kind = buffer.two(fixed)?;
    if buffer.two(fixed + 2)? != IN {
        return None;
    }
    let mut end = name_len + FIXED_LEN;
    if additional == [0, 1] {
        let record = NAME + end;
        let (root, kind) = (buffer.byte(record)?, buffer.two(record + 1)?);
        let version = buffer.byte(record + 6)?;
        if root != 0 || kind != OPT || version != 0 {
            return None;
        }
        flags |= DnsFlags::EDNS.0;
        if buffer.byte(record + 7)? & DNSSEC_OK != 0 {
            flags |= DnsFlags::DNSSEC_OK.0;
        }
        // Whatever options say, the server heeds none.
        end += OPT_LEN + usize::from(u16::from_be_bytes(buffer.two(record + 9)?));
    }
    if HEADERS + end != len {
        return None;
    }
    key.kind = u16::from_ne_bytes(kind);
    key.flags = DnsFlags(flags);
    key.len = name_len as u8;
    key.reserved = 0;
    let mut rest = name_len * 8;
    for (index, word) in key.name.iter_mut().enumerate() {
        let bytes: &[u8; 8] = buffer.0.get(NAME + index * 8..)?.first_chunk()?;
        // The first byte lies lowest, whatever the machine's order is.
        let mask = if rest >= 64 {
            u64::MAX
        } else {
            (1 << (rest & 63)) - 1
        };
        *word = (lower(u64::from_le_bytes(*bytes)) & mask).to_le();
        rest = rest.saturating_sub(64);
    }
    Some(())
}

/// Bytes of the question's name with its root: labels only, no pointer.
#[inline(always)]
fn name_len(buffer: &Buffer) -> Option<usize> {
    let mut at = 0;
    for _ in 0..=LABELS {
        if at >= DNS_NAME_LEN {
            return None;
        }
        let label = buffer.byte(NAME + at)?;
        if label == 0 {
            // Forgets which turn it was.
            let at = settled(at);
            return if at < DNS_NAME_LEN { Some(at + 1) } else { None };
        }
        if label > MAX_LABEL {
            return None;
        }
        at = settled(at + 1 + usize::from(label));
    }
    None
}

/// Eight bytes with their ASCII letters in lower case. Lengths of labels are below `A`, so a name is folded as a whole.
#[inline(always)]
const fn lower(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low = word & (EACH * 0x7f);
    let from_a = low + EACH * (0x80 - b'A' as u64);
    let past_z = low + EACH * (0x80 - b'Z' as u64 - 1);
    let upper = from_a & !past_z & !word & (EACH * 0x80);
    word | upper >> 2
}

/// Makes the headers of a frame those of the answer to it, and gives the answer's length; its records come after the
/// question.
///
/// The addresses and ports change sides, which changes no checksum; the IP header's follows its length. The datagram has
/// no checksum, as RFC 768 allows: it never leaves its host.
#[inline(always)]
pub fn answer(buffer: &mut Buffer, name_len: u8, answer: &DnsAnswer) -> Option<usize> {
    const IP: usize = ethernet::LEN;
    const UDP: usize = IP + ipv4::LEN;
    let len = HEADERS + usize::from(name_len) + FIXED_LEN + usize::from(answer.len);
    let (total_len, udp_len) = (((len - IP) as u16).to_be(), ((len - UDP) as u16).to_be());

    let place = buffer.header::<2>(IP + ipv4::TOTAL_LEN)?;
    let former = u16::from_ne_bytes(*place);
    *place = total_len.to_ne_bytes();
    let place = buffer.header::<2>(IP + ipv4::CHECKSUM)?;
    let sum = checksum::replace(u16::from_ne_bytes(*place), former.into(), total_len.into());
    *place = sum.to_ne_bytes();
    let [a, b, c, d, e, f, g, h] = *buffer.header::<8>(IP + ipv4::SOURCE)?;
    *buffer.header(IP + ipv4::SOURCE)? = [e, f, g, h, a, b, c, d];
    let [a, b, c, d] = *buffer.header::<4>(UDP)?;
    *buffer.header(UDP)? = [c, d, a, b];
    *buffer.header(UDP + udp::LENGTH)? = udp_len.to_ne_bytes();
    *buffer.header(UDP + udp::CHECKSUM)? = [0, 0];
    for (index, word) in answer.head.iter().enumerate() {
        *buffer.header(MESSAGE + 2 + index * 2)? = word.to_ne_bytes();
    }
    Some(len)
}

/// Where the records of an answer begin in its frame.
#[inline(always)]
pub fn records_at(name_len: u8) -> usize {
    HEADERS + usize::from(name_len) + FIXED_LEN
}

/// The key of a message, for an asker.
pub fn key_of(asker: u64, message: &[u8]) -> Option<DnsKey> {
    let mut buffer = Buffer::default();
    let len = message
        .len()
        .checked_add(MESSAGE)
        .filter(|len| (SHORTEST..=LONGEST).contains(len))?;
    let place = buffer.frame().get_mut(MESSAGE..len)?;
    place.copy_from_slice(message);
    let mut key = DnsKey {
        asker,
        ..DnsKey::default()
    };
    question(&buffer, len, &mut key)?;
    Some(key)
}

/// The answer to a message as the kernel gives it, from the reply that the server gave; nothing where it is too long or
/// belongs to another question.
pub fn answer_of(generation: u64, key: &DnsKey, message: &[u8], reply: &[u8]) -> Option<DnsAnswer> {
    let records_at = records_at(key.len).checked_sub(MESSAGE)?;
    let (question, records) = reply.split_at_checked(records_at)?;
    if question.get(HEADER_LEN..)? != message.get(HEADER_LEN..records_at)?
        || question.get(..2)? != message.get(..2)?
    {
        return None;
    }
    let head: &[u8; 10] = question.get(2..)?.first_chunk()?;
    let mut answer = DnsAnswer {
        generation,
        len: u16::try_from(records.len()).ok().filter(|len| *len > 0)?,
        ..DnsAnswer::default()
    };
    for (word, bytes) in answer.head.iter_mut().zip(head.chunks_exact(2)) {
        *word = u16::from_ne_bytes(*bytes.first_chunk()?);
    }
    let mut padded = [0; essaim_abi::DNS_RECORDS_LEN];
    padded.get_mut(..records.len())?.copy_from_slice(records);
    for (word, bytes) in answer.records.iter_mut().zip(padded.chunks_exact(8)) {
        *word = u64::from_ne_bytes(*bytes.first_chunk()?);
    }
    answer.sealed = answer.seal(key);
    Some(answer)
}

#[cfg(test)]
mod tests;
