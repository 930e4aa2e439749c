//! A small origin server for tests and the demo: it says who it is.
//!
//! `origin NAME ADDRESS` answers every request with its name, and `/health` with 200 until `POST /fail` (then 503, until
//! `POST /heal`). Its first line of output is the address that it listens on.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, address] = arguments.as_slice() else {
        eprintln!("origin: expected NAME ADDRESS");
        return ExitCode::from(2);
    };
    match serve(name, address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("origin {name}: {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(name: &str, address: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let is_failing = Arc::new(AtomicBool::new(false));
    for stream in listener.incoming() {
        let (name, is_failing) = (name.to_owned(), Arc::clone(&is_failing));
        let stream = stream?;
        // A client that goes away ends its own thread and nothing else.
        thread::spawn(move || answer_all(stream, &name, &is_failing));
    }
    Ok(())
}

/// Answers the requests of one connection until it ends.
fn answer_all(stream: TcpStream, name: &str, is_failing: &AtomicBool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(head) = read_head(&mut reader)? {
        let first = head.first().map_or("", String::as_str);
        let path = first.split(' ').nth(1).unwrap_or("/").to_owned();
        match path.as_str() {
            "/fail" => is_failing.store(true, Ordering::Relaxed),
            "/heal" => is_failing.store(false, Ordering::Relaxed),
            _ => {}
        }
        let is_sick = path == "/health" && is_failing.load(Ordering::Relaxed);
        let status = if is_sick { "503 Service Unavailable" } else { "200 OK" };
        let forwarded: Vec<&str> = head
            .iter()
            .map(String::as_str)
            .filter(|line| line.to_ascii_lowercase().starts_with("x-forwarded-for:"))
            .collect();
        let body = format!("{name}\n{}\n", forwarded.join(" "));
        let len = body.len();
        write!(writer, "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len}\r\n\r\n{body}")?;
        if head.iter().any(|line| line.eq_ignore_ascii_case("connection: close")) {
            break;
        }
    }
    Ok(())
}

/// The lines of one head; `None` at the end of the connection. Bodies are not expected.
fn read_head(reader: &mut impl BufRead) -> std::io::Result<Option<Vec<String>>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" if lines.is_empty() => {}
            "" => return Ok(Some(lines)),
            text => lines.push(text.to_owned()),
        }
    }
}

const IDLE: Duration = Duration::from_secs(60);
