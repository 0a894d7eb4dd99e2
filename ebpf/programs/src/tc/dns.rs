//! Loopback of a task's namespace: the common questions for names are answered where they come by.
//!
//! A question is on its way to the resolver's socket; it becomes the answer in its place, and the kernel goes on with it,
//! to the socket of the one who asked. Every question that no answer is ready for is left as it is.

use super::{PASS, skb};
use crate::maps::{DNS_ANSWERS, DNS_ASKERS, DNS_COUNTERS, DNS_STATE};
use aya_ebpf::bindings::{
    bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
};
use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::helpers::generated::{
    bpf_ktime_get_coarse_ns, bpf_sk_lookup_udp, bpf_sk_release, bpf_sk_storage_get, bpf_skb_load_bytes,
    bpf_skb_store_bytes,
};
use aya_ebpf::macros::{btf_map, classifier};
use aya_ebpf::programs::TcContext;
use core::ptr::read_volatile;
use essaim_abi::{DNS_RECORDS_LEN, DnsAnswer, DnsKey};
use essaim_packet::dns::{self, Buffer, HEADERS, LONGEST, SHORTEST};
use essaim_packet::{View, view};

/// `BPF_F_CURRENT_NETNS`.
const THIS_NETNS: u64 = -1_i64 as u64;
const ETHERNET: u32 = 14;

/// What is too large for the stack.
#[repr(C)]
struct Work {
    buffer: Buffer,
    answer: DnsAnswer,
    key: DnsKey,
}

#[btf_map]
static DNS_WORK: PerCpuArray<Work, 1> = PerCpuArray::new();

#[classifier]
fn dns_tc(ctx: TcContext) -> i32 {
    let _answered = answer(&ctx);
    PASS
}

/// Makes the answer of a question; nothing where it is left as it is.
#[inline(always)]
fn answer(ctx: &TcContext) -> Option<()> {
    let len = skb::len(ctx) as usize;
    let asker = {
        let frame: View<'_, HEADERS> = view(&skb::Skb(ctx), 0).ok()?;
        if !dns::is_asked(&frame, len) || skb::gso_size(ctx) != 0 {
            return None;
        }
        let state = DNS_STATE.get(0)?;
        // SAFETY: reads a clock.
        if unsafe { bpf_ktime_get_coarse_ns() } >= state.until {
            return None;
        }
        asker(ctx, &frame)?
    };
    // SAFETY: the map's value holds an aligned word, which userspace changes with one store.
    let generation = unsafe { read_volatile(&raw const DNS_STATE.get(0)?.generation) };
    let work = DNS_WORK.get_ptr_mut(0)?;
    // SAFETY: this CPU's own; no other packet is handled on it before this one is done.
    let work = crate::context::forget(unsafe { &mut *work });
    let len = skb::settled(len & LONGEST);
    if len < SHORTEST {
        return None;
    }
    // SAFETY: the context is the program's own; the buffer takes `LONGEST` bytes.
    let copied = unsafe {
        bpf_skb_load_bytes(
            ctx.skb.skb.cast(),
            0,
            work.buffer.frame().as_mut_ptr().cast(),
            len as u32,
        )
    };
    if copied != 0 {
        return None;
    }
    work.key.asker = asker;
    dns::question(&work.buffer, len, &mut work.key)?;
    #[expect(
        clippy::needless_borrows_for_generic_args,
        reason = "by value it would be copied to the stack"
    )]
    // SAFETY: an entry whose place is given to another key meanwhile stays readable; see below.
    let found = unsafe { DNS_ANSWERS.get(&work.key) }?;
    if generation == 0 || found.generation != generation {
        return None;
    }
    // The copy is what is looked at and given: what was written meanwhile breaks its seal.
    work.answer = *found;
    let work = crate::context::forget(work);
    if work.answer.seal(&work.key) != work.answer.sealed || work.answer.generation != generation {
        return None;
    }
    give(ctx, work)
}

/// Who asks at the socket that the datagram goes to: nobody where that is none of the resolver's.
#[inline(always)]
fn asker(ctx: &TcContext, frame: &View<'_, HEADERS>) -> Option<u64> {
    let (saddr, daddr, sport, dport) = dns::ends(frame);
    let mut tuple = bpf_sock_tuple {
        __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 {
            ipv4: bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
                saddr,
                daddr,
                sport,
                dport,
            },
        },
    };
    let size = size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1>() as u32;
    // SAFETY: the context is the program's own, the tuple is on the stack; the socket is given back below.
    unsafe {
        let socket = bpf_sk_lookup_udp(ctx.skb.skb.cast(), &raw mut tuple, size, THIS_NETNS, 0);
        if socket.is_null() {
            return None;
        }
        let map = (&raw const DNS_ASKERS).cast_mut().cast();
        let place: *const u64 = bpf_sk_storage_get(map, socket.cast(), core::ptr::null_mut(), 0).cast();
        let asker = if place.is_null() { None } else { Some(*place) };
        bpf_sk_release(socket.cast());
        asker
    }
}

/// Writes the answer over the question.
#[inline(always)]
fn give(ctx: &TcContext, work: &'static mut Work) -> Option<()> {
    // One less, so that its bound below is one that every verifier keeps: those before Linux 6.8 learn nothing from "not 0".
    let last = skb::settled(usize::from(work.answer.len).wrapping_sub(1) & LONGEST);
    if last >= DNS_RECORDS_LEN {
        return None;
    }
    let records = last + 1;
    let name_len = work.key.len;
    let len = dns::answer(&mut work.buffer, name_len, &work.answer)?;
    skb::resize(ctx, len as u32).ok()?;
    let headers = HEADERS as u32 - ETHERNET;
    let at = dns::records_at(name_len) as u32;
    // SAFETY: the context is the program's own; both sources hold as many bytes.
    unsafe {
        let skb = ctx.skb.skb.cast();
        let from = work.buffer.frame().as_ptr().add(ETHERNET as usize).cast();
        // Where one fails, a longer packet is still the question, whose header says where it ends.
        if bpf_skb_store_bytes(skb, at, work.answer.records.as_ptr().cast(), records as u32, 0) != 0
            || bpf_skb_store_bytes(skb, ETHERNET, from, headers, 0) != 0
        {
            return None;
        }
    }
    if let Some(counters) = DNS_COUNTERS.get_ptr_mut(0) {
        // SAFETY: this CPU's own.
        unsafe {
            (*counters).packets += 1;
            (*counters).bytes += len as u64;
        }
    }
    Some(())
}
