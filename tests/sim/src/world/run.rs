//! Time passes: what is on its way arrives, nodes wake, and what they ask for is carried out.

use super::{World, address};
use essaim_gossip::{Action, Gossip, Start, View, ViewVersion};
use essaim_model::NodeName;
use rand::RngExt;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a simulated data plane takes to apply a view.
const APPLY_TIME: Duration = Duration::from_millis(4);

/// What happens at a moment.
pub(super) enum Occurrence {
    Datagram {
        from: usize,
        to: usize,
        run: u64,
        datagram: Vec<u8>,
    },
    Frame {
        from: usize,
        from_run: u64,
        to: usize,
        run: u64,
        frame: Vec<u8>,
    },
    Wake {
        node: usize,
        run: u64,
    },
    Applied {
        node: usize,
        run: u64,
        view: Arc<View>,
    },
}

impl World {
    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until something holds, which is tested after every step; how long it took, or `None` where it did not
    /// come to hold in time.
    pub fn run_until(&mut self, within: Duration, mut holds: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        let end = start + within;
        loop {
            if holds(self) {
                return Some(self.now.saturating_sub(start));
            }
            if !self.step(end) {
                self.now = end;
                return None;
            }
        }
    }

    pub(super) fn start(&mut self, number: usize) {
        let mut seed = [0; 32];
        self.random.fill(&mut seed[..]);
        let now = self.instant();
        let node = &mut self.nodes[number];
        let wall_clock_ms = node.wall_clock_ms + u64::try_from(self.now.as_millis()).unwrap_or_default();
        node.run += 1;
        node.caretaker = None;
        node.checks = crate::check::Checks::default();
        node.applying = ViewVersion::default();
        node.said = None;
        node.core = Some(Gossip::new(
            Start {
                name: node.name.clone(),
                last_epoch: node.kept_epoch,
                wall_clock_ms,
                seed,
                keys: node.keys.clone(),
                config: self.setup.config,
            },
            now,
        ));
        let (tasks, interests) = (node.tasks.clone(), node.interests.clone());
        let peers: BTreeMap<NodeName, SocketAddr> = (0..self.nodes.len())
            .map(|number| (super::node(number), address(number)))
            .collect();
        self.with_core(number, |core, now| {
            assert_eq!(core.set_interests(interests, now), Ok(()));
            assert_eq!(core.set_tasks(tasks, now), Ok(()));
            core.set_peers(&peers, now);
        });
    }

    /// Takes the next step, if there is one before that time.
    pub(super) fn step(&mut self, end: Duration) -> bool {
        let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) else {
            return false;
        };
        let ((at, _), occurrence) = entry.remove_entry();
        self.now = at;
        self.happen(occurrence);
        true
    }

    fn happen(&mut self, occurrence: Occurrence) {
        match occurrence {
            Occurrence::Datagram {
                from,
                to,
                run,
                datagram,
            } => {
                if self.nodes[to].run == run {
                    self.with_core(to, |core, now| core.handle_datagram(&datagram, now).ok());
                    self.take_care(from, to, &datagram);
                }
            }
            Occurrence::Frame {
                from,
                from_run,
                to,
                run,
                frame,
            } => {
                if self.nodes[to].run == run && self.setup.network.connects(from, to) {
                    let answer =
                        self.with_core(to, |core, now| core.handle_frame(&frame, now).ok().flatten());
                    if let Some(frame) = answer.flatten() {
                        self.send_frame(to, run, from, from_run, frame);
                    }
                }
            }
            Occurrence::Wake { node, run } => {
                if run == 0 && self.nodes[node].run == 0 {
                    self.start(node);
                } else if self.nodes[node].run == run {
                    self.nodes[node].wake = None;
                    self.with_core(node, |core, now| {
                        if core.poll_timeout().is_some_and(|due| due <= now) {
                            core.handle_timeout(now);
                        }
                    });
                }
            }
            Occurrence::Applied { node, run, view } => {
                if self.nodes[node].run == run {
                    let version = view.version;
                    self.nodes[node].checks.apply(view);
                    self.with_core(node, |core, _| core.applied(version));
                }
            }
        }
    }

    /// Lets the caretaker of a node that is away answer, where it has one.
    fn take_care(&mut self, from: usize, of: usize, datagram: &[u8]) {
        let caretaker = self.nodes[of].caretaker.as_mut();
        let answer = caretaker.and_then(|caretaker| caretaker.answer(datagram).ok().flatten());
        if let Some(datagram) = answer {
            let to = address(from);
            self.carry_out(of, vec![Action::Send { to, datagram }]);
        }
    }

    /// Calls a running core, carries out what it asks for, and checks what must hold.
    pub(super) fn with_core<T>(
        &mut self,
        number: usize,
        call: impl FnOnce(&mut Gossip, Instant) -> T,
    ) -> Option<T> {
        let now = self.instant();
        let node = &mut self.nodes[number];
        let core = node.core.as_mut()?;
        let result = call(core, now);
        let mut actions = Vec::new();
        while let Some(action) = core.poll_action() {
            actions.push(action);
        }
        while let Some(event) = core.poll_event() {
            self.events.push_back((self.now, number, event));
        }
        node.kept_epoch = core.epoch();
        let (view, due, run) = (core.view(), core.poll_timeout(), node.run);
        let own = view.members.get(&node.name);
        if own
            .zip(node.said.as_ref())
            .is_none_or(|(own, said)| !Arc::ptr_eq(own, said))
        {
            node.said = own.cloned();
            self.record.note(&node.name, &view);
        }
        self.carry_out(number, actions);
        self.arm(number, due);
        self.apply_later(number, run, &view);
        self.check(number, view);
        Some(result)
    }

    fn carry_out(&mut self, from: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send { to, datagram } => {
                    let to = number_of(to);
                    if !self.setup.network.connects(from, to) {
                        continue;
                    }
                    let run = self.nodes[to].run;
                    for delay in self.setup.network.deliveries(&mut self.random) {
                        let datagram = datagram.clone();
                        let arrival = Occurrence::Datagram {
                            from,
                            to,
                            run,
                            datagram,
                        };
                        self.schedule(delay, arrival);
                    }
                }
                Action::Exchange { to, frame, .. } => {
                    let to = number_of(to);
                    let (from_run, run) = (self.nodes[from].run, self.nodes[to].run);
                    self.send_frame(from, from_run, to, run, frame);
                }
            }
        }
    }

    fn send_frame(&mut self, from: usize, from_run: u64, to: usize, run: u64, frame: Vec<u8>) {
        let delay = self.setup.network.stream_delay(&mut self.random);
        self.schedule(
            delay,
            Occurrence::Frame {
                from,
                from_run,
                to,
                run,
                frame,
            },
        );
    }

    fn arm(&mut self, number: usize, due: Option<Instant>) {
        let Some(due) = due else { return };
        let due = due.saturating_duration_since(self.epoch).max(self.now);
        let node = &mut self.nodes[number];
        if node.wake.is_none_or(|wake| due < wake) {
            node.wake = Some(due);
            let run = node.run;
            self.schedule(
                due.saturating_sub(self.now),
                Occurrence::Wake { node: number, run },
            );
        }
    }

    fn apply_later(&mut self, number: usize, run: u64, view: &Arc<View>) {
        let is_checked = number.is_multiple_of(self.setup.check_one_in);
        let node = &mut self.nodes[number];
        if is_checked && view.version > node.applying {
            node.applying = view.version;
            let view = Arc::clone(view);
            self.schedule(
                APPLY_TIME,
                Occurrence::Applied {
                    node: number,
                    run,
                    view,
                },
            );
        }
    }

    pub(super) fn schedule(&mut self, delay: Duration, occurrence: Occurrence) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), occurrence);
    }

    pub(super) fn instant(&self) -> Instant {
        self.epoch + self.now
    }
}

fn number_of(address: SocketAddr) -> usize {
    match address {
        SocketAddr::V4(address) => {
            let [_, _, high, low] = address.ip().octets();
            usize::from(u16::from_be_bytes([high, low]))
        }
        SocketAddr::V6(_) => unreachable!("simulated nodes have IPv4 addresses"),
    }
}
