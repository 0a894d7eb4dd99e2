//! `essaim check` on good and bad files: what it prints, word for word, and its exit code.
//!
//! Each `check/NAME.toml` has its expected output beside it in `check/NAME.out`. To write those anew after an intended
//! change, run the tests with `ESSAIM_BLESS=1` and read the difference.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

use std::path::Path;
use std::process::{Command, Output};

fn essaim(args: &[&str]) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    Command::new(env!("CARGO_BIN_EXE_essaim"))
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn golden(name: &str, args: &[&str], exit: i32) {
    let output = essaim(args);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}");
    assert_eq!(output.status.code(), Some(exit), "{name}");
    let found = String::from_utf8(output.stdout).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/check")
        .join(name);
    if std::env::var_os("ESSAIM_BLESS").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(found, expected, "{name}");
}

#[test]
fn the_documented_example_is_valid() {
    golden("example.out", &["check", "../../../docs/catalog-example.toml"], 0);
    golden(
        "example.json",
        &["check", "../../../docs/catalog-example.toml", "--format", "json"],
        0,
    );
}

#[test]
fn every_error_is_told_at_once_with_its_place() {
    for name in ["syntax", "fields", "addresses", "ports", "references"] {
        golden(
            &format!("{name}.out"),
            &["check", &format!("check/{name}.toml")],
            1,
        );
    }
    golden(
        "ports.json",
        &["check", "check/ports.toml", "--format", "json"],
        1,
    );
}

#[test]
fn a_file_that_is_not_there_is_one_clear_error() {
    let output = essaim(&["check", "check/absent.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        said,
        "essaim: failed to read the catalog check/absent.toml: No such file or directory (os error 2)\n"
    );
}

#[test]
fn a_wrong_command_line_has_an_exit_code_of_its_own() {
    assert_eq!(essaim(&["check"]).status.code(), Some(2));
    assert_eq!(essaim(&["sing"]).status.code(), Some(2));
}
