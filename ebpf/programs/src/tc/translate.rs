//! Address and port translation, checksums kept right whoever has yet to fill them in.
//!
//! The transport checksum goes through `bpf_l4_csum_replace`, since a packet from a local socket carries only the sum of
//! its pseudo-header (`CHECKSUM_PARTIAL`), which no program can see. The IPv4 header's own is never offloaded and is
//! updated in place (RFC 1624).

use super::Env;
use super::skb::Skb;
use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::generated::bpf_l4_csum_replace;
use essaim_abi::{Addr, DropReason};
use essaim_packet::wire::{icmp, ipv4, ipv6, protocol, tcp, udp};
use essaim_packet::{Fragment, Packet, checksum, load, view_mut};

/// `BPF_F_IPV6` (6.16): the sum of a `CHECKSUM_COMPLETE` packet stays as it is, since no IPv4 checksum balances it.
const IPV6: u64 = 1 << 7;

/// Which address of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// Where the transport checksum stands and how it is updated; `None` where no address is part of it.
#[inline(always)]
fn checksum_at(packet: &Packet) -> Option<(u32, u64)> {
    let transport = u32::from(packet.transport);
    match packet.protocol {
        protocol::TCP => Some((transport + tcp::CHECKSUM as u32, 0)),
        protocol::UDP => Some((transport + udp::CHECKSUM as u32, u64::from(BPF_F_MARK_MANGLED_0))),
        protocol::ICMP6 if packet.v6 => Some((transport + icmp::CHECKSUM as u32, 0)),
        _ => None,
    }
}

/// Changes an address and its port (network order); `packet` says what they were. Decrements the TTL where `routed`.
///
/// # Errors
/// [`DropReason::TtlExceeded`] where the TTL runs out; [`DropReason::UnsupportedProtocol`] where the port of SCTP would
/// have to change, which its `CRC32c` covers; the packet is unchanged then.
#[inline(always)]
pub(super) fn end(
    env: &Env<'_>,
    packet: &Packet,
    which: End,
    address: &Addr,
    port: u16,
    routed: bool,
) -> Result<(), DropReason> {
    let (old_address, old_port) = match which {
        End::Source => (packet.source, packet.source_port),
        End::Destination => (packet.destination, packet.destination_port),
    };
    if routed && packet.ttl <= 1 {
        return Err(DropReason::TtlExceeded);
    }
    let first = packet.fragment != Fragment::Later;
    let new_port = first && packet.has_ports() && port != old_port;
    if new_port && packet.protocol == protocol::SCTP {
        return Err(DropReason::UnsupportedProtocol);
    }
    if first && let Some((at, flags)) = checksum_at(packet) {
        let difference = difference(&old_address, address, packet.v6);
        replace_pseudo(env, at, difference, flags, packet.v6)?;
        if new_port {
            replace(env, at, u32::from(old_port), u32::from(port), flags | 2)?;
        }
    }
    write(env, packet, which, &old_address, address, routed)?;
    if new_port {
        let at = packet.transport as usize + if which == End::Source { 0 } else { 2 };
        view_mut::<2>(&mut Skb(env.ctx), at)?.put(0, port);
    }
    Ok(())
}

/// The sum of the new address less that of the old one.
#[inline(always)]
pub(super) fn sum_of_change(old: &Addr, new: &Addr, v6: bool) -> u64 {
    let gone = Addr {
        words: [!old.words[0], !old.words[1], !old.words[2], !old.words[3]],
    };
    checksum::sum_of_address(new, v6) + checksum::sum_of_address(&gone, v6)
}

/// As [`sum_of_change`], folded to 32 bits.
#[inline(always)]
fn difference(old: &Addr, new: &Addr, v6: bool) -> u32 {
    let sum = sum_of_change(old, new, v6);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    (sum as u32).wrapping_add((sum >> 32) as u32)
}

#[inline(always)]
fn replace_pseudo(env: &Env<'_>, at: u32, difference: u32, flags: u64, v6: bool) -> Result<(), DropReason> {
    let flags = flags | u64::from(BPF_F_PSEUDO_HDR);
    let skb = env.ctx.skb.skb;
    if v6 {
        // SAFETY: the context is the program's own. Kernels before 6.16 refuse the flag.
        if unsafe { bpf_l4_csum_replace(skb, at, 0, u64::from(difference), flags | IPV6) } == 0 {
            return Ok(());
        }
    }
    // SAFETY: the context is the program's own.
    if unsafe { bpf_l4_csum_replace(skb, at, 0, u64::from(difference), flags) } == 0 {
        Ok(())
    } else {
        Err(DropReason::HelperFailed)
    }
}

/// Updates a transport checksum for a word of 2 or 4 bytes (in the low bits of `flags`) that is no part of the
/// pseudo-header.
#[inline(always)]
pub(super) fn replace(env: &Env<'_>, at: u32, old: u32, new: u32, flags: u64) -> Result<(), DropReason> {
    // SAFETY: the context is the program's own.
    if unsafe { bpf_l4_csum_replace(env.ctx.skb.skb, at, u64::from(old), u64::from(new), flags) } == 0 {
        Ok(())
    } else {
        Err(DropReason::HelperFailed)
    }
}

/// Writes the address, and the TTL and checksum of the IP header.
#[inline(always)]
fn write(
    env: &Env<'_>,
    packet: &Packet,
    which: End,
    old: &Addr,
    new: &Addr,
    routed: bool,
) -> Result<(), DropReason> {
    let network = packet.network as usize;
    if packet.v6 {
        let mut header = view_mut::<{ ipv6::LEN }>(&mut Skb(env.ctx), network)?;
        header.put_address(
            if which == End::Source {
                ipv6::SOURCE
            } else {
                ipv6::DESTINATION
            },
            new,
            true,
        );
        if routed {
            header.put(ipv6::HOP_LIMIT, packet.ttl - 1);
        }
        return Ok(());
    }
    let mut header = view_mut::<{ ipv4::LEN }>(&mut Skb(env.ctx), network)?;
    let mut sum = checksum::replace(header.get(ipv4::CHECKSUM), old.v4_word(), new.v4_word());
    header.put_address(
        if which == End::Source {
            ipv4::SOURCE
        } else {
            ipv4::DESTINATION
        },
        new,
        false,
    );
    if routed {
        let ttl: u16 = header.get(ipv4::TTL);
        let less = u16::from_le(ttl).wrapping_sub(1).to_le();
        sum = checksum::replace(sum, u32::from(ttl), u32::from(less));
        header.put(ipv4::TTL, less);
    }
    header.put(ipv4::CHECKSUM, sum);
    Ok(())
}

/// Decrements the TTL of a packet that is routed as it is.
#[inline(always)]
pub(super) fn decrement_ttl(env: &Env<'_>, packet: &Packet) -> Result<(), DropReason> {
    if packet.ttl <= 1 {
        return Err(DropReason::TtlExceeded);
    }
    write(env, packet, End::Source, &packet.source, &packet.source, true)
}

/// How many options are looked through for the MSS: it stands first in practice.
const MAX_OPTIONS: usize = 4;

/// Lowers the MSS of a SYN to what fits packets of `mtu` bytes (RFC 9293 section 3.7.1).
#[inline(always)]
pub(super) fn clamp_mss(env: &Env<'_>, packet: &Packet, mtu: u32) -> Result<(), DropReason> {
    if packet.protocol != protocol::TCP || packet.flags & tcp::SYN == 0 || packet.fragment != Fragment::Whole
    {
        return Ok(());
    }
    let headers = if packet.v6 { ipv6::LEN } else { ipv4::LEN } + tcp::LEN;
    let limit = mtu.saturating_sub(headers as u32);
    let transport = packet.transport as usize;
    let Ok(offset) = load::<u8>(&Skb(env.ctx), transport + tcp::DATA_OFFSET) else {
        return Ok(());
    };
    // Behind the options stands data, which is none.
    let end = transport + ((offset >> 4) as usize) * 4;
    let mut at = transport + tcp::LEN;
    for _ in 0..MAX_OPTIONS {
        if at >= end {
            return Ok(());
        }
        let Ok(kind) = load::<u8>(&Skb(env.ctx), at) else {
            return Ok(());
        };
        if kind == tcp::OPTION_NOP {
            at += 1;
            continue;
        }
        if kind == tcp::OPTION_MSS {
            if at + 4 > end {
                return Ok(());
            }
            let Ok(mss) = load::<u16>(&Skb(env.ctx), at + 2) else {
                return Ok(());
            };
            if u32::from(u16::from_be(mss)) > limit {
                let new = (limit as u16).to_be();
                // An option at an odd offset would need its bytes swapped in the sum; senders align it.
                if (at - transport) & 1 == 0 {
                    let sum = u32::from(packet.transport) + tcp::CHECKSUM as u32;
                    replace(env, sum, u32::from(mss), u32::from(new), 2)?;
                    view_mut::<2>(&mut Skb(env.ctx), at + 2)?.put(0, new);
                }
            }
            return Ok(());
        }
        if kind == tcp::OPTION_END {
            return Ok(());
        }
        let Ok(len) = load::<u8>(&Skb(env.ctx), at + 1) else {
            return Ok(());
        };
        if len < 2 {
            return Ok(());
        }
        at += (len & 63) as usize;
    }
    Ok(())
}
