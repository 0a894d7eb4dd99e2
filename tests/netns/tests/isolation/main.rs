//! What must not get through: between networks, under a false name, and into the overlay from outside. Needs root.

mod forbidden;
mod forged;
mod networks;
mod spoofed;
mod vxlan;
