//! Answers to questions for names that the kernel gives by itself: see `dns_tc`.

use crate::pod::{bits, pod};

/// Longest name, in bytes on the wire, that the kernel answers for; others are left to the server.
pub const DNS_NAME_LEN: usize = 64;
/// Most bytes of records in an answer of the kernel's.
pub const DNS_RECORDS_LEN: usize = 128;

bits! {
    /// What of a question, beside name and type, its answer depends on.
    DnsFlags: u8 {
        /// Recursion is desired.
        RECURSION_DESIRED = 1;
        /// The answer need not be verified.
        CHECKING_DISABLED = 2;
        /// It has an EDNS record.
        EDNS = 4;
        /// It wants the records of DNSSEC.
        DNSSEC_OK = 8;
    }
}

/// A question, as everybody who asks the same asks it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DnsKey {
    /// Who asks: what stands in [`crate::maps::DNS_ASKERS`] for the resolver's socket that was asked.
    pub asker: u64,
    /// The type, in network order.
    pub kind: u16,
    /// [`DnsFlags`].
    pub flags: DnsFlags,
    /// Bytes of the name, its root included.
    pub len: u8,
    /// Zero.
    pub reserved: u32,
    /// The name on the wire, in lower case; zero behind its end.
    pub name: [u64; DNS_NAME_LEN / 8],
}
pod!(DnsKey, size = 80, align = 8);

/// An answer.
///
/// A place of a hash map may be given to another key while a program still reads it, so an answer says itself whose it
/// is: what does not fit its [`DnsAnswer::seal`] is none.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DnsAnswer {
    /// It counts while this is the one in [`DnsState`].
    pub generation: u64,
    /// [`DnsAnswer::seal`].
    pub sealed: u64,
    /// Of the header: the flags, then the counts of questions, answers, authorities and additional records.
    pub head: [u16; 5],
    /// Bytes of `records`, at least one.
    pub len: u16,
    /// Zero.
    pub reserved: u32,
    /// All that follows the question, as bytes in memory; zero behind its end.
    pub records: [u64; DNS_RECORDS_LEN / 8],
}
pod!(DnsAnswer, size = 160, align = 8);

impl DnsAnswer {
    /// A number that follows from the answer and the question that it belongs to.
    #[inline(always)]
    pub fn seal(&self, key: &DnsKey) -> u64 {
        let mut sum = fold(self.generation, key.asker);
        sum = fold(
            sum,
            u64::from(key.kind) | u64::from(key.flags.0) << 16 | u64::from(key.len) << 24,
        );
        for word in &key.name {
            sum = fold(sum, *word);
        }
        let [flags, questions, answers, authorities, additional] = self.head;
        sum = fold(
            sum,
            u64::from(flags)
                | u64::from(questions) << 16
                | u64::from(answers) << 32
                | u64::from(authorities) << 48,
        );
        sum = fold(sum, u64::from(additional) | u64::from(self.len) << 16);
        for word in &self.records {
            sum = fold(sum, *word);
        }
        sum
    }
}

/// One step of the seal: a bijection of the word for every sum, so that no single word changes unseen.
#[inline(always)]
const fn fold(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// What counts now.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DnsState {
    /// Raised whenever an answer may be another than before; 0 before there are names.
    pub generation: u64,
    /// Until when the kernel answers without hearing from the server again, in nanoseconds of the monotonic clock.
    pub until: u64,
}
pod!(DnsState, size = 16, align = 8);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pod;

    #[test]
    fn every_bit_of_question_and_answer_is_sealed() {
        let (key, answer) = (DnsKey::default(), DnsAnswer::default());
        let sealed = answer.seal(&key);
        for bit in 0..size_of::<DnsKey>() * 8 {
            let mut bytes = key.bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let other = DnsKey::from_bytes(&bytes).unwrap();
            let reserved = other.reserved != 0;
            assert_eq!(answer.seal(&other) == sealed, reserved, "bit {bit} of the key");
        }
        for bit in 0..size_of::<DnsAnswer>() * 8 {
            let mut bytes = answer.bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let other = DnsAnswer::from_bytes(&bytes).unwrap();
            let outside = other.reserved != 0 || other.sealed != 0;
            assert_eq!(other.seal(&key) == sealed, outside, "bit {bit} of the answer");
        }
    }
}
