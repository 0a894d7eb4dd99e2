//! A packet that does not exist, through the real programs: what does each decide, and why.
//!
//! The packet is marked, so that the programs report what they decide, write no state and count nothing.

mod names;
mod packet;

use crate::events::EventRing;
use crate::maps::Maps;
use crate::programs::Programs;
use crate::{DatapathError, RunInput, RunOutput, SkbContext, XdpContext, XdpMode};
use essaim_abi::{
    Addr, Config, DropReason, Endpoint, EndpointKind, Hook, IPSEC_MARK_MASK, LocalEndpoint, MacAddr,
    Protocol, Verdict,
};
use essaim_model::{BackendKey, DesiredState, NodeFacts, NodeName, ServiceKey};
use names::Names;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::mem::offset_of;
use std::net::IpAddr;

/// The packet to be traced: the first one of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRequest {
    /// Who sends it.
    pub source: IpAddr,
    /// To whom; of the same family.
    pub destination: IpAddr,
    /// Its transport protocol.
    pub protocol: Protocol,
    /// The destination port.
    pub port: u16,
    /// The source port; another one is another flow, and may find another backend.
    pub source_port: u16,
    /// Where it comes in and by which interface; `None`: where a packet of that source would.
    pub from: Option<(Hook, u32)>,
}

/// What one program decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceStep {
    /// Where.
    pub hook: Hook,
    /// The interface the packet was at.
    pub ifindex: u32,
    /// What was done with it; `Pass` where the program left it to what comes next.
    pub verdict: Verdict,
    /// Why it went no further.
    pub reason: Option<DropReason>,
    /// The service that was concerned.
    pub service: Option<ServiceKey>,
    /// The backend that was chosen.
    pub backend: Option<BackendKey>,
    /// The node it was sent to.
    pub node: Option<NodeName>,
    /// The interface it was delivered to, or sent out of.
    pub to_ifindex: Option<u32>,
    /// The VNI it was sent with.
    pub vni: Option<u32>,
    /// Source and destination, as the program saw them.
    pub flow: (IpAddr, u16, IpAddr, u16),
    /// The above in a sentence.
    pub text: String,
}

impl fmt::Display for TraceStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} on interface {}: {}",
            self.hook.name(),
            self.ifindex,
            self.text
        )
    }
}

/// `XDP_PASS`; every other verdict of XDP is final.
const XDP_PASS: u32 = 2;
/// `TC_ACT_SHOT`, `TC_ACT_STOLEN` and `TC_ACT_REDIRECT`.
const TC_FINAL: [u32; 3] = [2, 4, 7];

/// Where a packet comes in, with the Ethernet addresses it has there.
struct Start {
    hook: Hook,
    ifindex: u32,
    source_mac: MacAddr,
    destination_mac: MacAddr,
    /// What `overlay_tc` would have read from the tunnel: VNI, and index of the sender's VTEP.
    tunnel: (u32, u32),
}

/// Traces a packet; `maps` are left as they were.
pub(crate) fn trace(
    maps: &mut Maps,
    programs: &Programs,
    events: &mut EventRing,
    request: &TraceRequest,
    desired: &DesiredState,
    facts: &NodeFacts,
) -> Result<Vec<TraceStep>, DatapathError> {
    if request.source.is_ipv4() != request.destination.is_ipv4() {
        return Err(impossible(
            request,
            "source and destination are of different families",
        ));
    }
    let start = start(maps, request, facts)?;
    // Odd, so never 0; random, so that no packet has it by chance.
    let random = u32::try_from(RandomState::new().build_hasher().finish() & 0xffff_ffff).unwrap_or(0);
    let mark = random & !IPSEC_MARK_MASK | 1;
    // Makes room: what stands in a full ring keeps what is traced out of it.
    events.take_traced(mark);
    maps.config.store_u32(0, offset_of!(Config, trace_mark), mark)?;
    let steps = follow(
        programs,
        events,
        request,
        &start,
        mark,
        &Names::new(maps, desired),
    );
    maps.config.store_u32(0, offset_of!(Config, trace_mark), 0)?;
    steps
}

fn follow(
    programs: &Programs,
    events: &mut EventRing,
    request: &TraceRequest,
    start: &Start,
    mark: u32,
    names: &Names<'_>,
) -> Result<Vec<TraceStep>, DatapathError> {
    let frame = packet::opening(request, start.source_mac, start.destination_mac);
    let hooks: &[Hook] = match start.hook {
        Hook::IngressXdp => &[Hook::IngressXdp, Hook::UplinkTc],
        Hook::UplinkTc => &[Hook::UplinkTc],
        Hook::OverlayTc => &[Hook::OverlayTc],
        Hook::EndpointTc => &[Hook::EndpointTc],
        Hook::SockLb => return Err(impossible(request, "socket programs see no packets")),
    };
    let mut steps = Vec::new();
    for hook in hooks {
        let (is_final, output) = run(programs, *hook, start, mark, &frame)?;
        let decided = events.take_traced(mark);
        for event in &decided {
            steps.push(names.step(event, *hook, start.ifindex));
        }
        if decided.is_empty() {
            steps.push(silent(request, *hook, start.ifindex, is_final, &output));
        }
        // A dry run of XDP changes nothing and passes the packet, whatever it decided.
        if is_final || decided.iter().any(|event| event.verdict != Verdict::Pass as u8) {
            break;
        }
    }
    Ok(steps)
}

/// Runs the program of a hook; says besides whether nothing comes after it.
fn run(
    programs: &Programs,
    hook: Hook,
    start: &Start,
    mark: u32,
    frame: &[u8],
) -> Result<(bool, RunOutput), DatapathError> {
    if hook == Hook::IngressXdp {
        let marked: Vec<u8> = mark
            .to_ne_bytes()
            .into_iter()
            .chain(frame.iter().copied())
            .collect();
        let context = |ingress_ifindex| XdpContext {
            metadata: 4,
            ingress_ifindex,
            rx_queue_index: 0,
            mode: XdpMode::Verdict,
        };
        let input = |ifindex| RunInput::Xdp {
            packet: &marked,
            context: context(ifindex),
        };
        // A driver without XDP has no queue for the kernel to name.
        let output = programs
            .run(hook.name(), &input(start.ifindex), 1)
            .or_else(|_| programs.run(hook.name(), &input(0), 1))?;
        return Ok((output.verdict != XDP_PASS, output));
    }
    let (program, cb) = if hook == Hook::OverlayTc {
        // A test run can set no tunnel key: the program behind the one that reads it.
        (
            "overlay_inner_tc",
            [start.tunnel.0, start.tunnel.1, 0, 0, Hook::OverlayTc as u32],
        )
    } else {
        (hook.name(), [0; 5])
    };
    let context = SkbContext {
        mark,
        cb,
        ingress_ifindex: start.ifindex,
        ifindex: start.ifindex,
        ..SkbContext::default()
    };
    let output = programs.run(
        program,
        &RunInput::Skb {
            packet: frame,
            context,
        },
        1,
    )?;
    Ok((TC_FINAL.contains(&output.verdict), output))
}

/// What a program did that reported nothing.
fn silent(request: &TraceRequest, hook: Hook, ifindex: u32, is_final: bool, output: &RunOutput) -> TraceStep {
    let (verdict, text) = match (is_final, hook) {
        (true, _) => (
            Verdict::Drop,
            format!(
                "ended with verdict {} and said nothing",
                output.verdict.cast_signed()
            ),
        ),
        (false, Hook::IngressXdp) => (Verdict::Pass, "not for XDP: left to uplink_tc".to_owned()),
        (false, _) => (Verdict::Pass, "left to the kernel".to_owned()),
    };
    TraceStep {
        hook,
        ifindex,
        verdict,
        reason: None,
        service: None,
        backend: None,
        node: None,
        to_ifindex: None,
        vni: None,
        flow: (
            request.source,
            request.source_port,
            request.destination,
            request.port,
        ),
        text,
    }
}

/// Where a packet of the request's source comes in.
fn start(maps: &Maps, request: &TraceRequest, facts: &NodeFacts) -> Result<Start, DatapathError> {
    let source = Addr::from(request.source);
    let sender = maps.endpoint_by_addr.entry(&source)?;
    let (hook, ifindex) = match (request.from, &sender) {
        (Some(from), _) => from,
        (None, Some(sender)) if is(sender, &[EndpointKind::Local, EndpointKind::ThisNode]) => {
            (Hook::EndpointTc, sender.ifindex)
        }
        (None, Some(sender)) if is(sender, &[EndpointKind::Remote, EndpointKind::OtherNode]) => {
            (Hook::OverlayTc, facts.vxlan_ifindex)
        }
        (None, Some(_)) => {
            return Err(impossible(
                request,
                "nobody sends from that address: it is no endpoint's",
            ));
        }
        (None, None) => {
            let uplink = facts
                .uplinks
                .first()
                .ok_or_else(|| impossible(request, "the node has no uplink"))?;
            (Hook::IngressXdp, uplink.ifindex)
        }
    };
    let (source_mac, destination_mac) = match hook {
        Hook::EndpointTc => {
            let own: LocalEndpoint = maps
                .endpoint_by_ifindex
                .entry(&ifindex)?
                .ok_or_else(|| impossible(request, "no endpoint of this node has that interface"))?;
            let receiver = maps.endpoint_by_addr.entry(&request.destination.into())?;
            let on_link = receiver.filter(|receiver| receiver.vni == own.vni);
            (own.mac, on_link.map_or(MacAddr::GATEWAY, |receiver| receiver.mac))
        }
        Hook::OverlayTc => {
            let receiver = maps.endpoint_by_addr.entry(&request.destination.into())?;
            let mac = |endpoint: Option<Endpoint>| endpoint.map_or(MacAddr::GATEWAY, |endpoint| endpoint.mac);
            (mac(sender), mac(receiver))
        }
        Hook::IngressXdp | Hook::UplinkTc | Hook::SockLb => {
            let uplink = facts.uplinks.iter().find(|uplink| uplink.ifindex == ifindex);
            // Some station of the underlay.
            (
                MacAddr([2, 0, 0, 0, 0, 1]),
                uplink.map_or(MacAddr::default(), |uplink| uplink.mac),
            )
        }
    };
    let tunnel = sender.map_or((0, 0), |sender| (sender.vni, sender.index));
    Ok(Start {
        hook,
        ifindex,
        source_mac,
        destination_mac,
        tunnel,
    })
}

fn is(endpoint: &Endpoint, kinds: &[EndpointKind]) -> bool {
    EndpointKind::of(endpoint.kind).is_some_and(|kind| kinds.contains(&kind))
}

fn impossible(request: &TraceRequest, problem: &str) -> DatapathError {
    DatapathError::Plan {
        subject: format!("a packet from {} to {}", request.source, request.destination),
        problem: problem.to_owned(),
    }
}
