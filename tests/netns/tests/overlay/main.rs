//! Overlay unicast: within a node and between nodes, over IPv4 and IPv6. Needs root.

mod neighbours;
mod unicast;
