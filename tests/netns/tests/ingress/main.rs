//! Published ports, from clients outside of the cluster: every node answers, with any task, as the client itself is
//! seen; and nothing waits for an answer in vain.

mod affinity;
mod edges;
mod flood;
mod icmp;
mod nobody;
mod returns;
mod spread;
mod timeouts;
mod uplink;
