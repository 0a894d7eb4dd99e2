//! The life of a large cluster: `cargo bench -p essaim-sim --bench scale -- [nodes]`, 1,000 unless said otherwise.

use std::io::Write as _;

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'));
    let nodes = arguments
        .next()
        .and_then(|nodes| nodes.parse().ok())
        .unwrap_or(1_000);
    let life = essaim_sim::life(1, nodes);
    let _ = writeln!(std::io::stdout(), "{nodes} nodes: {life:?}");
}
