//! Reading, of bytes of any origin: total, and bounded by their length.

use super::part::{MAX_HASHES, fact_tag, scope_tag, tag};
use super::{Content, Delta, Head, Part, Subject};
use crate::claim::{Claim, Statement};
use crate::epoch::{Epoch, Incarnation, Version};
use crate::fact::{Fact, Record, Scope};
use crate::view::MemberState;
use essaim_ipsec::{Generation, Salt};
use essaim_model::{NetworkName, NodeName, TaskId, TaskState};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The content breaks the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the content breaks the format")]
pub(crate) struct Malformed;

/// Reads what [`super::Packer`] wrote.
pub(crate) fn decode(content: &[u8]) -> Result<Content, Malformed> {
    let mut reader = Reader(content);
    let incarnation = reader.incarnation()?;
    let mut parts = Vec::new();
    while !reader.0.is_empty() {
        parts.push(reader.part()?);
    }
    Ok(Content { incarnation, parts })
}

/// What has not been read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn part(&mut self) -> Result<Part, Malformed> {
        Ok(match self.byte()? {
            tag::PING => Part::Ping {
                number: self.number()?,
            },
            tag::ACK => Part::Ack {
                number: self.number()?,
            },
            tag::PROBE_FOR => Part::ProbeFor {
                number: self.number()?,
                target: self.node()?,
            },
            tag::CLAIMS => Part::Claims(self.list(Self::statement)?),
            tag::CENSUS => Part::Census {
                leaves: self.fixed_number()?,
                statements: self.list(Self::statement)?,
            },
            tag::DELTA => Part::Delta(self.delta(|reader| reader.version().map(Some))?),
            tag::SNAPSHOT => Part::Delta(self.delta(|_| Ok(None))?),
            tag::DIGEST => Part::Digest {
                subject: self.subject()?,
                hashes: self.hashes()?,
            },
            tag::HEADS => Part::Heads {
                scope: self.scope()?,
                leaves: self.fixed_number()?,
                heads: self.list(Self::head)?,
            },
            tag::PULL => Part::Pull {
                scope: self.scope()?,
                heads: self.list(Self::head)?,
            },
            tag::CONFIRM => Part::Confirm {
                scope: self.scope()?,
                epoch: self.epoch()?,
                version: self.version()?,
            },
            tag::APPLIED => Part::Applied {
                scope: self.scope()?,
                epoch: self.epoch()?,
                version: self.version()?,
            },
            _ => return Err(Malformed),
        })
    }

    fn delta(
        &mut self,
        from: impl Fn(&mut Self) -> Result<Option<Version>, Malformed>,
    ) -> Result<Delta, Malformed> {
        let owner = self.node()?;
        let scope = self.scope()?;
        let epoch = self.epoch()?;
        let from = from(self)?;
        let to = self.version()?;
        let first = from.unwrap_or(Version::ZERO);
        let mut last = first;
        let records = self.list(|reader| {
            let record = reader.record()?;
            let is_in_order = record.version > last && record.version <= to;
            last = record.version;
            if is_in_order && record.fact.belongs_to(&scope) {
                Ok(record)
            } else {
                Err(Malformed)
            }
        })?;
        if to < first || !epoch.is_heard() {
            return Err(Malformed);
        }
        Ok(Delta {
            owner,
            scope,
            epoch,
            from,
            to,
            records,
        })
    }

    fn record(&mut self) -> Result<Record, Malformed> {
        Ok(Record {
            version: self.version()?,
            fact: self.fact()?,
        })
    }

    fn fact(&mut self) -> Result<Fact, Malformed> {
        let task = |reader: &mut Self, state| {
            Ok(Fact::Task {
                task: TaskId::new(reader.text()?).or(Err(Malformed))?,
                state,
            })
        };
        let interest = |reader: &mut Self, takes_part| {
            Ok(Fact::Interest {
                network: reader.network()?,
                takes_part,
            })
        };
        match self.byte()? {
            fact_tag::NO_VTEP => Ok(Fact::Vtep(None)),
            fact_tag::VTEP_V4 => Ok(Fact::Vtep(Some(Ipv4Addr::from(self.array::<4>()?).into()))),
            fact_tag::VTEP_V6 => Ok(Fact::Vtep(Some(Ipv6Addr::from(self.array::<16>()?).into()))),
            fact_tag::CATALOG_APPLIED => Ok(Fact::CatalogApplied(self.number()?)),
            fact_tag::INTEREST => interest(self, true),
            fact_tag::NO_INTEREST => interest(self, false),
            fact_tag::NO_TASK => task(self, None),
            fact_tag::TASK_STARTING => task(self, Some(TaskState::Starting)),
            fact_tag::TASK_READY => task(self, Some(TaskState::Ready)),
            fact_tag::TASK_DRAINING => task(self, Some(TaskState::Draining)),
            fact_tag::TASK_GONE => task(self, Some(TaskState::Gone)),
            fact_tag::IPSEC => {
                let salt = Salt(self.array()?);
                let (oldest, newest) = (Generation(self.number()?), Generation(self.number()?));
                if oldest > newest {
                    return Err(Malformed);
                }
                let held = Some((oldest, newest));
                Ok(Fact::Ipsec { salt, held })
            }
            fact_tag::NO_IPSEC => Ok(Fact::Ipsec {
                salt: Salt(self.array()?),
                held: None,
            }),
            fact_tag::HEARS => Ok(Fact::Hears {
                peer: self.node()?,
                salts: Some((Salt(self.array()?), Salt(self.array()?))),
            }),
            fact_tag::HEARS_NOT => Ok(Fact::Hears {
                peer: self.node()?,
                salts: None,
            }),
            _ => Err(Malformed),
        }
    }

    fn statement(&mut self) -> Result<Statement, Malformed> {
        Ok(Statement {
            about: self.node()?,
            claim: Claim {
                epoch: self.epoch()?,
                incarnation: self.incarnation()?,
                state: match self.byte()? {
                    0 => MemberState::Alive,
                    1 => MemberState::Suspect,
                    2 => MemberState::Down,
                    _ => return Err(Malformed),
                },
            },
        })
    }

    fn head(&mut self) -> Result<Head, Malformed> {
        Ok(Head {
            owner: self.node()?,
            epoch: self.epoch()?,
            version: self.version()?,
        })
    }

    fn subject(&mut self) -> Result<Subject, Malformed> {
        match self.byte()? {
            scope_tag::NODE => Ok(Subject::Facts(Scope::Node)),
            scope_tag::NETWORK => Ok(Subject::Facts(Scope::Network(self.network()?))),
            scope_tag::MEMBERS => Ok(Subject::Members),
            _ => Err(Malformed),
        }
    }

    fn scope(&mut self) -> Result<Scope, Malformed> {
        match self.subject()? {
            Subject::Facts(scope) => Ok(scope),
            Subject::Members => Err(Malformed),
        }
    }

    fn hashes(&mut self) -> Result<Vec<u32>, Malformed> {
        let hashes = self.list(|reader| Ok(u32::from_be_bytes(reader.array()?)))?;
        if hashes.len().is_power_of_two() && hashes.len() <= MAX_HASHES {
            Ok(hashes)
        } else {
            Err(Malformed)
        }
    }

    /// A list; it grows as elements are read, so a great length alone takes no memory.
    fn list<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let length = self.number()?;
        let mut list = Vec::new();
        for _ in 0..length {
            list.push(element(self)?);
        }
        Ok(list)
    }

    fn node(&mut self) -> Result<NodeName, Malformed> {
        NodeName::new(self.text()?).or(Err(Malformed))
    }

    fn network(&mut self) -> Result<NetworkName, Malformed> {
        NetworkName::new(self.text()?).or(Err(Malformed))
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.byte()?;
        str::from_utf8(self.take(usize::from(length))?).or(Err(Malformed))
    }

    fn epoch(&mut self) -> Result<Epoch, Malformed> {
        self.number().map(Epoch::from_number)
    }

    fn version(&mut self) -> Result<Version, Malformed> {
        self.number().map(Version::from_number)
    }

    fn incarnation(&mut self) -> Result<Incarnation, Malformed> {
        let number = u32::try_from(self.number()?).or(Err(Malformed))?;
        Ok(Incarnation::from_number(number))
    }

    fn fixed_number(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// LEB128, in the fewest bytes.
    fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits != 0 && bits.leading_zeros() < shift {
                return Err(Malformed);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                let is_shortest = byte != 0 || shift == 0;
                return if is_shortest { Ok(number) } else { Err(Malformed) };
            }
        }
        Err(Malformed)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}
