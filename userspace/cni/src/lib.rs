//! The CNI plugin: any runtime's containers on the cluster's attachable networks.
//!
//! A runtime (podman, nerdctl, Nomad) runs `essaim-cni` for each step of a container's life, with the step in the environment
//! and the network's configuration on standard input ([CNI 1.1.0], down to 0.3.0). It asks the daemon of its node, and
//! tells the runtime what that answers; it does nothing else, so it needs no rights but to open the daemon's socket.
//!
//! | step | the daemon |
//! |---|---|
//! | `ADD` | has the managers choose an address, and the data plane make the interface where the container is; answers once names are answered there |
//! | `DEL` | gives it back; what is not there is no error |
//! | `CHECK` | compares the kernel with what it should have |
//! | `GC` | gives back what the runtime has forgotten |
//! | `STATUS` | asks the managers for the network |
//!
//! The environment, the versions and the shape of results and errors are `rscni-plugin`'s; what of a configuration is
//! meant, and what is told, is [`Essaim`]'s.
//!
//! [CNI 1.1.0]: https://github.com/containernetworking/cni/blob/v1.3.0/SPEC.md
#![forbid(unsafe_code)]

mod ask;
mod config;
mod essaim;
mod result;

pub use ask::{Ask, AskError, Socket};
pub use essaim::Essaim;
