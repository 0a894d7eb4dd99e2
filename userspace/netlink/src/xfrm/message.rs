//! What is said to the kernel, and what it says.

use super::REQID;
use essaim_abi::{IPSEC_MARK, IPSEC_MARK_MASK};
use essaim_ipsec::{Family, ObservedSa, Policy, SA_KEY_LENGTH, Sa, SaId, SaKey};
use netlink_packet_xfrm::constants::{
    AF_INET, AF_INET6, IPPROTO_ESP, XFRM_MODE_TRANSPORT, XFRM_POLICY_ALLOW, XFRM_POLICY_BLOCK,
    XFRM_POLICY_OUT, XFRM_STATE_ESN,
};
use netlink_packet_xfrm::policy::{DelGetMessage as PolicyId, ModifyMessage as PolicyMessage};
use netlink_packet_xfrm::state::{DelGetMessage as StateId, GetDumpMessage, ModifyMessage as StateMessage};
use netlink_packet_xfrm::{
    Address, AlgAead, Id, Mark, ReplayEsn, Selector, UserPolicyId, UserPolicyInfo, UserSaId, UserSaInfo,
    UserTemplate, XFRM_ALG_AEAD_NAME_LEN, XfrmAttrs, XfrmMessage,
};
use std::net::IpAddr;

/// AES-GCM as ESP has it (RFC 4106), in the kernel's words.
const ALGORITHM: &[u8] = b"rfc4106(gcm(aes))";
/// The integrity check value, in bits: all of it.
const ICV_BITS: u32 = 128;
/// How many packets late, or out of order, one may be; in packets, a multiple of 32. Too few: on a link that reorders, or
/// with many processors, good packets are dropped. Too many: memory, a bit each.
const REPLAY_WINDOW: u32 = 1024;
/// The priorities of policies: the lower number counts first.
const ENCRYPT_PRIORITY: u32 = 0xe5;
const BLOCK_PRIORITY: u32 = 0xe5_0000;
const UDP: u8 = 17;

/// A policy of essaim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObservedPolicy {
    Encrypts(Policy),
    Blocks(Family),
}

pub(super) fn all_sas() -> XfrmMessage {
    XfrmMessage::GetDumpSa(GetDumpMessage::default())
}

pub(super) fn all_policies() -> XfrmMessage {
    XfrmMessage::GetPolicy(PolicyId::default())
}

/// An association: transport mode, numbers of 64 bits, a window against replay. An inbound one marks what it decrypted.
pub(super) fn sa(sa: &Sa, is_inbound: bool) -> StateMessage {
    let Sa { id, key } = sa;
    let mut name = [0; XFRM_ALG_AEAD_NAME_LEN];
    for (to, from) in name.iter_mut().zip(ALGORITHM) {
        *to = *from;
    }
    let words = REPLAY_WINDOW / 32;
    let mut nlas = vec![
        XfrmAttrs::EncryptionAlgAead(AlgAead {
            alg_name: name,
            alg_key_len: 8 * u32::try_from(SA_KEY_LENGTH).unwrap_or(0),
            alg_icv_len: ICV_BITS,
            alg_key: key.bytes().to_vec(),
        }),
        XfrmAttrs::ReplayStateEsn(ReplayEsn {
            bmp_len: words,
            replay_window: REPLAY_WINDOW,
            bmp: vec![0; usize::try_from(words).unwrap_or(0)],
            ..ReplayEsn::default()
        }),
    ];
    if is_inbound {
        nlas.push(XfrmAttrs::MarkVal(IPSEC_MARK));
        nlas.push(XfrmAttrs::MarkMask(IPSEC_MARK_MASK));
    }
    StateMessage {
        user_sa_info: UserSaInfo {
            id: Id {
                daddr: Address::from_ip(&id.destination),
                spi: id.spi,
                proto: IPPROTO_ESP,
            },
            saddr: Address::from_ip(&id.source),
            reqid: REQID,
            family: family_of(id.destination),
            mode: XFRM_MODE_TRANSPORT,
            flags: XFRM_STATE_ESN,
            ..UserSaInfo::default()
        },
        nlas,
    }
}

pub(super) fn sa_id(id: &SaId) -> StateId {
    StateId {
        user_sa_id: UserSaId {
            daddr: Address::from_ip(&id.destination),
            spi: id.spi,
            family: family_of(id.destination),
            proto: IPPROTO_ESP,
        },
        nlas: vec![XfrmAttrs::SrcAddr(Address::from_ip(&id.source))],
    }
}

/// What is marked, and goes to a peer's VXLAN port, goes through this association.
pub(super) fn policy(policy: &Policy) -> PolicyMessage {
    let template = UserTemplate {
        id: Id {
            daddr: Address::from_ip(&policy.destination),
            spi: policy.spi,
            proto: IPPROTO_ESP,
        },
        family: family_of(policy.destination),
        saddr: Address::from_ip(&policy.source),
        reqid: REQID,
        mode: XFRM_MODE_TRANSPORT,
        ..UserTemplate::default()
    };
    PolicyMessage {
        user_policy_info: UserPolicyInfo {
            selector: selector(policy),
            priority: ENCRYPT_PRIORITY,
            direction: XFRM_POLICY_OUT,
            action: XFRM_POLICY_ALLOW,
            ..UserPolicyInfo::default()
        },
        nlas: vec![XfrmAttrs::Template(vec![template]), mark()],
    }
}

pub(super) fn policy_id(policy: &Policy) -> PolicyId {
    PolicyId {
        user_policy_id: UserPolicyId {
            selector: selector(policy),
            direction: XFRM_POLICY_OUT,
            ..UserPolicyId::default()
        },
        nlas: vec![mark()],
    }
}

/// Whatever is marked is blocked, where no policy of higher priority has it.
pub(super) fn block(family: Family) -> PolicyMessage {
    PolicyMessage {
        user_policy_info: UserPolicyInfo {
            selector: anything(family),
            priority: BLOCK_PRIORITY,
            direction: XFRM_POLICY_OUT,
            action: XFRM_POLICY_BLOCK,
            ..UserPolicyInfo::default()
        },
        nlas: vec![mark()],
    }
}

pub(super) fn block_id(family: Family) -> PolicyId {
    PolicyId {
        user_policy_id: UserPolicyId {
            selector: anything(family),
            direction: XFRM_POLICY_OUT,
            ..UserPolicyId::default()
        },
        nlas: vec![mark()],
    }
}

/// An association of essaim; none where it is somebody else's, or not as essaim makes them.
pub(super) fn observed_sa(found: &StateMessage) -> Option<ObservedSa> {
    let info = &found.user_sa_info;
    if info.reqid != REQID || info.id.proto != IPPROTO_ESP || info.mode != XFRM_MODE_TRANSPORT {
        return None;
    }
    let key = found.nlas.iter().find_map(|attribute| match attribute {
        XfrmAttrs::EncryptionAlgAead(algorithm) => algorithm.alg_key.as_slice().first_chunk().copied(),
        _ => None,
    })?;
    Some(ObservedSa {
        sa: Sa {
            id: SaId {
                source: address(info.family, info.saddr)?,
                destination: address(info.family, info.id.daddr)?,
                spi: info.id.spi,
            },
            key: SaKey::new(key),
        },
        packets: info.lifetime_cur.packets,
        bytes: info.lifetime_cur.bytes,
        added: info.lifetime_cur.add_time,
        replayed: u64::from(info.stats.replay),
        forged: u64::from(info.stats.integrity_failed),
    })
}

/// A policy of essaim; none where it is somebody else's.
pub(super) fn observed_policy(found: &PolicyMessage) -> Option<ObservedPolicy> {
    let info = &found.user_policy_info;
    if info.direction != XFRM_POLICY_OUT || !found.nlas.contains(&mark()) {
        return None;
    }
    let selector = &info.selector;
    match info.action {
        XFRM_POLICY_BLOCK if selector.prefixlen_d == 0 && selector.proto == 0 => {
            let family = match selector.family {
                AF_INET => Family::V4,
                AF_INET6 => Family::V6,
                _ => return None,
            };
            Some(ObservedPolicy::Blocks(family))
        }
        XFRM_POLICY_ALLOW => {
            let spi = found.nlas.iter().find_map(|attribute| match attribute {
                XfrmAttrs::Template(templates) => templates.first().map(|template| template.id.spi),
                _ => None,
            });
            Some(ObservedPolicy::Encrypts(Policy {
                source: address(selector.family, selector.saddr)?,
                destination: address(selector.family, selector.daddr)?,
                port: selector.dport,
                // Without one it encrypts nothing: it is replaced.
                spi: spi.unwrap_or(0),
            }))
        }
        _ => None,
    }
}

fn mark() -> XfrmAttrs {
    XfrmAttrs::Mark(Mark {
        value: IPSEC_MARK,
        mask: IPSEC_MARK_MASK,
    })
}

fn selector(policy: &Policy) -> Selector {
    let bits = if policy.destination.is_ipv4() { 32 } else { 128 };
    Selector {
        daddr: Address::from_ip(&policy.destination),
        saddr: Address::from_ip(&policy.source),
        dport: policy.port,
        dport_mask: u16::MAX,
        family: family_of(policy.destination),
        prefixlen_d: bits,
        prefixlen_s: bits,
        proto: UDP,
        ..Selector::default()
    }
}

fn anything(family: Family) -> Selector {
    Selector {
        family: match family {
            Family::V4 => AF_INET,
            Family::V6 => AF_INET6,
        },
        ..Selector::default()
    }
}

const fn family_of(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

fn address(family: u16, address: Address) -> Option<IpAddr> {
    match family {
        AF_INET => Some(address.to_ipv4().into()),
        AF_INET6 => Some(address.to_ipv6().into()),
        _ => None,
    }
}
