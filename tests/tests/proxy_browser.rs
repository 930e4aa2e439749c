//! Chromium through region-proxy: sessions as people have them, a WebSocket of a page, and the page that shows the proxy.

use std::path::Path;
use std::time::Duration;

use gslb_tests::harness::browser::Browser;
use gslb_tests::harness::certificates::Authority;
use gslb_tests::harness::http::Request;
use gslb_tests::harness::process::Process;
use gslb_tests::harness::site::{ROOT, SERVICE, SERVICES, Site, TLS};
use gslb_tests::harness::tools::require_module;
use gslb_tests::harness::within;
use gslb_tests::harness::world::TOKEN;
use serde_json::Value;

type Held = Result<(), String>;

/// A cookie that scripts do not see and that comes over TLS alone.
const STICK: &str = "stick = { cookie = \"SERVERID\", mode = \"insert\", indirect = true, nocache = true, httponly = true, secure = true, samesite = \"lax\" }\n";

const ACCESS_LOG: &str = "[access_log]\nfile = \"access.log\"\n";

/// The WebSocket of the page.
const SOCKET: &str = r#"
[[routes]]
path = "/socket"
service = "socket.gslb.test"
[services."socket.gslb.test"]
servers = { ws-1 = "127.0.1.31:9000" }
check = { interval = "50ms", rise = 1 }
"#;

/// A site with TLS, sessions and the WebSocket server.
fn start(stick: &str) -> Result<(Site, Process), String> {
    let (mut site, authority) = (Site::new()?, Authority::new()?);
    site.write_certificate(&authority, SERVICE)?;
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/websockets/server.py").display().to_string();
    let address = site.address(31, 9000);
    let arguments = [&*server, "ws-1", &address.ip().to_string(), "9000"];
    let server = Process::start("server", &require_module("websockets")?, &arguments);
    let server = server.map_err(|error| error.to_string())?;
    server.wait_for_line("listening", 0, LIMIT)?;
    site.run(&format!("{ROOT}{ACCESS_LOG}{TLS}{SERVICES}{stick}{SOCKET}"))?;
    Ok((site, server))
}

/// The one cookie `name` that the browser has for the page.
fn cookie(browser: &Browser, name: &str) -> Result<Value, String> {
    let cookies = browser.cookies()?;
    let mut named = cookies.iter().filter(|cookie| cookie["name"] == name);
    let cookie = named.next().cloned().ok_or_else(|| format!("no {name} in {cookies:?}"))?;
    assert!(named.next().is_none(), "{cookies:?}");
    Ok(cookie)
}

#[test]
fn a_page_stays_with_its_server_until_that_dies_and_then_has_another() -> Held {
    let (mut site, _sockets) = start(STICK)?;
    let browser = Browser::start(&site)?;
    browser.open(&format!("https://{SERVICE}:8443/page"))?;
    let server = answered(&browser)?;
    let before = cookie(&browser, "SERVERID")?;
    for (attribute, value) in [("httpOnly", true), ("secure", true)] {
        assert_eq!(before[attribute], value, "{attribute} in {before}");
    }
    assert_eq!(
        (&before["sameSite"], &before["path"], &before["domain"]),
        (&"Lax".into(), &"/".into(), &SERVICE.into())
    );
    assert!(before["expiry"].is_null(), "it ends with the browser: {before}");
    let protocol = "performance.getEntriesByType('navigation')[0].nextHopProtocol";
    assert_eq!(browser.value(protocol)?, "h2");
    assert_eq!(browser.text("#cookies")?, "", "scripts do not see it");
    for _ in 0..5 {
        browser.reload()?;
        assert_eq!(answered(&browser)?, server);
    }
    assert_eq!(cookie(&browser, "SERVERID")?["value"], before["value"]);

    site.kill_server(&server)?;
    browser.reload()?;
    let other = answered(&browser)?;
    assert_ne!(other, server);
    assert_ne!(cookie(&browser, "SERVERID")?["value"], before["value"]);
    site.start_server(&server)?;
    site.wait_for_servers(3)?;
    for _ in 0..3 {
        browser.reload()?;
        assert_eq!(answered(&browser)?, other, "it stays where it is");
    }
    drop(browser);
    assert_logged(&site, &[(&server, 6), (&other, 4)])
}

/// The server that answered the page, once its WebSocket has its echo too.
fn answered(browser: &Browser) -> Result<String, String> {
    let server = browser.text("#server")?;
    browser.wait_for_text("#socket", &format!("hello from {server}"))?;
    Ok(server)
}

/// Waits until the access log has so many pages of each of `servers` and as many WebSockets, all over HTTP/2 (RFC 8441).
fn assert_logged(site: &Site, servers: &[(&str, usize)]) -> Held {
    let pages = servers.iter().flat_map(|(server, count)| vec![format!("GET /page HTTP/2.0 {server} 200"); *count]);
    let mut expected: Vec<String> = pages.collect();
    expected.extend(vec!["GET /socket HTTP/2.0 ws-1 101".to_owned(); expected.len()]);
    expected.sort();
    let look = || {
        let mut log = logged(site)?;
        log.sort();
        if log == expected { Ok(()) } else { Err(format!("{log:#?}")) }
    };
    within(LIMIT, look).map(drop)
}

/// Method, target, protocol, server and status of each line of the access log.
fn logged(site: &Site) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(site.path("access.log")).map_err(|error| error.to_string())?;
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        let words = ["method", "target", "protocol", "server", "status"].map(|key| line[key].to_string());
        Ok(words.join(" ").replace('"', ""))
    };
    text.lines().map(line).collect()
}

/// Loads the page until the text of what `selector` finds holds `part`: what it shows is looked at now and then.
fn reload_until(browser: &Browser, selector: &str, part: &str) -> Result<String, String> {
    let look = || {
        browser.reload()?;
        let text = browser.text(selector)?;
        if text.contains(part) { Ok(text) } else { Err(format!("{selector}: no {part:?} in {text:?}")) }
    };
    within(LIMIT, look).map(|(text, _)| text)
}

/// What the page shows of `server`.
fn row(browser: &Browser, server: &str) -> Result<String, String> {
    let rows =
        format!("[...document.querySelectorAll('tr')].find(row => row.innerText.includes('{server}')).innerText");
    browser.value(&rows)?.as_str().map(str::to_owned).ok_or_else(|| format!("no row of {server}"))
}

#[test]
fn the_stats_page_shows_pools_servers_and_why_one_is_down() -> Held {
    let (mut site, _sockets) = start(STICK)?;
    let browser = Browser::start(&site)?;
    browser.open(&format!("https://{SERVICE}:8443/page"))?;
    browser.open(&format!("http://{}/stats", site.status_address()))?;
    assert_eq!(browser.text("h1")?, "seoul-1");
    assert!(browser.text("header")?.contains("serving"));
    let pools = browser.value("[...document.querySelectorAll('h2')].map(head => head.innerText)")?;
    for pool in [SERVICE, "socket.gslb.test"] {
        assert!(pools.as_array().is_some_and(|pools| pools.contains(&pool.into())), "{pools}");
    }
    reload_until(&browser, "main", "3 of 3 up")?;
    for server in ["app-1", "app-2", "app-3", "ws-1"] {
        let row = row(&browser, server)?;
        assert!(row.contains("up") && row.contains("check succeeded"), "{row}");
    }

    site.kill_server("app-2")?;
    reload_until(&browser, "main", "2 of 3 up")?;
    let dead = row(&browser, "app-2")?;
    assert!(dead.contains("down") && dead.to_lowercase().contains("refused"), "{dead}");
    assert!(row(&browser, "app-1")?.contains("check succeeded"));

    let drained = Request::post("/drain", TOKEN).send(site.status_address())?;
    assert_eq!(drained.status, 200);
    reload_until(&browser, "header", "draining")?;
    site.write("proxy.toml", "region = 1")?;
    let text = reload_until(&browser, "main", "the last reload was refused")?;
    assert!(text.contains("proxy: missing"), "it says why: {text}");
    Ok(())
}

/// A machine with two cores runs many of these at once.
const LIMIT: Duration = Duration::from_secs(60);
