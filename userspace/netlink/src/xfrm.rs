//! The kernel's IPsec (XFRM): associations and policies, through netlink.
//!
//! Owned is what carries essaim's marks: an association the request id [`REQID`], a policy the packet mark
//! [`essaim_abi::IPSEC_MARK`]. Keys go to the kernel and come back from it, and are shown to nobody.

mod message;
mod session;

use crate::NetlinkError;
use essaim_ipsec::{Family, Keeper, Observed, Op, SA_KEY_LENGTH, Sa, SaId, SaKey};
use netlink_packet_xfrm::XfrmMessage;
use nix::errno::Errno;
use session::XfrmSession;

/// The request id of every association of essaim.
const REQID: u32 = 0xe55a;

/// The kernel's IPsec in one network namespace.
pub(crate) struct Xfrm {
    session: XfrmSession,
    /// The kernel has been found to have ESP.
    has_esp: bool,
}

/// Why a step was not taken.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: NetlinkError,
    /// Somebody else has an association of this number.
    pub(crate) is_taken: bool,
}

impl Xfrm {
    /// Connects in the calling thread's namespace, and makes sure that the kernel has ESP.
    ///
    /// # Errors
    /// [`NetlinkError::NoEsp`], or no netlink.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let mut xfrm = Self {
            session: XfrmSession::open()?,
            has_esp: false,
        };
        xfrm.require_esp()?;
        Ok(xfrm)
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.session.is_broken()
    }

    /// Tries it: an association between two addresses of no network, gone at once.
    fn require_esp(&mut self) -> Result<(), NetlinkError> {
        if self.has_esp {
            return Ok(());
        }
        let sa = Sa {
            id: SaId {
                source: [192, 0, 2, 254].into(),
                destination: [192, 0, 2, 255].into(),
                spi: 0xe55a_e55a,
            },
            key: SaKey::new([0; SA_KEY_LENGTH]),
        };
        match self.session.set(XfrmMessage::AddSa(message::sa(&sa, false))) {
            Ok(()) => {}
            Err(error) if error.errno() == Some(Errno::EEXIST as i32) => {}
            Err(error) => {
                return Err(match error.errno().map(Errno::from_raw) {
                    Some(Errno::EPROTONOSUPPORT | Errno::ENOSYS | Errno::ENOENT | Errno::EOPNOTSUPP) => {
                        NetlinkError::NoEsp
                    }
                    Some(Errno::EPERM) => NetlinkError::CapabilityMissing {
                        capability: "CAP_NET_ADMIN",
                    },
                    _ => error.about("try ESP with AES-GCM"),
                });
            }
        }
        self.session
            .set(XfrmMessage::DeleteSa(message::sa_id(&sa.id)))
            .map_err(|error| error.about("remove an association again that was added to try ESP"))?;
        self.has_esp = true;
        Ok(())
    }

    /// What the kernel holds of essaim.
    pub(crate) fn observe(&mut self) -> Result<Observed, NetlinkError> {
        let mut observed = Observed::default();
        for message in self
            .session
            .dump("list security associations", &message::all_sas())?
        {
            if let XfrmMessage::AddSa(found) = message
                && let Some(found) = message::observed_sa(&found)
            {
                observed.sas.insert(found.sa.id, found);
            }
        }
        for message in self
            .session
            .dump("list security policies", &message::all_policies())?
        {
            if let XfrmMessage::AddPolicy(found) = message {
                match message::observed_policy(&found) {
                    Some(message::ObservedPolicy::Encrypts(policy)) => {
                        observed.policies.insert(policy);
                    }
                    Some(message::ObservedPolicy::Blocks(family)) => {
                        observed.blocks.insert(family);
                    }
                    None => {}
                }
            }
        }
        Ok(observed)
    }

    /// Takes steps, goes on after one that fails, and returns those.
    pub(crate) fn apply(&mut self, ops: Vec<Op>) -> Vec<Refused> {
        let mut refused = Vec::new();
        for op in ops {
            tracing::debug!(op = %op, "IPsec step");
            let (request, absent) = match &op {
                Op::AddBlock(family) => (XfrmMessage::UpdatePolicy(message::block(*family)), None),
                Op::AddInbound(sa) => (XfrmMessage::AddSa(message::sa(sa, true)), None),
                Op::AddOutbound(sa) => (XfrmMessage::AddSa(message::sa(sa, false)), None),
                Op::SetPolicy(policy) => (XfrmMessage::UpdatePolicy(message::policy(policy)), None),
                Op::RemovePolicy(policy) => (
                    XfrmMessage::DeletePolicy(message::policy_id(policy)),
                    Some(Errno::ENOENT),
                ),
                Op::RemoveSa(id) => (XfrmMessage::DeleteSa(message::sa_id(id)), Some(Errno::ESRCH)),
                Op::RemoveBlock(family) => (
                    XfrmMessage::DeletePolicy(message::block_id(*family)),
                    Some(Errno::ENOENT),
                ),
            };
            let Err(error) = self.session.set(request) else {
                continue;
            };
            let errno = error.errno().map(Errno::from_raw);
            let no_such_family = matches!(op, Op::AddBlock(Family::V6)) && errno == Some(Errno::EAFNOSUPPORT);
            if (errno.is_some() && errno == absent) || no_such_family {
                continue;
            }
            refused.push(Refused {
                error: error.about(op.to_string()),
                is_taken: errno == Some(Errno::EEXIST),
            });
        }
        refused
    }
}

/// Removes all that essaim made in the calling thread's namespace, whether the kernel has ESP (any more) or not.
pub(crate) fn clean() -> Result<(), Vec<NetlinkError>> {
    let session = match XfrmSession::open() {
        Ok(session) => session,
        // Without XFRM there is nothing to remove.
        Err(NetlinkError::NoEsp) => return Ok(()),
        Err(error) => return Err(vec![error]),
    };
    let mut xfrm = Xfrm {
        session,
        has_esp: false,
    };
    let observed = xfrm.observe().map_err(|error| vec![error])?;
    let refused = xfrm.apply(Keeper::teardown(&observed));
    if refused.is_empty() {
        Ok(())
    } else {
        Err(refused.into_iter().map(|refused| refused.error).collect())
    }
}

/// Whether the kernel of the calling thread's namespace can encrypt at all.
///
/// # Errors
/// [`NetlinkError::NoEsp`] where it cannot, another where that cannot be found out.
pub fn require_esp() -> Result<(), NetlinkError> {
    // On a thread of its own, which is in the same namespace, so that it may be called from asynchronous code.
    const WORKER: &str = "essaim-esp";
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name(WORKER.to_owned())
            .spawn_scoped(scope, || Xfrm::open().map(drop))
            .map_err(|source| NetlinkError::Socket { source })?
            .join()
            .unwrap_or(Err(NetlinkError::ThreadGone { name: WORKER }))
    })
}

#[cfg(test)]
mod tests;
