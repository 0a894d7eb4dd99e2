//! `essaim-cni`, as runtimes call it.
#![forbid(unsafe_code)]

use essaim_cni::{Essaim, Socket};
use rscni_plugin::cni::Plugin;
use std::process::ExitCode;

fn main() -> ExitCode {
    let plugin =
        Plugin::default().msg("essaim-cni: containers on the attachable networks of an Essaim cluster");
    // What went wrong is on standard output by then, where runtimes look for it.
    match plugin.run(&Essaim::new(Socket)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
