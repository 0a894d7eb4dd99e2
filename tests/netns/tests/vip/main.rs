//! Services by their VIPs: balancing at connect and per packet, refusals, and what moves when a task dies. Needs root.

mod dead;
mod hairpin;
mod refused;
mod sctp;
mod spread;
mod udp;
