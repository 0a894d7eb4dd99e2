use super::*;
use crate::testing::{NOW, Seeded, cluster_of, issue};
use crate::{DesiredRoot, NodeLife, RootCa, TlsInfo};

fn made() -> (RootCa, Identity, Seeded) {
    let mut entropy = Seeded::new(1);
    let ca = RootCa::create(NOW, &mut entropy).unwrap();
    let cluster = cluster_of(&mut entropy);
    let identity = issue(
        &ca,
        &cluster,
        Role::Worker,
        NodeLife::default(),
        NOW,
        &mut entropy,
    );
    (ca, identity, entropy)
}

#[test]
fn parts_that_do_not_fit_make_no_identity() {
    let (ca, identity, mut entropy) = made();
    let chain: Vec<_> = identity.chain().cloned().collect();
    let new = |key: &PrivateKey, chain: &[Certificate], trust: &TrustBundle| {
        Identity::new(key.clone(), chain.to_vec(), trust.clone())
    };
    assert_eq!(new(identity.key(), &chain, &ca.trust()), Ok(identity.clone()));
    let other = PrivateKey::generate(&mut entropy).unwrap();
    assert!(matches!(
        new(&other, &chain, &ca.trust()),
        Err(IdentityError::KeyMismatch { .. })
    ));
    let elsewhere = RootCa::create(NOW, &mut entropy).unwrap().trust();
    let refused = new(identity.key(), &chain, &elsewhere);
    assert!(
        matches!(refused, Err(IdentityError::Untrusted(Refusal::Authority { .. }))),
        "{refused:?}"
    );
    assert!(matches!(
        identity.with_trust(elsewhere),
        Err(IdentityError::Untrusted(_))
    ));
    assert!(matches!(
        new(identity.key(), &[], &ca.trust()),
        Err(IdentityError::Certificate(_))
    ));
    let long = vec![chain[0].clone(); 9];
    assert!(matches!(
        new(identity.key(), &long, &ca.trust()),
        Err(IdentityError::Certificate(_))
    ));
}

#[test]
fn the_issuer_is_reported_as_swarm_does() {
    let (mut ca, identity, mut entropy) = made();
    let info = TlsInfo::of(&identity).unwrap();
    assert_eq!(info.issuer_subject, ca.root().subject_name());
    assert_eq!(info.issuer_public_key, ca.root().public_key());
    ca.rotate(DesiredRoot::New, NOW, &mut entropy).unwrap();
    // Both roots have the same name; the key tells them apart.
    let trusting = identity.with_trust(ca.trust()).unwrap();
    assert_eq!(
        TlsInfo::of(&trusting).unwrap().issuer_public_key,
        info.issuer_public_key
    );
    let cluster = identity.peer().cluster_id.clone();
    let renewed = issue(
        &ca,
        &cluster,
        Role::Worker,
        NodeLife::default(),
        NOW,
        &mut entropy,
    );
    assert_eq!(
        TlsInfo::of(&renewed).unwrap().issuer_public_key,
        ca.rotation().unwrap().next().public_key()
    );
}

#[test]
fn an_identity_shows_no_key() {
    let (_, identity, _) = made();
    assert!(format!("{identity:?}").contains("PrivateKey(not shown)"));
}
