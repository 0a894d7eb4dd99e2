use super::REQID;
use super::message::{ObservedPolicy, block, observed_policy, observed_sa, policy, sa, sa_id};
use essaim_abi::{IPSEC_MARK, IPSEC_MARK_MASK};
use essaim_ipsec::{Family, Op, Policy, SA_KEY_LENGTH, Sa, SaId, SaKey};
use netlink_packet_xfrm::XfrmMessage;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkSerializable};

fn between(source: &str, destination: &str) -> Sa {
    Sa {
        id: SaId {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            spi: 0x8123_4567,
        },
        key: SaKey::new([0x5a; SA_KEY_LENGTH]),
    }
}

fn bytes(message: &XfrmMessage) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The value of an attribute (`struct nlattr`: length, type, both little-endian here).
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<Vec<u8>> {
    while let Some((head, _)) = bytes.split_first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]);
        if kind == wanted {
            return Some(bytes[4..length].to_vec());
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// By `struct xfrm_usersa_info` and the attributes of `linux/xfrm.h`.
#[test]
fn an_association_is_what_the_kernel_expects() {
    for (source, destination, family) in [
        ("192.0.2.1", "192.0.2.2", 2_u16),
        ("2001:db8::1", "2001:db8::2", 10),
    ] {
        let wanted = between(source, destination);
        for is_inbound in [true, false] {
            let bytes = bytes(&XfrmMessage::AddSa(sa(&wanted, is_inbound)));
            let info = &bytes[..224];
            // After the selector (56 bytes): destination, SPI, protocol; then the source.
            assert_eq!(info[72..76], 0x8123_4567_u32.to_be_bytes());
            assert_eq!(info[76], 50, "ESP");
            assert_eq!(info[80..84], info_address(source)[..4]);
            assert_eq!(info[56..60], info_address(destination)[..4]);
            // Limits: none, in bytes and packets.
            assert!(info[96..128].iter().all(|byte| *byte == 0xff));
            assert_eq!(info[208..212], REQID.to_ne_bytes());
            assert_eq!(info[212..214], family.to_ne_bytes());
            assert_eq!(
                info[214..217],
                [0, 0, 128],
                "transport mode, no small window, ESN"
            );
            let aead = attribute(&bytes[224..], 18).expect("XFRMA_ALG_AEAD");
            assert!(aead.starts_with(b"rfc4106(gcm(aes))\0"));
            assert_eq!(aead[64..68], 288_u32.to_ne_bytes());
            assert_eq!(aead[68..72], 128_u32.to_ne_bytes());
            assert_eq!(aead[72..], [0x5a; SA_KEY_LENGTH]);
            let window = attribute(&bytes[224..], 23).expect("XFRMA_REPLAY_ESN_VAL");
            assert_eq!(window.len(), 24 + 4 * 32);
            assert_eq!(window[..4], 32_u32.to_ne_bytes());
            assert_eq!(window[20..24], 1024_u32.to_ne_bytes());
            let mark = is_inbound.then(|| IPSEC_MARK.to_ne_bytes().to_vec());
            assert_eq!(attribute(&bytes[224..], 29), mark, "XFRMA_SET_MARK");
            let bits = is_inbound.then(|| IPSEC_MARK_MASK.to_ne_bytes().to_vec());
            assert_eq!(attribute(&bytes[224..], 30), bits, "XFRMA_SET_MARK_MASK");
            assert_eq!(observed_sa(&sa(&wanted, is_inbound)).unwrap().sa, wanted);
        }
    }
}

fn info_address(text: &str) -> Vec<u8> {
    match text.parse().unwrap() {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[test]
fn what_is_said_of_policies_is_read_back_and_others_are_left_alone() {
    for (source, destination) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
        let wanted = Policy {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            port: 4789,
            spi: 0x8123_4567,
        };
        let said = policy(&wanted);
        assert_eq!(observed_policy(&said), Some(ObservedPolicy::Encrypts(wanted)));
        let mut foreign = said.clone();
        foreign.nlas.pop();
        assert_eq!(
            observed_policy(&foreign),
            None,
            "without the mark it is somebody else's"
        );
        let mut inbound = said;
        inbound.user_policy_info.direction = 0;
        assert_eq!(observed_policy(&inbound), None);
    }
    for family in Family::ALL {
        let said = block(family);
        assert_eq!(observed_policy(&said), Some(ObservedPolicy::Blocks(family)));
        assert!(
            said.user_policy_info.priority
                > policy(&Policy {
                    source: [192, 0, 2, 1].into(),
                    destination: [192, 0, 2, 2].into(),
                    port: 1,
                    spi: 1
                })
                .user_policy_info
                .priority,
            "the block counts last"
        );
    }
    let mut foreign = sa(&between("192.0.2.1", "192.0.2.2"), true);
    foreign.user_sa_info.reqid = 1;
    assert_eq!(observed_sa(&foreign), None);
}

#[test]
fn a_step_is_shown_without_its_key() {
    let sa = between("192.0.2.1", "192.0.2.2");
    let removed = sa_id(&sa.id);
    assert_eq!(removed.user_sa_id.spi, sa.id.spi);
    for op in [Op::AddInbound(sa.clone()), Op::AddOutbound(sa.clone())] {
        let shown = op.to_string();
        assert!(
            shown.contains("192.0.2.1 to 192.0.2.2, SPI 0x81234567") && !shown.contains("90"),
            "{shown}"
        );
    }
    // Nor does the message as a whole find its way into a log: nothing here prints one.
    let message = NetlinkMessage::from(XfrmMessage::AddSa(super::message::sa(&sa, true)));
    assert!(message.buffer_len() > 224);
}
