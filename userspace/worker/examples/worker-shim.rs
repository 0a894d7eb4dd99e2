//! The shim of the tests' tasks, as the hidden subcommand of `essaim` is.

use std::process::ExitCode;

fn main() -> ExitCode {
    essaim_runner::shim_main(std::env::args_os().skip(2))
}
