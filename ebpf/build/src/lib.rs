//! Builds a package of BPF programs for `bpfel-unknown-none` and leaves its objects in `OUT_DIR`, for a crate to embed.
//!
//! A build script names the package, its binaries and the folders they are made from:
//!
//! ```no_run
//! # fn main() -> Result<(), essaim_ebpf_build::BuildError> {
//! essaim_ebpf_build::build("essaim-programs", &["essaim-programs"], &["ebpf/abi", "ebpf/packet", "ebpf/programs"])
//! # }
//! ```
#![forbid(unsafe_code)]

mod toolchain;

use std::path::{Path, PathBuf};
use std::{env, fs, io};
use toolchain::Toolchain;

const TARGET: &str = "bpfel-unknown-none";
/// The kernel's verifier needs BTF. LLVM's `allows-misaligned-mem-access` stays off: it would also make misaligned
/// accesses of the stack, which the verifier refuses.
const RUSTFLAGS: [&str; 4] = [
    "-Cdebuginfo=2",
    "-Clinker=bpf-linker",
    "-Clink-arg=--btf",
    "-Ctarget-cpu=v3",
];

/// Why the programs were not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Not called from a build script of the workspace.
    #[error("{variable} is not set: call this from a build script that cargo runs")]
    NoBuildScript {
        /// The variable of cargo that is missing.
        variable: &'static str,
    },
    /// The crate is in no workspace.
    #[error("no Cargo.lock in any folder above {}: build this crate as a member of its workspace", start.display())]
    NoWorkspace {
        /// Where the search began.
        start: PathBuf,
    },
    /// No linker for BPF.
    #[error(
        "bpf-linker is not in the PATH; install it with `cargo install bpf-linker` (against LLVM 22: \
         `LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --no-default-features --features llvm-22`)"
    )]
    NoLinker,
    /// No compiler for BPF.
    #[error(
        "no compiler for {TARGET}: on Debian install the packages rustc-web and libstd-rust-web-dev-bpf; elsewhere \
         `rustup toolchain install nightly --component rust-src`"
    )]
    NoCompiler,
    /// The inner cargo could not be started.
    #[error("failed to start cargo for the BPF programs of {package}")]
    Start {
        /// The package.
        package: String,
        /// What the system said.
        source: io::Error,
    },
    /// The inner cargo failed.
    #[error("building the BPF programs of {package} failed ({status}); cargo's messages stand above")]
    Failed {
        /// The package.
        package: String,
        /// How cargo ended.
        status: std::process::ExitStatus,
    },
    /// The object is not where it should be.
    #[error("no object at {}: is it a binary of the package?", path.display())]
    NoObject {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Builds the binaries of `package` and leaves each as `OUT_DIR/BINARY.o`. `parts` are the folders, from the workspace's
/// root, of the packages they are made from: a change there builds them anew.
///
/// # Errors
/// Where a tool is missing or the programs do not compile.
pub fn build(package: &str, binaries: &[&str], parts: &[&str]) -> Result<(), BuildError> {
    let out = variable("OUT_DIR")?;
    let workspace = workspace(&variable("CARGO_MANIFEST_DIR")?)?;
    watch(&workspace, parts);

    let mut cargo = Toolchain::find()?.cargo();
    cargo
        .current_dir(&workspace)
        .args([
            "build",
            "--package",
            package,
            "--bins",
            "--target",
            TARGET,
            "--profile",
            "bpf",
            "--target-dir",
        ])
        .arg(out.join("bpf"))
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    let status = cargo.status().map_err(|source| BuildError::Start {
        package: package.to_owned(),
        source,
    })?;
    if !status.success() {
        return Err(BuildError::Failed {
            package: package.to_owned(),
            status,
        });
    }
    for binary in binaries {
        let path = out.join("bpf").join(TARGET).join("bpf").join(binary);
        fs::copy(&path, out.join(binary).with_extension("o"))
            .map_err(|source| BuildError::NoObject { path, source })?;
    }
    Ok(())
}

fn variable(variable: &'static str) -> Result<PathBuf, BuildError> {
    env::var_os(variable)
        .map(PathBuf::from)
        .ok_or(BuildError::NoBuildScript { variable })
}

/// The workspace's root: the nearest folder above with a lock file.
fn workspace(start: &Path) -> Result<PathBuf, BuildError> {
    let root = start
        .ancestors()
        .find(|folder| folder.join("Cargo.lock").is_file());
    root.map(Path::to_owned).ok_or_else(|| BuildError::NoWorkspace {
        start: start.to_owned(),
    })
}

/// Tells cargo what the objects are made from.
fn watch(workspace: &Path, parts: &[&str]) {
    println!("cargo::rerun-if-changed=build.rs");
    println!(
        "cargo::rerun-if-changed={}",
        workspace.join("Cargo.toml").display()
    );
    for part in parts.iter().map(|part| workspace.join(part)) {
        println!("cargo::rerun-if-changed={}", part.join("src").display());
        println!("cargo::rerun-if-changed={}", part.join("Cargo.toml").display());
    }
}
