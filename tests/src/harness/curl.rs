//! curl as a client of a [`Site`].

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::site::Site;
use super::tools::require;

/// What curl got.
#[derive(Debug)]
pub struct Answer {
    /// The status of the final response.
    pub status: u16,
    /// Heads of all responses, 1xx too, as they came.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
    /// What curl tells of it (`%{json}`).
    pub told: Value,
}

impl Answer {
    /// The body as JSON, such as servers tell of a request.
    pub fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The value of each field with `name` (in small letters).
    pub fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.filter(move |(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// Asks for `url`, whose host is the proxy of `site`, with `arguments`.
pub fn curl<S: AsRef<OsStr>>(site: &Site, url: &str, arguments: &[S]) -> Result<Answer, String> {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let [head, body] = ["head", "body"].map(|part| site.path(&format!("curl-{call}.{part}")));
    let mut command = command(site)?;
    command.arg("--dump-header").arg(&head).arg("--output").arg(&body).args(arguments);
    let told = run(command.arg(url))?.pop().ok_or("curl tells nothing")?;
    // An empty body leaves no file.
    let body = std::fs::read(&body).unwrap_or_default();
    let head = std::fs::read(&head).map_err(|error| format!("{}: {error}", head.display()))?;
    let status = told["http_code"].as_u64().and_then(|status| status.try_into().ok()).unwrap_or_default();
    Ok(Answer { status, head: String::from_utf8_lossy(&head).into_owned(), body, told })
}

/// Asks for `urls` one after the other in one process, with `arguments`: what curl tells of each.
pub fn curl_all<S: AsRef<OsStr>>(site: &Site, urls: &[&str], arguments: &[S]) -> Result<Vec<Value>, String> {
    let mut command = command(site)?;
    command.args(arguments);
    for url in urls {
        command.args(["--output", "/dev/null", url]);
    }
    run(&mut command)
}

fn command(site: &Site) -> Result<Command, String> {
    let mut command = Command::new(require("curl")?);
    command.args([
        "--silent",
        "--show-error",
        "--max-time",
        "20",
        "--noproxy",
        "*",
        "--write-out",
        "%{json}\n",
        "--http1.1",
    ]);
    command.args(["--connect-to", &format!(":80:{}", site.http()), "--connect-to", &format!(":443:{}", site.https())]);
    if site.path("ca.pem").exists() {
        command.arg("--cacert").arg(site.path("ca.pem"));
    }
    command.stdin(Stdio::null());
    Ok(command)
}

fn run(command: &mut Command) -> Result<Vec<Value>, String> {
    let output = command.output().map_err(|error| format!("curl: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let lines = output.stdout.split(|octet| *octet == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(|error| format!("curl: {error}"))).collect()
}
