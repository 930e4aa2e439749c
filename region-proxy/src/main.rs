//! `region-proxy`: see `region-proxy --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    region_proxy::cli::run()
}
