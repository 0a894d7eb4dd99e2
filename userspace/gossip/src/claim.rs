//! What members say of each other's life, and which word counts.

use crate::epoch::{Epoch, Incarnation};
use crate::view::MemberState;
use essaim_model::NodeName;

/// How alive a member is said to be.
///
/// Claims are ordered, and the greatest counts: a later run over an earlier, then a later contradiction over an earlier,
/// then the worse state (SWIM, section 4.2; unlike there, a member that is down can contradict too, as in memberlist, so
/// that a healed partition needs no new identity). Only a member itself raises its epoch and incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub(crate) epoch: Epoch,
    pub(crate) incarnation: Incarnation,
    pub(crate) state: MemberState,
}

impl Claim {
    /// Of a member that the catalog names and nobody has heard of.
    pub(crate) const UNHEARD: Self = Self::alive(Epoch::UNHEARD, Incarnation::from_number(0));

    pub(crate) const fn alive(epoch: Epoch, incarnation: Incarnation) -> Self {
        Self {
            epoch,
            incarnation,
            state: MemberState::Alive,
        }
    }

    /// The same, in another state.
    pub(crate) const fn in_state(self, state: MemberState) -> Self {
        Self { state, ..self }
    }
}

/// A claim with the member it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) about: NodeName,
    pub(crate) claim: Claim,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_outdone_by_a_later_run_then_a_later_contradiction_then_a_worse_state() {
        let claim = |epoch, incarnation, state| Claim {
            epoch: Epoch::from_number(epoch),
            incarnation: Incarnation::from_number(incarnation),
            state,
        };
        let rising = [
            Claim::UNHEARD,
            claim(0, 0, MemberState::Down),
            claim(5, 0, MemberState::Alive),
            claim(5, 0, MemberState::Suspect),
            claim(5, 0, MemberState::Down),
            claim(5, 1, MemberState::Alive),
            claim(5, 1, MemberState::Suspect),
            claim(6, 0, MemberState::Alive),
        ];
        assert!(rising.is_sorted_by(|a, b| a < b));
    }
}
