//! The program as runtimes run it, without a daemon: what it says of itself, and each error on standard output.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// The environment of a call about a container.
const OF_CONTAINER: [(&str, &str); 4] = [
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/run/netns/box"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_PATH", "/opt/cni/bin"),
];

fn run(environment: &[(&str, &str)], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_essaim-cni"))
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // What fails by its environment does not read it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn conf(version: &str) -> Value {
    json!({
        "cniVersion": version, "name": "app", "type": "essaim-cni", "socket": "/nonexistent/cni.sock",
        "cni.dev/valid-attachments": [],
    })
}

fn error(environment: &[(&str, &str)], input: &str) -> (u64, String) {
    let ran = run(environment, input);
    assert!(!ran.status.success(), "{ran:?}");
    let said: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert!(
        said["cniVersion"].is_string() && said["msg"].is_string(),
        "{said}"
    );
    let details = said["details"].as_str().unwrap().to_owned();
    (said["code"].as_u64().unwrap(), details)
}

#[test]
fn it_says_which_versions_it_speaks() {
    let ran = run(
        &[("CNI_COMMAND", "VERSION")],
        &json!({"cniVersion": "1.1.0"}).to_string(),
    );
    assert!(ran.status.success(), "{ran:?}");
    let said: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(said["cniVersion"], "1.1.0");
    assert_eq!(
        said["supportedVersions"],
        json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
    );
}

#[test]
fn each_bad_call_has_its_code_and_says_what_is_bad() {
    let with = |command: &'static str, without: &str| {
        let mut all = vec![("CNI_COMMAND", command)];
        all.extend(OF_CONTAINER.into_iter().filter(|(name, _)| *name != without));
        all
    };
    let good = conf("1.1.0").to_string();
    let cases = [
        (with("FLY", ""), good.clone(), 4, "FLY"),
        (with("ADD", "CNI_CONTAINERID"), good.clone(), 4, "CNI_CONTAINERID"),
        (with("ADD", "CNI_NETNS"), good.clone(), 4, "CNI_NETNS"),
        (with("CHECK", "CNI_IFNAME"), good.clone(), 4, "CNI_IFNAME"),
        (with("GC", "CNI_PATH"), good.clone(), 4, "CNI_PATH"),
        (with("ADD", ""), "{".to_owned(), 6, "EOF"),
        (with("ADD", ""), conf("0.2.0").to_string(), 1, "0.2.0"),
        (with("CHECK", ""), conf("0.3.1").to_string(), 1, "CHECK"),
        (
            with("ADD", ""),
            json!({"cniVersion": "1.1.0", "type": "x"}).to_string(),
            7,
            "name",
        ),
        // Nobody is there to ask.
        (with("ADD", ""), good.clone(), 11, "/nonexistent/cni.sock"),
        (
            with("DEL", "CNI_NETNS"),
            good.clone(),
            11,
            "is essaim node running?",
        ),
        (with("GC", ""), good.clone(), 11, "/nonexistent/cni.sock"),
        (with("STATUS", ""), good, 50, "/nonexistent/cni.sock"),
    ];
    for (environment, input, code, says) in cases {
        let (found, details) = error(&environment, &input);
        assert_eq!(found, code, "{environment:?}: {details}");
        assert!(details.contains(says), "{details:?} does not say {says:?}");
    }
}
