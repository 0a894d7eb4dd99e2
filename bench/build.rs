//! Builds the BPF programs of the benchmarks.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parts = ["ebpf/abi", "ebpf/packet", "bench/ebpf"];
    Ok(essaim_ebpf_build::build("essaim-bench-programs", &["essaim-bench-programs"], &parts)?)
}
