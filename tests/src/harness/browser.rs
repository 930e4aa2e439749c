//! Chromium without a screen, driven by chromedriver (WebDriver, JSON over HTTP).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use super::http::Request;
use super::process::{Folder, Process};
use super::site::Site;
use super::tools::require;
use super::within;

/// A browser with one window, without history and cookies. It ends when this is dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Process,
    address: SocketAddr,
    session: String,
    /// Its profile; gone after it.
    _profile: Folder,
}

impl Browser {
    /// A browser for which all names below `gslb.test` are the proxy of `site`, and which takes any certificate.
    pub fn start(site: &Site) -> Result<Self, String> {
        let (profile, chromium) = (Folder::new("gslb-chromium-")?, require("chromium")?);
        let driver = Process::start("chromedriver", &require("chromedriver")?, &["--port=0"]);
        let driver = driver.map_err(|error| error.to_string())?;
        let line = driver.wait_for_line("started successfully on port", 0, LIMIT)?;
        let port = line.trim_end_matches('.').rsplit(' ').next().and_then(|port| port.parse().ok());
        let port = port.ok_or_else(|| format!("no port in {line:?}"))?;
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let mut arguments: Vec<String> = ARGUMENTS.iter().map(|argument| (*argument).to_owned()).collect();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        arguments.push(format!("--host-resolver-rules=MAP *.gslb.test {}", site.http().ip()));
        let options = json!({ "binary": chromium, "args": arguments });
        let wanted = json!({ "acceptInsecureCerts": true, "goog:chromeOptions": options });
        let mut browser = Self { driver, address, session: String::new(), _profile: profile };
        let made = browser.post("/session", &json!({ "capabilities": { "alwaysMatch": wanted } }))?;
        browser.session = made["sessionId"].as_str().ok_or_else(|| format!("no session: {made}"))?.to_owned();
        Ok(browser)
    }

    /// Opens `url` and waits until the page has loaded; fails where none comes.
    pub fn open(&self, url: &str) -> Result<(), String> {
        self.post(&self.path("/url"), &json!({ "url": url })).map(drop)
    }

    /// Loads the page anew.
    pub fn reload(&self) -> Result<(), String> {
        self.post(&self.path("/refresh"), &json!({})).map(drop)
    }

    /// What `expression` is in the page.
    pub fn value(&self, expression: &str) -> Result<Value, String> {
        let script = format!("return {expression};");
        self.post(&self.path("/execute/sync"), &json!({ "script": script, "args": [] }))
    }

    /// The text of what `selector` finds first, as people see it.
    pub fn text(&self, selector: &str) -> Result<String, String> {
        let text = self.value(&format!("document.querySelector({}).innerText", json!(selector)))?;
        text.as_str().map(str::to_owned).ok_or_else(|| format!("{selector}: no text"))
    }

    /// Waits until the text of what `selector` finds holds `part`.
    pub fn wait_for_text(&self, selector: &str, part: &str) -> Result<String, String> {
        let look = || {
            let text = self.text(selector)?;
            if text.contains(part) { Ok(text) } else { Err(format!("{selector}: no {part:?} in {text:?}")) }
        };
        within(LIMIT, look).map(|(text, _)| text)
    }

    /// The cookies of the page, with what the browser knows of them.
    pub fn cookies(&self) -> Result<Vec<Value>, String> {
        let cookies = self.send(Request::get(&self.path("/cookie")))?;
        cookies.as_array().cloned().ok_or_else(|| format!("no cookies: {cookies}"))
    }

    /// A picture of the window: PNG in base64.
    pub fn screenshot(&self) -> Result<String, String> {
        let picture = self.send(Request::get(&self.path("/screenshot")))?;
        picture.as_str().map(str::to_owned).ok_or_else(|| "no picture".to_owned())
    }

    fn path(&self, rest: &str) -> String {
        format!("/session/{}{rest}", self.session)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let body = body.to_string();
        self.send(Request { method: "POST", body: &body, ..Request::get(path) })
    }

    fn send(&self, request: Request<'_>) -> Result<Value, String> {
        let response = Request { limit: LIMIT, ..request }.send(self.address)?;
        let wrong = |why: &str| format!("{}: {why}: {}\n{}", request.path, response.body, self.driver.log_tail());
        let mut answer: Value = serde_json::from_str(&response.body).map_err(|error| wrong(&error.to_string()))?;
        if response.status == 200 { Ok(answer["value"].take()) } else { Err(wrong("refused")) }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Where this fails the browser ends with its driver, which is in one process group with it.
        let path = self.path("");
        let _ = self.send(Request { method: "DELETE", ..Request::get(&path) });
    }
}

/// Without a screen, a sandbox (which root has not) and all that it would fetch from outside.
const ARGUMENTS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A machine with two cores runs many of these at once.
const LIMIT: Duration = Duration::from_secs(60);
