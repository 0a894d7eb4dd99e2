//! Server and clients for trying out a network; see `essaim-peer --help`.

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match essaim_lab::peer::run(essaim_lab::peer::PeerArgs::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("essaim-peer: {error:#}");
            ExitCode::FAILURE
        }
    }
}
