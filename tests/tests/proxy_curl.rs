//! curl through region-proxy: versions, sizes, ranges, uploads, TLS; every octet is compared.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use gslb_tests::harness::certificates::Authority;
use gslb_tests::harness::curl::{Answer, curl, curl_all};
use gslb_tests::harness::http::Request;
use gslb_tests::harness::site::{ROOT, SERVICE, SERVICES, Site, TLS};
use gslb_tests::harness::tools::require;
use gslb_tests::servlet::{hash, octets};

type Held = Result<(), String>;

/// Nothing, around what fits one read or one splice, and much.
const SIZES: [usize; 9] = [0, 1, 1_000, 16_384, 65_535, 65_536, 65_537, 1_048_576, 8 * 1_048_576];

fn plain() -> Result<Site, String> {
    Site::start(&format!("{ROOT}{SERVICES}"))
}

/// A site with TLS for its service and for `shop.gslb.test`; `more` are keys of `[tls]`.
fn secure(more: &str) -> Result<(Site, Authority), String> {
    let (mut site, authority) = (Site::new()?, Authority::new()?);
    site.write_certificate(&authority, SERVICE)?;
    site.write_certificate(&authority, "shop.gslb.test")?;
    let shop = "[[tls.certificates]]\ncertificate = \"shop.gslb.test.pem\"\nkey = \"shop.gslb.test.key\"\n";
    let tls = TLS.replace("[tls]", &format!("[tls]\n{more}"));
    site.run(&format!("{ROOT}{tls}{shop}{SERVICES}"))?;
    Ok((site, authority))
}

fn get(site: &Site, path: &str, arguments: &[&str]) -> Result<Answer, String> {
    curl(site, &format!("http://{SERVICE}{path}"), arguments)
}

/// A file of `len` octets.
fn file(site: &Site, len: usize) -> Result<PathBuf, String> {
    let name = format!("{len}.octets");
    site.write(&name, octets(0, len)).map(|()| site.path(&name))
}

#[track_caller]
fn assert_whole(answer: &Answer, len: usize, what: &str) {
    assert_eq!((answer.status, answer.body.len()), (200, len), "{what}: {}", answer.head);
    assert!(answer.body == octets(0, len), "{what}: another body of {len} octets");
}

#[test]
fn bodies_of_all_sizes_come_whole_over_http_1_0_and_1_1() -> Held {
    let site = plain()?;
    for (version, told) in [("--http1.0", "1.0"), ("--http1.1", "1.1")] {
        for (len, kind) in SIZES.into_iter().flat_map(|len| [(len, "octets"), (len, "chunks")]) {
            let answer = get(&site, &format!("/{kind}/{len}"), &[version])?;
            assert_whole(&answer, len, &format!("{kind}, {version}"));
            let is_chunked = answer.fields("transfer-encoding").eq(["chunked"]);
            assert_eq!(is_chunked, kind == "chunks" && told == "1.1", "{version}: {}", answer.head);
        }
    }
    Ok(())
}

#[test]
fn head_tells_what_get_would_and_brings_no_body() -> Held {
    let site = plain()?;
    for version in ["--http1.0", "--http1.1"] {
        let answer = get(&site, "/octets/65537", &["--head", version])?;
        assert_eq!(answer.status, 200);
        assert!(answer.fields("content-length").eq(["65537"]), "{}", answer.head);
        // The body is the head again: so curl writes what it was asked to show.
        assert_eq!(answer.told["size_download"], 0, "{}", answer.told);
    }
    let urls = [&*format!("http://{SERVICE}/octets/10"), &format!("http://{SERVICE}/chunks/10")];
    let told = curl_all(&site, &[urls, urls].concat(), &["--head"])?;
    assert!(told[1..].iter().all(|one| one["num_connects"] == 0), "the connection lasts: {told:?}");
    Ok(())
}

#[test]
fn ranges_and_conditions_are_the_servers() -> Held {
    let site = plain()?;
    for (from, to) in [(0, 0), (100, 199), (65_000, 70_000), (1_048_575, 1_048_575)] {
        let answer = get(&site, "/octets/1048576", &["--range", &format!("{from}-{to}")])?;
        assert_eq!(answer.status, 206);
        assert!(answer.body == octets(from, to - from + 1), "{from} to {to}");
        assert!(answer.fields("content-range").eq([format!("bytes {from}-{to}/1048576")]), "{}", answer.head);
    }
    let answer = get(&site, "/octets/1000", &["--header", "If-None-Match: \"1000\""])?;
    assert_eq!((answer.status, answer.body.len()), (304, 0));
    Ok(())
}

#[test]
fn uploads_reach_the_server_whole_with_a_length_in_chunks_and_when_asked_to_wait() -> Held {
    let (site, _) = secure("")?;
    for (len, scheme) in SIZES.into_iter().flat_map(|len| [(len, "http"), (len, "https")]) {
        let file = format!("@{}", file(&site, len)?.display());
        let url = format!("{scheme}://{SERVICE}/upload");
        for field in ["Expect:", "Expect: 100-continue", "Transfer-Encoding: chunked"] {
            // Who is not told to go on waits until the test has failed.
            let arguments = ["--data-binary", &file, "--header", field, "--expect100-timeout", "60"];
            let answer = curl(&site, &url, &arguments)?;
            let seen = &answer.json()?["body"];
            assert_eq!(seen["octets"], len, "{scheme}, {field}: {}", answer.head);
            assert_eq!(seen["hash"], *hash(&octets(0, len)), "{scheme}, {field}");
            let told = answer.head.starts_with("HTTP/1.1 100 Continue\r\n");
            assert!(told || field != "Expect: 100-continue" || len == 0, "{scheme}, {len}: {}", answer.head);
        }
    }
    Ok(())
}

#[test]
fn what_is_sent_in_chunks_comes_back() -> Held {
    let site = plain()?;
    // Of an empty file the curl of Debian 12 never sends the last chunk.
    for len in SIZES.into_iter().filter(|len| *len > 0) {
        let file = file(&site, len)?;
        let arguments = ["--upload-file", &*file.display().to_string(), "--header", "Transfer-Encoding: chunked"];
        assert_whole(&get(&site, "/echo", &arguments)?, len, "echo");
    }
    Ok(())
}

#[test]
fn connections_are_used_again() -> Held {
    let (site, _) = secure("")?;
    for scheme in ["http", "https"] {
        let urls = ["octets/10", "chunks/70000", "octets/0", "page", "session"];
        let urls = urls.map(|path| format!("{scheme}://{SERVICE}/{path}"));
        let told = curl_all(&site, &urls.each_ref().map(String::as_str), NONE)?;
        let connects: Vec<_> = told.iter().map(|one| one["num_connects"].as_u64()).collect();
        assert_eq!(connects, [1, 0, 0, 0, 0].map(Some), "{scheme}");
        assert!(told.iter().all(|one| one["http_code"] == 200), "{told:?}");
    }
    Ok(())
}

#[test]
fn bodies_of_all_sizes_come_whole_over_tls_1_2_and_1_3() -> Held {
    let (site, _) = secure("")?;
    for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        for (len, kind) in SIZES.into_iter().flat_map(|len| [(len, "octets"), (len, "chunks")]) {
            let answer = curl(&site, &format!("https://{SERVICE}/{kind}/{len}"), version)?;
            assert_whole(&answer, len, &format!("{kind}, {version:?}"));
        }
    }
    Ok(())
}

#[test]
fn each_name_gets_its_own_certificate_and_servers_hear_of_https() -> Held {
    let (site, _) = secure("")?;
    for name in [SERVICE, "shop.gslb.test"] {
        let answer = curl(&site, &format!("https://{name}/"), NONE)?;
        assert_eq!(answer.json()?["fields"]["x-forwarded-proto"], serde_json::json!(["https"]));
    }
    let refused = curl(&site, "https://other.gslb.test/", NONE).expect_err("it has no certificate for that name");
    assert!(refused.contains("no alternative certificate subject name matches"), "{refused}");
    let old = curl(&site, &format!("https://{SERVICE}/"), &["--tls-max", "1.1"]).expect_err("TLS 1.1 is over");
    assert!(old.contains("alert") || old.contains("protocol"), "{old}");
    Ok(())
}

#[test]
fn sessions_of_tls_are_resumed() -> Held {
    let (site, _) = secure("")?;
    let url = format!("https://{SERVICE}/octets/10");
    let told = curl_all(&site, &[&*url; 4], &["--tlsv1.3", "--header", "Connection: close"])?;
    assert!(told.iter().all(|one| one["num_connects"] == 1 && one["http_code"] == 200), "{told:?}");
    assert_eq!(resumed(&site)?, 3);
    // The curl of Debian 12 resumes none of TLS 1.2.
    let mut command = Command::new(require("openssl")?);
    command.args(["s_client", "-connect", &site.https().to_string(), "-servername", SERVICE, "-tls1_2", "-reconnect"]);
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("openssl: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().filter(|line| line.starts_with("Reused, TLSv1.2")).count(), 5, "{text}");
    assert_eq!(resumed(&site)?, 8);
    Ok(())
}

#[test]
fn who_has_no_certificate_is_refused_where_one_is_required() -> Held {
    let (mut site, authority, clients) = (Site::new()?, Authority::new()?, Authority::new()?);
    site.write_certificate(&authority, SERVICE)?;
    site.write("clients.pem", clients.pem())?;
    for (name, signer) in [("one", &clients), ("forger", &authority)] {
        let identity = signer.client("client.test")?;
        site.write(&format!("{name}.pem"), identity.certificate + &identity.key)?;
    }
    let tls = TLS.replace("[tls]", "[tls]\nclient_certificates = { ca = \"clients.pem\", required = true }");
    site.run(&format!("{ROOT}{tls}{SERVICES}"))?;
    let url = format!("https://{SERVICE}/octets/100");
    for version in ["1.2", "1.3"] {
        let ask = |identity: &str| {
            let identity = site.path(identity).display().to_string();
            curl(&site, &url, &["--tls-max", version, "--cert", &identity])
        };
        assert_whole(&ask("one.pem")?, 100, version);
        assert!(ask("forger.pem").is_err(), "{version}: signed by another");
        assert!(curl(&site, &url, &["--tls-max", version]).is_err(), "{version}: no certificate");
    }
    Ok(())
}

/// How many handshakes of `site` were short.
fn resumed(site: &Site) -> Result<u64, String> {
    let metrics = Request::get("/metrics").send(site.status_address())?.body;
    let counts = metrics
        .lines()
        .filter(|line| line.starts_with("region_proxy_tls_handshakes_total") && line.contains("resumed"));
    Ok(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

const NONE: &[&str] = &[];
