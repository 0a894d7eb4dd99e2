//! VXLAN towards another node: from the VTEP's prepared header, or through the kernel's VXLAN device.

use super::skb::{self, Skb};
use super::{Env, Outcome};
use crate::event::Decision;
use crate::tables;
use aya_ebpf::bindings::{
    BPF_F_TUNINFO_IPV6, BPF_F_ZERO_CSUM_TX, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, bpf_tunnel_key,
};
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_skb_adjust_room, bpf_skb_set_tunnel_key};
use aya_ebpf::programs::TcContext;
use essaim_abi::{
    Addr, ConfigFlags, DropReason, ESP_OVERHEAD, IPSEC_SENT, MacAddr, Verdict, Vtep, VtepFlags,
};
use essaim_packet::steer::Steering;
use essaim_packet::wire::ethernet;
use essaim_packet::{Packet, ViewMut, encap, hash, view_mut};

/// `BPF_F_ADJ_ROOM_FIXED_GSO`: the segments fit already, the endpoint's MTU allows for the header.
const FIXED_GSO: u64 = 1 << 0;
const ENCAP_L3_IPV4: u64 = 1 << 1;
const ENCAP_L3_IPV6: u64 = 1 << 2;
const ENCAP_L4_UDP: u64 = 1 << 4;
const ENCAP_L2_ETH: u64 = 1 << 6;
/// `BPF_F_ADJ_ROOM_ENCAP_L2(14)`: an inner Ethernet header.
const ENCAP_L2: u64 = (ethernet::LEN as u64) << 56;

/// What the inner Ethernet addresses are.
pub(super) trait InnerAddresses {
    fn put<const N: usize>(&self, to: &mut ViewMut<'_, N>, at: usize);
}

impl InnerAddresses for Steering {
    #[inline(always)]
    fn put<const N: usize>(&self, to: &mut ViewMut<'_, N>, at: usize) {
        Steering::put(self, to, at);
    }
}

/// Destination and source of a frame between endpoints.
pub(super) struct Unicast(pub(super) MacAddr, pub(super) MacAddr);

impl InnerAddresses for Unicast {
    #[inline(always)]
    fn put<const N: usize>(&self, to: &mut ViewMut<'_, N>, at: usize) {
        to.put_mac(at, &self.0);
        to.put_mac(at + ethernet::SOURCE, &self.1);
    }
}

/// Sends the packet to a VTEP.
///
/// # Errors
/// [`DropReason::TooBig`] where it does not fit and may not be fragmented: the caller answers.
#[inline(always)]
pub(super) fn to_vtep(
    env: &Env<'_>,
    packet: &Packet,
    index: u32,
    vni: u32,
    addresses: &impl InnerAddresses,
    decision: &Decision,
) -> Outcome {
    let vtep = tables::vtep(index).ok_or(DropReason::UnknownDestination)?;
    let secure = skb::is_secure(env.ctx);
    if secure && !env.config.flags.has(ConfigFlags::IPSEC) {
        return Err(DropReason::CannotEncrypt);
    }
    let fits = fits(env, packet, mtu(env, vtep));
    if !fits && packet.dont_fragment {
        return Err(DropReason::TooBig);
    }
    if secure && !env.dry() {
        tables::count_secure(IPSEC_SENT, u64::from(skb::len(env.ctx)));
    }
    // The kernel encrypts what its own VXLAN device sends; a header made here would leave in clear.
    if secure || !fits || !vtep.flags.has(VtepFlags::RESOLVED) {
        env.report(Verdict::Tunnelled, None, packet, decision);
        return through_device(env, &vtep.addr, vni, addresses);
    }
    env.report(
        Verdict::Encapsulated,
        None,
        packet,
        &Decision {
            ifindex: vtep.ifindex,
            ..*decision
        },
    );
    let hash = hash::of_flow(
        &packet.source,
        &packet.destination,
        packet.source_port,
        packet.destination_port,
        packet.protocol,
    );
    let inner_len = skb::len(env.ctx) as u16;
    if vtep.flags.has(VtepFlags::V6) {
        let mut to = grow::<{ encap::LEN_V6 }, { encap::LEN_V6 + ethernet::LEN }>(
            env,
            ENCAP_L3_IPV6,
            packet,
            addresses,
        )?;
        encap::write_v6(&mut to, vtep, vni, inner_len, hash);
    } else {
        let mut to = grow::<{ encap::LEN_V4 }, { encap::LEN_V4 + ethernet::LEN }>(
            env,
            ENCAP_L3_IPV4,
            packet,
            addresses,
        )?;
        encap::write_v4(&mut to, vtep, vni, inner_len, hash);
    }
    redirect(vtep)
}

/// The largest inner IP packet that fits the way to a VTEP, in bytes: less where it is to be encrypted.
#[inline(always)]
pub(super) fn mtu(env: &Env<'_>, vtep: &Vtep) -> u32 {
    if skb::is_secure(env.ctx) {
        vtep.mtu.saturating_sub(ESP_OVERHEAD)
    } else {
        vtep.mtu
    }
}

/// As [`mtu`], of the VTEP with this index; 0 where there is none.
#[inline(always)]
pub(super) fn mtu_to(env: &Env<'_>, index: u32) -> u32 {
    tables::vtep(index).map_or(0, |vtep| mtu(env, vtep))
}

#[inline(always)]
fn redirect(vtep: &Vtep) -> Outcome {
    // SAFETY: the helper has no condition.
    Ok(unsafe { bpf_redirect(vtep.ifindex, 0) } as i32)
}

/// Whether the packet, or each segment it stands for, is within `mtu` bytes.
#[inline(always)]
pub(super) fn fits(env: &Env<'_>, packet: &Packet, mtu: u32) -> bool {
    let gso = skb::gso_size(env.ctx);
    if gso != 0 {
        // The transport header is at most 60 bytes; the kernel has made segments that fit the sender's MTU.
        return u32::from(packet.transport - packet.network) + gso + 20 <= mtu;
    }
    skb::len(env.ctx).wrapping_sub(ethernet::LEN as u32) <= mtu
}

/// Makes room for `N` bytes of outer header, the inner Ethernet header behind it written (`ALL` bytes).
#[inline(always)]
fn grow<'a, const N: usize, const ALL: usize>(
    env: &Env<'a>,
    l3: u64,
    packet: &Packet,
    addresses: &impl InnerAddresses,
) -> Result<ViewMut<'a, N>, DropReason> {
    let flags = FIXED_GSO | ENCAP_L4_UDP | ENCAP_L2_ETH | ENCAP_L2 | l3;
    // SAFETY: the context is the program's own.
    if unsafe { bpf_skb_adjust_room(env.ctx.skb.skb, N as i32, BPF_ADJ_ROOM_MAC, flags) } != 0 {
        return Err(DropReason::HelperFailed);
    }
    let mut to = view_mut::<ALL>(&mut Skb(env.ctx), 0)?;
    addresses.put(&mut to, N);
    to.put(
        N + ethernet::TYPE,
        if packet.v6 { ethernet::IPV6 } else { ethernet::IPV4 },
    );
    Ok(to.narrow())
}

/// Leaves the outer header to the kernel: it resolves the neighbour, and fragments where the outer packet is too long.
#[inline(always)]
pub(super) fn through_device(
    env: &Env<'_>,
    remote: &Addr,
    vni: u32,
    addresses: &impl InnerAddresses,
) -> Outcome {
    {
        let mut header = view_mut::<{ ethernet::LEN }>(&mut Skb(env.ctx), 0)?;
        addresses.put(&mut header, 0);
    }
    // Policies of IPsec name both ends, and the kernel might choose another of the node's addresses.
    let local = tables::vtep(env.config.own_vtep).map_or(Addr::UNSPECIFIED, |own| own.addr);
    if tunnel(env.ctx, remote, &local, vni) != 0 {
        return Err(DropReason::HelperFailed);
    }
    // SAFETY: the helper has no condition.
    Ok(unsafe { bpf_redirect(env.config.vxlan_ifindex, 0) } as i32)
}

/// Sets the tunnel key: a function of its own, since the key is large, and stacks are small.
#[inline(never)]
fn tunnel(ctx: &TcContext, remote: &Addr, local: &Addr, vni: u32) -> i64 {
    // SAFETY: integers; all zero is a valid key.
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    key.tunnel_id = vni;
    key.tunnel_ttl = 64;
    let flags = if remote.is_v4() {
        key.__bindgen_anon_1.remote_ipv4 = u32::from_be(remote.v4_word());
        if local.is_v4() {
            key.__bindgen_anon_3.local_ipv4 = u32::from_be(local.v4_word());
        }
        u64::from(BPF_F_ZERO_CSUM_TX)
    } else {
        key.__bindgen_anon_1.remote_ipv6 = remote.words;
        if !local.is_v4() {
            key.__bindgen_anon_3.local_ipv6 = local.words;
        }
        u64::from(BPF_F_ZERO_CSUM_TX | BPF_F_TUNINFO_IPV6)
    };
    // SAFETY: the key lives on the stack and its size is given.
    unsafe {
        bpf_skb_set_tunnel_key(
            ctx.skb.skb,
            &raw mut key,
            size_of::<bpf_tunnel_key>() as u32,
            flags,
        )
    }
}
