//! Shows a cluster at work; see `essaim-demo --help`.

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match essaim_lab::demo::run(&essaim_lab::demo::DemoArgs::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("essaim-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
