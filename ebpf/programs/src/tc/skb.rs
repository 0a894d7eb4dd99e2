//! The context of a tc program: its bytes, and the few fields that are read or written.

use crate::context::{set_word, word};
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_skb_change_tail, bpf_skb_change_type, bpf_skb_pull_data};
use aya_ebpf::programs::TcContext;
use core::mem::offset_of;
use essaim_abi::{DropReason, IPSEC_MARK, IPSEC_MARK_MASK};
use essaim_packet::{Frame, FrameMut};

/// What is pulled into the linear part: Ethernet, IPv6 with an extension header, TCP with options.
const HEADERS: u32 = 14 + 40 + 40 + 34;
/// `PACKET_HOST`.
const HOST: u32 = 0;

/// The packet's linear part.
pub(super) struct Skb<'a>(pub(super) &'a TcContext);

// SAFETY: the kernel bounds the linear part by these two words of the context.
unsafe impl Frame for Skb<'_> {
    #[inline(always)]
    fn data(&self) -> usize {
        field::<{ offset_of!(__sk_buff, data) }>(self.0) as usize
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        field::<{ offset_of!(__sk_buff, data_end) }>(self.0) as usize
    }
}

// SAFETY: the verifier makes the kernel unshare a packet that a program writes to.
unsafe impl FrameMut for Skb<'_> {}

/// A word of the context.
#[inline(always)]
fn field<const OFFSET: usize>(ctx: &TcContext) -> u64 {
    // SAFETY: callers name fields of the context that tc programs may read.
    unsafe { word::<OFFSET, _>(ctx.skb.skb) }
}

/// A number as one register: the compiler would check the bound of one copy of it and use another, of which the verifier
/// knows nothing.
#[inline(always)]
pub(super) fn settled(value: usize) -> usize {
    let mut value = value;
    // SAFETY: moves a register to itself.
    unsafe { core::arch::asm!("{0} = {0}", inlateout(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Its length in bytes.
#[inline(always)]
pub(super) fn len(ctx: &TcContext) -> u32 {
    field::<{ offset_of!(__sk_buff, len) }>(ctx) as u32
}

/// Its mark.
#[inline(always)]
pub(super) fn mark(ctx: &TcContext) -> u32 {
    field::<{ offset_of!(__sk_buff, mark) }>(ctx) as u32
}

/// Whether it came through IPsec, or is to go through it.
#[inline(always)]
pub(super) fn is_secure(ctx: &TcContext) -> bool {
    mark(ctx) & IPSEC_MARK_MASK == IPSEC_MARK
}

/// Says that it is to go through IPsec, or takes that word back; the other bits of the mark stay.
#[inline(always)]
pub(super) fn set_secure(ctx: &TcContext, secure: bool) {
    let before = mark(ctx);
    let after = before & !IPSEC_MARK_MASK | if secure { IPSEC_MARK } else { 0 };
    if before != after {
        // SAFETY: a field that tc programs may write.
        unsafe { set_word::<{ offset_of!(__sk_buff, mark) }, _>(ctx.skb.skb, after) };
    }
}

/// The interface it is at.
#[inline(always)]
pub(super) fn ifindex(ctx: &TcContext) -> u32 {
    field::<{ offset_of!(__sk_buff, ifindex) }>(ctx) as u32
}

/// Whether its Ethernet address is the interface's own.
#[inline(always)]
pub(super) fn is_to_host(ctx: &TcContext) -> bool {
    field::<{ offset_of!(__sk_buff, pkt_type) }>(ctx) as u32 == HOST
}

/// The payload of each segment it stands for; 0 where it is one packet.
#[inline(always)]
pub(super) fn gso_size(ctx: &TcContext) -> u32 {
    field::<{ offset_of!(__sk_buff, gso_size) }>(ctx) as u32
}

/// Offset of `cb`.
const CB: usize = offset_of!(__sk_buff, cb);

/// A word of `cb`; `INDEX` is below five.
#[inline(always)]
pub(super) fn cb<const INDEX: usize>(ctx: &TcContext) -> u32 {
    match INDEX {
        0 => field::<CB>(ctx) as u32,
        1 => field::<{ CB + 4 }>(ctx) as u32,
        2 => field::<{ CB + 8 }>(ctx) as u32,
        3 => field::<{ CB + 12 }>(ctx) as u32,
        _ => field::<{ CB + 16 }>(ctx) as u32,
    }
}

/// Sets `cb` for the next program.
#[inline(always)]
pub(super) fn set_cb(ctx: &TcContext, words: [u32; 5]) {
    let skb = ctx.skb.skb;
    // SAFETY: the field has five words, all writable by tc programs.
    unsafe {
        set_word::<CB, _>(skb, words[0]);
        set_word::<{ CB + 4 }, _>(skb, words[1]);
        set_word::<{ CB + 8 }, _>(skb, words[2]);
        set_word::<{ CB + 12 }, _>(skb, words[3]);
        set_word::<{ CB + 16 }, _>(skb, words[4]);
    }
}

/// Makes sure that the headers are in the linear part; a failure shows as a truncated packet.
#[inline(always)]
pub(super) fn pull(ctx: &TcContext) {
    let frame = Skb(ctx);
    if frame.data() + HEADERS as usize > frame.data_end() {
        let whole = len(ctx);
        if (frame.data_end() - frame.data()) < whole as usize {
            let wanted = if whole < HEADERS { whole } else { HEADERS };
            // SAFETY: the context is the program's own.
            unsafe { bpf_skb_pull_data(ctx.skb.skb, wanted) };
        }
    }
}

/// Marks it as meant for this host: `bpf_redirect_peer` keeps the type, and the peer would drop the packet.
#[inline(always)]
pub(super) fn set_host(ctx: &TcContext) {
    if field::<{ offset_of!(__sk_buff, pkt_type) }>(ctx) as u32 != HOST {
        // SAFETY: the context is the program's own.
        unsafe { bpf_skb_change_type(ctx.skb.skb, HOST) };
    }
}

/// Gives it another length.
#[inline(always)]
pub(super) fn resize(ctx: &TcContext, len: u32) -> Result<(), DropReason> {
    // SAFETY: the context is the program's own.
    if unsafe { bpf_skb_change_tail(ctx.skb.skb, len, 0) } == 0 {
        Ok(())
    } else {
        Err(DropReason::HelperFailed)
    }
}
