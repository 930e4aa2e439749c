//! What `gslb-dns` probes in the benchmark: a status endpoint that says every region is well.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use shared::name::{OwnerName, ProxyName, RegionName};
use shared::published::{ServiceStatus, Status};

use super::zone::STEERED;

/// Answers `GET /REGION` with the status of a proxy of that region, until this process ends. Gives its address.
pub fn serve_status() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("status endpoint: {error}"))?;
    let address = listener.local_addr().map_err(|error| format!("status endpoint: {error}"))?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A prober that goes away ends its own thread and nothing else.
            thread::spawn(move || answer(stream));
        }
    });
    Ok(address)
}

fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let (mut path, mut line) = (String::new(), String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("GET /") {
            path = rest.split(' ').next().unwrap_or_default().to_owned();
        }
        if line.trim_end().is_empty() {
            let body = status(&path).and_then(|status| serde_json::to_string(&status).ok()).unwrap_or_default();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
            writer.write_all(format!("{head}\r\n\r\n{body}").as_bytes())?;
        }
    }
}

fn status(region: &str) -> Option<Status> {
    let service = ServiceStatus { servers_up: 1, servers_total: 1, ..ServiceStatus::default() };
    Some(Status {
        region: RegionName::parse(region).ok()?,
        proxy: ProxyName::parse("proxy").ok()?,
        holds_vip: true,
        is_draining: false,
        services: BTreeMap::from([(OwnerName::parse(STEERED).ok()?, service)]),
        virtual_routers: Vec::new(),
    })
}
