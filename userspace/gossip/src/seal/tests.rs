use super::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

fn random() -> StdRng {
    StdRng::from_seed([7; 32])
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn key(byte: u8) -> Key {
    Key::new([byte; KEY_LENGTH])
}

fn sealer(node: &str, ring: KeyRing) -> Sealer {
    Sealer::new(name(node), ring, &mut random())
}

fn sealed(ring: KeyRing, to: &str) -> Vec<u8> {
    let mut from = sealer("a", ring);
    from.seal(
        Carrier::Datagram,
        Epoch::from_number(9),
        &name(to),
        b"content",
        &mut random(),
    )
}

fn opened(by: &Sealer, sealed: &[u8]) -> Result<Vec<u8>, DropReason> {
    let header = Header::read(Carrier::Datagram, sealed)?;
    by.open(&header, sealed)
}

#[test]
fn what_was_sealed_for_a_node_opens_there_and_says_who_sent_it() {
    let sealed = sealed(KeyRing::new(key(1)), "b");
    let header = Header::read(Carrier::Datagram, &sealed).unwrap();
    assert_eq!((header.sender.as_str(), header.epoch.number()), ("a", 9));
    let receiver = sealer("b", KeyRing::new(key(1)));
    assert_eq!(receiver.open(&header, &sealed).unwrap(), b"content");
}

#[test]
fn it_opens_nowhere_else_and_under_no_other_key() {
    let sealed = sealed(KeyRing::new(key(1)), "b");
    for (node, byte) in [("c", 1), ("b", 2)] {
        let receiver = sealer(node, KeyRing::new(key(byte)));
        assert_eq!(opened(&receiver, &sealed), Err(DropReason::Sealed));
    }
}

#[test]
fn any_changed_byte_and_any_cut_is_refused() {
    let sealed = sealed(KeyRing::new(key(1)), "b");
    let receiver = sealer("b", KeyRing::new(key(1)));
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(opened(&receiver, &changed).is_err(), "byte {at}");
        assert!(opened(&receiver, &sealed[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn a_datagram_is_no_frame() {
    let sealed = sealed(KeyRing::new(key(1)), "b");
    assert_eq!(Header::read(Carrier::Frame, &sealed), Err(DropReason::Malformed));
}

#[test]
fn neighbouring_steps_of_a_rotation_understand_each_other() {
    let steps = [
        KeyRing::new(key(1)),
        KeyRing::new(key(1)).with_next(key(2)),
        KeyRing::new(key(2)).with_previous(key(1)),
        KeyRing::new(key(2)),
    ];
    for pair in steps.windows(2) {
        for (from, to) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            let receiver = sealer("b", to.clone());
            assert_eq!(opened(&receiver, &sealed(from.clone(), "b")).unwrap(), b"content");
        }
    }
    let ahead = sealed(steps[3].clone(), "b");
    assert_eq!(
        opened(&sealer("b", steps[0].clone()), &ahead),
        Err(DropReason::Sealed)
    );
}

#[test]
fn a_used_up_count_draws_a_new_prefix() {
    let mut random = random();
    let mut nonces = Nonces::new(&mut random);
    let first = nonces.next(&mut random);
    let second = nonces.next(&mut random);
    assert_eq!(first[..8], second[..8]);
    assert_ne!(first, second);
    nonces.count = u32::MAX;
    let last = nonces.next(&mut random);
    let after = nonces.next(&mut random);
    assert_ne!(last[..8], after[..8]);
}

#[test]
fn a_key_does_not_show_its_bytes() {
    assert_eq!(format!("{:?}", key(0x5a)), "Key(..)");
}
