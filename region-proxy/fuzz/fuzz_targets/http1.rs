//! Any octets as HTTP/1: as what clients send on a connection, as a response, as a chunked body.
//!
//! ```text
//! octet 0    what it is, modulo 3; for a body also the size of the pieces in which it comes
//! the rest   the octets
//! ```
//! The laws of region-proxy/tests/http1 must hold, and hyper must find the same messages.
#![no_main]

#[path = "../../tests/http1/hyper.rs"]
mod hyper;
#[path = "../../tests/http1/laws.rs"]
mod laws;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&kind, octets)) = input.split_first() else { return };
    match kind % 3 {
        0 => {
            laws::check_request(octets);
            hyper::check_requests(octets);
        }
        1 => {
            laws::check_response(octets);
            hyper::check_response(octets);
        }
        _ => laws::check_body(octets, usize::from(kind / 3) + 1),
    }
});
