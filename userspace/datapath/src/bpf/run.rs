//! `BPF_PROG_TEST_RUN`: a packet through a program, without a wire.

use super::{PROG_TEST_RUN, address, address_mut, bpf, length};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

/// `BPF_F_TEST_XDP_LIVE_FRAMES`.
const LIVE_FRAMES: u32 = 2;
/// Room for what a program may have put in front of the packet and behind it.
const OUTPUT_ROOM: usize = 4096;

/// What a tc program is told of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SkbContext {
    /// The mark.
    pub mark: u32,
    /// The five words that programs may use between themselves.
    pub cb: [u32; 5],
    /// The interface it came in by, as `ingress_ifindex` says; must exist where it is not 0.
    pub ingress_ifindex: u32,
    /// The interface it is on; must exist where it is not 0.
    pub ifindex: u32,
    /// Size of the payload of a segment, where the packet stands for several.
    pub gso_size: u32,
    /// Number of segments.
    pub gso_segs: u32,
}

/// How XDP frames are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// The verdict is returned and nothing is sent.
    #[default]
    Verdict,
    /// The frames are real: sent, redirected and handed to the kernel as the program says.
    LiveFrames {
        /// Frames a batch; 0 for the kernel's own choice, at most 256.
        batch: u32,
    },
}

/// What an XDP program is told of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpContext {
    /// How many of the first bytes are metadata, not packet: a multiple of 4.
    pub metadata: u32,
    /// The interface it came in by; must exist, and have the driver's XDP memory registered, where it is not 0.
    pub ingress_ifindex: u32,
    /// The queue it came in by; must exist.
    pub rx_queue_index: u32,
    /// How the frames are run.
    pub mode: XdpMode,
}

/// A packet and the context it is run in.
#[derive(Clone, Copy, Debug)]
pub enum RunInput<'a> {
    /// Through a tc program; from the Ethernet header on.
    Skb {
        /// The packet.
        packet: &'a [u8],
        /// Its context.
        context: SkbContext,
    },
    /// Through an XDP program; the metadata first, then from the Ethernet header on.
    Xdp {
        /// Metadata and packet.
        packet: &'a [u8],
        /// Its context.
        context: XdpContext,
    },
}

/// What came out of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOutput {
    /// The program's return value: `TC_ACT_…` or `XDP_…`.
    pub verdict: u32,
    /// The packet as the program left it; with XDP, behind the metadata that is left. Empty with live frames.
    pub packet: Vec<u8>,
    /// Mean time of one run.
    pub duration: Duration,
    /// tc: mark of the packet afterwards. XDP: 0.
    pub mark: u32,
    /// tc: the five words afterwards. XDP: zero.
    pub cb: [u32; 5],
}

#[repr(C)]
struct TestAttributes {
    prog_fd: RawFd,
    verdict: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// Words of `struct __sk_buff`.
const SKB_WORDS: usize = 192 / 4;
const SKB_MARK: usize = 2;
const SKB_INGRESS_IFINDEX: usize = 9;
const SKB_IFINDEX: usize = 10;
const SKB_CB: usize = 12;
const SKB_GSO_SEGS: usize = 41;
const SKB_GSO_SIZE: usize = 44;

/// Words of `struct xdp_md`.
const XDP_WORDS: usize = 6;

impl RunInput<'_> {
    fn packet(&self) -> &[u8] {
        match self {
            Self::Skb { packet, .. } | Self::Xdp { packet, .. } => packet,
        }
    }

    fn context(&self) -> io::Result<Vec<u32>> {
        Ok(match self {
            Self::Skb { context, .. } => {
                let SkbContext {
                    mark,
                    cb,
                    ingress_ifindex,
                    ifindex,
                    gso_size,
                    gso_segs,
                } = *context;
                let mut words = vec![0; SKB_WORDS];
                words[SKB_MARK] = mark;
                words[SKB_INGRESS_IFINDEX] = ingress_ifindex;
                words[SKB_IFINDEX] = ifindex;
                words[SKB_CB..SKB_CB + 5].copy_from_slice(&cb);
                words[SKB_GSO_SEGS] = gso_segs;
                words[SKB_GSO_SIZE] = gso_size;
                words
            }
            Self::Xdp { packet, context } => {
                let XdpContext {
                    metadata,
                    ingress_ifindex,
                    rx_queue_index,
                    mode: _,
                } = *context;
                vec![metadata, length(packet)?, 0, ingress_ifindex, rx_queue_index, 0]
            }
        })
    }
}

/// Runs a packet through a program `repeat` times.
///
/// # Errors
/// What bpf(2) says of `BPF_PROG_TEST_RUN`: an interface of the context that does not exist, say.
pub(crate) fn run(program: &impl AsFd, input: &RunInput<'_>, repeat: u32) -> io::Result<RunOutput> {
    let packet = input.packet();
    let mut context = input.context()?;
    let (flags, batch_size) = match input {
        RunInput::Xdp {
            context:
                XdpContext {
                    mode: XdpMode::LiveFrames { batch },
                    ..
                },
            ..
        } => (LIVE_FRAMES, *batch),
        RunInput::Xdp { .. } | RunInput::Skb { .. } => (0, 0),
    };
    let live = flags != 0;
    let mut after = vec![0_u32; if live { 0 } else { context.len() }];
    let mut output = vec![0_u8; if live { 0 } else { packet.len() + OUTPUT_ROOM }];
    let mut attributes = TestAttributes {
        prog_fd: program.as_fd().as_raw_fd(),
        verdict: 0,
        data_size_in: length(packet)?,
        data_size_out: length(&output)?,
        data_in: address(packet),
        data_out: address_mut(&mut output),
        repeat,
        duration: 0,
        ctx_size_in: u32::try_from(context.len() * 4).map_err(io::Error::other)?,
        ctx_size_out: u32::try_from(after.len() * 4).map_err(io::Error::other)?,
        ctx_in: address_mut(&mut context),
        ctx_out: address_mut(&mut after),
        flags,
        cpu: 0,
        batch_size,
        padding: 0,
    };
    // SAFETY: the arm of `BPF_PROG_TEST_RUN`; every buffer outlives the call and has the size that stands beside it.
    unsafe { bpf(PROG_TEST_RUN, &mut attributes) }?;
    output.truncate(attributes.data_size_out as usize);
    let mut cb = [0; 5];
    let mut mark = 0;
    if after.len() == SKB_WORDS {
        mark = after[SKB_MARK];
        cb.copy_from_slice(&after[SKB_CB..SKB_CB + 5]);
    } else if after.len() == XDP_WORDS {
        // What is left of the metadata stands in front of the packet, and `data` says how long it is.
        output.drain(..(after[0] as usize).min(output.len()));
    }
    Ok(RunOutput {
        verdict: attributes.verdict,
        packet: output,
        duration: Duration::from_nanos(u64::from(attributes.duration)),
        mark,
        cb,
    })
}
