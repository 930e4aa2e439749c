//! `servlet NAME ADDRESS`: an origin server with sessions, see [`gslb_tests::servlet`]. Its first line of output is the
//! address that it listens on.

use std::process::ExitCode;

use gslb_tests::servlet::Servlet;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, address] = arguments.as_slice() else {
        eprintln!("servlet: expected NAME ADDRESS");
        return ExitCode::from(2);
    };
    match Servlet::new(name).serve(address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("servlet {name}: {address}: {error}");
            ExitCode::FAILURE
        }
    }
}
