use super::*;
use crate::testing::Seeded;
use proptest::prelude::*;
use rcgen::DnType::{CommonName, CustomDnType, OrganizationName, OrganizationalUnitName};

const ROOT: &str = include_str!("../../testdata/swarm-root.pem");
const NODE: &str = include_str!("../../testdata/swarm-node.pem");

#[test]
fn certificates_of_a_real_swarm_are_read_and_written_byte_for_byte() {
    let root = Certificate::from_pem(ROOT).unwrap();
    assert_eq!(root.to_pem(), ROOT);
    assert_eq!(root.subject_name(), root.issuer_name());
    assert_eq!(root.not_before().to_string(), "2026-11-28T20:28:00Z");
    let node = Certificate::from_pem(NODE).unwrap();
    assert_eq!(node.issuer_name(), root.subject_name());
    assert_eq!(
        node.subject(),
        Ok(Subject {
            cluster_id: ClusterId::new("u7m4wb5uvqfzsjhhemve7mlei").unwrap(),
            role: Role::Manager,
            node_id: NodeId::new("jaxx7nxf7kbjq38ruw07gqxq5").unwrap(),
        })
    );
    assert!(matches!(root.subject(), Err(CertificateError::Subject { problem, .. }) if problem == "no OU"));
}

#[test]
fn other_line_ends_and_words_around_change_nothing() {
    let root = Certificate::from_pem(ROOT).unwrap();
    let text = format!("the root:\r\n{}\r\nthat was it", ROOT.replace('\n', "\r\n"));
    assert_eq!(Certificate::from_pem(&text).unwrap().to_pem(), root.to_pem());
}

#[test]
fn the_number_of_certificates_is_checked() {
    assert_eq!(Certificate::from_pem(""), Err(CertificateError::NotPem));
    assert_eq!(
        Certificate::from_pem(&"-".repeat(MAX_PEM + 1)),
        Err(CertificateError::NotPem)
    );
    let two = format!("{ROOT}{NODE}");
    assert_eq!(
        Certificate::from_pem(&two),
        Err(CertificateError::Count {
            found: 2,
            expected: "exactly one"
        })
    );
    assert_eq!(Certificate::all_from_pem(&two).unwrap().len(), 2);
    let mut long = Certificate::from_pem(ROOT).unwrap().der().to_vec();
    long.push(0);
    assert_eq!(
        Certificate::from_der(&long),
        Err(CertificateError::Damaged("bytes follow its end"))
    );
}

#[test]
fn a_subject_with_two_units_belongs_to_no_node() {
    let key = crate::PrivateKey::generate(&mut Seeded::new(1)).unwrap();
    let subject = |attributes: &[(rcgen::DnType, &str)]| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, text) in attributes {
            params.distinguished_name.push(kind.clone(), *text);
        }
        Certificate::from_der(params.self_signed(key.pair()).unwrap().der())
            .unwrap()
            .subject()
    };
    let (o, cn) = ("u7m4wb5uvqfzsjhhemve7mlei", "jaxx7nxf7kbjq38ruw07gqxq5");
    let ou = || CustomDnType(vec![2, 5, 4, 11]);
    for (attributes, problem) in [
        (
            vec![
                (OrganizationName, o),
                (OrganizationalUnitName, "swarm-worker"),
                (CommonName, cn),
            ],
            "",
        ),
        (
            vec![
                (OrganizationName, o),
                (OrganizationalUnitName, "swarm-worker"),
                (ou(), "swarm-manager"),
                (CommonName, cn),
            ],
            "more than one OU",
        ),
        (
            vec![
                (OrganizationName, o),
                (OrganizationalUnitName, "swarm-ca"),
                (CommonName, cn),
            ],
            "found OU \"swarm-ca\", expected swarm-worker or swarm-manager",
        ),
        (
            vec![
                (OrganizationName, "x"),
                (OrganizationalUnitName, "swarm-worker"),
                (CommonName, cn),
            ],
            "cluster id \"x\" is not",
        ),
        (
            vec![
                (OrganizationName, o),
                (OrganizationalUnitName, "swarm-worker"),
                (CommonName, "x\n"),
            ],
            "node id \"x\\n\" is not",
        ),
    ] {
        match subject(&attributes) {
            Ok(_) => assert_eq!(problem, ""),
            Err(error) => {
                let text = error.to_string();
                assert!(
                    !problem.is_empty() && text.contains(problem),
                    "{text}, expected {problem}"
                );
                assert!(!text.contains('\n'), "{text}");
            }
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Certificate::from_der(&bytes);
        let _ = Certificate::all_from_pem(&String::from_utf8_lossy(&bytes));
        let _ = Certificate::all_from_pem(&pem::encode(&Pem::new("CERTIFICATE", bytes)));
    }

    #[test]
    fn damaged_certificates_never_panic(
        damage in proptest::collection::vec((0..620_usize, any::<u8>()), 1..4),
        end in 0..620_usize,
    ) {
        for text in [ROOT, NODE] {
            let mut der = Certificate::from_pem(text).unwrap().der().to_vec();
            for (at, with) in &damage {
                if let Some(byte) = der.get_mut(*at) {
                    *byte = *with;
                }
            }
            if let Ok(certificate) = Certificate::from_der(&der) {
                let _ = (certificate.subject(), certificate.subject_text(), format!("{certificate:?}"));
                prop_assert_eq!(Certificate::from_pem(&certificate.to_pem()), Ok(certificate));
            }
            der.truncate(end);
            let _ = Certificate::from_der(&der);
        }
    }
}
