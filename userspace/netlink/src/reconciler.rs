//! The owner of a node's links: observes, plans, applies, and tells what came of it.

use crate::apply::{Applied, apply};
use crate::changes::{Changes, Watcher};
use crate::handover::name_namespaces;
use crate::nft::FirewallReader;
use crate::observe::observe;
use crate::observed::ObservedLinks;
use crate::op::LinkOp;
use crate::plan::{check, plan_links};
use crate::session::Session;
use crate::xfrm::Xfrm;
use crate::{LinkProblem, NetlinkError, capability, clean, facts, xfrm};
use essaim_ipsec::{Observed, Op};
use essaim_model::{AttachmentKey, DesiredState, NodeFacts, NodeName};
use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

/// The programs keep an uplink's number in two bits.
const MAX_UPLINKS: usize = 4;
const WORKER: &str = "essaim-links";

/// What a node is told about its own machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostOptions {
    /// The node.
    pub node: NodeName,
    /// The interfaces that carry VXLAN and clients, at most four. Their order is that of [`NodeFacts::uplinks`].
    pub uplinks: Vec<String>,
}

/// What a reconciliation found and did.
#[derive(Debug)]
pub struct LinkOutcome {
    /// What the data plane must know of the node.
    pub facts: NodeFacts,
    /// What could not be done; it is tried again the next time.
    pub problems: Vec<LinkProblem>,
    /// What was done.
    pub applied: Vec<LinkOp>,
}

/// The owner of the links of one node, in one network namespace.
///
/// The work is done on a thread of its own, which stays in the namespace that it was opened in; calls wait for it,
/// from ordinary threads and from asynchronous code alike. A call takes a few milliseconds where nothing is to be done,
/// and about that for each endpoint to be made.
#[derive(Debug)]
pub struct LinkReconciler {
    jobs: Option<mpsc::Sender<Job>>,
    worker: Option<JoinHandle<()>>,
    watcher: Watcher,
}

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

struct Worker {
    session: Session,
    options: HostOptions,
    firewall: FirewallReader,
    /// Open from the first use on.
    xfrm: Option<Xfrm>,
}

/// What came of steps of IPsec.
#[derive(Debug)]
pub struct IpsecOutcome {
    /// What the kernel holds now.
    pub observed: Observed,
    /// What was not done; it is tried again the next time.
    pub problems: Vec<NetlinkError>,
    /// Somebody else has an association of a number that was to be given: other keys are needed.
    pub is_taken: bool,
}

impl LinkReconciler {
    /// Opens the calling thread's network namespace.
    ///
    /// # Errors
    /// More than four uplinks, no `CAP_NET_ADMIN`, or no netlink.
    pub fn open(options: HostOptions) -> Result<Self, NetlinkError> {
        if options.uplinks.len() > MAX_UPLINKS {
            return Err(NetlinkError::TooManyUplinks {
                found: options.uplinks.len(),
                most: MAX_UPLINKS,
            });
        }
        capability::require()?;
        let watcher = Watcher::start()?;
        let (jobs, queue) = mpsc::channel::<Job>();
        let (started, start) = mpsc::channel();
        let run = move || match Session::open() {
            Ok(session) => {
                let mut worker = Worker {
                    session,
                    options,
                    firewall: FirewallReader::default(),
                    xfrm: None,
                };
                // The caller waits below.
                let _ = started.send(Ok(()));
                while let Ok(job) = queue.recv() {
                    job(&mut worker);
                }
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        };
        // A new thread begins in the namespace of the one that starts it.
        let worker = thread::Builder::new()
            .name(WORKER.to_owned())
            .spawn(run)
            .map_err(|source| NetlinkError::Socket { source })?;
        start
            .recv()
            .map_err(|_| NetlinkError::ThreadGone { name: WORKER })??;
        Ok(Self {
            jobs: Some(jobs),
            worker: Some(worker),
            watcher,
        })
    }

    /// Brings the kernel to what is desired. A second call, with nothing changed in between, does nothing.
    ///
    /// # Errors
    /// What concerns the node as a whole: an uplink or the underlay address is missing, names or the VXLAN port are
    /// taken, the kernel refused. What was done stays, and the next call goes on from there.
    pub fn reconcile(&mut self, desired: &DesiredState) -> Result<LinkOutcome, NetlinkError> {
        let desired = desired.clone();
        self.run(move |worker| worker.reconcile(&desired))
    }

    /// Only finds where container engines have moved links to, and gives those namespaces their names: the cookies of those
    /// that it has found. [`Self::reconcile`] does so, too, and all the rest.
    ///
    /// # Errors
    /// As there.
    pub fn find_handed_over(&self, desired: &DesiredState) -> Result<BTreeSet<AttachmentKey>, NetlinkError> {
        let desired = desired.clone();
        self.run(move |worker| name_namespaces(&mut worker.session, &desired))
    }

    /// What [`Self::reconcile`] would do. Changes nothing.
    ///
    /// # Errors
    /// As there.
    pub fn verify(&self, desired: &DesiredState) -> Result<Vec<LinkOp>, NetlinkError> {
        let desired = desired.clone();
        self.run(move |worker| Ok(worker.plan(&desired)?.ops))
    }

    /// What is known of the node, and what is wrong, as it is now. Changes nothing.
    ///
    /// # Errors
    /// As for [`Self::reconcile`].
    pub fn inspect(&self, desired: &DesiredState) -> Result<LinkOutcome, NetlinkError> {
        let desired = desired.clone();
        self.run(move |worker| {
            let Look {
                observed,
                ops: _,
                problems,
            } = worker.plan(&desired)?;
            let mut facts = facts::facts(&desired, &observed);
            (facts.next_hops, _) = facts::next_hops(&mut worker.session, &desired, &observed)?;
            Ok(LinkOutcome {
                facts,
                problems,
                applied: Vec::new(),
            })
        })
    }

    /// What the kernel holds of essaim's IPsec. Changes nothing, but for an association that is added and removed once, to
    /// see whether the kernel has ESP.
    ///
    /// # Errors
    /// [`NetlinkError::NoEsp`] where the kernel cannot encrypt, or it cannot be asked.
    pub fn observe_ipsec(&self) -> Result<Observed, NetlinkError> {
        self.run(|worker| worker.xfrm()?.observe())
    }

    /// Takes steps of IPsec in their order; one that fails does not keep the others from being taken.
    ///
    /// # Errors
    /// As for [`Self::observe_ipsec`].
    pub fn apply_ipsec(&self, ops: Vec<Op>) -> Result<IpsecOutcome, NetlinkError> {
        self.run(move |worker| {
            let xfrm = worker.xfrm()?;
            let refused = xfrm.apply(ops);
            let is_taken = refused.iter().any(|refused| refused.is_taken);
            Ok(IpsecOutcome {
                observed: xfrm.observe()?,
                problems: refused.into_iter().map(|refused| refused.error).collect(),
                is_taken,
            })
        })
    }

    /// Removes all of essaim's IPsec.
    ///
    /// # Errors
    /// What could not be removed; the rest is gone.
    pub fn clean_ipsec(&self) -> Result<(), Vec<NetlinkError>> {
        self.run(|_| Ok(xfrm::clean()))
            .unwrap_or_else(|error| Err(vec![error]))
    }

    /// Wake-ups for changes of links, addresses, routes and neighbours, those by essaim itself among them.
    ///
    /// That a task's namespace comes into being is not among them: while a problem names one, look again soon.
    pub fn changes(&self) -> Changes {
        self.watcher.changes()
    }

    /// Removes all that the node's essaim made in the calling thread's network namespace. Kernel parameters stay: what
    /// they were before is not known, and others may have come to rely on them.
    ///
    /// # Errors
    /// Everything that could not be removed; the rest is gone.
    pub fn clean(node: &NodeName) -> Result<(), Vec<NetlinkError>> {
        clean::clean(node)
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker) -> Result<T, NetlinkError> + Send + 'static,
    ) -> Result<T, NetlinkError> {
        let gone = || NetlinkError::ThreadGone { name: WORKER };
        let (answer, wait) = mpsc::channel();
        let job: Job = Box::new(move |worker| {
            // The caller waits below, unless it panicked.
            let _ = answer.send(work(worker));
        });
        self.jobs
            .as_ref()
            .ok_or_else(gone)?
            .send(job)
            .map_err(|_| gone())?;
        wait.recv().map_err(|_| gone())?
    }
}

impl Drop for LinkReconciler {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(worker) = self.worker.take() {
            // A panic of the worker was reported by the call that it broke.
            let _ = worker.join();
        }
    }
}

/// What is, and what follows from it.
struct Look {
    observed: ObservedLinks,
    ops: Vec<LinkOp>,
    problems: Vec<LinkProblem>,
}

impl Worker {
    fn xfrm(&mut self) -> Result<&mut Xfrm, NetlinkError> {
        if self.xfrm.as_ref().is_some_and(Xfrm::is_broken) {
            self.xfrm = None;
        }
        match &mut self.xfrm {
            Some(xfrm) => Ok(xfrm),
            none => Ok(none.insert(Xfrm::open()?)),
        }
    }

    fn reconcile(&mut self, desired: &DesiredState) -> Result<LinkOutcome, NetlinkError> {
        if self.session.is_broken() {
            self.session = Session::open()?;
        }
        name_namespaces(&mut self.session, desired)?;
        let Look {
            mut observed,
            ops,
            mut problems,
        } = self.plan(desired)?;
        let mut applied = Vec::new();
        if !ops.is_empty() {
            let Applied { ops, problems: more } = apply(&mut self.session, ops, desired)?;
            applied = ops;
            problems.extend(more);
            (observed, _) = observe(&mut self.session, desired, &self.options.uplinks)?;
        }
        let mut facts = facts::facts(desired, &observed);
        let (next_hops, probes) = facts::next_hops(&mut self.session, desired, &observed)?;
        facts.next_hops = next_hops;
        facts::probe(&mut self.session, &probes);
        Ok(LinkOutcome {
            facts,
            problems,
            applied,
        })
    }

    fn plan(&mut self, desired: &DesiredState) -> Result<Look, NetlinkError> {
        if self.session.is_broken() {
            self.session = Session::open()?;
        }
        let (mut observed, mut problems) = observe(&mut self.session, desired, &self.options.uplinks)?;
        check(desired, &observed)?;
        match self.firewall.observe() {
            Ok(firewall) => observed.firewall = Some(firewall),
            Err(source) => problems.push(LinkProblem::Firewall { source }),
        }
        let plan = plan_links(desired, &observed);
        problems.extend(plan.problems);
        Ok(Look {
            observed,
            ops: plan.ops,
            problems,
        })
    }
}
