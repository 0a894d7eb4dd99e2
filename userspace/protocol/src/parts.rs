//! Messages that are too large for one: the manager cuts them into parts, the node puts those together again.
//!
//! A message of a session that is no longer than [`PART`] goes as it is. A longer one goes as parts, one after the other
//! and with nothing between them:
//!
//! ```text
//! 0 | message (4 bytes) | number (4 bytes) | of how many (4 bytes) | the next bytes, PART of them but for the last
//! ```
//!
//! Numbers are big-endian, that of the first part is 1, and the message's tells it from its neighbours. JSON never begins
//! with a zero byte, so the two cannot be mistaken. The stream itself keeps order; parts that are lost, come twice or out
//! of order are a fault of whoever sent them, and end the session.

use bytes::{BufMut, Bytes, BytesMut};

/// The most bytes of a message that go at once. Too low and a large message takes many turns, too high and each of a
/// thousand connections holds so much.
pub const PART: usize = 256 << 10;
/// The longest message that is put together: the catalog of 10,000 services with 100,000 tasks has some 25 MiB.
pub const LONGEST: usize = 128 << 20;
/// The first byte of a part.
const TAG: u8 = 0;
/// Before the bytes of a part: tag, message, number, of how many.
const HEADER: usize = 13;

/// A message as it goes: itself, or its parts, under a number that the messages before and after it do not have. Each is
/// made when it is asked for, so that a message which goes to many is in memory once.
pub fn parts(id: u32, message: Bytes) -> impl Iterator<Item = Bytes> + Send {
    let of = message.len().div_ceil(PART).max(1);
    (0..of).map(move |at| {
        if of == 1 {
            return message.clone();
        }
        let from = at.saturating_mul(PART);
        let to = from.saturating_add(PART).min(message.len());
        let bytes = message.slice(from..to);
        let mut part = BytesMut::with_capacity(HEADER + bytes.len());
        part.put_u8(TAG);
        part.put_u32(id);
        // Of a message that fits into memory neither is too large.
        part.put_u32(u32::try_from(at + 1).unwrap_or(u32::MAX));
        part.put_u32(u32::try_from(of).unwrap_or(u32::MAX));
        part.put(bytes);
        part.freeze()
    })
}

/// Why parts make no message; those before are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// It has no header, or other lengths than a part has.
    #[error("a part of a message has {length} bytes, expected a header of {HEADER} and at most {PART} more")]
    Length {
        /// Of the part with its header, in bytes.
        length: usize,
    },
    /// It is not the one that comes next.
    #[error("part {number} of {of} of message {id} came after {have} of {of_those} of message {before}")]
    Order {
        /// The number of its message.
        id: u32,
        /// Its number.
        number: u32,
        /// Of how many it says it is.
        of: u32,
        /// The number of the message that was begun last.
        before: u32,
        /// How many parts of that were there; none where it was complete.
        have: u32,
        /// Of how many.
        of_those: u32,
    },
    /// Another message came before all parts were there.
    #[error("a message came after {have} of {of} parts of the one before")]
    Cut {
        /// How many parts were there.
        have: u32,
        /// Of how many.
        of: u32,
    },
    /// The message would be too long.
    #[error("a message of {of} parts is longer than {LONGEST} bytes")]
    TooLong {
        /// How many.
        of: u32,
    },
}

/// Puts the messages of one session together. It never holds more than [`LONGEST`] bytes.
#[derive(Debug, Default)]
pub struct Assembly {
    id: u32,
    have: u32,
    of: u32,
    bytes: BytesMut,
}

impl Assembly {
    /// Takes what came; gives the message that is complete with it.
    ///
    /// # Errors
    /// [`PartError`].
    pub fn take(&mut self, came: Bytes) -> Result<Option<Bytes>, PartError> {
        let taken = self.add(came);
        if taken.is_err() {
            *self = Self::default();
        }
        taken
    }

    fn add(&mut self, came: Bytes) -> Result<Option<Bytes>, PartError> {
        if came.first() != Some(&TAG) {
            let (have, of) = (self.have, self.of);
            return if of == 0 {
                Ok(Some(came))
            } else {
                Err(PartError::Cut { have, of })
            };
        }
        let length = came.len();
        let Some((header, bytes)) = came.split_first_chunk::<HEADER>() else {
            return Err(PartError::Length { length });
        };
        let [id, number, of] = numbers(*header);
        let is_same = self.of == 0 || (self.id, self.of) == (id, of);
        if !is_same || number > of || number != self.have.saturating_add(1) {
            return Err(PartError::Order {
                id,
                number,
                of,
                before: self.id,
                have: self.have,
                of_those: self.of,
            });
        }
        let most = usize::try_from(of).unwrap_or(usize::MAX).saturating_mul(PART);
        if most > LONGEST {
            return Err(PartError::TooLong { of });
        }
        let is_last = number == of;
        let is_full = bytes.len() == PART || is_last && (1..=PART).contains(&bytes.len());
        if !is_full {
            return Err(PartError::Length { length });
        }
        self.bytes.extend_from_slice(bytes);
        (self.id, self.have, self.of) = (id, number, of);
        if !is_last {
            return Ok(None);
        }
        Ok(Some(std::mem::take(self).bytes.freeze()))
    }
}

fn numbers([_, i0, i1, i2, i3, n0, n1, n2, n3, o0, o1, o2, o3]: [u8; HEADER]) -> [u32; 3] {
    [[i0, i1, i2, i3], [n0, n1, n2, n3], [o0, o1, o2, o3]].map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A message that is none of the parts' kind.
    fn message(length: usize, seed: u8) -> Bytes {
        let byte = |at: usize| u8::try_from(at % 251).unwrap().wrapping_add(seed) | 1;
        (0..length).map(byte).collect()
    }

    /// The messages as they go, numbered.
    fn way(sent: &[Bytes]) -> Vec<Bytes> {
        let numbered = sent.iter().cloned().zip(5..);
        numbered.flat_map(|(message, id)| parts(id, message)).collect()
    }

    /// What comes out of what came, up to the first error.
    fn together(came: impl IntoIterator<Item = Bytes>) -> (Vec<Bytes>, Option<PartError>) {
        let (mut assembly, mut whole) = (Assembly::default(), Vec::new());
        for came in came {
            match assembly.take(came) {
                Ok(message) => whole.extend(message),
                Err(error) => {
                    assert_eq!((assembly.have, assembly.of, assembly.bytes.len()), (0, 0, 0));
                    return (whole, Some(error));
                }
            }
        }
        (whole, None)
    }

    #[test]
    fn messages_of_every_length_come_out_as_they_went_in() {
        let lengths = [
            0,
            1,
            PART - 1,
            PART,
            PART + 1,
            2 * PART,
            2 * PART + 1,
            5 * PART - 3,
        ];
        let sent: Vec<Bytes> = lengths.iter().map(|length| message(*length, 3)).collect();
        let way: Vec<Bytes> = way(&sent);
        assert!(way.iter().all(|part| part.len() <= PART + HEADER));
        assert_eq!(way.len(), 4 + 2 + 2 + 3 + 5);
        assert_eq!(together(way), (sent, None));
    }

    #[test]
    fn a_small_message_goes_as_it_is() {
        let small = message(PART, 9);
        assert_eq!(parts(1, small.clone()).collect::<Vec<_>>(), [small]);
    }

    #[test]
    fn what_is_lost_comes_twice_or_out_of_order_is_told() {
        let way: Vec<Bytes> = parts(8, message(3 * PART, 1)).collect();
        let at = |order: &[usize]| together(order.iter().map(|at| way[*at].clone()));
        let wrong = |number, before, have| {
            Some(PartError::Order {
                id: 8,
                number,
                of: 3,
                before,
                have,
                of_those: if have == 0 { 0 } else { 3 },
            })
        };
        for (order, expected) in [
            (&[0, 2][..], wrong(3, 8, 1)),
            (&[1], wrong(2, 0, 0)),
            (&[0, 0], wrong(1, 8, 1)),
            (&[0, 1, 1], wrong(2, 8, 2)),
            (&[0, 2, 1], wrong(3, 8, 1)),
        ] {
            assert_eq!(at(order), (Vec::new(), expected), "{order:?}");
        }
        let (whole, error) = at(&[0, 1, 2, 2]);
        assert_eq!((whole.len(), error), (1, wrong(3, 0, 0)));
        let others: Vec<Bytes> = parts(9, message(3 * PART, 2)).collect();
        let error = together([way[0].clone(), others[1].clone()]).1;
        assert!(
            matches!(error, Some(PartError::Order { id: 9, before: 8, .. })),
            "{error:?}"
        );
        let cut = together([way[0].clone(), way[1].clone(), message(5, 1)]);
        assert_eq!(cut, (Vec::new(), Some(PartError::Cut { have: 2, of: 3 })));
    }

    #[test]
    fn what_would_be_too_long_is_refused_with_its_first_part() {
        let first = |of: u32, length: usize| {
            let mut part = BytesMut::new();
            part.put_u8(TAG);
            part.put_u32(4);
            part.put_u32(1);
            part.put_u32(of);
            part.put_bytes(7, length);
            part.freeze()
        };
        let most = u32::try_from(LONGEST / PART).unwrap();
        assert_eq!(together([first(most, PART)]), (Vec::new(), None));
        let of = most + 1;
        assert_eq!(together([first(of, PART)]).1, Some(PartError::TooLong { of }));
        for (of, length) in [(2, PART - 1), (2, PART + 1), (1, PART + 1), (1, 0)] {
            let length = length + HEADER;
            assert_eq!(
                together([first(of, length - HEADER)]).1,
                Some(PartError::Length { length })
            );
        }
        let error = together([first(0, PART)]).1;
        assert!(matches!(error, Some(PartError::Order { of: 0, .. })), "{error:?}");
        assert_eq!(
            together([Bytes::from_static(&[TAG, 0, 0])]).1,
            Some(PartError::Length { length: 3 })
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Beside a model that knows the way as it should be: nothing comes out that did not go in, and whatever is
        /// not the way up to its end ends in an error, or waits.
        #[test]
        fn only_whole_messages_come_out_of_a_way_with_faults(
            lengths in prop::collection::vec(0_usize..3 * PART, 1..4),
            faults in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..3), 0..3),
        ) {
            let sent: Vec<Bytes> = lengths.iter().zip(1..).map(|(length, seed)| message(*length, seed)).collect();
            let mut way: Vec<Bytes> = way(&sent);
            let right = way.clone();
            for (at, fault) in faults {
                if way.is_empty() {
                    break;
                }
                let at = at.index(way.len());
                match fault {
                    0 => drop(way.remove(at)),
                    1 => way.insert(at, way[at].clone()),
                    _ => way.swap(at, 0),
                }
            }
            let (whole, error) = together(way.clone());
            prop_assert!(whole.iter().all(|message| sent.contains(message)));
            if way == right {
                prop_assert_eq!((whole, error), (sent, None));
            }
        }

        #[test]
        fn no_bytes_are_worse_than_an_error(
            came in prop::collection::vec(prop::collection::vec(prop_oneof![Just(0), Just(1), Just(2), any::<u8>()], 0..24), 0..6),
        ) {
            together(came.into_iter().map(Bytes::from));
        }
    }
}
