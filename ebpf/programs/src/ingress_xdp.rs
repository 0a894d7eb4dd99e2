//! XDP on the uplinks: a packet to a published port goes on to its backend's node at once; all else passes untouched.
//!
//! ```text
//! not ours, options, fragments, ICMP     -> pass      (uplink_tc looks at it)
//! VXLAN from no member                   -> drop
//! VXLAN of an encrypted network, in clear -> drop
//! published, backend on this node        -> pass      (uplink_tc delivers it)
//! published, next hop unknown, too big   -> pass      (uplink_tc tunnels it, or answers)
//! published, backend elsewhere           -> encapsulate, XDP_TX or redirect
//! ```

use crate::context::word;
use crate::event::{self, Decision};
use crate::maps;
use crate::tables;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_xdp_adjust_head};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use core::mem::offset_of;
use essaim_abi::{
    Addr, Config, ConfigFlags, DropReason, Hook, PortFlags, Protocol, ServiceFlags, Verdict, Vtep, VtepFlags,
};
use essaim_packet::steer::Steering;
use essaim_packet::wire::{ethernet, ipv4, ipv6, protocol};
use essaim_packet::{Frame, FrameMut, Packet, ViewMut, encap, load, view, view_mut};

struct Xdp<'a>(&'a XdpContext);

// SAFETY: the kernel bounds the linear part of the frame by these two words of the context.
unsafe impl Frame for Xdp<'_> {
    #[inline(always)]
    fn data(&self) -> usize {
        // SAFETY: a field that XDP programs may read.
        unsafe { word::<{ offset_of!(xdp_md, data) }, _>(self.0.ctx) as usize }
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        // SAFETY: as above.
        unsafe { word::<{ offset_of!(xdp_md, data_end) }, _>(self.0.ctx) as usize }
    }
}

// SAFETY: XDP owns the frame.
unsafe impl FrameMut for Xdp<'_> {}

#[xdp(frags)]
#[inline(always)]
fn ingress_xdp(ctx: XdpContext) -> u32 {
    ingress(&ctx).unwrap_or(XDP_PASS)
}

/// `None`: left to the stack.
#[inline(always)]
fn ingress(ctx: &XdpContext) -> Option<u32> {
    let kind: u16 = load(&Xdp(ctx), ethernet::TYPE).ok()?;
    if kind == ethernet::IPV4 {
        handle::<false>(ctx)
    } else if kind == ethernet::IPV6 {
        handle::<true>(ctx)
    } else {
        None
    }
}

/// What the way of most packets needs, each word read once and kept in a register.
#[derive(Clone, Copy)]
struct Plain {
    source: Addr,
    destination: Addr,
    source_port: u16,
    destination_port: u16,
    len: u16,
    protocol: u8,
}

/// Reads a packet without options or extension headers, whole and linear; the rest is for tc.
#[inline(always)]
fn plain<const V6: bool>(frame: &Xdp<'_>) -> Option<Plain> {
    const IP: usize = ethernet::LEN;
    if V6 {
        let header = view::<{ IP + ipv6::LEN + 4 }>(frame, 0).ok()?;
        if header.get::<u8>(IP) >> 4 != 6 {
            return None;
        }
        return Some(Plain {
            source: header.address6(IP + ipv6::SOURCE),
            destination: header.address6(IP + ipv6::DESTINATION),
            source_port: header.get(IP + ipv6::LEN),
            destination_port: header.get(IP + ipv6::LEN + 2),
            len: u16::from_be(header.get(IP + ipv6::PAYLOAD_LEN)).saturating_add(ipv6::LEN as u16),
            protocol: header.get(IP + ipv6::NEXT),
        });
    }
    let header = view::<{ IP + ipv4::LEN + 4 }>(frame, 0).ok()?;
    if header.get::<u8>(IP) != 0x45 || header.get::<u16>(IP + ipv4::FRAGMENT) & (ipv4::MF | ipv4::OFFSET) != 0
    {
        return None;
    }
    let len = u16::from_be(header.get(IP + ipv4::TOTAL_LEN));
    if len < ipv4::LEN as u16 {
        return None;
    }
    Some(Plain {
        source: Addr::v4(header.get(IP + ipv4::SOURCE)),
        destination: Addr::v4(header.get(IP + ipv4::DESTINATION)),
        source_port: header.get(IP + ipv4::LEN),
        destination_port: header.get(IP + ipv4::LEN + 2),
        len,
        protocol: header.get(IP + ipv4::PROTOCOL),
    })
}

#[inline(always)]
fn handle<const V6: bool>(ctx: &XdpContext) -> Option<u32> {
    let packet = plain::<V6>(&Xdp(ctx))?;
    // The port first: most packets are for none that is published.
    let transport = Protocol::of_ip(packet.protocol)?;
    let Some(port) = tables::port(transport, packet.destination_port) else {
        if packet.protocol != protocol::UDP {
            return None;
        }
        let config = tables::config()?;
        if packet.destination_port != config.vxlan_port {
            return None;
        }
        let whole = essaim_packet::parse_ip(&Xdp(ctx), ethernet::LEN, V6).ok()?;
        return refused_vxlan(ctx, &whole);
    };
    if port.flags.has(PortFlags::HOST) || !tables::is_local(&packet.destination) {
        return None;
    }
    forward::<V6>(ctx, &packet, port.service, transport)
}

/// Drops VXLAN to this node from an address that is no member's, or of an encrypted network: that comes as ESP only.
#[inline(always)]
fn refused_vxlan(ctx: &XdpContext, packet: &Packet) -> Option<u32> {
    let config = tables::config()?;
    if packet.protocol != protocol::UDP
        || packet.destination_port != config.vxlan_port
        || !tables::is_local(&packet.destination)
    {
        return None;
    }
    // SAFETY: the value is not kept.
    let reason = if unsafe { maps::VTEP_BY_ADDR.get(packet.source) }.is_none() {
        DropReason::NotMember
    } else if encap::vni_behind(&Xdp(ctx), packet).is_ok_and(tables::is_encrypted) {
        DropReason::NotEncrypted
    } else {
        return None;
    };
    let trace_mark = trace_mark(ctx, config);
    if trace_mark == 0 {
        tables::count_drop(reason, u64::from(packet.len));
    }
    let decision = Decision {
        trace_mark,
        len: u32::from(packet.len),
        ..Decision::default()
    };
    if event::wanted(config, &decision) {
        event::report(Hook::IngressXdp, Verdict::Drop, Some(reason), packet, &decision);
    }
    Some(XDP_DROP)
}

/// The mark of a dry run, carried in the frame's metadata, which no driver fills; else 0.
#[inline(always)]
fn trace_mark(ctx: &XdpContext, config: &Config) -> u32 {
    if config.trace_mark == 0 {
        return 0;
    }
    // SAFETY: a field that XDP programs may read.
    let meta = unsafe { word::<{ offset_of!(xdp_md, data_meta) }, _>(ctx.ctx) as usize };
    if meta + size_of::<u32>() > Xdp(ctx).data() {
        return 0;
    }
    // SAFETY: the bytes lie before the end of the metadata (checked above).
    let mark = unsafe { (meta as *const u32).read_unaligned() };
    if mark == config.trace_mark { mark } else { 0 }
}

#[inline(always)]
fn forward<const V6: bool>(
    ctx: &XdpContext,
    packet: &Plain,
    service_index: u32,
    transport: Protocol,
) -> Option<u32> {
    let config = tables::config()?;
    let service = tables::service(service_index)?;
    if service.flags.has(ServiceFlags::ENCRYPTED) {
        return None;
    }
    let hash = tables::flow_hash(
        service,
        &packet.source,
        &packet.destination,
        packet.source_port,
        packet.destination_port,
        packet.protocol,
    );
    let slot = tables::slot(service.maglev, hash).ok()?;
    let owner = tables::owner(service.maglev, slot, 0);
    let backend = tables::backend(owner)?;
    if backend.ifindex != 0 {
        return None;
    }
    let vtep = tables::vtep(backend.vtep)?;
    let len = packet.len as usize + ethernet::LEN;
    if !vtep.flags.has(VtepFlags::RESOLVED)
        || u32::from(packet.len) > vtep.mtu
        || Xdp(ctx).data() + len > Xdp(ctx).data_end()
    {
        return None;
    }
    // SAFETY: a field that XDP programs may read.
    let ingress = unsafe { word::<{ offset_of!(xdp_md, ingress_ifindex) }, _>(ctx.ctx) as u32 };
    let token = token(config, ingress)?;
    let trace_mark = trace_mark(ctx, config);
    if trace_mark != 0 || config.flags.has(ConfigFlags::WATCH) {
        let decision = Decision {
            service: service_index,
            backend: owner,
            vtep: backend.vtep,
            ifindex: vtep.ifindex,
            vni: config.ingress_vni,
            opened: 0,
            trace_mark,
            len: len as u32,
        };
        let whole = essaim_packet::parse_ip(&Xdp(ctx), ethernet::LEN, V6).ok()?;
        event::report(Hook::IngressXdp, Verdict::Encapsulated, None, &whole, &decision);
        if trace_mark != 0 {
            return Some(XDP_PASS);
        }
    }
    let steering = Steering::request(transport, packet.destination_port, token, hash);
    tables::count_for(service_index, owner, len as u64, 0);
    let vni = config.ingress_vni;
    if vtep.flags.has(VtepFlags::V6) {
        let mut to = grow::<{ encap::LEN_V6 }, { encap::LEN_V6 + 12 }>(ctx, &steering)?;
        encap::write_v6(&mut to, vtep, vni, len as u16, hash);
    } else {
        let mut to = grow::<{ encap::LEN_V4 }, { encap::LEN_V4 + 12 }>(ctx, &steering)?;
        encap::write_v4(&mut to, vtep, vni, len as u16, hash);
    }
    Some(leave(vtep, ingress))
}

/// Makes room for `N` bytes of outer header, and puts the steering into the Ethernet addresses behind it (`ALL` bytes).
#[inline(always)]
fn grow<'a, const N: usize, const ALL: usize>(
    ctx: &'a XdpContext,
    steering: &Steering,
) -> Option<ViewMut<'a, N>> {
    // SAFETY: the context is the program's own.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -(N as i32)) } != 0 {
        return None;
    }
    let mut to = view_mut::<ALL>(&mut Xdp(ctx), 0).ok()?;
    steering.put(&mut to, N);
    Some(to.narrow())
}

/// The edge token of an uplink: its index plus one.
#[inline(always)]
pub(crate) fn token(config: &Config, ifindex: u32) -> Option<u8> {
    let uplinks = &config.uplinks;
    if uplinks[0] == ifindex {
        Some(1)
    } else if uplinks[1] == ifindex {
        Some(2)
    } else if uplinks[2] == ifindex {
        Some(3)
    } else if uplinks[3] == ifindex {
        Some(4)
    } else {
        None
    }
}

/// Back out where it came in, or out of the uplink that leads there.
#[inline(always)]
fn leave(vtep: &Vtep, ingress: u32) -> u32 {
    if vtep.ifindex == ingress {
        XDP_TX
    } else {
        // SAFETY: the helper has no condition.
        unsafe { bpf_redirect(vtep.ifindex, 0) as u32 }
    }
}
