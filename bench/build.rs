//! Builds the BPF programs of the benchmarks.

fn main() {
    let parts = ["ebpf/abi", "ebpf/packet", "bench/ebpf"];
    if let Err(error) = essaim_ebpf_build::build("essaim-bench-programs", &["essaim-bench-programs"], &parts)
    {
        println!("cargo::error={error}");
    }
}
