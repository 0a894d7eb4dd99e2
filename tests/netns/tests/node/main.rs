//! Clients that are not outside: the nodes themselves, and tasks that use published ports. Needs root.

mod itself;
mod tasks;
