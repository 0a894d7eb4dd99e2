//! Builds the BPF programs and leaves them in `OUT_DIR` for the crate to embed.

fn main() {
    let parts = ["ebpf/abi", "ebpf/packet", "ebpf/programs"];
    let built = essaim_ebpf_build::build("essaim-programs", &["essaim-programs", "essaim-stubs"], &parts);
    if let Err(error) = built {
        println!("cargo::error={error}");
    }
}
