//! The API over a real unix socket and a real manager.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the test"
)]

mod support;

#[path = "api/against_a_model.rs"]
mod against_a_model;
#[path = "api/networks.rs"]
mod networks;
#[path = "api/nodes.rs"]
mod nodes;
#[path = "api/passthrough.rs"]
mod passthrough;
#[path = "api/secrets.rs"]
mod secrets;
#[path = "api/server.rs"]
mod server;
#[path = "api/services.rs"]
mod services;
#[path = "api/streams.rs"]
mod streams;
#[path = "api/swarm.rs"]
mod swarm;
#[path = "api/tasks.rs"]
mod tasks;
#[path = "api/tls.rs"]
mod tls;
