//! Tasks and the world outside of the cluster. Needs root.

mod egress;
