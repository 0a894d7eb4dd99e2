//! Builds the BPF programs for `bpfel-unknown-none` and leaves them in `OUT_DIR` for the crate to embed.
//!
//! Two toolchains will do: a `/usr/bin/rustc` whose sysroot holds `core` for the BPF target, as Debian packages
//! it, or a nightly of rustup with `rust-src`. Either needs `bpf-linker` in the `PATH`.

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const TARGET: &str = "bpfel-unknown-none";
const PACKAGE: &str = "essaim-programs";
const OBJECTS: [&str; 2] = ["essaim-programs", "essaim-stubs"];
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";
/// The kernel's verifier needs BTF. LLVM's `allows-misaligned-mem-access` stays off: it would also make misaligned
/// accesses of the stack, which the verifier refuses.
const RUSTFLAGS: [&str; 4] = [
    "-Cdebuginfo=2",
    "-Clinker=bpf-linker",
    "-Clink-arg=--btf",
    "-Ctarget-cpu=v3",
];
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

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through cargo")?);
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let workspace = manifest
        .ancestors()
        .nth(2)
        .ok_or("this crate stands outside its workspace")?
        .to_owned();
    watch(&workspace);

    let mut cargo = Toolchain::find()?.cargo();
    cargo
        .current_dir(&workspace)
        .args([
            "build",
            "--package",
            PACKAGE,
            "--bins",
            "--target",
            TARGET,
            "--profile",
            "bpf",
            "--target-dir",
        ])
        .arg(out.join("bpf"))
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    let status = cargo
        .status()
        .map_err(|error| format!("failed to start cargo for the BPF programs: {error}"))?;
    if !status.success() {
        return Err(
            format!("building the BPF programs failed ({status}); cargo's messages stand above").into(),
        );
    }
    for object in OBJECTS {
        let built = out.join("bpf").join(TARGET).join("bpf").join(object);
        fs::copy(&built, out.join(object).with_extension("o"))
            .map_err(|error| format!("no object at {}: {error}", built.display()))?;
    }
    Ok(())
}

/// Tells cargo what the objects are made from.
fn watch(workspace: &Path) {
    println!("cargo::rerun-if-changed=build.rs");
    println!(
        "cargo::rerun-if-changed={}",
        workspace.join("Cargo.toml").display()
    );
    println!("cargo::rerun-if-env-changed=PATH");
    for part in ["abi", "packet", "programs"] {
        let part = workspace.join("ebpf").join(part);
        println!("cargo::rerun-if-changed={}", part.join("src").display());
        println!("cargo::rerun-if-changed={}", part.join("Cargo.toml").display());
    }
}

/// What can compile for the BPF target on this machine.
enum Toolchain {
    /// The system's compiler has `core` for the target ready made.
    System,
    /// rustup's nightly builds `core` from its source.
    Nightly,
}

impl Toolchain {
    fn find() -> Result<Self, Box<dyn Error>> {
        if !succeeds(Command::new("bpf-linker").arg("--version")) {
            return Err("bpf-linker is not in the PATH; install it with `cargo install bpf-linker` (against LLVM 22: \
                 `LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --no-default-features --features llvm-22`)"
                .into());
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
        Err(format!(
            "no compiler for {TARGET}: on Debian install the packages rustc-web and libstd-rust-web-dev-bpf; elsewhere \
             `rustup toolchain install nightly --component rust-src`"
        )
        .into())
    }

    fn cargo(&self) -> Command {
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

/// Takes from the environment what cargo set for this script and would mislead another cargo.
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
