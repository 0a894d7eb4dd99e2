//! What nodes know of each other's tasks, and how soon.

mod away;
mod deaths;
mod health;
mod partitions;
mod stops;
