//! HTTP/2 through region-proxy: curl and h2load, with TLS and without.

use std::process::Command;

use gslb_tests::harness::certificates::Authority;
use gslb_tests::harness::curl::{Answer, curl, curl_all};
use gslb_tests::harness::site::{ROOT, SERVICE, SERVICES, Site, TLS};
use gslb_tests::harness::tools::require;
use gslb_tests::servlet::{hash, octets};

type Held = Result<(), String>;

/// Nothing, around what fits one frame and the windows, and much.
const SIZES: [usize; 9] = [0, 1, 1_000, 16_384, 16_385, 65_535, 65_536, 1_048_576, 8 * 1_048_576];

/// How clients come to speak it: by ALPN, and because they know.
const WAYS: [(&str, &str); 2] = [("https", "--http2"), ("http", "--http2-prior-knowledge")];

fn start(stick: &str) -> Result<Site, String> {
    let (mut site, authority) = (Site::new()?, Authority::new()?);
    site.write_certificate(&authority, SERVICE)?;
    site.run(&format!("{ROOT}{TLS}{SERVICES}{stick}"))?;
    Ok(site)
}

fn ask(site: &Site, (scheme, way): (&str, &str), path: &str, arguments: &[&str]) -> Result<Answer, String> {
    let answer = curl(site, &format!("{scheme}://{SERVICE}{path}"), &[&[way], arguments].concat())?;
    assert_eq!(answer.told["http_version"], "2", "{way}: {}", answer.head);
    Ok(answer)
}

#[test]
fn bodies_of_all_sizes_come_whole() -> Held {
    let site = start("")?;
    for way in WAYS {
        for (len, kind) in SIZES.into_iter().flat_map(|len| [(len, "octets"), (len, "chunks")]) {
            let answer = ask(&site, way, &format!("/{kind}/{len}"), &[])?;
            assert_eq!((answer.status, answer.body.len()), (200, len), "{way:?}, {kind}: {}", answer.head);
            assert!(answer.body == octets(0, len), "{way:?}, {kind}: another body of {len} octets");
        }
    }
    Ok(())
}

#[test]
fn uploads_of_all_sizes_reach_the_server_whole() -> Held {
    let site = start("")?;
    for (len, way) in SIZES.into_iter().flat_map(|len| WAYS.map(|way| (len, way))) {
        let name = format!("{len}.octets");
        site.write(&name, octets(0, len))?;
        let file = format!("@{}", site.path(&name).display());
        for field in ["Expect:", "Expect: 100-continue"] {
            let arguments = ["--data-binary", &file, "--header", field, "--expect100-timeout", "60"];
            let seen = ask(&site, way, "/upload", &arguments)?.json()?;
            assert_eq!(seen["body"]["octets"], len, "{way:?}, {field}");
            assert_eq!(seen["body"]["hash"], *hash(&octets(0, len)), "{way:?}, {field}");
        }
    }
    Ok(())
}

#[test]
fn head_ranges_and_conditions_are_as_over_http_1() -> Held {
    let site = start("")?;
    for way in WAYS {
        let head = ask(&site, way, "/octets/65537", &["--head"])?;
        assert!(head.status == 200 && head.fields("content-length").eq(["65537"]), "{}", head.head);
        let part = ask(&site, way, "/octets/65537", &["--range", "65000-65536"])?;
        assert!(part.status == 206 && part.body == octets(65_000, 537), "{}", part.head);
        let same = ask(&site, way, "/octets/1000", &["--header", "If-None-Match: \"1000\""])?;
        assert_eq!((same.status, same.body.len()), (304, 0));
    }
    Ok(())
}

#[test]
fn sessions_last_and_servers_see_the_client() -> Held {
    let site = start("stick = { cookie = \"JSESSIONID\", mode = \"prefix\" }\n")?;
    for (number, way) in WAYS.into_iter().enumerate() {
        let jar = site.path(&format!("jar-{number}")).display().to_string();
        let visit = || ask(&site, way, "/session/cart", &["--cookie", &jar, "--cookie-jar", &jar])?.json();
        let first = visit()?;
        for visits in 2..8 {
            let next = visit()?;
            assert_eq!((&next["server"], &next["visits"]), (&first["server"], &visits.into()), "{way:?}");
            assert_eq!(next["fields"]["x-forwarded-for"], serde_json::json!(["127.0.0.1"]));
            assert_eq!(next["fields"]["x-forwarded-proto"], serde_json::json!([way.0]));
            assert_eq!(next["fields"]["host"], serde_json::json!([SERVICE]));
        }
    }
    Ok(())
}

#[test]
fn many_requests_of_one_connection_are_under_way_at_once() -> Held {
    let site = start("")?;
    let url = format!("https://{SERVICE}/octets/[60000-60049]");
    let arguments = ["--http2", "--parallel", "--parallel-max", "50"];
    let told = curl_all(&site, &[&url], &arguments)?;
    assert_eq!(told.len(), 50);
    let len = |one: &serde_json::Value| one["size_download"].as_u64().unwrap_or_default();
    assert!(told.iter().all(|one| one["http_code"] == 200 && one["http_version"] == "2"), "{told:?}");
    assert_eq!(told.iter().map(len).sum::<u64>(), (60_000..60_050_u64).sum::<u64>());
    assert_eq!(told.iter().filter_map(|one| one["num_connects"].as_u64()).sum::<u64>(), 1, "{told:?}");
    Ok(())
}

#[test]
fn h2load_gets_an_answer_to_every_request() -> Held {
    let site = start("stick = { cookie = \"SRV\", mode = \"insert\", indirect = true }\n")?;
    site.write("upload", octets(0, 100_000))?;
    let upload = format!("--data={}", site.path("upload").display());
    for (scheme, address) in [("http", site.http()), ("https", site.https())] {
        for (path, requests, more) in [
            ("/octets/1000", 4000, None),
            ("/chunks/100000", 400, None),
            ("/octets/0", 1000, None),
            ("/upload", 200, Some(&upload)),
        ] {
            let mut command = Command::new(require("h2load")?);
            command.args(["--requests", &requests.to_string(), "--clients=8", "--max-concurrent-streams=16"]);
            command.args(["--connection-inactivity-timeout=30s", "--header", &format!(":authority: {SERVICE}")]);
            let output = command.args(more).arg(format!("{scheme}://{address}{path}")).output();
            let output = output.map_err(|error| format!("h2load: {error}"))?;
            let text = String::from_utf8_lossy(&output.stdout);
            let all = format!("{requests} total, {requests} started, {requests} done, {requests} succeeded, 0 failed");
            assert!(text.contains(&all), "{scheme}{path}: {text}");
            assert!(text.contains(&format!("status codes: {requests} 2xx")), "{scheme}{path}: {text}");
        }
    }
    Ok(())
}
