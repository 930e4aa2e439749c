//! Chromium through region-proxy: sessions as people have them, a WebSocket of a page, and the page that shows the proxy.

use std::path::Path;
use std::time::Duration;

use gslb_tests::harness::browser::Browser;
use gslb_tests::harness::certificates::Authority;
use gslb_tests::harness::process::Process;
use gslb_tests::harness::site::{ROOT, SERVICE, SERVICES, Site, TLS};
use gslb_tests::harness::tools::require_module;
use serde_json::Value;

type Held = Result<(), String>;

/// A cookie that scripts do not see and that comes over TLS alone.
const STICK: &str = "stick = { cookie = \"SERVERID\", mode = \"insert\", indirect = true, nocache = true, httponly = true, secure = true, samesite = \"lax\" }\n";

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
    server.wait_for_line("listening", 0, Duration::from_secs(60))?;
    site.run(&format!("{ROOT}{TLS}{SERVICES}{stick}{SOCKET}"))?;
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
    let server = browser.text("#server")?;
    let before = cookie(&browser, "SERVERID")?;
    for (attribute, value) in [("httpOnly", true), ("secure", true)] {
        assert_eq!(before[attribute], value, "{attribute} in {before}");
    }
    assert_eq!(
        (&before["sameSite"], &before["path"], &before["domain"]),
        (&"Lax".into(), &"/".into(), &SERVICE.into())
    );
    assert!(before["expiry"].is_null(), "it ends with the browser: {before}");
    assert_eq!(browser.text("#cookies")?, "", "scripts do not see it");
    browser.wait_for_text("#socket", &format!("hello from {server}"))?;
    for _ in 0..5 {
        browser.reload()?;
        assert_eq!(browser.text("#server")?, server);
    }
    assert_eq!(cookie(&browser, "SERVERID")?["value"], before["value"]);

    site.kill_server(&server)?;
    browser.reload()?;
    let other = browser.text("#server")?;
    assert_ne!(other, server);
    assert_ne!(cookie(&browser, "SERVERID")?["value"], before["value"]);
    site.start_server(&server)?;
    site.wait_for_servers(3)?;
    for _ in 0..3 {
        browser.reload()?;
        assert_eq!(browser.text("#server")?, other, "it stays where it is");
    }
    browser.wait_for_text("#socket", &format!("hello from {other}")).map(drop)
}
