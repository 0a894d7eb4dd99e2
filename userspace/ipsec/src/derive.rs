//! From a key of the ring to that of one association.

use crate::{Generation, RingKey, Salt};
use aws_lc_rs::digest;
use aws_lc_rs::hkdf::{self, KeyType};
use essaim_model::NodeName;
use std::fmt;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// The length of an association's key in bytes: AES-256, and the four bytes that begin each nonce (RFC 4106, section 8.1).
pub const SA_KEY_LENGTH: usize = 36;

/// The key of one association, as the kernel takes it. Never shown.
#[derive(Clone)]
pub struct SaKey(Zeroizing<[u8; SA_KEY_LENGTH]>);

impl SaKey {
    /// A key of these bytes.
    pub fn new(bytes: [u8; SA_KEY_LENGTH]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes, for the kernel.
    pub fn bytes(&self) -> &[u8; SA_KEY_LENGTH] {
        &self.0
    }
}

impl PartialEq for SaKey {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&*self.0, &*other.0).is_ok()
    }
}

impl Eq for SaKey {}

impl fmt::Debug for SaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaKey(..)")
    }
}

/// What an association is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SaId {
    /// The sender's VTEP.
    pub source: IpAddr,
    /// The receiver's VTEP.
    pub destination: IpAddr,
    /// Its number, which stands in every packet.
    pub spi: u32,
}

impl fmt::Display for SaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            destination,
            spi,
        } = self;
        write!(f, "{source} to {destination}, SPI {spi:#010x}")
    }
}

/// A security association: one direction between two nodes, under one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sa {
    /// What it is known by.
    pub id: SaId,
    /// Its key.
    pub key: SaKey,
}

/// One end of an association.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End<'a> {
    pub(crate) node: &'a NodeName,
    pub(crate) vtep: IpAddr,
    pub(crate) salt: Salt,
}

/// The association by which `from` sends to `to` under a generation's key.
pub(crate) fn association(from: End<'_>, to: End<'_>, generation: Generation, key: &RingKey) -> Sa {
    let context = context(from, to);
    Sa {
        id: SaId {
            source: from.vtep,
            destination: to.vtep,
            spi: spi(&context, generation),
        },
        key: sa_key(&context, generation, key),
    }
}

/// Both ends in their order, each part behind its length.
fn context(from: End<'_>, to: End<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for End { node, vtep, salt } in [from, to] {
        let name = node.as_str().as_bytes();
        bytes.extend(u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(name);
        match vtep {
            IpAddr::V4(address) => bytes.extend(address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
        bytes.extend(salt.0);
    }
    bytes
}

/// The first bit is set, so that no number is one of those that IANA keeps (RFC 4303, section 2.1); the last four are those
/// of the generation, so that no two of a ring are alike, nor one that
/// has left it a while ago. The rest is a hash: where two senders still come to the same
/// number, the kernel refuses the second, and the receiver draws another salt.
fn spi(context: &[u8], generation: Generation) -> u32 {
    let hash = digest::digest(&digest::SHA256, &[b"essaim esp spi".as_slice(), context].concat());
    let hash = hash.as_ref().first_chunk().copied().map_or(0, u32::from_be_bytes);
    let last = u32::try_from(generation.0 & 15).unwrap_or(0);
    1 << 31 | (hash & 0x07ff_ffff) << 4 | last
}

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        SA_KEY_LENGTH
    }
}

fn sa_key(context: &[u8], generation: Generation, key: &RingKey) -> SaKey {
    let number = generation.0.to_be_bytes();
    let info = [b"essaim esp key".as_slice(), &number, context];
    let mut bytes = Zeroizing::new([0; SA_KEY_LENGTH]);
    #[expect(
        clippy::expect_used,
        reason = "HKDF refuses only more than 255 digests, and a buffer of another length"
    )]
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"essaim ipsec ring")
        .extract(key.bytes())
        .expand(&info, Length)
        .and_then(|expanded| expanded.fill(&mut *bytes))
        .expect("36 bytes are one digest and a bit");
    SaKey(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    /// HMAC-SHA256 by its definition (RFC 2104), to hold HKDF against.
    fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
        let mut block = [0_u8; 64];
        block[..key.len()].copy_from_slice(key);
        let hash = |pad: u8, message: &[u8]| {
            let padded: Vec<u8> = block.iter().map(|byte| byte ^ pad).collect();
            digest::digest(&digest::SHA256, &[padded, message.to_vec()].concat())
                .as_ref()
                .to_vec()
        };
        hash(0x5c, &hash(0x36, message))
    }

    #[test]
    fn a_key_is_what_rfc_5869_says() {
        let (one, other) = (name("n1"), name("n2"));
        let from = End {
            node: &one,
            vtep: "192.0.2.1".parse().unwrap(),
            salt: Salt([1; 16]),
        };
        let to = End {
            node: &other,
            vtep: "192.0.2.2".parse().unwrap(),
            salt: Salt([2; 16]),
        };
        let key = RingKey::new([7; 32]);
        let sa = association(from, to, Generation(3), &key);
        let mut context = Vec::new();
        for (name, last, salt) in [(b"n1", 1, 1), (b"n2", 2, 2)] {
            context.extend([0, 0, 0, 2]);
            context.extend(name);
            context.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, last]);
            context.extend([salt; 16]);
        }
        let extracted = hmac(b"essaim ipsec ring", &[7; 32]);
        let info = [b"essaim esp key".as_slice(), &[0, 0, 0, 0, 0, 0, 0, 3], &context].concat();
        let first = hmac(&extracted, &[info.as_slice(), &[1]].concat());
        let second = hmac(&extracted, &[first.as_slice(), &info, &[2]].concat());
        assert_eq!(
            sa.key.bytes().as_slice(),
            &[first.as_slice(), &second[..4]].concat()
        );
        assert!(
            !format!("{sa:?}").contains(&first[0].to_string()) || format!("{sa:?}").contains("SaKey(..)")
        );
    }

    #[test]
    fn whatever_differs_makes_another_key() {
        let names = ["n1", "n2", "n12"].map(name);
        let vteps = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let mut keys = BTreeSet::new();
        let mut count = 0;
        for from in &names {
            for to in names.iter().filter(|to| *to != from) {
                for (source, destination) in [(vteps[0], vteps[1]), (vteps[1], vteps[0])] {
                    for (salt, other) in [(1, 1), (1, 2), (2, 1)] {
                        for generation in 0..3 {
                            for ring in [5, 6] {
                                let sa = association(
                                    End {
                                        node: from,
                                        vtep: source,
                                        salt: Salt([salt; 16]),
                                    },
                                    End {
                                        node: to,
                                        vtep: destination,
                                        salt: Salt([other; 16]),
                                    },
                                    Generation(generation),
                                    &RingKey::new([ring; 32]),
                                );
                                keys.insert(*sa.key.bytes());
                                count += 1;
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn generations_of_a_ring_never_have_the_same_number() {
        let (one, other) = (name("n1"), name("n2"));
        let end = |node, last, salt| End {
            node,
            vtep: IpAddr::from([192, 0, 2, last]),
            salt: Salt([salt; 16]),
        };
        for salt in 0..50 {
            let numbers: BTreeSet<u32> = (100..116)
                .map(|generation| {
                    association(
                        end(&one, 1, salt),
                        end(&other, 2, 9),
                        Generation(generation),
                        &RingKey::new([1; 32]),
                    )
                    .id
                    .spi
                })
                .collect();
            assert_eq!(numbers.len(), 2 * crate::MAX_GENERATIONS);
            assert!(numbers.iter().all(|spi| spi >> 31 == 1));
        }
    }
}
