//! Answers to packets that go no further: a reset or an ICMP error, and echo replies for addresses that are no machine's.

use super::deliver::{Edge, back, to_client};
use super::edge::caller;
use super::skb::{self, Skb};
use super::{Env, Outcome, translate};
use crate::event::Decision;
use crate::tables;
use aya_ebpf::bindings::{TC_ACT_SHOT, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC};
use aya_ebpf::helpers::generated::bpf_skb_adjust_room;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use essaim_abi::maps::TC_ANSWER;
use essaim_abi::{DropReason, Verdict};
use essaim_packet::answer::{ICMP4_LEN, ICMP6_LEN, Message, icmp4, icmp6, reset};
use essaim_packet::wire::{ethernet, icmp, ipv4, ipv6, protocol, tcp};
use essaim_packet::{Fragment, Packet, checksum, quote, view, view_mut};

/// The answer goes out of the interface where the packet came in.
const BACK: u32 = 0;
/// The answer goes to the client through its edge.
const VIA_EDGE: u32 = 1 << 8;

/// Refuses the packet where it came in.
#[inline(always)]
pub(super) fn refuse_here(env: &Env<'_>, reason: DropReason) -> Outcome {
    env.call(TC_ANSWER, [reason as u32, 0, 0, 0, env.hook as u32 | BACK])
}

/// Tells the sender what fits, where it came in.
#[inline(always)]
pub(super) fn too_big_here(env: &Env<'_>, mtu: u32) -> Outcome {
    env.call(
        TC_ANSWER,
        [DropReason::TooBig as u32, 0, 0, mtu, env.hook as u32 | BACK],
    )
}

/// Tells a client what fits.
#[inline(always)]
pub(super) fn too_big(env: &Env<'_>, edge: Edge, mtu: u32) -> Outcome {
    env.call(
        TC_ANSWER,
        [
            DropReason::TooBig as u32,
            edge.vtep,
            u32::from(edge.token),
            mtu,
            env.hook as u32 | VIA_EDGE,
        ],
    )
}

/// Refuses a client's packet on the node that has, or should have, the task.
#[inline(always)]
pub(super) fn refuse(env: &Env<'_>, edge: Edge, reason: DropReason) -> Outcome {
    env.call(
        TC_ANSWER,
        [
            reason as u32,
            edge.vtep,
            u32::from(edge.token),
            0,
            env.hook as u32 | VIA_EDGE,
        ],
    )
}

#[classifier]
#[inline(always)]
fn answer_tc(ctx: TcContext) -> i32 {
    let hook = caller(&ctx);
    run!(&ctx, hook, answer)
}

#[inline(always)]
fn answer(env: &Env<'_>) -> Outcome {
    let reason = DropReason::of(skb::cb::<0>(env.ctx) as u8).ok_or(DropReason::HelperFailed)?;
    let edge = Edge {
        vtep: skb::cb::<1>(env.ctx),
        token: skb::cb::<2>(env.ctx) as u8,
    };
    let mtu = skb::cb::<3>(env.ctx);
    let via_edge = skb::cb::<4>(env.ctx) & VIA_EDGE != 0;
    let packet = env.packet()?;
    // Never an answer to an error or to a part of a datagram (RFC 1122 section 3.2.2).
    let is_error = packet
        .icmp_type()
        .is_some_and(|kind| quote::is_error(packet.v6, kind));
    if is_error || packet.fragment == Fragment::Later {
        return Err(reason);
    }
    if !env.dry() {
        tables::count_drop(reason, u64::from(skb::len(env.ctx)));
    }
    env.report(Verdict::Answered, Some(reason), packet, &Decision::default());
    let wants_icmp = matches!(reason, DropReason::TooBig | DropReason::TtlExceeded);
    if packet.protocol == protocol::TCP && !wants_icmp {
        if !into_reset(env, packet)? {
            return Ok(TC_ACT_SHOT);
        }
    } else {
        let message = match reason {
            DropReason::TooBig => Message::too_big(packet.v6, mtu),
            DropReason::TtlExceeded => Message::time_exceeded(packet.v6),
            DropReason::EndpointGone | DropReason::UnknownDestination => Message::host_unreachable(packet.v6),
            _ => Message::port_unreachable(packet.v6),
        };
        into_icmp(env, packet, message)?;
    }
    swap_macs(env)?;
    if !via_edge {
        return back(env);
    }
    core::mem::swap(&mut packet.source, &mut packet.destination);
    to_client(env, packet, edge, &packet.destination, &Decision::default())
}

#[inline(always)]
fn swap_macs(env: &Env<'_>) -> Result<(), DropReason> {
    let mut header = view_mut::<12>(&mut Skb(env.ctx), 0)?;
    let words: [u32; 3] = [header.get(0), header.get(4), header.get(8)];
    // Six bytes each: the halves of the middle word change sides.
    header.put(0, words[1] >> 16 | words[2] << 16);
    header.put(4, words[2] >> 16 | words[0] << 16);
    header.put(8, words[0] >> 16 | words[1] << 16);
    Ok(())
}

/// Swaps the addresses of the IP header and gives the packet a fresh TTL. No checksum but the IPv4 header's changes.
#[inline(always)]
fn swap_addresses(env: &Env<'_>, packet: &Packet) -> Result<(), DropReason> {
    let network = packet.network as usize;
    if packet.v6 {
        let mut header = view_mut::<{ ipv6::LEN }>(&mut Skb(env.ctx), network)?;
        header.put_address(ipv6::SOURCE, &packet.destination, true);
        header.put_address(ipv6::DESTINATION, &packet.source, true);
        header.put(ipv6::HOP_LIMIT, 64_u8);
        return Ok(());
    }
    let mut header = view_mut::<{ ipv4::LEN }>(&mut Skb(env.ctx), network)?;
    header.put_address(ipv4::SOURCE, &packet.destination, false);
    header.put_address(ipv4::DESTINATION, &packet.source, false);
    let old: u16 = header.get(ipv4::TTL);
    let new = u16::from_le_bytes([64, packet.protocol]).to_le();
    header.put(ipv4::TTL, new);
    let sum = checksum::replace(header.get(ipv4::CHECKSUM), u32::from(old), u32::from(new));
    header.put(ipv4::CHECKSUM, sum);
    Ok(())
}

/// Turns a segment into the reset that answers it; `false` where none is due.
#[inline(always)]
fn into_reset(env: &Env<'_>, packet: &Packet) -> Result<bool, DropReason> {
    let transport = packet.transport as usize;
    let (new, old) = {
        let header = view::<{ tcp::LEN }>(&Skb(env.ctx), transport)?;
        let header_len = u32::from(header.get::<u8>(tcp::DATA_OFFSET) >> 4) * 4;
        let payload = u32::from(packet.len)
            .saturating_sub(u32::from(packet.transport - packet.network))
            .saturating_sub(header_len);
        let Some(reset) = reset(&header, payload) else {
            return Ok(false);
        };
        (
            reset,
            [
                header.get::<u32>(tcp::SEQUENCE),
                header.get(tcp::ACKNOWLEDGEMENT),
                header.get(tcp::DATA_OFFSET),
            ],
        )
    };
    let sum = u32::from(packet.transport) + tcp::CHECKSUM as u32;
    translate::replace(env, sum, old[0], new.sequence, 4)?;
    translate::replace(env, sum, old[1], new.acknowledgement, 4)?;
    translate::replace(env, sum, old[2], new.offset_flags_window, 4)?;
    let mut header = view_mut::<{ tcp::LEN }>(&mut Skb(env.ctx), transport)?;
    header.put(0, packet.destination_port);
    header.put(2, packet.source_port);
    header.put(tcp::SEQUENCE, new.sequence);
    header.put(tcp::ACKNOWLEDGEMENT, new.acknowledgement);
    header.put(tcp::DATA_OFFSET, new.offset_flags_window);
    swap_addresses(env, packet)?;
    Ok(true)
}

/// How much of a packet is quoted: all that the sender's stack looks at.
const QUOTE: usize = 64;
/// The least that is quoted: the header and eight bytes (RFC 792).
const LEAST_QUOTE_V4: usize = ipv4::LEN + 8;
const LEAST_QUOTE_V6: usize = ipv6::LEN + 8;

/// Turns a packet into the ICMP error that quotes it.
#[inline(always)]
fn into_icmp(env: &Env<'_>, packet: &Packet, message: Message) -> Result<(), DropReason> {
    let network = packet.network as usize;
    if network != ethernet::LEN {
        return Err(DropReason::Malformed);
    }
    let (quote_sum, quote_len) = if packet.len as usize >= QUOTE {
        (
            checksum::sum(&view::<QUOTE>(&Skb(env.ctx), ethernet::LEN)?),
            QUOTE,
        )
    } else if packet.v6 {
        (
            checksum::sum(&view::<LEAST_QUOTE_V6>(&Skb(env.ctx), ethernet::LEN)?),
            LEAST_QUOTE_V6,
        )
    } else {
        (
            checksum::sum(&view::<LEAST_QUOTE_V4>(&Skb(env.ctx), ethernet::LEN)?),
            LEAST_QUOTE_V4,
        )
    };
    skb::resize(env.ctx, (ethernet::LEN + quote_len) as u32)?;
    let room = if packet.v6 { ICMP6_LEN } else { ICMP4_LEN };
    // SAFETY: the context is the program's own.
    if unsafe { bpf_skb_adjust_room(env.ctx.skb.skb, room as i32, BPF_ADJ_ROOM_MAC, 0) } != 0 {
        return Err(DropReason::HelperFailed);
    }
    let (source, destination) = (&packet.destination, &packet.source);
    if packet.v6 {
        let mut to = view_mut::<ICMP6_LEN>(&mut Skb(env.ctx), ethernet::LEN)?;
        icmp6(&mut to, source, destination, message, quote_sum, quote_len as u16);
    } else {
        let mut to = view_mut::<ICMP4_LEN>(&mut Skb(env.ctx), ethernet::LEN)?;
        icmp4(&mut to, source, destination, message, quote_sum, quote_len as u16);
    }
    Ok(())
}

/// Answers an echo request in its place.
#[inline(always)]
pub(super) fn echo(env: &Env<'_>, packet: &Packet) -> Outcome {
    env.report(Verdict::Answered, None, packet, &Decision::default());
    let at = packet.transport as usize;
    let mut header = view_mut::<{ icmp::LEN }>(&mut Skb(env.ctx), at)?;
    let old: u16 = header.get(0);
    let new = u16::from_le_bytes([
        if packet.v6 {
            icmp::ECHO_REPLY6
        } else {
            icmp::ECHO_REPLY
        },
        0,
    ])
    .to_le();
    header.put(0, new);
    let sum = checksum::replace(header.get(icmp::CHECKSUM), u32::from(old), u32::from(new));
    header.put(icmp::CHECKSUM, sum);
    swap_addresses(env, packet)?;
    swap_macs(env)?;
    back(env)
}
