//! Hanging the programs into interfaces and the cgroup.

use crate::bpf::{LinkTarget, link_create, link_detach, link_info, link_update};
use crate::pins::{self, Pins};
use crate::programs::Programs;
use crate::stub::Stub;
use crate::{DatapathError, answers, bpf, clsact, syscall};
use essaim_abi::Hook;
use essaim_model::{AttachmentFacts, NodeFacts};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// `enum bpf_attach_type`.
const XDP: u32 = 37;
const TCX_INGRESS: u32 = 46;
/// `XDP_FLAGS_DRV_MODE` and `XDP_FLAGS_SKB_MODE`.
const NATIVE: u32 = 1 << 2;
const GENERIC: u32 = 1 << 1;

/// The socket programs with their attach types.
const SOCKET_PROGRAMS: [(&str, u32); 8] = [
    ("connect4", 10),
    ("connect6", 11),
    ("sendmsg4", 14),
    ("sendmsg6", 15),
    ("recvmsg4", 19),
    ("recvmsg6", 20),
    ("getpeername4", 29),
    ("getpeername6", 30),
];

/// How XDP was attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpAttachment {
    /// By the driver.
    Native,
    /// By the kernel, behind the driver: slower.
    Generic,
    /// Not at all: `uplink_tc` does the work.
    LeftOut,
}

/// What attaching changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachReport {
    /// Hooks that were attached.
    pub attached: Vec<Attachment>,
    /// Links that were removed, by the name of their pin.
    pub detached: Vec<String>,
    /// Uplinks to which XDP was newly attached, or could not be, by interface index.
    pub xdp: BTreeMap<u32, XdpAttachment>,
}

/// A place where a program hangs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attachment {
    /// The stub of a hook on an interface.
    Interface(Hook, u32),
    /// A socket program on the cgroup.
    Socket(&'static str),
    /// The program that answers questions for names, on the loopback of the namespace with this cookie.
    Answers(u64),
}

impl Attachment {
    /// Everything that should hang.
    pub(crate) fn wanted(facts: &NodeFacts) -> BTreeSet<Self> {
        let uplinks = facts.uplinks.iter().flat_map(|uplink| {
            [
                Self::Interface(Hook::IngressXdp, uplink.ifindex),
                Self::Interface(Hook::UplinkTc, uplink.ifindex),
            ]
        });
        let endpoints = facts
            .attachments
            .values()
            .map(|attachment| attachment.ifindex)
            .chain([facts.node_ifindex]);
        let endpoints = endpoints.map(|ifindex| Self::Interface(Hook::EndpointTc, ifindex));
        let overlay = Self::Interface(Hook::OverlayTc, facts.vxlan_ifindex);
        let sockets = SOCKET_PROGRAMS.iter().map(|(name, _)| Self::Socket(name));
        let resolved = facts
            .attachments
            .values()
            .filter(|found| found.resolver.is_some());
        let answers = namespaces(facts, resolved).map(Self::Answers);
        let all = uplinks.chain(endpoints).chain([overlay]).chain(sockets);
        let all = all.chain(answers);
        all.filter(|attachment| !matches!(attachment, Self::Interface(_, 0)))
            .collect()
    }
}

/// The cookies of the tasks' namespaces behind these attachments. A task that shares the node's has none of its own.
fn namespaces<'f>(
    facts: &'f NodeFacts,
    attachments: impl Iterator<Item = &'f AttachmentFacts>,
) -> impl Iterator<Item = u64> {
    attachments
        .map(|found| found.netns_cookie)
        .filter(|cookie| *cookie != facts.node_netns_cookie && *cookie != 0)
}

/// The name of its pin.
impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(hook, ifindex) => write!(f, "{}-{ifindex}", hook.name()),
            Self::Socket(name) => f.write_str(name),
            Self::Answers(cookie) => write!(f, "{ANSWERS}{cookie}"),
        }
    }
}

/// What the names of [`Attachment::Answers`] begin with.
const ANSWERS: &str = "dns_tc-";

/// What stands for an attachment among the pins.
enum Held {
    /// A link, and the number of the program that it holds.
    Link(OwnedFd, u32),
    /// A filter of the clsact qdisc, and the number of the program in it.
    Filter(u32),
    /// An uplink that takes no XDP: a mark.
    LeftOut,
}

/// What hangs now.
enum Hung {
    /// By a link, which wants a pin.
    Link(OwnedFd),
    /// By a filter, whose mark is there.
    Filter,
    /// Nothing: the kernel cannot, or what it would hang in is gone.
    Nothing,
}

/// What the names of marks end in; a mark is a pin of the program.
const FILTER: &str = "-clsact";
const LEFT_OUT: &str = "-left_out";

/// Attaches and detaches.
pub(crate) struct Links<'a> {
    pub(crate) pins: &'a Pins,
    pub(crate) stub: &'a Stub,
    pub(crate) programs: &'a Programs,
    pub(crate) cgroup: BorrowedFd<'a>,
    /// Number of the cgroup, its low word; any will do where it is not known.
    pub(crate) cgroup_id: Option<u32>,
    /// Uplinks that XDP was refused on, not to be asked again.
    pub(crate) refused: &'a mut BTreeSet<u32>,
}

impl Links<'_> {
    /// Makes the links those that are wanted.
    ///
    /// # Errors
    /// Where the kernel refuses; what was attached before that stays, and the next call goes on.
    pub(crate) fn reconcile(&mut self, facts: &NodeFacts) -> Result<AttachReport, DatapathError> {
        let wanted = Attachment::wanted(facts);
        pins::make_folder(&self.pins.links())?;
        let mut report = AttachReport::default();
        // The answers hang as soon as a resolver is there, which is not known yet: they stay while their task does.
        let answers = namespaces(facts, facts.attachments.values()).map(Attachment::Answers);
        let names: BTreeSet<String> = wanted
            .iter()
            .map(ToString::to_string)
            .chain(answers.map(|attachment| attachment.to_string()))
            .collect();
        for pin in pins::names(&self.pins.links())? {
            if !names.contains(pin.trim_end_matches(FILTER).trim_end_matches(LEFT_OUT)) {
                detach(self.pins, &pin)?;
                report.detached.push(pin);
            }
        }
        self.refused
            .retain(|ifindex| facts.uplinks.iter().any(|uplink| uplink.ifindex == *ifindex));
        let failures = wanted
            .iter()
            .filter(|attachment| !matches!(attachment, Attachment::Answers(_)))
            .filter_map(|attachment| self.ensure(attachment, &mut report).err());
        // One that is refused keeps none of the others from being attached.
        match failures.reduce(|first, _| first) {
            Some(error) => Err(error),
            None => Ok(report),
        }
    }

    /// Hangs the answers into a task's namespace.
    ///
    /// # Errors
    /// Where the namespace cannot be entered or the kernel refuses; calling again tries again.
    pub(crate) fn answer(&self, cookie: u64, netns: BorrowedFd<'_>) -> Result<(), DatapathError> {
        let attachment = Attachment::Answers(cookie);
        let program = self.program(&attachment)?;
        let current = prog_id(program)?;
        match self.held(&attachment)? {
            Some(Held::Link(link, held)) if held != current => {
                return link_update(&link, &program).map_err(syscall("update link", attachment));
            }
            Some(Held::Filter(held)) if held != current => {}
            Some(Held::Link(..) | Held::Filter(_) | Held::LeftOut) => return Ok(()),
            None => {}
        }
        pins::make_folder(&self.pins.links())?;
        pins::remove(&self.path(&attachment))?;
        if let Some(link) = answers::attach(program, netns)? {
            return pins::pin(&link, &self.path(&attachment));
        }
        let mark = self.mark(&attachment, FILTER);
        pins::remove(&mark)?;
        pins::pin(&program, &mark)?;
        answers::attach_filter(&mark, netns).inspect_err(|_| {
            // The mark would be believed: nobody looks into the namespace again.
            let _ = pins::remove(&mark);
        })
    }

    /// What is wanted and does not hang, or holds another program.
    ///
    /// # Errors
    /// Where a pin cannot be read.
    pub(crate) fn missing(&self, facts: &NodeFacts) -> Result<Vec<Attachment>, DatapathError> {
        let mut missing = Vec::new();
        for attachment in Attachment::wanted(facts) {
            let program = prog_id(self.program(&attachment)?)?;
            match self.held(&attachment)? {
                Some(Held::LeftOut) => {}
                Some(Held::Link(_, held) | Held::Filter(held)) if held == program => {}
                Some(Held::Link(..) | Held::Filter(_)) | None => missing.push(attachment),
            }
        }
        Ok(missing)
    }

    fn ensure(&mut self, attachment: &Attachment, report: &mut AttachReport) -> Result<(), DatapathError> {
        let program = prog_id(self.program(attachment)?)?;
        match (self.held(attachment)?, attachment) {
            (Some(Held::Link(link, held)), _) => {
                if held != program {
                    link_update(&link, &self.program(attachment)?)
                        .map_err(syscall("update link", attachment))?;
                    report.attached.push(attachment.clone());
                }
                return Ok(());
            }
            (Some(Held::Filter(held)), _) if held == program => return Ok(()),
            (Some(Held::LeftOut), Attachment::Interface(_, ifindex)) if self.refused.contains(ifindex) => {
                return Ok(());
            }
            // Another process was refused: it is asked for again.
            (Some(Held::LeftOut | Held::Filter(_)) | None, _) => {}
        }
        pins::remove(&self.path(attachment))?;
        pins::remove(&self.mark(attachment, LEFT_OUT))?;
        let attached = match *attachment {
            Attachment::Socket(name) => self.attach_socket(name).map(Hung::Link),
            Attachment::Interface(Hook::IngressXdp, ifindex) => self.attach_xdp(attachment, ifindex, report),
            Attachment::Interface(hook, ifindex) => self.attach_tc(attachment, hook, ifindex),
            // These hang in other namespaces: see `answer`.
            Attachment::Answers(_) => return Ok(()),
        };
        match attached {
            Ok(Hung::Link(link)) => pins::pin(&link, &self.path(attachment))?,
            Ok(Hung::Filter) => {}
            Ok(Hung::Nothing) => return Ok(()),
            // The interface went since the facts were read: the next ones will not name it.
            Err(DatapathError::Syscall { source, .. }) if is_gone(&source) => return Ok(()),
            Err(error) => return Err(error),
        }
        report.attached.push(attachment.clone());
        Ok(())
    }

    /// What stands for an attachment; `None` where nothing does or what it hung in is gone.
    fn held(&self, attachment: &Attachment) -> Result<Option<Held>, DatapathError> {
        if let Some(link) = pins::get(&self.path(attachment))? {
            let info = link_info(&link).map_err(syscall("read what is known of link", attachment))?;
            let hangs = match attachment {
                Attachment::Interface(_, ifindex) => info.target == *ifindex,
                Attachment::Socket(_) => {
                    info.target != 0 && self.cgroup_id.is_none_or(|id| info.target == id)
                }
                Attachment::Answers(_) => info.target == answers::LOOPBACK,
            };
            return Ok(hangs.then_some(Held::Link(link, info.prog_id)));
        }
        if let Some(mark) = pins::get(&self.mark(attachment, FILTER))? {
            return Ok(match attachment {
                Attachment::Interface(_, ifindex) => clsact::program_at(*ifindex)?.map(Held::Filter),
                // The namespace of another is not entered to look: what is marked was attached.
                Attachment::Answers(_) => Some(Held::Filter(prog_id(mark.as_fd())?)),
                Attachment::Socket(_) => None,
            });
        }
        let left_out = pins::get(&self.mark(attachment, LEFT_OUT))?;
        Ok(left_out.map(|_| Held::LeftOut))
    }

    fn mark(&self, attachment: &Attachment, end: &str) -> PathBuf {
        self.pins.links().join(format!("{attachment}{end}"))
    }

    fn program(&self, attachment: &Attachment) -> Result<BorrowedFd<'_>, DatapathError> {
        match attachment {
            Attachment::Interface(hook, _) => self.stub.program(*hook),
            Attachment::Socket(name) => self.programs.fd(name),
            Attachment::Answers(_) => self.programs.fd(answers::PROGRAM),
        }
    }

    fn path(&self, attachment: &Attachment) -> PathBuf {
        self.pins.links().join(attachment.to_string())
    }

    fn attach_socket(&self, name: &'static str) -> Result<OwnedFd, DatapathError> {
        let kind = SOCKET_PROGRAMS
            .iter()
            .find(|(other, _)| *other == name)
            .map_or(0, |(_, kind)| *kind);
        link_create(&self.programs.fd(name)?, LinkTarget::Cgroup(self.cgroup), kind, 0)
            .map_err(syscall("attach to the cgroup program", name))
    }

    fn attach_xdp(
        &mut self,
        attachment: &Attachment,
        ifindex: u32,
        report: &mut AttachReport,
    ) -> Result<Hung, DatapathError> {
        let program = self.stub.program(Hook::IngressXdp)?;
        let attach = |mode| link_create(&program, LinkTarget::Interface(ifindex), XDP, mode);
        let native = attach(NATIVE);
        let (link, how) = match native {
            Ok(link) => (Hung::Link(link), XdpAttachment::Native),
            Err(native) if is_gone(&native) => {
                return Err(syscall("attach XDP to interface", ifindex)(native));
            }
            Err(native) => match attach(GENERIC) {
                Ok(link) => {
                    tracing::debug!(ifindex, error = %native, "no native XDP");
                    (Hung::Link(link), XdpAttachment::Generic)
                }
                Err(error) => {
                    tracing::debug!(ifindex, %error, "no generic XDP");
                    pins::pin(&program, &self.mark(attachment, LEFT_OUT))?;
                    self.refused.insert(ifindex);
                    (Hung::Nothing, XdpAttachment::LeftOut)
                }
            },
        };
        report.xdp.insert(ifindex, how);
        Ok(link)
    }

    fn attach_tc(&self, attachment: &Attachment, hook: Hook, ifindex: u32) -> Result<Hung, DatapathError> {
        let program = self.stub.program(hook)?;
        match released(|| link_create(&program, LinkTarget::Interface(ifindex), TCX_INGRESS, 0)) {
            Ok(link) => Ok(Hung::Link(link)),
            // Kernels before 6.6 know no tcx.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                // The mark first: what it promises and the kernel has not is attached by the next call.
                let mark = self.mark(attachment, FILTER);
                pins::remove(&mark)?;
                pins::pin(&program, &mark)?;
                if nix::net::if_::if_indextoname(ifindex).is_err() {
                    return Ok(Hung::Nothing);
                }
                clsact::attach(&mark, ifindex)?;
                Ok(Hung::Filter)
            }
            Err(error) => Err(syscall("attach tc to interface", ifindex)(error)),
        }
    }
}

/// Gives the links of socket programs and of answers that hang already the programs of this generation.
///
/// # Errors
/// Where the kernel refuses.
pub(crate) fn update_sockets(pins: &Pins, programs: &Programs) -> Result<(), DatapathError> {
    let sockets = SOCKET_PROGRAMS
        .iter()
        .map(|(name, _)| ((*name).to_owned(), *name));
    let answers = pins::names(&pins.links())?.into_iter();
    // A filter is in a namespace that nobody here can enter: `Links::answer` comes by with the key.
    let is_link = |pin: &String| !pin.ends_with(LEFT_OUT) && !pin.ends_with(FILTER);
    let answers = answers.filter(|pin| pin.starts_with(ANSWERS) && is_link(pin));
    for (pin, name) in sockets.chain(answers.map(|pin| (pin, answers::PROGRAM))) {
        let Some(link) = pins::get(&pins.links().join(&pin))? else {
            continue;
        };
        let program = programs.fd(name)?;
        let info = link_info(&link).map_err(syscall("read what is known of link", name))?;
        // A link whose cgroup or interface is gone takes no program; attaching makes another.
        if info.target != 0 && info.prog_id != prog_id(program)? {
            link_update(&link, &program).map_err(syscall("update link", name))?;
        }
    }
    Ok(())
}

/// Removes a link by the name of its pin.
///
/// # Errors
/// Where the kernel refuses.
pub(crate) fn detach(pins: &Pins, name: &str) -> Result<(), DatapathError> {
    let path = pins.links().join(name);
    if let Some(filter) = name.strip_suffix(FILTER) {
        // That of the answers ends with its namespace; without an agent, it passes every question on.
        if !filter.starts_with(ANSWERS)
            && let Some((_, ifindex)) = filter.rsplit_once('-')
            && let Ok(ifindex) = ifindex.parse()
        {
            clsact::detach(ifindex)?;
        }
    } else if !name.ends_with(LEFT_OUT)
        && let Some(link) = pins::get(&path)?
    {
        match link_detach(&link) {
            // What it hung in is gone already.
            Err(error) if !is_gone(&error) => return Err(syscall("detach link", name)(error)),
            Ok(()) | Err(_) => {}
        }
    }
    pins::remove(&path)
}

/// Attaches where the same program may hang still by a link that nobody holds any more: the kernel lets go of such a link
/// in a work item of its own (`bpf_link_put`), a moment after its pin was removed.
#[expect(
    clippy::disallowed_methods,
    reason = "the kernel tells nobody when the work item is done; asking again is the only way to know"
)]
fn released(mut attach: impl FnMut() -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    const WITHIN: Duration = Duration::from_millis(500);
    let began = Instant::now();
    loop {
        match attach() {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) && began.elapsed() < WITHIN => {
                std::thread::sleep(Duration::from_millis(5));
            }
            attached => return attached,
        }
    }
}

fn prog_id(program: BorrowedFd<'_>) -> Result<u32, DatapathError> {
    let info = bpf::prog_info(&program).map_err(syscall("read what is known of", "program"))?;
    Ok(info.id)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENODEV | libc::ENOLINK | libc::ENOENT)
    )
}
