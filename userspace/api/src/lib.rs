//! The Docker Engine API as an Essaim node answers it: the swarm part by itself, the rest by the node's own Docker Engine.
//!
//! The docker CLI, compose stacks and the libraries that speak to Docker are clients as they are. `docs/api.md` lists the
//! routes, and where they differ from Docker's.
//!
//! | part | is |
//! |---|---|
//! | [`Engine`] | what the API needs of the daemon behind it |
//! | [`EngineError`] | why something was not done, with Docker's text and the status that goes with it |
//! | [`serve`] | answers the connections of a listener until it is told to stop |
//! | [`Socket`] | the unix socket that clients look for |
//!
//! Objects, their JSON and their checks are of `essaim-objects`; reading and changing is the
//! [`Replica`](essaim_manager::Replica)'s. What is between is here: looking objects up as Docker does, filters, what an
//! update may change, Docker's texts. A change is decided by what is there when it is made, so two clients that change one
//! object at once get one success and one "update out of sequence", whichever managers they ask.
#![forbid(unsafe_code)]

mod change;
mod engine;
mod events;
mod filter;
mod find;
mod logs;
mod moment;
mod networks;
mod nodes;
mod passthrough;
mod reply;
mod request;
mod route;
mod secrets;
mod server;
mod services;
mod shape;
mod socket;
mod swarm;
mod system;
mod tasks;
mod tls;

pub use engine::{Engine, EngineError, ErrorKind, Local, LocalState, LogStream};
pub use essaim_manager::authority::Rotate;
pub use server::{Listen, serve};
pub use socket::{Socket, SocketError};
pub use tls::{TlsError, TlsFiles, TlsSocket};
