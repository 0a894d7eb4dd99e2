use super::*;
use crate::testing::{NOW, Seeded, cluster_of};
use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use pem::Pem;
use proptest::prelude::*;
use std::time::Duration;

fn key_pem(key: &PrivateKey) -> String {
    pem::encode(&Pem::new("PRIVATE KEY", key.to_der().to_vec()))
}

/// A root as an operator may bring it.
fn given(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let key = PrivateKey::generate(&mut Seeded::new(7)).unwrap();
    let mut params = authority(&mut Seeded::new(8)).unwrap();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Example Ltd");
    params.distinguished_name.push(
        DnType::CommonName,
        DnValue::PrintableString("Root".try_into().unwrap()),
    );
    set_validity(&mut params, NOW, NOW.after(ROOT_LIFE)).unwrap();
    change(&mut params);
    let certificate = params.self_signed(key.pair()).unwrap();
    (certificate.pem(), key_pem(&key))
}

#[test]
fn a_root_is_like_swarms() {
    let root = Root::create(NOW, &mut Seeded::new(1)).unwrap();
    let certificate = root.certificate();
    assert_eq!(certificate.subject_text(), "\"CN=swarm-ca\"");
    assert_eq!(certificate.subject_name(), certificate.issuer_name());
    assert_eq!(
        certificate.not_after().since(NOW),
        Duration::from_hours(20 * 365 * 24)
    );
    assert_eq!(NOW.since(certificate.not_before()), BACKDATE);
    let usage = certificate
        .with_x509(|x509| {
            (
                lacks(x509),
                x509.key_usage().unwrap().unwrap().value.flags,
                x509.verify_signature(None),
            )
        })
        .unwrap();
    // keyCertSign and cRLSign.
    assert_eq!((usage.0, usage.1, usage.2.is_ok()), (None, 0b0110_0000, true));
}

#[test]
fn node_certificates_are_like_swarms() {
    let mut entropy = Seeded::new(1);
    let root = Root::create(NOW, &mut entropy).unwrap();
    let cluster_id = cluster_of(&mut entropy);
    let key = PrivateKey::generate(&mut entropy).unwrap();
    let request = CertificateRequest::new(&key).unwrap();
    for (role, names) in [
        (
            Role::Manager,
            vec!["swarm-manager", "jaxx7nxf7kbjq38ruw07gqxq5", "swarm-ca"],
        ),
        (Role::Worker, vec!["swarm-worker", "jaxx7nxf7kbjq38ruw07gqxq5"]),
    ] {
        let node_id = NodeId::new("jaxx7nxf7kbjq38ruw07gqxq5").unwrap();
        let subject = Subject {
            cluster_id: cluster_id.clone(),
            role,
            node_id,
        };
        let issued = root
            .issue(&request, &subject, NodeLife::default(), NOW, &mut entropy)
            .unwrap();
        assert_eq!(issued.subject(), Ok(subject));
        assert_eq!(
            issued.subject_text(),
            format!("\"O={cluster_id}, OU={}, CN={}\"", role.unit(), names[1])
        );
        assert_eq!(issued.public_key(), key.public_key());
        assert_eq!(NOW.since(issued.not_before()), BACKDATE);
        assert_eq!(issued.not_after().since(NOW), NodeLife::default().duration());
        issued
            .with_x509(|x509| {
                let found = x509
                    .subject_alternative_name()
                    .unwrap()
                    .unwrap()
                    .value
                    .general_names
                    .clone();
                let found: Vec<_> = found.iter().map(|name| format!("{name:?}")).collect();
                let names: Vec<_> = names.iter().map(|name| format!("DNSName({name:?})")).collect();
                assert_eq!(found, names);
                // digitalSignature and keyEncipherment.
                assert_eq!(x509.key_usage().unwrap().unwrap().value.flags, 0b101);
                let usage = x509.extended_key_usage().unwrap().unwrap().value;
                assert!(usage.server_auth && usage.client_auth && !usage.any);
                assert!(!x509.basic_constraints().unwrap().unwrap().value.ca);
            })
            .unwrap();
    }
}

#[test]
fn serial_numbers_differ_for_the_same_node() {
    let mut entropy = Seeded::new(1);
    let root = Root::create(NOW, &mut entropy).unwrap();
    let request = CertificateRequest::new(&PrivateKey::generate(&mut entropy).unwrap()).unwrap();
    let subject = Subject {
        cluster_id: cluster_of(&mut entropy),
        role: Role::Worker,
        node_id: NodeId::random(&mut entropy).unwrap(),
    };
    let mut serial = || {
        let issued = root
            .issue(&request, &subject, NodeLife::default(), NOW, &mut entropy)
            .unwrap();
        issued.with_x509(|x509| x509.raw_serial().to_vec()).unwrap()
    };
    let (a, b) = (serial(), serial());
    assert_ne!(a, b);
    assert!(a.len() == 16 && a[0] & 0x80 == 0, "{a:?}");
}

#[test]
fn a_root_that_is_given_issues() {
    let (certificate, key) = given(|_| {});
    let root = Root::from_pem(&certificate, &key, NOW).unwrap();
    assert_eq!(root.certificate().to_pem(), certificate);
    assert_eq!(root.certificate().subject_text(), "\"O=Example Ltd, CN=Root\"");
    // Other algorithms.
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let mut params = authority(&mut Seeded::new(8)).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Root");
        set_validity(&mut params, NOW, NOW.after(ROOT_LIFE)).unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let root = Root::from_pem(&certificate, &key.serialize_pem(), NOW).unwrap();
        let next = Root::create(NOW, &mut Seeded::new(1)).unwrap();
        assert!(
            root.cross_sign(next.certificate(), NOW, &mut Seeded::new(2))
                .is_ok()
        );
        assert!(
            next.cross_sign(root.certificate(), NOW, &mut Seeded::new(2))
                .is_ok()
        );
    }
}

#[test]
fn keys_in_the_forms_that_openssl_writes_are_taken() {
    let (certificate, key) = given(|_| {});
    let key = PrivateKey::from_pem(&key).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key.to_der()).unwrap();
    let sec1 = AsDer::<EcPrivateKeyRfc5915Der<'_>>::as_der(&pair.private_key()).unwrap();
    let sec1 = pem::encode(&Pem::new("EC PRIVATE KEY", sec1.as_ref()));
    let root = Root::from_pem(&certificate, &sec1, NOW).unwrap();
    assert!(
        root.cross_sign(root.certificate(), NOW, &mut Seeded::new(2))
            .is_ok()
    );

    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let mut params = authority(&mut Seeded::new(8)).unwrap();
    params.distinguished_name.push(DnType::CommonName, "Root");
    set_validity(&mut params, NOW, NOW.after(ROOT_LIFE)).unwrap();
    let certificate = params.self_signed(&rsa).unwrap().pem();
    let root = Root::from_pem(&certificate, &rsa.serialize_pem(), NOW).unwrap();
    let stored = serde_json::from_str::<Root>(&serde_json::to_string(&root).unwrap()).unwrap();
    assert_eq!(stored, root);
}

#[test]
fn what_cannot_be_a_root_is_refused_with_the_reason() {
    let least = |params: &mut CertificateParams| {
        set_validity(
            params,
            NOW,
            NOW.after(LEAST_ROOT_LIFE.saturating_sub(Duration::from_secs(1))),
        )
        .unwrap();
    };
    let cases: Vec<((String, String), &str)> = vec![
        (
            given(|params| params.is_ca = IsCa::NoCa),
            "it has no basic constraints",
        ),
        (
            given(|params| params.is_ca = IsCa::ExplicitNoCa),
            "they say that it is no authority",
        ),
        (
            given(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
            "path length of 0 leaves no room",
        ),
        (
            given(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]),
            "key usage does not allow to sign certificates",
        ),
        (
            given(least),
            "ends at 2027-11-28T20:32:59Z, expected 2027-11-28T20:33:00Z or later",
        ),
        (
            given(|params| {
                set_validity(params, NOW.after(Duration::from_secs(1)), NOW.after(ROOT_LIFE)).unwrap();
            }),
            "it is not valid yet",
        ),
        (
            given(|params| {
                params.name_constraints = Some(rcgen::NameConstraints {
                    permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("example.com".into())],
                    excluded_subtrees: vec![],
                });
            }),
            "a certificate issued by the root \"O=Example Ltd, CN=Root\" would not be accepted",
        ),
    ];
    for ((certificate, key), expected) in cases {
        let text = Root::from_pem(&certificate, &key, NOW).unwrap_err().to_string();
        let expected = expected.replace("they say", "its basic constraints say");
        assert!(text.contains(&expected), "{text}, expected {expected}");
    }
    // One that ends a second later is taken.
    let (certificate, key) = given(|params| set_validity(params, NOW, NOW.after(LEAST_ROOT_LIFE)).unwrap());
    assert!(Root::from_pem(&certificate, &key, NOW).is_ok());
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let (certificate, key) = given(|_| {});
    let other = key_pem(&PrivateKey::generate(&mut Seeded::new(9)).unwrap());
    assert!(matches!(
        Root::from_pem(&certificate, &other, NOW),
        Err(RootError::KeyMismatch { .. })
    ));
    assert!(matches!(
        Root::from_pem(&certificate, "", NOW),
        Err(RootError::Key(KeyError::NotPem))
    ));
    assert!(matches!(
        Root::from_pem(&key, &key, NOW),
        Err(RootError::Certificate(CertificateError::NotPem))
    ));
    let two = certificate.repeat(2);
    assert!(matches!(
        Root::from_pem(&two, &key, NOW),
        Err(RootError::Certificate(CertificateError::Count { found: 2, .. }))
    ));
    // Signed by another than itself.
    let root = Root::create(NOW, &mut Seeded::new(1)).unwrap();
    let next = Root::create(NOW, &mut Seeded::new(2)).unwrap();
    let crossed = root
        .cross_sign(next.certificate(), NOW, &mut Seeded::new(3))
        .unwrap();
    assert!(matches!(
        Root::from_pem(&crossed.to_pem(), &key_pem(next.key()), NOW),
        Err(RootError::NotSelfSigned { .. })
    ));
}

#[test]
fn a_clock_beyond_the_year_9999_is_an_error() {
    let far = Timestamp::from_unix(253_402_300_800);
    assert!(matches!(
        Root::create(far, &mut Seeded::new(1)),
        Err(RootError::Write(_))
    ));
    assert!(matches!(
        Root::create(Timestamp::from_unix(u64::MAX), &mut Seeded::new(1)),
        Err(RootError::Write(_))
    ));
}

#[test]
fn keys_are_in_no_debug_text_and_survive_the_store() {
    let root = Root::create(NOW, &mut Seeded::new(1)).unwrap();
    assert!(format!("{root:?}").contains("PrivateKey(not shown)"));
    let json = serde_json::to_string(&root).unwrap();
    assert_eq!(serde_json::from_str::<Root>(&json).unwrap(), root);
    let secret = serde_json::from_str::<serde_json::Value>(&json).unwrap()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    for damage in [&secret[8..], "!", ""] {
        let text = serde_json::from_str::<Root>(&json.replace(&secret, damage))
            .unwrap_err()
            .to_string();
        assert!(!text.contains(&secret[20..40]), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn arbitrary_roots_never_panic(
        damage in proptest::collection::vec((0..420_usize, any::<u8>()), 1..4),
        text in "\\PC{0,80}",
    ) {
        let (certificate, key) = given(|_| {});
        let mut der = Certificate::from_pem(&certificate).unwrap().der().to_vec();
        for (at, with) in damage {
            if let Some(byte) = der.get_mut(at) {
                *byte = with;
            }
        }
        let damaged = pem::encode(&Pem::new("CERTIFICATE", der));
        if Root::from_pem(&damaged, &key, NOW).is_ok() {
            prop_assert_eq!(Certificate::from_pem(&damaged), Certificate::from_pem(&certificate));
        }
        prop_assert!(Root::from_pem(&text, &text, NOW).is_err());
    }
}
