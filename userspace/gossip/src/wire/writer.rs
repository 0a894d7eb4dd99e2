//! Writing, within the size of what carries it.

use super::part::{fact_tag, scope_tag, tag};
use super::{Delta, Head, Part, Subject};
use crate::claim::Statement;
use crate::epoch::{Incarnation, Version};
use crate::fact::{Fact, Record, Scope};
use crate::view::MemberState;
use essaim_model::TaskState;
use std::net::IpAddr;

/// The longest that an incarnation is written in.
const INCARNATION_LENGTH: usize = 5;

/// The content of one datagram or frame, while it is put together.
#[derive(Clone, Debug)]
pub(crate) struct Packer {
    parts: Vec<u8>,
    most: usize,
}

impl Packer {
    /// Content of at most that many bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            parts: Vec::new(),
            most: most.saturating_sub(INCARNATION_LENGTH),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// How much still fits.
    pub(crate) fn room(&self) -> usize {
        self.most.saturating_sub(self.parts.len())
    }

    /// Adds the part if it fits; says whether it did.
    pub(crate) fn push(&mut self, part: &Part) -> bool {
        let start = self.parts.len();
        write_part(&mut self.parts, part);
        let fits = self.parts.len() <= self.most;
        if !fits {
            self.parts.truncate(start);
        }
        fits
    }

    /// Adds as many of the statements as fit; returns how many.
    pub(crate) fn push_claims(&mut self, statements: &[Statement]) -> usize {
        let fitting = self.fitting(statements, 1, write_statement);
        if let Some(fitting @ [_, ..]) = statements.get(..fitting) {
            self.push(&Part::Claims(fitting.to_vec()));
        }
        fitting
    }

    /// Adds as many of the heads as fit; returns how many.
    pub(crate) fn push_pull(&mut self, scope: &Scope, heads: &[Head]) -> usize {
        let fitting = self.fitting(heads, 1 + scope_length(scope), write_head);
        if let Some(fitting @ [_, ..]) = heads.get(..fitting) {
            self.push(&Part::Pull {
                scope: scope.clone(),
                heads: fitting.to_vec(),
            });
        }
        fitting
    }

    /// The content, from a sender in this incarnation.
    pub(crate) fn into_content(self, incarnation: Incarnation) -> Vec<u8> {
        let mut content = Vec::with_capacity(INCARNATION_LENGTH + self.parts.len());
        write_number(&mut content, incarnation.number().into());
        content.extend_from_slice(&self.parts);
        content
    }

    fn fitting<T>(&self, elements: &[T], before: usize, write: fn(&mut Vec<u8>, &T)) -> usize {
        /// The longest that a list's length is written in: more elements than that fit no frame.
        const LENGTH: usize = 4;
        let mut room = self.room().saturating_sub(before + LENGTH);
        let mut scratch = Vec::new();
        let fits = |element: &&T| {
            scratch.clear();
            write(&mut scratch, element);
            let fits = scratch.len() <= room;
            room = room.saturating_sub(scratch.len());
            fits
        };
        elements.iter().take_while(fits).count()
    }
}

/// A delta that is cut, at a record, where it does not fit.
pub(crate) struct DeltaWriter {
    delta: Delta,
    room: usize,
    scratch: Vec<u8>,
}

impl DeltaWriter {
    /// A delta without records; `None` where not even that fits.
    pub(crate) fn new(delta: Delta, room: usize) -> Option<Self> {
        /// How much longer the number of records, and a `from` where there was none, can get.
        const LENGTH: usize = 4;
        let mut scratch = Vec::new();
        write_part(&mut scratch, &Part::Delta(delta.clone()));
        // The `to` of a cut delta is no longer than that of the whole; the `from` of a first part takes one byte.
        let room = room.checked_sub(scratch.len() + LENGTH)?;
        Some(Self { delta, room, scratch })
    }

    /// Adds a record if it fits; says whether it did.
    pub(crate) fn push(&mut self, record: &Record) -> bool {
        self.scratch.clear();
        write_record(&mut self.scratch, record);
        let Some(room) = self.room.checked_sub(self.scratch.len()) else {
            return false;
        };
        self.room = room;
        self.delta.records.push(record.clone());
        true
    }

    /// The delta with all its records.
    pub(crate) fn whole(self) -> Delta {
        self.delta
    }

    /// The delta as far as its last record; `None` where it has none.
    pub(crate) fn cut(self) -> Option<Delta> {
        let to = self.delta.records.last()?.version;
        Some(Delta { to, ..self.delta })
    }
}

fn write_part(out: &mut Vec<u8>, part: &Part) {
    match part {
        Part::Ping { number } => {
            out.push(tag::PING);
            write_number(out, *number);
        }
        Part::Ack { number } => {
            out.push(tag::ACK);
            write_number(out, *number);
        }
        Part::ProbeFor { number, target } => {
            out.push(tag::PROBE_FOR);
            write_number(out, *number);
            write_text(out, target.as_str());
        }
        Part::Claims(statements) => {
            out.push(tag::CLAIMS);
            write_list(out, statements, write_statement);
        }
        Part::Census { leaves, statements } => {
            out.push(tag::CENSUS);
            out.extend_from_slice(&leaves.to_be_bytes());
            write_list(out, statements, write_statement);
        }
        Part::Delta(delta) => {
            out.push(if delta.from.is_some() {
                tag::DELTA
            } else {
                tag::SNAPSHOT
            });
            write_text(out, delta.owner.as_str());
            write_scope(out, &delta.scope);
            write_number(out, delta.epoch.number());
            if let Some(from) = delta.from {
                write_version(out, from);
            }
            write_version(out, delta.to);
            write_list(out, &delta.records, write_record);
        }
        Part::Digest { subject, hashes } => {
            out.push(tag::DIGEST);
            match subject {
                Subject::Members => out.push(scope_tag::MEMBERS),
                Subject::Facts(scope) => write_scope(out, scope),
            }
            write_list(out, hashes, |out, hash| {
                out.extend_from_slice(&hash.to_be_bytes());
            });
        }
        Part::Heads { scope, leaves, heads } => {
            out.push(tag::HEADS);
            write_scope(out, scope);
            out.extend_from_slice(&leaves.to_be_bytes());
            write_list(out, heads, write_head);
        }
        Part::Pull { scope, heads } => {
            out.push(tag::PULL);
            write_scope(out, scope);
            write_list(out, heads, write_head);
        }
        Part::Confirm {
            scope,
            epoch,
            version,
        } => {
            out.push(tag::CONFIRM);
            write_scope(out, scope);
            write_number(out, epoch.number());
            write_version(out, *version);
        }
        Part::Applied {
            scope,
            epoch,
            version,
        } => {
            out.push(tag::APPLIED);
            write_scope(out, scope);
            write_number(out, epoch.number());
            write_version(out, *version);
        }
    }
}

fn write_statement(out: &mut Vec<u8>, statement: &Statement) {
    write_text(out, statement.about.as_str());
    write_number(out, statement.claim.epoch.number());
    write_number(out, statement.claim.incarnation.number().into());
    out.push(match statement.claim.state {
        MemberState::Alive => 0,
        MemberState::Suspect => 1,
        MemberState::Down => 2,
    });
}

fn write_head(out: &mut Vec<u8>, head: &Head) {
    write_text(out, head.owner.as_str());
    write_number(out, head.epoch.number());
    write_version(out, head.version);
}

fn write_record(out: &mut Vec<u8>, record: &Record) {
    write_version(out, record.version);
    match &record.fact {
        Fact::Vtep(None) => out.push(fact_tag::NO_VTEP),
        Fact::Vtep(Some(IpAddr::V4(address))) => {
            out.push(fact_tag::VTEP_V4);
            out.extend_from_slice(&address.octets());
        }
        Fact::Vtep(Some(IpAddr::V6(address))) => {
            out.push(fact_tag::VTEP_V6);
            out.extend_from_slice(&address.octets());
        }
        Fact::CatalogApplied(revision) => {
            out.push(fact_tag::CATALOG_APPLIED);
            write_number(out, *revision);
        }
        Fact::Ipsec {
            salt,
            held: Some((oldest, newest)),
        } => {
            out.push(fact_tag::IPSEC);
            out.extend_from_slice(&salt.0);
            write_number(out, oldest.0);
            write_number(out, newest.0);
        }
        Fact::Ipsec { salt, held: None } => {
            out.push(fact_tag::NO_IPSEC);
            out.extend_from_slice(&salt.0);
        }
        Fact::Hears {
            peer,
            salts: Some((theirs, own)),
        } => {
            out.push(fact_tag::HEARS);
            write_text(out, peer.as_str());
            out.extend_from_slice(&theirs.0);
            out.extend_from_slice(&own.0);
        }
        Fact::Hears { peer, salts: None } => {
            out.push(fact_tag::HEARS_NOT);
            write_text(out, peer.as_str());
        }
        Fact::Interest { network, takes_part } => {
            out.push(if *takes_part {
                fact_tag::INTEREST
            } else {
                fact_tag::NO_INTEREST
            });
            write_text(out, network.as_str());
        }
        Fact::Task { task, state } => {
            out.push(match state {
                None => fact_tag::NO_TASK,
                Some(TaskState::Starting) => fact_tag::TASK_STARTING,
                Some(TaskState::Ready) => fact_tag::TASK_READY,
                Some(TaskState::Draining) => fact_tag::TASK_DRAINING,
                Some(TaskState::Gone) => fact_tag::TASK_GONE,
            });
            write_text(out, task.as_str());
        }
    }
}

fn scope_length(scope: &Scope) -> usize {
    match scope {
        Scope::Node => 1,
        Scope::Network(network) => 2 + network.as_str().len(),
    }
}

fn write_scope(out: &mut Vec<u8>, scope: &Scope) {
    match scope {
        Scope::Node => out.push(scope_tag::NODE),
        Scope::Network(network) => {
            out.push(scope_tag::NETWORK);
            write_text(out, network.as_str());
        }
    }
}

fn write_list<T>(out: &mut Vec<u8>, list: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    write_number(out, list.len() as u64);
    for element in list {
        write(out, element);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "names and task ids have at most 127 bytes"
)]
fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

fn write_version(out: &mut Vec<u8>, version: Version) {
    write_number(out, version.number());
}

/// LEB128.
#[expect(clippy::cast_possible_truncation, reason = "seven bits are kept")]
fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
