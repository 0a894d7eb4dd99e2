//! What goes wrong: catalogs, machines, and agents that die half-way.

mod catalog;
mod clean;
mod crash;
mod healing;
mod start;
