//! How long reading and writing a message takes: `cargo bench -p region-proxy --bench http1`.

use std::mem::MaybeUninit;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use region_proxy::http1::{
    Asked, ChunkLimits, Chunked, Edits, HeadLimits, Header, Hop, read_request, read_response, write_request,
};

fn main() {
    divan::main();
}

/// What curl sends.
const SMALL: &str =
    "GET /index.html HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n\r\n";

/// What a browser sends on a connection that it keeps.
const BROWSER: &str = concat!(
    "GET /shop/cart?item=4711&colour=blue HTTP/1.1\r\n",
    "Host: www.example.com\r\n",
    "Connection: keep-alive\r\n",
    "sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\n",
    "sec-ch-ua-mobile: ?0\r\n",
    "sec-ch-ua-platform: \"Linux\"\r\n",
    "Upgrade-Insecure-Requests: 1\r\n",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n",
    "Sec-Fetch-Site: same-origin\r\n",
    "Sec-Fetch-Mode: navigate\r\n",
    "Sec-Fetch-User: ?1\r\n",
    "Sec-Fetch-Dest: document\r\n",
    "Referer: https://www.example.com/shop\r\n",
    "Accept-Encoding: gzip, deflate, br, zstd\r\n",
    "Accept-Language: en-GB,en;q=0.9\r\n",
    "Cookie: JSESSIONID=a1b2c3d4e5f60718293a4b5c6d7e8f90; SERVERID=s1; theme=dark\r\n\r\n",
);

const RESPONSE: &str = concat!(
    "HTTP/1.1 200 OK\r\n",
    "Server: nginx\r\n",
    "Date: Wed, 25 Nov 2026 14:00:00 GMT\r\n",
    "Content-Type: text/html; charset=utf-8\r\n",
    "Content-Length: 1024\r\n",
    "Connection: keep-alive\r\n",
    "Cache-Control: no-cache\r\n",
    "Set-Cookie: JSESSIONID=a1b2c3d4e5f60718293a4b5c6d7e8f90; Path=/; HttpOnly\r\n\r\n",
);

const NAMES: [&str; 2] = ["curl", "browser"];

fn request(name: &str) -> &'static [u8] {
    if name == "curl" { SMALL.as_bytes() } else { BROWSER.as_bytes() }
}

fn slots<'b>() -> [MaybeUninit<Header<'b>>; 100] {
    [MaybeUninit::uninit(); 100]
}

#[divan::bench(args = NAMES)]
fn read_a_request(bencher: Bencher<'_, '_>, name: &str) {
    let octets = request(name);
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        let mut slots = slots();
        let request = read_request(black_box(octets), &mut slots, HeadLimits::DEFAULT);
        request.is_ok_and(|request| request.is_some_and(|request| request.len == octets.len()))
    });
}

/// The grammar alone: what [`read_a_request`] takes beyond this are the checks.
#[divan::bench(args = NAMES)]
fn read_a_request_by_httparse_alone(bencher: Bencher<'_, '_>, name: &str) {
    let octets = request(name);
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        let mut slots = slots();
        let mut head = httparse::Request::new(&mut []);
        head.parse_with_uninit_headers(black_box(octets), &mut slots).is_ok()
    });
}

#[divan::bench(args = NAMES)]
fn write_a_request(bencher: Bencher<'_, '_>, name: &str) {
    let mut slots = slots();
    let request = match read_request(request(name), &mut slots, HeadLimits::DEFAULT) {
        Ok(Some(request)) => request,
        other => panic!("{other:?}"),
    };
    let (mut edits, mut out) = (Edits::new(), Vec::new());
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        out.clear();
        edits.clear();
        edits.append("X-Forwarded-For", &[b"192.0.2.1"]);
        write_request(&mut out, black_box(&request), &edits, request.body, Hop::Persistent);
        out.len()
    });
}

#[divan::bench]
fn read_a_response(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        let mut slots = slots();
        let asked = Asked { method: "GET", upgrade: false };
        read_response(black_box(RESPONSE.as_bytes()), &mut slots, asked, HeadLimits::DEFAULT).is_ok()
    });
}

#[divan::bench(args = [16, 1024, 16 * 1024])]
fn read_a_chunked_mebibyte(bencher: Bencher<'_, '_>, chunk_len: usize) {
    let mut octets = Vec::new();
    for _ in 0..(1 << 20) / chunk_len {
        region_proxy::http1::write_chunk(&mut octets, &vec![b'x'; chunk_len]);
    }
    octets.extend_from_slice(region_proxy::http1::LAST_CHUNK);
    bencher.counter(BytesCount::new(1_usize << 20)).bench_local(|| {
        let (mut body, mut rest, mut data) = (Chunked::new(ChunkLimits::DEFAULT), &octets[..], 0);
        while !body.is_done() {
            let Ok(step) = body.step(black_box(rest)) else { return 0 };
            data += step.data.len();
            rest = &rest[step.consumed..];
        }
        data
    });
}
