//! What can compile for the BPF target on this machine.

use crate::{BuildError, TARGET};
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

const SYSTEM_RUSTC: &str = "/usr/bin/rustc";
/// Settings of the outer cargo that the inner one needs too; every other variable of cargo and rustc is its own.
const KEPT: [&str; 7] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_SOURCE_",
    "RUSTUP_HOME",
    "RUSTUP_DIST_",
];

/// A way to compile; either needs `bpf-linker` in the `PATH`.
pub(crate) enum Toolchain {
    /// The system's compiler has `core` for the target ready made, as Debian packages it.
    System,
    /// rustup's nightly builds `core` from its source.
    Nightly,
}

impl Toolchain {
    /// # Errors
    /// Where the machine has neither, or no linker.
    pub(crate) fn find() -> Result<Self, BuildError> {
        if !succeeds(Command::new("bpf-linker").arg("--version")) {
            return Err(BuildError::NoLinker);
        }
        if sysroot(Command::new(SYSTEM_RUSTC))
            .is_some_and(|root| root.join("lib/rustlib").join(TARGET).is_dir())
        {
            return Ok(Self::System);
        }
        let source = "lib/rustlib/src/rust/library/core";
        if sysroot(rustup_nightly("rustc")).is_some_and(|root| root.join(source).is_dir()) {
            return Ok(Self::Nightly);
        }
        Err(BuildError::NoCompiler)
    }

    /// A cargo that compiles with it.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = match self {
            Self::System => {
                let mut command =
                    Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
                isolate(&mut command);
                // The ready-made core belongs to a stable compiler; the programs use features of the target alone.
                command.env("RUSTC", SYSTEM_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                command
            }
            Self::Nightly => {
                let mut command = rustup_nightly("cargo");
                command.args(["-Z", "build-std=core"]);
                command
            }
        };
        command.env_remove("MAKEFLAGS");
        command
    }
}

fn rustup_nightly(tool: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", tool]);
    isolate(&mut command);
    command
}

/// Takes from the environment what cargo set for the build script and would mislead another cargo.
fn isolate(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let of_toolchain = ["CARGO", "RUST", "CLIPPY", "DEP_"]
            .iter()
            .any(|prefix| text.starts_with(prefix));
        if of_toolchain && !KEPT.iter().any(|kept| text.starts_with(kept)) {
            command.env_remove(&name);
        }
    }
}

fn sysroot(mut rustc: Command) -> Option<PathBuf> {
    let output = rustc
        .args(["--print", "sysroot"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
