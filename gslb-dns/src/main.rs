//! The program `gslb-dns`; everything is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use gslb_dns::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
