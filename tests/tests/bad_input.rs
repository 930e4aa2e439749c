//! What is wrong is refused, with every mistake named; what is malformed harms nobody.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use gslb_tests::harness::dns::query;
use gslb_tests::harness::within;
use gslb_tests::harness::world::World;
use hickory_proto::rr::RecordType;
use serde_json::json;

type Held = Result<(), String>;

#[test]
fn node_does_not_start_with_broken_files_and_names_every_mistake() -> Held {
    let world = World::new(|settings| {
        let settings = settings.replace("rise = 2", "rise = 0").replace("policy = \"all\"", "policy = \"best\"");
        settings.replace("vips = [\"127.0.2.10\", \"2001:db8:2::10\"]", "vips = [\"127.0.2.999\"]") + "\n[unknown]\n"
    })?;
    world.write("gslb.test.zone", world.read("gslb.test.zone")? + "bad A 300.1.2.3\nworse NOTYPE x\n")?;
    world.write("overrides.csv", "1.2.3.0/24,Nowhere,,,\nnot-a-network,KR,,,\n")?;
    world.write("countries.csv", "KR,AS,91,181\n")?;
    world.write("geo-whois-asn-country.mmdb", "this is no database")?;
    let mut node = world.spawn_node()?;
    let status = node.wait(Duration::from_secs(10))?;
    assert_eq!(status.code(), Some(2), "{}", node.log_tail());
    // The pipe may hand over its last lines after the end of the process.
    node.wait_for_line("unknown", 0, Duration::from_secs(2))?;
    let expected = [
        "probe.rise",
        "policy",
        "127.0.2.999",
        "unknown",
        "gslb.test.zone",
        "overrides.csv:1",
        "overrides.csv:2",
        "countries.csv",
        "geo-whois-asn-country.mmdb",
    ];
    for named in expected.map(|text| text.replace("127.0.", &format!("127.{}.", world.number()))) {
        node.wait_for_line(&named, 0, Duration::from_secs(1))?;
    }
    Ok(())
}

#[test]
fn hundred_thousand_mutated_packets_harm_nobody() -> Held {
    let world = World::start(|settings| settings)?;
    let seeds = seeds()?;
    let socket = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.connect(world.server()).map(|()| socket));
    let socket = socket.map_err(|error| error.to_string())?;
    socket.set_nonblocking(true).map_err(|error| error.to_string())?;
    let mut chance = Rng::with_seed(SEED);
    let mut buffer = [0; 65_535];
    let (mut sent, mut answered) = (0_u32, 0_u32);
    while sent < 100_000 {
        for _ in 0..200 {
            let packet = mutate(&seeds[chance.usize(..seeds.len())], &mut chance);
            sent += u32::from(socket.send(&packet).is_ok());
        }
        while let Ok(len) = socket.recv(&mut buffer) {
            answered += 1;
            // Whatever it is, it is a response.
            assert!(len >= 12 && buffer[2] & 0x80 != 0, "{:02x?}", &buffer[..len]);
        }
        // All of them are through when this one is answered.
        still_right(&world)?;
    }
    println!("{sent} mutated packets, {answered} answered");
    for seed in &seeds {
        world.dns().exchange(seed)?;
    }
    still_right(&world)
}

fn still_right(world: &World) -> Held {
    let answer = world.dns().ask_for("www.gslb.test", IpAddr::from([1, 208, 0, 1]))?;
    assert_eq!(answer.address()?, world.vip("seoul"));
    Ok(())
}

fn seeds() -> Result<Vec<Vec<u8>>, String> {
    let subnets = ["1.208.0.0/24", "0.0.0.0/0", "2001:db8::/56"];
    let mut seeds = Vec::new();
    for name in ["www.gslb.test", "a.b.ent.gslb.test", "any.dev.gslb.test", "gslb.test", "www.example.com"] {
        for rtype in [RecordType::A, RecordType::HTTPS, RecordType::SOA, RecordType::ANY] {
            seeds.push(query(name, rtype, None)?);
            for subnet in subnets {
                seeds.push(query(name, rtype, Some(subnet.parse().map_err(|_| "a network")?))?);
            }
        }
    }
    Ok(seeds)
}

/// One to four changes: octets and bits turned, the end cut off, octets put in, a piece repeated.
fn mutate(seed: &[u8], chance: &mut Rng) -> Vec<u8> {
    let mut packet = seed.to_vec();
    for _ in 0..chance.u8(1..=4) {
        let at = chance.usize(..=packet.len());
        match chance.u8(..6) {
            0 => packet.truncate(at),
            1 => packet.insert(at, chance.u8(..)),
            2 => {
                let piece: Vec<u8> = packet[at..].to_vec();
                packet.extend(piece);
            }
            3 if at < packet.len() => packet[at] = chance.u8(..),
            4 if at < packet.len() => packet[at] = [0, 0xff, 0xc0, 0x3f, 0x40][chance.usize(..5)],
            _ if at < packet.len() => packet[at] ^= 1 << chance.u8(..8),
            _ => {}
        }
    }
    packet
}

#[test]
fn probe_answers_that_are_wrong_count_as_failures_with_their_reason() -> Held {
    let services = json!({ "www.gslb.test": { "servers_up": 2, "servers_total": 2 } });
    let status = |region: &str, proxy: &str| {
        json!({ "region": region, "proxy": proxy, "holds_vip": true, "is_draining": false, "services": services })
            .to_string()
    };
    let cases = [
        (Answer::Never, "no answer within 1s"),
        (Answer::Text("200 OK", "x".repeat(3 << 20)), "longer than 1048576 octets"),
        (Answer::Text("200 OK", "<html>hello</html>".to_owned()), "not a status"),
        (Answer::Text("200 OK", status("virginia", "seoul-1")), "answer from region virginia"),
        (Answer::Text("200 OK", status("seoul", "seoul-9")), "answer from proxy seoul-9"),
        (Answer::Text("503 Service Unavailable", status("seoul", "seoul-1")), "HTTP status 503"),
    ];
    for (answer, reason) in cases {
        let port = serve(answer)?;
        let only = format!("proxies = {{ seoul-1 = \"http://127.0.0.1:{port}/status\" }}");
        let mut world = World::new(|settings| {
            let line =
                settings.lines().find(|line| line.starts_with("proxies = { seoul-1")).unwrap_or_default().to_owned();
            settings.replace(&line, &only)
        })?;
        world.start_origins("frankfurt")?;
        world.start_proxies("frankfurt")?;
        world.start_node()?;
        within(Duration::from_secs(5), || shows_failure(&world, reason)).map_err(|why| format!("{reason}: {why}"))?;
        let (verdict, _) = world.verdict("www.gslb.test", "seoul")?;
        assert_eq!(verdict, "down", "{reason}");
    }
    Ok(())
}

fn shows_failure(world: &World, reason: &str) -> Held {
    let status = world.status()?;
    let regions = status["regions"].as_array().cloned().unwrap_or_default();
    let seoul = regions.iter().find(|region| region["name"] == "seoul").cloned().unwrap_or_default();
    let proxy = &seoul["proxies"][0];
    let is_so = proxy["failure"].as_str().is_some_and(|failure| failure.contains(reason)) && proxy["is_up"] == false;
    if is_so { Ok(()) } else { Err(format!("{proxy}")) }
}

#[derive(Clone, Debug)]
enum Answer {
    Never,
    Text(&'static str, String),
}

/// Answers every request at any loopback address in the same way, for as long as the test process lives.
fn serve(answer: Answer) -> Result<u16, String> {
    let listener = TcpListener::bind("0.0.0.0:0").map_err(|error| error.to_string())?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    thread::spawn(move || {
        let mut waiting = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            // What the client does with a wrong answer is its own matter.
            let _ = stream.read(&mut head);
            match &answer {
                Answer::Never => waiting.push(stream),
                Answer::Text(status, body) => {
                    let head =
                        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
                }
            }
        }
    });
    Ok(port)
}

const SEED: u64 = 5;
