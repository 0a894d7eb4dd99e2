//! IPsec between the VTEPs of encrypted networks: which security associations and policies a node holds, and when it
//! sends with which key. Pure: no socket, clock or randomness inside.
//!
//! # Keys
//! The managers hand every node a [`Ring`]: one key a [`Generation`], the newest few. No packet is encrypted with those.
//! Each association has a key of its own, derived (HKDF, RFC 5869) from a generation's key, the two nodes, their
//! addresses, the direction, and a [`Salt`] of either node, random for each run of its agent. So
//! - two pairs of nodes, or both directions of one, never share a key;
//! - a key is never used again by a kernel that counts from 1 once more, after a restart of a node or of its agent: the
//!   sender's salt is another. With AES-GCM that would give the plain text away (RFC 4106, section 9);
//! - what was recorded before a receiver restarted, and lost what it had seen, opens nothing: the receiver's salt is
//!   another.
//!
//! An association that vanishes within a run is never installed again either: the node draws another salt
//! ([`Plan::needs_salt`]).
//!
//! # Rotation
//! By what nodes say of themselves ([`Said`], by gossip), never by a clock:
//! 1. a node that gets a new generation, or hears a new salt, installs the *inbound* associations, and then says so;
//! 2. a node sends with the newest generation that it has and that the receiver has said to hold, and only once the
//!    receiver has said to know its salt; until then it goes on with what it has;
//! 3. what nobody may send with any more goes: outbound ones once they are replaced for a moment, inbound ones once their
//!    sender was seen to use another, or the ring has moved on far enough.
//!
//! A node that was never given a policy for a peer sends it nothing: a policy of lower priority blocks what is marked.
#![forbid(unsafe_code)]

mod derive;
mod keeper;
mod ring;
mod said;

pub use derive::{SA_KEY_LENGTH, Sa, SaId, SaKey};
pub use keeper::{Direction, Family, Keeper, Known, Observed, ObservedSa, Op, Peer, Plan, Policy, Wanted};
pub use ring::{Generation, MAX_GENERATIONS, RING_KEY_LENGTH, Ring, RingKey};
pub use said::{SALT_LENGTH, Said, Salt};
