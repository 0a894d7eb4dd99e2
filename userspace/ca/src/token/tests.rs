use super::*;
use crate::testing::Seeded;
use proptest::prelude::*;

/// Of a swarm of dockerd 20.10, as `testdata/swarm-root.pem`.
const WORKER: &str = "SWMTKN-1-0qnwifd5rc3wk8e9bpsbc8ntl1kwnouydu9mcphdxvh8okxjcz-3qxwan80ubxnxqbtk03gyn15t";
const MANAGER: &str = "SWMTKN-1-0qnwifd5rc3wk8e9bpsbc8ntl1kwnouydu9mcphdxvh8okxjcz-dmlclnmi4qh49h7kuw7pe4eac";
const ROOT: &str = include_str!("../../testdata/swarm-root.pem");

fn token(text: &str) -> JoinToken {
    text.parse().unwrap()
}

#[test]
fn tokens_of_a_real_swarm_are_for_its_root() {
    for text in [WORKER, MANAGER] {
        let token = token(text);
        assert_eq!(token.reveal(), text);
        assert_eq!(token.check_root(ROOT).unwrap().to_pem(), ROOT);
    }
    let digest = RootDigest::of(&Certificate::from_pem(ROOT).unwrap()).to_string();
    assert_eq!(
        digest,
        "sha256:1db791ff0aa1a7a67dfb79f50406ca24076ab107bd8a1001f1284d7fa6e59443"
    );
}

#[test]
fn another_root_than_the_tokens_is_refused() {
    let other = include_str!("../../testdata/swarm-node.pem");
    assert!(matches!(
        token(WORKER).check_root(other),
        Err(TokenError::OtherRoot { .. })
    ));
    assert!(matches!(token(WORKER).check_root(""), Err(TokenError::Root(_))));
    assert!(matches!(
        token(WORKER).check_root(&format!("{ROOT}{other}")),
        Err(TokenError::Root(_))
    ));
}

#[test]
fn what_is_not_a_token_is_refused_with_the_reason() {
    let (root, secret) = ("0".repeat(50), "0".repeat(25));
    for (text, expected) in [
        (String::new(), TokenFormatError::Shape),
        ("SWMTKN".into(), TokenFormatError::Shape),
        ("SWMKEY-1-abc".into(), TokenFormatError::Shape),
        (format!("SWMTKN-1-{root}"), TokenFormatError::Shape),
        (format!("SWMTKN-1-{root}-{secret}-"), TokenFormatError::Shape),
        (format!("SWMTKN-1-{root}0-{secret}"), TokenFormatError::Shape),
        (
            format!("SWMTKN-1-{root}-{}", &secret[1..]),
            TokenFormatError::Shape,
        ),
        (
            format!("SWMTKN-1-{}-{secret}", "A".repeat(50)),
            TokenFormatError::Shape,
        ),
        (format!(" SWMTKN-1-{root}-{secret}"), TokenFormatError::Shape),
        (format!("SWMTKN-3-{root}-{secret}"), TokenFormatError::Version),
        (format!("SWMTKN-2-1-{root}-{secret}"), TokenFormatError::Version),
        (
            format!("SWMTKN-1-{}-{secret}", "z".repeat(50)),
            TokenFormatError::Overflow,
        ),
        (
            format!("SWMTKN-1-{root}-{}", "z".repeat(25)),
            TokenFormatError::Overflow,
        ),
    ] {
        assert_eq!(text.parse::<JoinToken>().unwrap_err(), expected, "{text}");
    }
}

#[test]
fn each_token_gives_its_role_and_a_rotated_one_none() {
    let mut entropy = Seeded::new(1);
    let root = RootDigest::of(&Certificate::from_pem(ROOT).unwrap());
    let mut tokens = JoinTokens::generate(root, &mut entropy).unwrap();
    let (worker, manager) = (tokens.of(Role::Worker).clone(), tokens.of(Role::Manager).clone());
    assert_eq!(tokens.role_of(&worker), Ok(Role::Worker));
    assert_eq!(tokens.role_of(&manager), Ok(Role::Manager));

    tokens.rotate(Role::Worker, &mut entropy).unwrap();
    assert_eq!(tokens.role_of(&worker), Err(TokenError::Secret));
    assert_eq!(tokens.role_of(tokens.of(Role::Worker)), Ok(Role::Worker));
    assert_eq!(tokens.role_of(&manager), Ok(Role::Manager));
    tokens.rotate(Role::Manager, &mut entropy).unwrap();
    assert_eq!(tokens.role_of(&manager), Err(TokenError::Secret));

    let other = JoinToken {
        root: RootDigest([1; 32]),
        secret: tokens.manager.secret,
    };
    assert_eq!(
        tokens.role_of(&other),
        Err(TokenError::OtherRoot {
            found: RootDigest([1; 32]),
            expected: root
        })
    );
}

#[test]
fn secrets_are_in_no_debug_text_and_no_error() {
    let tokens = JoinTokens {
        worker: token(WORKER),
        manager: token(MANAGER),
    };
    let secret = MANAGER.rsplit('-').next().unwrap();
    let errors = [
        format!("{tokens:?}"),
        format!("{:?}", tokens.role_of(&token(&MANAGER.replace("-d", "-e")))),
        MANAGER
            .replace("SWMTKN-1", "SWMTKN-9")
            .parse::<JoinToken>()
            .unwrap_err()
            .to_string(),
        serde_json::from_str::<JoinTokens>(&format!("{{\"worker\":\"x{MANAGER}\",\"manager\":\"\"}}"))
            .unwrap_err()
            .to_string(),
    ];
    for text in errors {
        assert!(!text.contains(&secret[1..]), "{text}");
    }
}

#[test]
fn tokens_survive_the_store() {
    let tokens = JoinTokens {
        worker: token(WORKER),
        manager: token(MANAGER),
    };
    let json = serde_json::to_string(&tokens).unwrap();
    assert_eq!(
        json,
        format!("{{\"worker\":\"{WORKER}\",\"manager\":\"{MANAGER}\"}}")
    );
    let back: JoinTokens = serde_json::from_str(&json).unwrap();
    assert!(back.worker.is(&tokens.worker) && back.manager.is(&tokens.manager));
}

proptest! {
    #[test]
    fn tokens_read_back_and_compare_by_both_parts(root: [u8; 32], secret: [u8; 16], bit in 0..384_usize) {
        let token = JoinToken { root: RootDigest(root), secret };
        let back: JoinToken = token.reveal().parse().unwrap();
        prop_assert!(back.is(&token));
        let mut other = token.clone();
        let byte = if bit < 256 { &mut other.root.0[bit / 8] } else { &mut other.secret[bit / 8 - 32] };
        *byte ^= 1 << (bit % 8);
        prop_assert!(!other.is(&token));
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,100}|SWMTKN-[0-9]-[0-9a-z]{48,52}-[0-9a-z]{23,27}|(SWMTKN|-|1|é){0,9}") {
        if let Ok(token) = text.parse::<JoinToken>() {
            prop_assert_eq!(token.reveal(), text);
        }
    }
}
