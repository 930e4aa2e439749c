//! A server under test: started on its core, and ended.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Stop;
use super::answer::is_right;
use super::peers::{Peer, Site};
use super::questions::Questions;
use super::regions::REGIONS;
use super::rounds::start_on_server_core;
use crate::harness::process::{Folder, Process};

/// A server that runs; it is ended when this is dropped.
#[derive(Debug)]
pub struct Server {
    process: Process,
    /// Where it answers.
    pub address: SocketAddrV4,
    /// From its start to the first right answer.
    pub cold_start: Duration,
    // After the process: its folder goes when it has ended.
    _folder: Folder,
}

impl Server {
    /// Starts `peer` and waits for the first right answer to `questions`. `site` is without a folder and a port yet;
    /// `program` runs instead of the usual one.
    pub fn start(
        peer: &Peer,
        site: Site<'_>,
        program: Option<&Path>,
        questions: &Questions,
        stop: &Stop,
    ) -> Result<Self, String> {
        let folder = Folder::new(&format!("gslb-bench-{}-", peer.name))?;
        // Some servers read their files as another user.
        let open = fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755));
        open.map_err(|error| format!("{}: {error}", folder.path().display()))?;
        let site = Site { folder: folder.path(), port: free_port()?, ..site };
        let program = program.map_or_else(|| peer.executable(), |program| Ok(program.to_path_buf()))?;
        let arguments = peer.prepare(&site)?;
        let address = site.address();
        let started = Instant::now();
        let process = start_on_server_core(peer.name, &program, &arguments)?;
        let mut server = Self { process, address, cold_start: Duration::ZERO, _folder: folder };
        server.wait_for_answer(questions, stop)?;
        server.cold_start = started.elapsed();
        Ok(server)
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Asks until a right answer comes; fails when the server ends, or has given none after [`START`].
    fn wait_for_answer(&mut self, questions: &Questions, stop: &Stop) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("a socket to ask by: {error}");
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        socket.connect(self.address).map_err(failed)?;
        socket.set_read_timeout(Some(Duration::from_millis(2))).map_err(failed)?;
        let end = Instant::now() + START;
        let mut answer = [0; 1232];
        while Instant::now() < end {
            stop.check()?;
            // Nobody listens yet: the answer to that comes with the next call, at once.
            let _ = socket.send(questions.wire(0));
            match socket.recv(&mut answer) {
                Ok(len) if is_right(&answer[..len], questions.wire(0), questions.expected(0), &REGIONS[0]) => {
                    return Ok(());
                }
                _ => std::thread::sleep(Duration::from_micros(500)),
            }
            if let Some(status) = self.process.ended() {
                let log = self.process.log_tail();
                return Err(format!("{} has ended ({status}):\n{log}", self.process.name()));
            }
        }
        Err(format!("{} has not answered rightly within {START:?}:\n{}", self.process.name(), self.process.log_tail()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Those with children end them when they are asked to; whatever does not listen is killed.
        let _ = self.process.terminate(END);
    }
}

/// A port of 127.0.0.1 that nobody uses, neither for UDP nor for TCP.
fn free_port() -> Result<u16, String> {
    for _ in 0..100 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| format!("a free port: {error}"))?;
        let port = udp.local_addr().map_err(|error| format!("a free port: {error}"))?.port();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no port is free for both UDP and TCP".to_owned())
}

const START: Duration = Duration::from_secs(30);
const END: Duration = Duration::from_secs(5);
