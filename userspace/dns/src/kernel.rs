//! Answers that the kernel gives by itself from then on: the server hands over what it has answered.
//!
//! An answer counts while its generation is the current one. Whatever may change an answer replaces its source first and
//! then raises the generation; who answers reads the generation first and then the source. So an answer of a generation
//! is never older than what that generation began with.

use crate::wire::{HEADER_LEN, flags};
use essaim_abi::{DnsAnswer, DnsKey};
use essaim_packet::dns::{answer_of, key_of};
use std::fmt::Debug;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the kernel answers without a sign of life. A new agent is there in less than a second; one that stays away
/// leaves its node with names that nobody follows up, and then the questions wait for it as they did without the kernel.
const LEASE: Duration = Duration::from_secs(10);
/// How often there is a sign of life.
pub(crate) const RENEWAL: Duration = Duration::from_secs(1);
/// How many answers are handed over for one asker in a second. A task asks for a few names; one that asks for all there
/// are, in every way, must not push out the others' answers: they are used meanwhile, and so outlive its own.
const MOST_OF_ASKER: u64 = 64;

/// Where the kernel finds its answers.
pub trait KernelAnswers: Debug + Send + Sync {
    /// The generation that counts, of an earlier server's too.
    ///
    /// # Errors
    /// It cannot be read.
    fn generation(&self) -> io::Result<u64>;

    /// Has only answers of this generation count, at once for all that is asked afterwards.
    ///
    /// # Errors
    /// Others may still count.
    fn set_generation(&self, generation: u64) -> io::Result<()>;

    /// Has the kernel answer for this long from now.
    ///
    /// # Errors
    /// It answers for as long as it was told before.
    fn renew(&self, lease: Duration) -> io::Result<()>;

    /// Adds an answer.
    ///
    /// # Errors
    /// It is not there.
    fn insert(&self, key: &DnsKey, answer: &DnsAnswer) -> io::Result<()>;
}

/// The kernel as the threads see it.
#[derive(Debug)]
pub(crate) struct Kernel {
    answers: Arc<dyn KernelAnswers>,
    /// The one that counts, 0 before this server has raised it: what an earlier server left counts until then.
    generation: AtomicU64,
    turn: Mutex<()>,
    start: Instant,
}

impl Kernel {
    pub(crate) fn new(answers: Arc<dyn KernelAnswers>) -> Self {
        Self {
            answers,
            generation: AtomicU64::new(0),
            turn: Mutex::default(),
            start: Instant::now(),
        }
    }

    /// Ends all answers that the kernel has; to be called once what they are made of is replaced.
    pub(crate) fn raise(&self) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let raised = self.answers.generation().and_then(|found| {
            let next = found
                .max(self.generation.load(Ordering::Relaxed))
                .wrapping_add(1)
                .max(1);
            self.answers.set_generation(next)?;
            self.generation.store(next, Ordering::Release);
            self.answers.renew(LEASE)
        });
        if let Err(error) = raised {
            tracing::error!(%error, "the kernel may answer with names as they were");
        }
    }

    /// Has the kernel go on answering, once it answers for this server.
    pub(crate) fn renew(&self) {
        if self.generation.load(Ordering::Acquire) == 0 {
            return;
        }
        if let Err(error) = self.answers.renew(LEASE) {
            tracing::warn!(%error, "the kernel answers no questions for names");
        }
    }

    /// What answers that are made from now on are handed over with; nothing before there are names. To be called before
    /// anything that they are made of is looked at.
    pub(crate) fn generation(&self) -> Option<u64> {
        match self.generation.load(Ordering::Acquire) {
            0 => None,
            generation => Some(generation),
        }
    }

    /// Hands over the reply to a message where the kernel can give it to all who ask the same; tells whether it did.
    pub(crate) fn offer(
        &self,
        generation: u64,
        asker: u64,
        budget: &Budget,
        message: &[u8],
        reply: &[u8],
    ) -> bool {
        let Some((key, answer)) = handed_over(generation, asker, message, reply) else {
            return false;
        };
        if !budget.take(self.start.elapsed().as_secs()) {
            return false;
        }
        let inserted = self.answers.insert(&key, &answer);
        inserted
            .inspect_err(|error| tracing::debug!(%error, "an answer was not handed to the kernel"))
            .is_ok()
    }
}

/// What the kernel is to answer with, from our answer to a question. The cluster's own names only, which our authority
/// tells: others age. Only what exists, so that made-up names take no room. Only where there is nothing to choose: several
/// records of an answer are given in an order of their own every time.
pub(crate) fn handed_over(
    generation: u64,
    asker: u64,
    message: &[u8],
    reply: &[u8],
) -> Option<(DnsKey, DnsAnswer)> {
    let [_, _, first, second, _, _, high, low] = reply.first_chunk::<HEADER_LEN>()?.first_chunk()?;
    let found = u16::from_be_bytes([*first, *second]);
    let plain = found & (flags::AUTHORITATIVE | flags::TRUNCATED | flags::RCODE) == flags::AUTHORITATIVE;
    if !plain || u16::from_be_bytes([*high, *low]) > 1 {
        return None;
    }
    let key = key_of(asker, message)?;
    let answer = answer_of(generation, &key, message, reply)?;
    Some((key, answer))
}

/// How much of the kernel's memory an asker may still fill in this second: the second, and what was taken in it.
#[derive(Debug, Default)]
pub(crate) struct Budget(AtomicU64);

impl Budget {
    const COUNT: u64 = 0xffff;

    fn take(&self, second: u64) -> bool {
        let next = |state: u64| {
            let (of, count) = (state >> 16, state & Self::COUNT);
            match (of == second, count < MOST_OF_ASKER) {
                (true, true) => Some(state + 1),
                (true, false) => None,
                (false, _) => Some(second << 16 | 1),
            }
        };
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }
}

#[cfg(test)]
mod tests;
