//! Names: what tasks are answered at 127.0.0.11, as real programs ask for it.

mod asked;
mod kernel;
mod outside;
mod own_server;
mod restart;
mod states;
