//! Backends that come, drain, die and are replaced: flows on live tasks stay, and few others move.

mod death;
mod growth;
mod members;
