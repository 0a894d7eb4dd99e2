use crate::control::AgentReply;
use crate::event::Decision;
use crate::look::LookError;
use crate::plane::Plane;
use crate::readings::Names;
use essaim_model::DesiredState;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

/// Events taken from the ring at a time, so that a flood of them does not keep the agent from its work.
const AT_ONCE: usize = 8192;

/// Whoever wants to be told every decision.
///
/// The programs report every decision only while somebody watches.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    watchers: Vec<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    answer: Sender<AgentReply>,
    missed: u64,
}

impl Watchers {
    /// Whether anybody watches.
    pub(crate) fn any(&self) -> bool {
        !self.watchers.is_empty()
    }

    /// Tells this one, too, from now on.
    pub(crate) fn add(&mut self, answer: Sender<AgentReply>, plane: &mut Plane) -> Result<(), LookError> {
        if self.watchers.is_empty() {
            // What was sampled before nobody asked for.
            for _ in plane.events()?.take(AT_ONCE) {}
            plane.set_watch(true)?;
        }
        self.watchers.push(Watcher { answer, missed: 0 });
        Ok(())
    }

    /// Passes on what was decided since the last call; stops the reports when the last watcher has gone.
    pub(crate) fn tell(&mut self, plane: &mut Plane, desired: &DesiredState) {
        self.watchers.retain(|watcher| !watcher.answer.is_closed());
        if self.watchers.is_empty() {
            if let Err(error) = plane.set_watch(false) {
                tracing::warn!(
                    error = crate::chain(&error),
                    "the programs go on reporting every decision"
                );
            }
            return;
        }
        // Opened anew each time: of two rings open at once one misses events, and `trace` opens one, too; and the maps
        // may have been replaced by larger ones.
        let Ok(ring) = plane.events() else { return };
        let mut events = ring.take(AT_ONCE).peekable();
        if events.peek().is_none() {
            return;
        }
        let names = Names::read(plane.maps(), desired).unwrap_or_default();
        for event in events {
            let decision = Decision::of(&event, &names);
            self.watchers
                .iter_mut()
                .for_each(|watcher| watcher.tell(&decision));
        }
    }
}

impl Watcher {
    /// A watcher that is slow misses decisions, and is told how many.
    fn tell(&mut self, decision: &Decision) {
        if self.missed > 0
            && self
                .answer
                .try_send(AgentReply::Missed { count: self.missed })
                .is_ok()
        {
            self.missed = 0;
        }
        if let Err(TrySendError::Full(_)) = self
            .answer
            .try_send(AgentReply::Decision(Box::new(decision.clone())))
        {
            self.missed += 1;
        }
    }
}
