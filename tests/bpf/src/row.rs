//! Tables of packets in and out.

use crate::node::{Loaded, Node};
use crate::{check as soundness, index, outer, uplink};
use essaim_abi::{DropReason, Event, Hook, MacAddr, Verdict};
use essaim_datapath::{DatapathError, RunInput, RunOutput, SkbContext, XdpContext};
use std::collections::BTreeMap;
use std::fmt::Write;

/// `TCX_NEXT`: left to the kernel.
pub const PASS: u32 = u32::MAX;
/// `TC_ACT_SHOT`.
pub const DROP: u32 = 2;
/// `TC_ACT_REDIRECT`.
pub const REDIRECT: u32 = 7;

/// What XDP programs return.
pub mod xdp {
    /// `XDP_DROP`.
    pub const DROP: u32 = 1;
    /// `XDP_PASS`.
    pub const PASS: u32 = 2;
    /// `XDP_TX`.
    pub const TX: u32 = 3;
    /// `XDP_REDIRECT`.
    pub const REDIRECT: u32 = 4;
}

/// The Ethernet addresses of outer headers to a VTEP: the next hop's and the uplink's own.
pub(crate) fn towards(vtep: u32) -> (MacAddr, MacAddr) {
    let host = u8::try_from(vtep).expect("few VTEPs");
    (MacAddr([0x02, 0, 0, 0, 0, 0x80 + host]), uplink::MAC)
}

/// A packet and the context that a program gets it in.
#[derive(Clone, Debug)]
pub struct Input {
    /// The program.
    pub program: &'static str,
    /// The frame.
    pub frame: Vec<u8>,
    /// The interface.
    pub ifindex: u32,
    /// The mark (tc).
    pub mark: u32,
    /// The five words (tc).
    pub cb: [u32; 5],
    /// Segment size of a packet that stands for several (tc).
    pub gso: (u32, u32),
    /// What stands in front of the frame (XDP); a multiple of four bytes.
    pub metadata: Vec<u8>,
}

impl Input {
    /// A frame that comes in by an interface.
    pub fn new(program: &'static str, ifindex: u32, frame: Vec<u8>) -> Self {
        // What a program must not leave in a header that it writes: every byte of the room in front of the frame.
        let metadata = if program == "ingress_xdp" {
            vec![0xa5; 128]
        } else {
            Vec::new()
        };
        Self {
            program,
            frame,
            ifindex,
            mark: 0,
            cb: [0; 5],
            gso: (0, 0),
            metadata,
        }
    }

    /// A frame from the wire, as XDP sees it.
    pub fn wire(frame: Vec<u8>) -> Self {
        Self::new("ingress_xdp", index::UP0, frame)
    }

    /// A frame from the wire, as tc sees it.
    pub fn uplink(frame: Vec<u8>) -> Self {
        Self::new("uplink_tc", index::UP0, frame)
    }

    /// A frame that an endpoint of this node sends.
    pub fn endpoint(ifindex: u32, frame: Vec<u8>) -> Self {
        Self::new("endpoint_tc", ifindex, frame)
    }

    /// A frame out of a tunnel from a VTEP.
    pub fn overlay(vni: u32, vtep: u32, frame: Vec<u8>) -> Self {
        let input = Self::new("overlay_inner_tc", index::VXLAN, frame);
        Self {
            cb: [vni, vtep, 0, 0, Hook::OverlayTc as u32],
            ..input
        }
    }
}

/// What came of a packet.
#[derive(Clone, Debug)]
pub struct Ran {
    /// What the program returned.
    pub verdict: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// Packets counted by drop reason.
    pub drops: BTreeMap<DropReason, u64>,
    /// Packets, bytes and flows counted by service.
    pub services: BTreeMap<u32, (u64, u64, u64)>,
    /// As above, by backend.
    pub backends: BTreeMap<u32, (u64, u64, u64)>,
    /// What was reported.
    pub events: Vec<Event>,
    /// The mark afterwards (tc).
    pub mark: u32,
    /// Packets counted by [`essaim_abi::IPSEC_SENT`] and on.
    pub ipsec: BTreeMap<u32, u64>,
}

impl Node {
    /// Runs a packet through a program, counters cleared before.
    pub fn run(&mut self, input: &Input) -> Ran {
        let maps = self.maps();
        for counters in [
            &mut maps.drop_counters,
            &mut maps.service_counters,
            &mut maps.backend_counters,
            &mut maps.ipsec_counters,
        ] {
            let used: Vec<u32> = counters
                .sums()
                .unwrap()
                .into_iter()
                .map(|(index, _)| index)
                .collect();
            for index in used {
                counters.clear(index).unwrap();
            }
        }
        let _earlier = self.loaded().events.by_ref().count();
        let output = self.output(input).expect(input.program);
        let Loaded { datapath, events } = self.loaded();
        let maps = datapath.maps();
        let drops = maps
            .drop_counters
            .sums()
            .unwrap()
            .into_iter()
            .map(|(number, counters)| {
                (
                    DropReason::of(u8::try_from(number).unwrap()).expect("a known reason"),
                    counters.packets,
                )
            });
        let cells = |counters: &essaim_datapath::CounterArray| {
            counters
                .sums()
                .unwrap()
                .into_iter()
                .map(|(index, sum)| (index, (sum.packets, sum.bytes, sum.flows)))
                .collect()
        };
        Ran {
            verdict: output.verdict,
            frame: output.packet,
            drops: drops.collect(),
            services: cells(&maps.service_counters),
            backends: cells(&maps.backend_counters),
            events: events.by_ref().collect(),
            mark: output.mark,
            ipsec: maps
                .ipsec_counters
                .sums()
                .unwrap()
                .into_iter()
                .map(|(which, sum)| (which, sum.packets))
                .collect(),
        }
    }

    /// Runs a packet through a program: verdict and frame alone.
    pub fn verdict(&mut self, input: &Input) -> (u32, Vec<u8>) {
        self.try_verdict(input).expect(input.program)
    }

    /// As [`Self::verdict`], where the kernel may refuse to run the frame: one without an Ethernet header, and in tc one
    /// that says to be IP and is shorter than the fixed header.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn try_verdict(&mut self, input: &Input) -> Result<(u32, Vec<u8>), DatapathError> {
        self.output(input).map(|output| (output.verdict, output.packet))
    }

    fn output(&mut self, input: &Input) -> Result<RunOutput, DatapathError> {
        let Input {
            program,
            frame,
            ifindex,
            mark,
            cb,
            gso,
            metadata,
        } = input;
        // Linux before 6.8 takes less in front of a frame; what matters there is next to it.
        let metadata = &metadata[..metadata.len().min(metadata_room())];
        let whole = [metadata, frame].concat();
        let run = if *program == "ingress_xdp" {
            let context = XdpContext {
                metadata: u32::try_from(metadata.len()).unwrap(),
                ingress_ifindex: *ifindex,
                ..XdpContext::default()
            };
            RunInput::Xdp {
                packet: &whole,
                context,
            }
        } else {
            let context = SkbContext {
                mark: *mark,
                cb: *cb,
                ingress_ifindex: *ifindex,
                ifindex: *ifindex,
                gso_size: gso.0,
                gso_segs: gso.1,
            };
            RunInput::Skb {
                packet: frame,
                context,
            }
        };
        self.loaded().datapath.programs().run(program, &run, 1)
    }
}

/// The first two numbers of the kernel's release.
pub fn kernel_version() -> (u32, u32) {
    let name = nix::sys::utsname::uname().unwrap();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split('.').map_while(|number| number.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// How many bytes the kernel takes as metadata.
fn metadata_room() -> usize {
    if kernel_version() < (6, 8) { 32 } else { 252 }
}

/// What is expected to be reported of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The hook.
    pub hook: Hook,
    /// What it decided.
    pub verdict: Verdict,
    /// The interface.
    pub ifindex: u32,
}

/// A packet in, and what is to come of it.
#[derive(Clone, Debug)]
pub struct Row {
    /// What is shown.
    pub what: String,
    /// What goes in.
    pub input: Input,
    /// The verdict.
    pub verdict: u32,
    /// The frame; `None`: as it came, or of no interest where it was dropped.
    pub frame: Option<Vec<u8>>,
    /// The reason under which it is counted, whether dropped or answered.
    pub counted: Option<DropReason>,
    /// What is reported, where that matters.
    pub watched: Option<Watched>,
}

impl Row {
    /// A frame that is left to the kernel, unchanged.
    pub fn passes(what: &str, input: Input) -> Self {
        let verdict = if input.program == "ingress_xdp" {
            xdp::PASS
        } else {
            PASS
        };
        Self {
            what: what.to_owned(),
            input,
            verdict,
            frame: None,
            counted: None,
            watched: None,
        }
    }

    /// A frame that is dropped.
    pub fn drops(what: &str, input: Input, reason: DropReason) -> Self {
        let verdict = if input.program == "ingress_xdp" {
            xdp::DROP
        } else {
            DROP
        };
        Self {
            what: what.to_owned(),
            input,
            verdict,
            frame: None,
            counted: Some(reason),
            watched: None,
        }
    }

    /// A frame that is sent on, as another.
    pub fn becomes(what: &str, input: Input, frame: Vec<u8>) -> Self {
        Self {
            what: what.to_owned(),
            input,
            verdict: REDIRECT,
            frame: Some(frame),
            counted: None,
            watched: None,
        }
    }

    /// A frame that is sent on, and reported so.
    #[must_use]
    pub fn watched(mut self, hook: Hook, verdict: Verdict, ifindex: u32) -> Self {
        self.watched = Some(Watched {
            hook,
            verdict,
            ifindex,
        });
        self
    }

    /// A frame that is answered with another, and counted.
    pub fn answered(what: &str, input: Input, reason: DropReason, frame: Vec<u8>) -> Self {
        Self {
            counted: Some(reason),
            ..Self::becomes(what, input, frame)
        }
    }

    /// With another verdict.
    #[must_use]
    pub fn verdict(self, verdict: u32) -> Self {
        Self { verdict, ..self }
    }

    /// What differs from what was expected.
    fn differences(&self, ran: &Ran) -> Vec<String> {
        let mut differences = Vec::new();
        let mut differs = |text: String| differences.push(text);
        if ran.verdict != self.verdict {
            differs(format!(
                "verdict {}, expected {}",
                ran.verdict.cast_signed(),
                self.verdict.cast_signed()
            ));
        }
        let dropped = self.verdict
            == if self.input.program == "ingress_xdp" {
                xdp::DROP
            } else {
                DROP
            };
        let expected = self
            .frame
            .as_ref()
            .or(if dropped { None } else { Some(&self.input.frame) });
        let expected = expected.filter(|_| ran.verdict == self.verdict);
        if let Some(expected) = expected.map(|expected| with_port_of(expected, &ran.frame))
            && expected != ran.frame
        {
            differs(format!(
                "frame\n{}    expected\n{}",
                hex(&ran.frame, &expected),
                hex(&expected, &ran.frame)
            ));
        }
        if self.frame.is_some()
            && ran.verdict == self.verdict
            && let Err(error) = soundness::sound(&ran.frame)
        {
            differs(format!("unsound frame: {error}"));
        }
        let counted: BTreeMap<DropReason, u64> = self.counted.into_iter().map(|reason| (reason, 1)).collect();
        if ran.drops != counted {
            differs(format!("counted {:?}, expected {counted:?}", ran.drops));
        }
        if let Some(Watched {
            hook,
            verdict,
            ifindex,
        }) = self.watched
        {
            let expected = (hook as u8, verdict as u8, ifindex);
            if !ran
                .events
                .iter()
                .any(|event| (event.hook, event.verdict, event.ifindex) == expected)
            {
                differs(format!("reported {:?}, expected {:?}", ran.events, self.watched));
            }
        }
        differences
    }
}

/// Bytes in lines of sixteen, those that differ from `other` marked.
fn hex(bytes: &[u8], other: &[u8]) -> String {
    let mut text = String::new();
    for (line, chunk) in bytes.chunks(16).enumerate() {
        let _ = write!(text, "      {:4}:", line * 16);
        for (place, byte) in chunk.iter().enumerate() {
            let mark = if other.get(line * 16 + place) == Some(byte) {
                ' '
            } else {
                '*'
            };
            let _ = write!(text, "{mark}{byte:02x}");
        }
        text.push('\n');
    }
    text
}

/// Runs every row on `node`, in order, the flows of earlier rows kept; panics with all that differs.
#[track_caller]
pub fn check(node: &mut Node, rows: &[Row]) {
    check_with(node, rows, |_| {});
}

/// As [`check`], every row without the flows of earlier ones.
#[track_caller]
pub fn check_each(node: &mut Node, rows: &[Row]) {
    check_with(node, rows, Node::forget);
}

#[track_caller]
fn check_with(node: &mut Node, rows: &[Row], before: impl Fn(&mut Node)) {
    let mut report = String::new();
    for row in rows {
        before(node);
        let ran = node.run(&row.input);
        for difference in row.differences(&ran) {
            let _ = writeln!(report, "  {}: {difference}", row.what);
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

/// The first port of those that outer headers come from (RFC 7348 section 5).
const FIRST_SOURCE_PORT: u16 = 0xc000;

/// The outer source port of a frame; `None` where it is not VXLAN.
pub fn source_port(frame: &[u8]) -> Option<u16> {
    let at = match frame.get(12..14)? {
        [0x08, 0x00] => 34,
        _ => 54,
    };
    let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    if word(at + 2)? == 4789 { word(at) } else { None }
}

/// `expected` with the outer source port that `found` has, where that is one of those meant for it: which one it is,
/// depends on the flow's hash.
fn with_port_of(expected: &[u8], found: &[u8]) -> Vec<u8> {
    let mut expected = expected.to_vec();
    if source_port(&expected).is_some()
        && let Some(port) = source_port(found).filter(|port| *port >= FIRST_SOURCE_PORT)
    {
        let at = if expected[12..14] == [0x08, 0x00] { 34 } else { 54 };
        expected[at..at + 2].copy_from_slice(&port.to_be_bytes());
    }
    expected
}

/// The frame that carries `inner` to a VTEP of the harness; its source port stands for any.
pub fn encapsulated(vtep: u32, vni: u32, inner: &[u8]) -> Vec<u8> {
    let address = |text: &str| text.parse().unwrap();
    let addresses = match vtep {
        index::VTEP3 => (address(uplink::V6), address("2001:db8:f::3")),
        _ => (address(uplink::V4), address(&format!("192.0.2.{vtep}"))),
    };
    outer::vxlan(towards(vtep), addresses, FIRST_SOURCE_PORT, vni, inner)
}
