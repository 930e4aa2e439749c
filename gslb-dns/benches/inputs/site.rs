//! The settings and the zone of what is measured.

use std::fmt::Write as _;

/// Eight regions all over the world, and services of the usual policies; the first ones are `all` and `near`. The proxy of
/// region `r0` tells its status at `/r0` below the URL `status`.
pub(crate) fn settings(services: usize, status: &str) -> String {
    let places = [
        (37.5, 127.0),
        (50.1, 8.7),
        (39.0, -77.5),
        (-33.9, 151.2),
        (-23.5, -46.6),
        (19.1, 72.9),
        (1.3, 103.8),
        (-26.2, 28.0),
    ];
    let mut text = String::new();
    for (at, (latitude, longitude)) in places.iter().enumerate() {
        text += &format!("[regions.r{at}]\ncoordinates = [{latitude:?}, {longitude:?}]\n");
        text += &format!("vips = [\"192.0.2.{at}\", \"2001:db8::{at}\"]\n");
        text += &format!(
            "proxies = {{ p = \"{status}/r{at}\" }}
"
        );
    }
    for at in 0..services {
        let name = ["all", "near"].get(at).map_or_else(|| format!("s{at}"), |name| (*name).to_owned());
        let policy = if at == 0 { "all" } else { "nearest" };
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "[services.\"{name}.bench.test\"]\npolicy = \"{policy}\"\nhttps = {{ alpn = [\"h2\"] }}");
    }
    text
}

/// A zone of every kind of name, and `hosts` more.
pub(crate) fn zone_text(hosts: usize) -> String {
    let mut text = "$TTL 3600\n@ SOA ns1 hostmaster 1 14400 3600 1209600 300\n@ NS ns1\n@ NS ns2\nns1 A 192.0.2.53\n\
        ns2 A 198.51.100.53\n@ MX 10 mail\nmail A 192.0.2.25\n*.wild A 192.0.2.80\nkid NS ns.kid\nkid NS ns2\n\
        ns.kid A 192.0.2.54\n"
        .to_owned();
    for at in 0..hosts {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} A 10.{}.{}.{}", host(at), at >> 16, at >> 8 & 0xFF, at & 0xFF);
    }
    text
}

/// The name of the host at `at`.
pub(crate) fn host(at: usize) -> String {
    format!("host-{at:06}")
}
