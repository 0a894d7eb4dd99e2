//! What is sent to one member at a time: parts, packed into as many datagrams as allowed, or one frame.

use crate::claim::Statement;
use crate::epoch::{Incarnation, Version};
use crate::fact::Scope;
use crate::facts::{Excerpt, Stream};
use crate::wire::{Head, Packer, Part};
use essaim_model::NodeName;

/// The packed contents, and whether something did not fit.
#[derive(Debug)]
pub(crate) struct Reply {
    room: usize,
    most: usize,
    packers: Vec<Packer>,
    lacks_room: bool,
}

impl Reply {
    /// At most so many contents of at most so many bytes.
    pub(crate) fn new(room: usize, most: usize) -> Self {
        Self {
            room,
            most,
            packers: Vec::new(),
            lacks_room: false,
        }
    }

    /// Whether something did not fit.
    pub(crate) fn lacks_room(&self) -> bool {
        self.lacks_room
    }

    /// The contents with something in them, from a sender in this incarnation: that of the last moment, so that the
    /// answer to a suspicion contradicts it.
    pub(crate) fn into_contents(self, incarnation: Incarnation) -> impl Iterator<Item = Vec<u8>> {
        let filled = self.packers.into_iter().filter(|packer| !packer.is_empty());
        filled.map(move |packer| packer.into_content(incarnation))
    }

    /// Adds a part; says whether it fitted.
    pub(crate) fn push(&mut self, part: &Part) -> bool {
        let fits = self.packers.last_mut().is_some_and(|packer| packer.push(part))
            || self.next().is_some_and(|packer| packer.push(part));
        self.lacks_room |= !fits;
        fits
    }

    /// Adds statements; says whether all fitted.
    pub(crate) fn push_claims(&mut self, statements: &[Statement]) -> bool {
        self.push_list(statements, Packer::push_claims)
    }

    /// Asks for streams; says whether all fitted.
    pub(crate) fn push_pull(&mut self, scope: &Scope, heads: &[Head]) -> bool {
        self.push_list(heads, |packer, heads| packer.push_pull(scope, heads))
    }

    fn push_list<T>(&mut self, mut list: &[T], push: impl Fn(&mut Packer, &[T]) -> usize) -> bool {
        loop {
            let fitted = self.packers.last_mut().map_or(0, |packer| push(packer, list));
            list = list.get(fitted..).unwrap_or_default();
            if list.is_empty() {
                return true;
            }
            if self.next().is_none() {
                self.lacks_room = true;
                return false;
            }
        }
    }

    /// Adds what is newer in a stream than `from`; says whether all of it fitted.
    pub(crate) fn push_newer(
        &mut self,
        scope: &Scope,
        owner: &NodeName,
        stream: &Stream,
        mut from: Version,
    ) -> bool {
        loop {
            let room = self.packers.last().map_or(0, Packer::room);
            match stream.excerpt(owner, scope, from, room) {
                Excerpt::Nothing => return true,
                Excerpt::Delta(delta) => {
                    from = delta.to;
                    if !self.push(&Part::Delta(delta)) {
                        return false;
                    }
                }
                Excerpt::TooLarge if self.next().is_some() => {}
                Excerpt::TooLarge => {
                    self.lacks_room = true;
                    return false;
                }
            }
        }
    }

    /// Starts another content, unless there are as many as allowed or the last is still empty.
    fn next(&mut self) -> Option<&mut Packer> {
        let may_start =
            self.packers.len() < self.most && self.packers.last().is_none_or(|last| !last.is_empty());
        if !may_start {
            return None;
        }
        self.packers.push(Packer::new(self.room));
        self.packers.last_mut()
    }
}
